//! Decisions as pure functions: relay rules, retry schedule, failure classification, routing, TLS policy.

pub mod classify;
pub mod relay;
pub mod routing;
pub mod schedule;
pub mod tls;
