//! The contract of the queue, operation by operation, on a real redis-server; then its invariants under random steps
//! and under faults.
#![expect(clippy::unwrap_used, reason = "tests")]

mod accept;
mod acts;
mod admin;
mod cluster;
mod company;
mod conduct;
mod deliver;
mod depth;
mod faults;
mod garbage;
mod gate;
mod guess;
mod hard_bounce;
mod headcount;
mod hold;
mod keys;
mod limit;
mod loss;
mod model;
mod offload;
mod packed;
mod policies;
mod revocation;
mod sentinel;
mod settle;
mod shards;
mod store;
mod tls;
mod tls_counts;
mod tokens;
mod unfinished;
mod unreadable;
mod verification;
mod verify;
mod wakes;
mod world;
