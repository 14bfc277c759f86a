//! What other systems report of mail that has left here: who did not get it, and why; and who did not want it.
//!
//! It goes into the log and the metrics, whoever has written it. Believed is only what comes to an address that one recipient's
//! side alone has seen ([`staffetta_policy::verp`]), or names it, and only about this recipient: where he does not exist any
//! more, that counts as his own server's refusal does, if the sender may have recipients suppressed. The report itself goes to whoever it is for, and its sender
//! waits for nothing that Redis is told of it.

use std::time::Duration;

use staffetta_config::{Config, Rate};
use staffetta_mail::feedback::{Complaint, Failure, Feedback};
use staffetta_mail::{Address, QueueId};
use staffetta_policy::diagnosis::{condemns_address, diagnose};
use staffetta_policy::shaping::without_addresses;
use staffetta_policy::verp::Returned;
use staffetta_queue::{Grievance, HardBounces, Queue, Suppressor, Target};
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

/// What the configuration wants of reports.
pub(crate) struct Wishes {
    /// When a recipient who is refused for good gets no mail any more.
    hard_bounces: Option<HardBounces>,
    /// The same of one who complains.
    complaints_suppress: Option<HardBounces>,
    /// Where complaints come in.
    complaints: Vec<Address>,
}

impl Wishes {
    /// As it is.
    pub(crate) fn new(config: &Config) -> Self {
        let (frontend, delivery) = (&config.frontend, &config.delivery);
        let at_once = HardBounces { after: Rate { count: 1, per: delivery.suppress_for }, life: delivery.suppress_for };
        Self {
            hard_bounces: HardBounces::of(config),
            complaints_suppress: delivery.suppress_complaints.then_some(at_once),
            complaints: frontend.complaints.clone(),
        }
    }

    /// Do complaints come to this address?
    pub(super) fn hears_complaints(&self, address: &Address) -> bool {
        self.complaints.iter().any(|known| known.as_str().eq_ignore_ascii_case(address.as_str()))
    }
}

/// A report that is in the queue.
pub(super) struct Report {
    /// Its name.
    pub(super) qid: QueueId,
    /// Whom it is for.
    pub(super) to: Address,
    /// Whom it is about, by addresses of our making: those that a bounce was sent to, and the sender of what is complained about.
    pub(super) returned: Vec<Returned>,
    /// What it says.
    pub(super) feedback: Feedback,
}

impl Returns {
    pub(super) fn new(queue: Queue) -> Self {
        let telling = TaskTracker::new();
        let suppressor =
            Suppressor::new(queue, "reports", metrics::report_suppressions(), maillog::suppressed, telling.clone());
        Self { suppressor, telling }
    }

    /// A report has come in.
    pub(super) fn came(&self, wishes: &Wishes, report: &Report) {
        match &report.feedback {
            Feedback::Failures(failures) => self.bounced(wishes, report, failures),
            Feedback::Complaint(complaint) => self.complained(wishes, report, complaint),
        }
    }

    fn bounced(&self, wishes: &Wishes, Report { qid, to, returned, .. }: &Report, failures: &[Failure]) {
        if returned.is_empty() {
            failures.iter().for_each(|failure| {
                let named = failure.recipient.as_ref().map_or("", Address::as_str);
                note_bounce(*qid, to.as_str(), named, failure, false);
            });
            return;
        }
        // Of a list that has the recipient's name there may be several.
        let Some(failure) = failures.first() else { return };
        for about in returned {
            let condemns = note_bounce(*qid, about.sender.as_str(), about.recipient.as_str(), failure, true);
            // Who reads for others is not gone when one of them is.
            let is_about = |named: &Address| named.as_str().eq_ignore_ascii_case(about.recipient.as_str());
            if condemns && about.suppresses && failure.recipient.as_ref().is_none_or(is_about) {
                let words = failure.reply.to_string();
                self.tell(wishes.hard_bounces, about, |target, who| Grievance::refused(target, who, &words));
            }
        }
    }

    fn complained(&self, wishes: &Wishes, Report { qid, returned, .. }: &Report, complaint: &Complaint) {
        let about = returned.first();
        note_complaint(*qid, about, complaint);
        if let Some(about) = about.filter(|about| about.suppresses && complaint.kind.is_unwanted()) {
            let words = format!("{} {}", complaint.kind.as_str(), complaint.user_agent.as_deref().unwrap_or_default());
            self.tell(wishes.complaints_suppress, about, |target, who| Grievance::complains(target, who, &words));
        }
    }

    /// By this rule, if there is one.
    fn tell(&self, rule: Option<HardBounces>, about: &Returned, why: impl FnOnce(Target, String) -> Grievance) {
        if let (Some(rule), Ok(target)) = (rule, Target::recipient(about.recipient.as_str())) {
            self.suppressor.tell(rule, why(target, about.sender.as_str().to_ascii_lowercase()));
        }
    }

    /// Waits for what is told.
    pub(super) async fn end(&self) {
        self.telling.close();
        let _ = tokio::time::timeout(PATIENCE, self.telling.wait()).await;
    }
}

/// Logs and counts it. Does it say that nobody will ever read at the address?
fn note_bounce(qid: QueueId, from: &str, to: &str, Failure { recipient, reply }: &Failure, proven: bool) -> bool {
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

fn note_complaint(qid: QueueId, about: Option<&Returned>, complaint: &Complaint) {
    let (from, to) = match about {
        Some(about) => (Some(&about.sender), Some(&about.recipient)),
        None => (complaint.senders.first(), complaint.recipient.as_ref()),
    };
    maillog::complaint(&maillog::Complaint {
        qid,
        to: to.map(Into::into),
        from: from.map(Into::into),
        proven: about.is_some(),
        feedback: complaint.kind.as_str(),
        source: complaint.source,
        user_agent: complaint.user_agent.as_deref().map(Into::into),
        message_id: complaint.message_id.as_deref().map(Into::into),
    });
    metrics::complaints(complaint.kind, about.is_some()).increment(1);
}
