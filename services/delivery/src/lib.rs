//! The delivery worker: lease, attempt, settle; bounces.
