//! One recipient's outcome, into the mail log and the metrics.

use std::time::{Duration, Instant};

use staffetta_dispatch::{Attempt, Failed, Fate, Handle as _};
use staffetta_mail::{Address, RemoteReply, Status};
use staffetta_policy::diagnosis::{Class, Trouble, diagnose};
use staffetta_policy::shaping::without_addresses;
use staffetta_telemetry::maillog::{self, Delays, Relay};

use crate::connection::Connection;
use crate::hard_bounces;
use crate::lanes::Lane;
use crate::leased::{Leased, Task};
use crate::metrics::{Outcome, record};
use crate::worker::Worker;

/// RFC 3463: bad destination mailbox address.
const NO_SUCH_USER: Status = Status::new(5, 1, 1);

/// Writes the outcome of recipient `index`; with the connection, if there was one, and which message on it this was.
pub(crate) fn outcome(
    worker: &Worker,
    lane: &Lane,
    task: &Task,
    index: u32,
    fate: &Fate,
    connection: Option<(&Connection, u32)>,
) {
    let Task { job, attempt } = task;
    let Some(recipient) = job.message.envelope.recipients.get(index as usize) else { return };
    let (outcome, status, code, text) = describe(attempt, fate);
    let class = class_of(job, &recipient.address, fate);
    let mail_from = job.own_sender(&recipient.address);
    let delays = delays(attempt, connection);
    let conn_use = connection.map_or(1, |(_, conn_use)| conn_use);
    let connection = connection.map(|(connection, _)| connection);
    let event = maillog::Attempt {
        qid: job.message.id,
        to: (&recipient.address).into(),
        orig_to: recipient.alias.as_ref().map(Into::into),
        from: (&job.message.envelope.sender).into(),
        mail_from: mail_from.as_ref().map(Into::into),
        relay: connection.map(|c| Relay { host: c.peer.host.as_ref().into(), endpoint: &c.peer.endpoint }),
        source: connection.and_then(|c| c.source),
        protocol: lane.hop.protocol_name(),
        tls: connection.and_then(|c| c.tls.as_deref()),
        tls_trust: connection.filter(|c| c.tls.is_some()).map(|c| c.security.trust.as_str()),
        tls_policy: connection.map(|c| c.security.label.as_str()),
        tls_waived: connection.filter(|c| c.security.waived).map(|_| "dane mta-sts"),
        dkim: job
            .seal()
            .get()
            .and_then(Option::as_deref)
            .filter(|_| outcome == Outcome::Delivered)
            .map(|s| s.by.as_str()),
        conn_use,
        delays,
        dsn: status,
        code,
        class,
        response: text.as_str().into(),
        attempt: attempt.facts().attempts + 1,
        next: attempt.judgement().filter(|_| outcome == Outcome::Deferred).map(|judged| match fate {
            Fate::Failed(Failed { unfinished: true, .. }) => judged.retry.max(worker.rules().doubt),
            _ => judged.retry,
        }),
        trace: job.span.trace(),
    };
    match outcome {
        Outcome::Delivered => maillog::delivered(&event),
        Outcome::Deferred => maillog::deferred(&event),
        Outcome::Bounced => maillog::bounced(&event),
        Outcome::Expired => maillog::expired(&event),
    }
    worker.metrics.delivery(outcome, class);
    lane.provider.load().delivery(outcome, &delays);
    if let (Outcome::Bounced, Fate::Failed(failed), Some(class)) = (outcome, fate, class) {
        let news = (&recipient.address, failed, class);
        hard_bounces::bounced(&worker.suppressor, &worker.terms.load(), &lane.hop, &job.message, news);
    }
    if let (Outcome::Bounced, Some(login)) = (outcome, &job.message.origin.login) {
        worker.conduct.bounced(login, status == NO_SUCH_USER);
    }
    if outcome == Outcome::Delivered {
        record(&worker.metrics.queue_time, delays.queue);
        record(&worker.metrics.transaction_time, delays.transfer);
        record(&worker.metrics.total_time, delays.total());
    }
}

/// What the log says of a fate.
fn describe(attempt: &Attempt, fate: &Fate) -> (Outcome, Status, Option<u16>, String) {
    match fate {
        Fate::Delivered { reply, .. } => {
            (Outcome::Delivered, reply.effective_status(), Some(reply.code), reply.to_string())
        }
        Fate::Failed(Failed { permanent, status, text, reply, .. }) => {
            let outcome = match (permanent, attempt.judgement().is_some_and(|judged| judged.expired)) {
                (true, _) => Outcome::Bounced,
                (false, true) => Outcome::Expired,
                (false, false) => Outcome::Deferred,
            };
            (outcome, *status, reply.as_ref().map(|reply| reply.code), text.clone())
        }
    }
}

/// What a failure is of; of a delivery `None`, and nothing is asked for it.
fn class_of(job: &Leased, recipient: &Address, fate: &Fate) -> Option<Class> {
    let Fate::Failed(failed) = fate else { return None };
    Some(match (failed.trouble, &failed.reply) {
        (Trouble::Met(class), _) => class,
        (Trouble::Answered(stage), Some(reply)) => {
            diagnose(failed.host.as_deref().unwrap_or_default(), stage, reply, &plain(job, recipient, reply))
        }
        (Trouble::Answered(_), None) => Class::Other,
    })
}

/// What a server has said to one recipient, without what others have chosen.
fn plain(job: &Leased, recipient: &Address, reply: &RemoteReply) -> String {
    let sender = job.message.envelope.sender.address().map(Address::as_str);
    without_addresses(&reply.to_string(), sender.into_iter().chain([recipient.as_str()]))
}

/// Postfix' four: reception is over before the queue and is not measured here.
fn delays(attempt: &Attempt, connection: Option<(&Connection, u32)>) -> Delays {
    let (queued, claimed) = (attempt.facts().age, attempt.facts().claimed);
    let (Some(began), Some((connection, conn_use))) = (attempt.began(), connection) else {
        let rest = claimed.elapsed();
        return Delays { queue: queued, connection: rest, ..Delays::default() };
    };
    let waited = began.saturating_duration_since(claimed);
    let setup = if conn_use > 1 { Duration::ZERO } else { connection.setup.min(waited) };
    Delays {
        reception: Duration::ZERO,
        queue: queued + (waited - setup),
        connection: setup,
        transfer: Instant::now().saturating_duration_since(began),
    }
}
