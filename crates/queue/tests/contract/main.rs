//! The contract of the queue, operation by operation, on a real redis-server.
#![expect(clippy::unwrap_used, reason = "tests")]

mod accept;
mod deliver;
mod world;
