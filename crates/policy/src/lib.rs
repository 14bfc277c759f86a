//! Decisions as pure functions: relay rules, retry schedule, failure classification, routing, TLS policy.
