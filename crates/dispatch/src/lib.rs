//! The delivery core, without I/O: which job goes where, when and over which connection, and what becomes of it.
//!
//! ```text
//!               offers ─▶ Pool ─▶ lanes (one a next hop): windows, turns, reserve
//!                          │ a carrier may connect                    Backoffs: next hops that rest
//!                          │                                          Pigeonholes: jobs by next hop, where that is known late
//!                          ▼
//! jobs ─▶ Task { handle, Attempt } ─▶ Conversation (one a connection) ─▶ Plan: what the queue and the sender are told
//! ```
//!
//! It knows no runtime, socket, clock or chance: `now` and random numbers are arguments. The service
//! `staffetta-delivery` is its shell. It brings jobs, connection results and reports, and does what it is told: connect,
//! submit, settle, release, wait. A job is known here by a [`Handle`]; its lease and its body stay outside.

mod attempt;
mod backoff;
mod conversation;
mod fate;
mod group;
mod pigeonholes;
mod plan;
mod pool;
mod progress;
mod ring;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod testing;

pub use attempt::{Attempt, Facts, Judgement, Rules, State, Task};
pub use backoff::{Advice, Backoffs};
pub use conversation::{Conversation, Course, Ended, Limits, Next, Seen};
pub use fate::{Failed, Fate};
pub use group::Company;
pub use pigeonholes::{Pigeonholes, Put};
pub use plan::{Incomplete, Plan, decide, owes_delay_notice};
pub use pool::{Pool, Refused};
pub use progress::{Others, Progress, Said};
pub use ring::Work;

use staffetta_mail::{Address, Envelope};
use staffetta_policy::verp::Signer;

/// What the core must know of a job.
pub trait Handle {
    /// Sender and all recipients; attempts name recipients by their index here.
    fn envelope(&self) -> &Envelope;
    /// Octets of the content.
    fn size(&self) -> u64;
    /// The destination as texts name it: the recipients' domain.
    fn destination(&self) -> &str;
    /// Who makes a sender of its own for each recipient, if the sender of this message wants that.
    fn verp(&self) -> Option<&Signer>;
    /// Is the other a job of the same message, and may the two share a transaction?
    fn travels_with(&self, other: &Self) -> bool;

    /// The sender that is this recipient's alone, if he gets one.
    fn own_sender(&self, recipient: &Address) -> Option<Address> {
        self.verp()?.sender_for(self.envelope().sender.address()?, recipient)
    }
}
