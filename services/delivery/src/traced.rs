//! What the trace of an attempt says: what came of it, and what was done with a server.

use std::time::Instant;

use staffetta_dispatch::Plan;
use staffetta_smtp::client::{Outcome, Report};
use staffetta_telemetry::spans::{Kind, Span, Tracer};

use crate::connection::Connection;
use crate::leased::{Leased, Task};

/// Begins our spans.
const TRACER: Tracer = Tracer::of("delivery");

/// The attempt that a claim begins, in the state in which the queue had the job. The first belongs to the trace in which the message
/// was accepted; a later one may come days after it: its trace is its own, and leads back there.
pub(crate) fn attempt(job: &staffetta_queue::Job) -> Span {
    let (accepted, name) = (job.message.origin.span, "smtp.attempt");
    let mut span = match job.attempts {
        0 => TRACER.part_of(accepted, name, Kind::Consumer),
        _ => TRACER.following(accepted, name, Kind::Consumer),
    };
    span.note("messaging.message.id", || job.message.id.to_string());
    span.note("staffetta.destination", || job.lease.destination.as_str());
    span.note("staffetta.attempt", || job.attempts + 1);
    span
}

/// One transaction of it has ended, and was message `conn_use` of its connection. The first shows what the connection took.
pub(crate) fn transaction(task: &Task, connection: &Connection, conn_use: u32, report: &Report) {
    let (span, Some(began)) = (&task.job.span, task.attempt.began()) else { return };
    if span.context().is_none() {
        return;
    }
    if let Some((asked, found)) = connection.looked_up.filter(|_| conn_use == 1) {
        part(span, "dns.lookup", asked, found);
        let mut connect = part(span, "smtp.connect", found, asked + connection.setup);
        name_server(&mut connect, connection);
    }
    let mut step = part(span, "smtp.transaction", began, Instant::now());
    name_server(&mut step, connection);
    step.note("staffetta.conn_use", || conn_use);
    let failed = report.outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Failed(failure) => Some(failure),
        Outcome::Delivered(_) => None,
    });
    match (failed, report.outcomes.first()) {
        (Some(failure), _) => {
            if let Some(reply) = failure.reply() {
                step.note("smtp.response.status_code", || reply.code);
            }
            step.fail(&failure.to_string());
        }
        (None, Some(Outcome::Delivered(reply))) => step.note("smtp.response.status_code", || reply.code),
        _ => {}
    }
}

/// What is made of it.
pub(crate) fn outcome(job: &mut Leased, plan: &Plan) {
    let span = &mut job.span;
    span.note("staffetta.delivered", || plan.delivered.len());
    span.note("staffetta.failed", || plan.failed.len());
    span.note("staffetta.deferred", || plan.remaining.len());
    let failed = plan.failed.first().map(|(_, failed)| failed);
    if let Some(failed) = failed.or(plan.reason.as_ref().filter(|_| !plan.remaining.is_empty())) {
        span.fail(&failed.text);
    }
}

fn part(span: &Span, name: &'static str, began: Instant, ended: Instant) -> Span {
    let mut part = span.part(name, Kind::Client);
    part.lasted(began, ended);
    part
}

fn name_server(span: &mut Span, connection: &Connection) {
    span.note("server.address", || &*connection.peer.host);
    if let Some(ip) = connection.peer.endpoint.ip() {
        span.note("network.peer.address", || ip.to_string());
    }
    if let Some(tls) = connection.tls.as_deref() {
        span.note("staffetta.tls", || tls);
    }
}
