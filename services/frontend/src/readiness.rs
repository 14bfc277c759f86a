//! May this pod take mail now? What `/readyz` says.

use staffetta_queue::{Health, Queue, Revocations};
use tokio_util::sync::CancellationToken;

use crate::auth::Auth;

/// What readiness depends on. The listeners are up before it is first asked.
pub(crate) struct Readiness {
    queue: Queue,
    /// `None` if no listener can ask it anything.
    auth: Option<Auth>,
    revocations: Revocations,
    draining: CancellationToken,
}

impl Readiness {
    pub(crate) fn new(queue: Queue, auth: Option<Auth>, revocations: Revocations) -> Self {
        Self { queue, auth, revocations, draining: CancellationToken::new() }
    }

    /// Cancel it to say for good: not ready.
    pub(crate) fn draining(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// The error is the reason, for people.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.draining.is_cancelled() {
            return Err("draining".to_owned());
        }
        match self.queue.health() {
            Health::Ready => {}
            Health::Full => return Err("the queue is full".to_owned()),
            Health::Down(reason) => return Err(format!("the queue is not writable: {reason}")),
        }
        if !self.revocations.is_current() {
            return Err("Redis does not say who is blocked".to_owned());
        }
        match &self.auth {
            Some(auth) if !auth.is_reachable() => Err("the auth service is not reachable".to_owned()),
            _ => Ok(()),
        }
    }
}
