//! The durable queue in Redis: where accepted mail lives until every recipient has a final state.
//!
//! A message is in exactly one partition (a Redis hash tag, so one slot). It has one *job* for each destination among
//! its recipients; a job is waiting, leased, held or finished. See [`Queue`] for the operations, `script/*.lua` for
//! what happens inside Redis, ARCHITECTURE.md for the promises.
//!
//! | keys of a partition | what they hold |
//! |---|---|
//! | `m:<id>` `b:<id>:<i>` | the immutable record with a small body; chunks of a large one |
//! | `s:<job>` `o:<id>` | what attempts left behind; open jobs of a message with several |
//! | `w:<destination>` `lease` `held` | where a job is: exactly one of these |
//! | `due` `qf` | which destination deserves a visit when; back-offs |
//! | `ids` `n` `who` `x:<minute>` `id` | all messages; jobs beyond the first; messages of logins; tombstones; identity |
//! | `gc` | bodies of messages that are over, or that come in and lie in the store of `spool.url`, to be deleted |
//!
//! Beside the partitions there are the registry with what workers can read, `{kq:cfg}` and `{kq:cfg}readers`, and the
//! buckets of cluster-wide limits, `{L:<scope>:<who>}`, see [`Limiter`] and [`Guesses`], and what servers said of
//! recipients, `{V:<n>}`, see [`Verifications`], how many connections clients have, `{C:<client>}`, see [`Headcount`], and
//! policies of domains, `{T:<domain>}`, see [`KeptPolicies`], how the TLS of mail went, `{T:}…`, see [`TlsCounts`], and tokens to log in with, `{O:<account>}…`, see [`KeptTokens`], and
//! who is blocked or was revoked, `{R}blocks` and `{R}log`, see [`Revocations`], and what logins do, `{A}…`, see [`Conduct`]. docs/stored-formats.md has the octets of all.

mod address;
mod admin;
mod budget;
mod clock;
mod cluster;
mod commit;
mod conduct;
mod connection;
mod error;
mod finding;
mod format;
mod gate;
mod guess;
mod headcount;
mod incoming;
mod init;
mod inquiry;
mod job;
mod ledger;
mod limit;
mod live;
mod message;
mod metrics;
mod node;
mod op;
mod outage;
mod packing;
mod partition;
mod partitions;
mod policies;
mod pulse;
mod queue;
mod reach;
mod readers;
mod record;
mod registry;
mod resting;
mod revocation;
mod script;
pub mod server;
mod server_check;
mod settings;
mod shared;
mod shelf;
mod slot;
mod spool;
mod suppressor;
mod tls;
mod tls_counts;
mod tokens;
mod value;
mod verification;
mod wakes;

pub use admin::{Act, Counts, Deleted, Entry, Filter, JobState, Moved, Object, Page, Place, Unreadable, same_address};
pub use budget::Budget;
pub use conduct::{Conduct, Hour, Record, Records, Sending};
pub use error::{EnqueueError, Error};
pub use finding::{Finding, Problem, Verified};
pub use guess::{Guesses, Permit, Taken, Usage};
pub use headcount::{Headcount, Heads};
pub use incoming::Incoming;
pub use init::{Beginning, advice, begin, exists};
pub use job::{Job, Lease, Offer, Settled, Settlement};
pub use ledger::{Charge, Payer};
pub use limit::{Granted, Limiter};
pub use message::{Accept, Body, Chunks, Codec, Destination, Kept, Message, Notice, Origin, UnixMillis};
pub use metrics::{
    describe_conduct_metrics, describe_logins_over_threshold, describe_metrics, describe_revocation_metrics,
    describe_worker_metrics,
};
pub use policies::{KeptPolicies, KeptPolicy};
pub use queue::Queue;
pub use revocation::{
    Announcer, Block, Curb, Curbs, HardBounces, Position, Reckoning, Revocations, Suspension, Target, TargetError,
    login_key,
};
pub use settings::{Health, Settings};
pub use spool::{StoreTrouble, compare_store, try_store};
pub use staffetta_config::{Compression, Durability, Rate};
pub use suppressor::{Grievance, Suppressor};
pub use tls::TlsFiles;
pub use tls_counts::{TlsCounts, TlsPeriod};
pub use tokens::{KeptToken, KeptTokens};
pub use verification::{Verification, Verifications};
pub use wakes::Wakes;
