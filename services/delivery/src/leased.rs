//! A claimed job as this service holds it: its lease, what is to be sent, and its share of memory. What becomes of it
//! is decided in `staffetta_dispatch`.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rand::RngExt;
use staffetta_dispatch::{Attempt, Facts, Handle};
use staffetta_mail::Envelope;
use staffetta_policy::verp::Signer;
use staffetta_queue::{Body, Job, Message, Revocations, UnixMillis};
use staffetta_telemetry::spans::Span;
use tokio::sync::{OnceCell, OwnedSemaphorePermit};

use crate::form::Forms;
use crate::letters::Letter;
use crate::renew::Held;
use crate::signing::Seal;
use crate::traced;

/// A job and how far it has come.
pub(crate) type Task = staffetta_dispatch::Task<Leased>;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Leased {
    pub(crate) held: Arc<Held>,
    /// When it was claimed, by the clock of Redis.
    claimed: UnixMillis,
    /// How many workers that had it before went silent.
    pub(crate) silences: u8,
    /// Held while it is the only one of those that went silent in an attempt.
    pub(crate) alone: Option<OwnedSemaphorePermit>,
    pub(crate) message: Arc<Message>,
    /// Who makes a sender of its own for each recipient.
    pub(crate) verp: Option<Signer>,
    /// Header octets in front of a body in chunks.
    pub(crate) prefix: Bytes,
    pub(crate) body: Body,
    /// What it has in common with other jobs of its message.
    letter: Option<Arc<Letter>>,
    /// Its signatures, if it has no letter.
    seal: OnceCell<Option<Arc<Seal>>>,
    /// Its forms, if it has no letter.
    forms: Forms,
    /// The attempt, in a trace; until it is settled.
    pub(crate) span: Span,
    /// This pod's share of memory; given back when the job is settled.
    pub(crate) _room: Option<OwnedSemaphorePermit>,
}

impl Leased {
    /// The task that a claim made at `claimed` brought.
    pub(crate) fn task(
        job: Job,
        held: Arc<Held>,
        claimed: Instant,
        letter: Option<Arc<Letter>>,
        room: Option<OwnedSemaphorePermit>,
    ) -> Task {
        let facts = Facts {
            age: job.age,
            left: job.left,
            claimed,
            attempts: job.attempts,
            delay_noticed: job.delay_noticed,
            jitter: rand::rng().random(),
        };
        let span = traced::attempt(&job);
        let attempt = Attempt::new(facts, job.recipients);
        let claimed = job.message.arrived.saturating_add(job.age.as_millis() as u64);
        let (message, body) = match &letter {
            Some(letter) => (letter.message.clone(), letter.body.clone()),
            None => (job.message, job.body),
        };
        let (seal, forms) = (OnceCell::new(), Forms::default());
        Task {
            job: Self {
                held,
                claimed,
                silences: job.silences,
                alone: None,
                message,
                verp: None,
                prefix: job.prefix,
                body,
                letter,
                seal,
                forms,
                span,
                _room: room,
            },
            attempt,
        }
    }

    /// Has its message other jobs?
    pub(crate) fn is_one_of_many(&self) -> bool {
        self.letter.is_some()
    }

    /// Has its login been blocked since it was claimed? Then it is not sent if that was not begun, and held if it would wait
    /// again.
    pub(crate) fn is_stopped(&self, revocations: &Revocations) -> bool {
        let login = self.message.origin.login.as_deref();
        login.is_some_and(|login| revocations.is_held(login, self.claimed))
    }

    /// The place for the signatures of its message: empty, or known to be none, or those that were made.
    pub(crate) fn seal(&self) -> &OnceCell<Option<Arc<Seal>>> {
        self.letter.as_ref().map_or(&self.seal, |letter| &letter.seal)
    }

    /// What is known of the forms of its message.
    pub(crate) fn forms(&self) -> &Forms {
        self.letter.as_ref().map_or(&self.forms, |letter| &letter.forms)
    }
}

impl Handle for Leased {
    fn envelope(&self) -> &Envelope {
        &self.message.envelope
    }

    fn size(&self) -> u64 {
        self.message.size
    }

    fn destination(&self) -> &str {
        self.held.lease.destination.as_str()
    }

    fn verp(&self) -> Option<&Signer> {
        self.verp.as_ref()
    }

    /// Whatever may have made workers go silent takes nothing else with it.
    fn travels_with(&self, other: &Self) -> bool {
        self.message.id == other.message.id && self.silences == 0 && other.silences == 0
    }
}
