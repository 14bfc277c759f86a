//! What other systems report of mail that has left here: who did not get it, and why.
//!
//! It goes into the log and the metrics, whoever has written it. Believed is only what comes to an address that one recipient's
//! side alone has seen ([`staffetta_policy::verp`]), and only about this recipient: where he does not exist any more, that
//! counts as his own server's refusal does. The report itself goes to whoever it is for, and its sender has his answer before
//! anything of this is done.

use std::time::Duration;

use staffetta_mail::feedback::Failure;
use staffetta_mail::{Address, QueueId};
use staffetta_policy::diagnosis::{condemns_address, diagnose};
use staffetta_policy::shaping::without_addresses;
use staffetta_policy::verp::Returned;
use staffetta_queue::{HardBounce, HardBounces, Queue, Suppressor, Target};
use staffetta_smtp::client::Stage;
use staffetta_telemetry::maillog::{self, RemoteBounce};
use tokio_util::task::TaskTracker;

use crate::metrics;

/// How long the end of the service waits for what is told.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Returns {
    suppressor: Suppressor,
    telling: TaskTracker,
}

/// A report that is in the queue.
pub(super) struct Report {
    /// Its name.
    pub(super) qid: QueueId,
    /// Whom it is for.
    pub(super) to: Address,
    /// What the addresses say that it was sent to.
    pub(super) returned: Vec<Returned>,
    /// Who did not get a message, by its word.
    pub(super) failures: Vec<Failure>,
}

impl Returns {
    pub(super) fn new(queue: Queue) -> Self {
        let telling = TaskTracker::new();
        let suppressor = Suppressor::new(queue, metrics::report_suppressions(), maillog::suppressed, telling.clone());
        Self { suppressor, telling }
    }

    /// A report has come in. `rule`: when hard bounces suppress somebody.
    pub(super) fn came(&self, rule: Option<HardBounces>, report: &Report) {
        let Report { qid, to, returned, failures } = report;
        if returned.is_empty() {
            failures.iter().for_each(|failure| {
                let named = failure.recipient.as_ref().map_or("", Address::as_str);
                note(*qid, to.as_str(), named, failure, false);
            });
            return;
        }
        // Of a list that has the recipient's name there may be several.
        let Some(failure) = failures.first() else { return };
        for Returned { sender, recipient } in returned {
            let is_dead = note(*qid, sender.as_str(), recipient.as_str(), failure, true);
            let target = Target::recipient(recipient.as_str());
            if let (Some(rule), Ok(target), true) = (rule, target, is_dead) {
                let (who, words) = (sender.as_str().to_ascii_lowercase(), failure.reply.to_string());
                self.suppressor.refused(rule, HardBounce { target, who, words });
            }
        }
    }

    /// Waits for what is told.
    pub(super) async fn end(&self) {
        self.telling.close();
        let _ = tokio::time::timeout(PATIENCE, self.telling.wait()).await;
    }
}

/// Logs and counts it. Does it say that nobody will ever read at the address?
fn note(qid: QueueId, from: &str, to: &str, Failure { recipient, reply }: &Failure, proven: bool) -> bool {
    let named = recipient.as_ref().map(Address::as_str);
    let plain = without_addresses(&reply.to_string(), named.into_iter().chain([from, to]));
    // Who said it is only known by the word of the report.
    let class = diagnose("", Stage::Final, reply, &plain);
    let (dsn, response) = (reply.effective_status(), reply.to_string());
    let event =
        RemoteBounce { qid, to: to.into(), from: from.into(), proven, dsn, class, response: response.as_str().into() };
    maillog::remote_bounce(&event);
    metrics::remote_bounces(class, proven).increment(1);
    dsn.is_permanent() && condemns_address("", reply, class)
}
