//! Stories of whole sessions.
