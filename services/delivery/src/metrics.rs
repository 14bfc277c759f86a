//! The metric families of the delivery worker, with handles that are looked up once.
//!
//! Queue gauges are read from Redis by every pod and carry the same value in all: graph them with `max`, not `sum`. While
//! Redis does not answer they are NaN, and not on the page: what was true a minute ago is no state of the queue.

mod provider;

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use staffetta_policy::diagnosis::Class;
use staffetta_policy::tls::Label;
use staffetta_queue::Counts;
use staffetta_smtp::client::Stage;
use staffetta_telemetry::catalogue::OPEN;
use staffetta_telemetry::{Readiness, Standing, maillog};
use staffetta_transport::hop::Router;
use tokio_util::sync::CancellationToken;

pub(crate) use provider::Provider;

const DELIVERIES: &str = "staffetta_deliveries_total";
const ATTEMPTS: &str = "staffetta_delivery_attempts_total";
const DURATION: &str = "staffetta_delivery_duration_seconds";
const CONNECTIONS: &str = "staffetta_delivery_connections_active";
const REUSE: &str = "staffetta_connection_reuse_total";
const TLS_POLICY: &str = "staffetta_tls_policy_total";
const HANDSHAKES: &str = "staffetta_tls_handshakes_total";
const BOUNCES: &str = "staffetta_bounces_sent_total";
const THROTTLED: &str = "staffetta_delivery_throttled_total";
const SUPPRESSIONS: &str = "staffetta_delivery_suppressions_total";
const SUSPENSIONS: &str = "staffetta_delivery_suspensions_total";
const CURBS: &str = "staffetta_delivery_curbs_total";
const TLS_REPORTS: &str = "staffetta_tls_reports_total";
const SIGNED: &str = "staffetta_dkim_signed_total";
const DUPLICATES: &str = "staffetta_possible_duplicates_total";
const UNREAD: &str = "staffetta_delivery_store_waits_total";
const MESSAGES: &str = "staffetta_queue_messages";
const JOBS: &str = "staffetta_queue_jobs";
const OLDEST: &str = "staffetta_queue_oldest_message_age_seconds";
const ROUND_TRIP: &str = "staffetta_redis_round_trip_seconds";
const EXPIRED: &str = "staffetta_queue_lease_expired_total";
const OFFLOADED: &str = "staffetta_store_offloaded_total";
const BACKPRESSURE: &str = "staffetta_queue_backpressure";
const MEMORY: &str = "staffetta_queue_memory_bytes";
const MEMORY_LIMIT: &str = "staffetta_queue_memory_limit_bytes";

/// How a recipient's attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Delivered,
    Deferred,
    Bounced,
    Expired,
}

/// What a report to a sender says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    Failure,
    Delay,
    Success,
}

impl From<Notice> for maillog::Report {
    fn from(notice: Notice) -> Self {
        match notice {
            Notice::Failure => Self::Failure,
            Notice::Delay => Self::Delay,
            Notice::Success => Self::Success,
        }
    }
}

/// What came of signing a message that has keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signed {
    Done,
    /// It cannot be signed, and goes out without a signature.
    Skipped,
    /// It cannot go out now.
    Failed,
}

/// How TLS went on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsResult {
    /// Encrypted.
    Encrypted,
    /// In the clear: not wanted or not offered.
    Plaintext,
    /// In the clear after a failed handshake.
    Fallback,
    /// The policy demands TLS and there was none.
    Failed,
}

/// Each with the class of its enhanced codes.
const OUTCOMES: [(&str, &str); 4] = [("delivered", "2"), ("deferred", "4"), ("bounced", "5"), ("expired", "4")];
const NOTICES: [&str; 3] = ["failure", "delay", "success"];
const TLS_RESULTS: [&str; 4] = ["encrypted", "plaintext", "fallback", "failed"];
const SIGNED_RESULTS: [&str; 3] = ["signed", "skipped", "failed"];
const STATES: [&str; 4] = ["ready", "scheduled", "leased", "held"];
/// Where an attempt ended; `ok` at [`TRANSACTION`] only.
const STAGES: [&str; 9] = ["dns", "connect", "greeting", "tls", "auth", "mail", "rcpt", "data", "transaction"];

/// Stages before there is a session.
pub(crate) const DNS: usize = 0;
pub(crate) const CONNECT: usize = 1;
const TRANSACTION: usize = 8;

/// All handles; one per worker.
pub(crate) struct Metrics {
    delivered: Counter,
    /// By [`Outcome`], then by [`Class`].
    failed: Vec<Counter>,
    attempts_failed: Vec<Counter>,
    attempts_ok: Counter,
    tls_policy: Vec<Counter>,
    handshake_ok: [Counter; 2],
    handshake_failed: Counter,
    /// Reports by [`Notice`].
    pub(crate) bounces: Vec<Counter>,
    /// Sent, and not.
    tls_reports: [Counter; 2],
    /// Messages by [`Signed`].
    pub(crate) signed: Vec<Counter>,
    states: Vec<Gauge>,
    pub(crate) queue_time: Histogram,
    pub(crate) connect_time: Histogram,
    pub(crate) tls_time: Histogram,
    pub(crate) transaction_time: Histogram,
    pub(crate) total_time: Histogram,
    pub(crate) connections: Gauge,
    pub(crate) reuse: Counter,
    /// Recipients that get no mail any more because of what their servers said.
    pub(crate) suppressions: Counter,
    /// Destinations that rest because of what their servers said.
    pub(crate) suspensions: Counter,
    /// Those that get fewer messages, or connections, because of that.
    pub(crate) slow: Counter,
    pub(crate) fewer: Counter,
    /// Those of which replies are final.
    pub(crate) bounce: Counter,
    /// Claims that had to wait for a rate.
    pub(crate) throttled: Counter,
    /// Jobs that went back because the store of their bodies was away.
    pub(crate) unread: Counter,
    /// Deliveries that may happen twice.
    pub(crate) duplicates: Counter,
    pub(crate) leases_expired: Counter,
    pub(crate) offloaded: Counter,
    messages: Gauge,
    /// By state, as `states`.
    oldest: Vec<Gauge>,
    pub(crate) round_trip: Histogram,
    backpressure: Gauge,
    memory: Gauge,
    memory_limit: Gauge,
}

impl Metrics {
    /// Describes every family and starts every counter at zero.
    pub(crate) fn new() -> Self {
        describe();
        staffetta_queue::describe_revocation_metrics();
        let stage = |stage: &'static str| histogram!(DURATION, "stage" => stage);
        let metrics = Self {
            delivered: zero(deliveries(Outcome::Delivered, None)),
            failed: [Outcome::Deferred, Outcome::Bounced, Outcome::Expired]
                .into_iter()
                .flat_map(|outcome| Class::ALL.map(|class| zero(deliveries(outcome, Some(class)))))
                .collect(),
            attempts_failed: row(&STAGES, |stage| counter!(ATTEMPTS, "stage" => stage, "result" => "failed")),
            attempts_ok: zero(counter!(ATTEMPTS, "stage" => STAGES[TRANSACTION], "result" => "ok")),
            tls_policy: grid(TLS_POLICY, ("policy", &Label::ALL.map(Label::as_str)), ("result", &TLS_RESULTS)),
            handshake_ok: ["TLSv1.2", "TLSv1.3"]
                .map(|v| zero(counter!(HANDSHAKES, "side" => "client", "version" => v, "result" => "ok"))),
            handshake_failed: zero(counter!(HANDSHAKES, "side" => "client", "version" => "none", "result" => "failed")),
            bounces: row(&NOTICES, |kind| counter!(BOUNCES, "kind" => kind)),
            tls_reports: ["sent", "failed"].map(|result| zero(counter!(TLS_REPORTS, "result" => result))),
            signed: row(&SIGNED_RESULTS, |result| counter!(SIGNED, "result" => result)),
            states: STATES.iter().map(|&state| gauge!(JOBS, "state" => state)).collect(),
            queue_time: stage("queue"),
            connect_time: stage("connect"),
            tls_time: stage("tls"),
            transaction_time: stage("transaction"),
            total_time: stage("total"),
            connections: gauge!(CONNECTIONS),
            reuse: zero(counter!(REUSE)),
            throttled: zero(counter!(THROTTLED)),
            suppressions: zero(counter!(SUPPRESSIONS)),
            suspensions: zero(counter!(SUSPENSIONS)),
            slow: zero(counter!(CURBS, "kind" => "slow")),
            fewer: zero(counter!(CURBS, "kind" => "fewer")),
            bounce: zero(counter!(CURBS, "kind" => "bounce")),
            unread: zero(counter!(UNREAD)),
            duplicates: zero(counter!(DUPLICATES)),
            leases_expired: zero(counter!(EXPIRED)),
            offloaded: zero(counter!(OFFLOADED)),
            messages: gauge!(MESSAGES),
            oldest: STATES.iter().map(|&state| gauge!(OLDEST, "state" => state)).collect(),
            round_trip: histogram!(ROUND_TRIP),
            backpressure: gauge!(BACKPRESSURE),
            memory: gauge!(MEMORY),
            memory_limit: gauge!(MEMORY_LIMIT),
        };
        metrics.queue_unknown();
        metrics
    }

    /// One recipient's outcome, and what it is of if it is a failure.
    pub(crate) fn delivery(&self, outcome: Outcome, class: Option<Class>) {
        let counter = match (outcome, class.unwrap_or(Class::Other)) {
            (Outcome::Delivered, _) => &self.delivered,
            (failed, class) => &self.failed[(failed as usize - 1) * Class::ALL.len() + class as usize],
        };
        counter.increment(1);
    }

    /// A transaction that the server took for at least one recipient.
    pub(crate) fn attempt_ok(&self) {
        self.attempts_ok.increment(1);
    }

    /// An attempt that ended before there was a session.
    pub(crate) fn attempt_failed(&self, stage: usize) {
        self.attempts_failed[stage].increment(1);
    }

    /// An attempt that ended in the dialogue.
    pub(crate) fn attempt_failed_at(&self, stage: Stage) {
        self.attempt_failed(match stage {
            Stage::Greeting | Stage::Helo | Stage::Idle | Stage::Quit => 2,
            Stage::StartTls => 3,
            Stage::Auth => 4,
            Stage::Mail | Stage::Reset => 5,
            Stage::Rcpt => 6,
            Stage::Data | Stage::Transfer => 7,
            Stage::Final => TRANSACTION,
        });
    }

    /// What a connection came to under a TLS policy.
    pub(crate) fn tls(&self, policy: Label, result: TlsResult) {
        self.tls_policy[policy as usize * TLS_RESULTS.len() + result as usize].increment(1);
    }

    /// An attempt to send a TLS report.
    pub(crate) fn tls_report(&self, sent: bool) {
        self.tls_reports[usize::from(!sent)].increment(1);
    }

    /// A handshake of ours; `None`: it failed.
    pub(crate) fn handshake(&self, version: Option<&str>) {
        match version {
            Some("TLSv1.2") => self.handshake_ok[0].increment(1),
            Some(_) => self.handshake_ok[1].increment(1),
            None => self.handshake_failed.increment(1),
        }
    }

    /// The state of the whole queue.
    pub(crate) fn queue(&self, counts: &Counts, backpressure: bool) {
        let states = [counts.ready, counts.scheduled, counts.leased, counts.held];
        for (gauge, value) in self.states.iter().zip(states) {
            gauge.set(value as f64);
        }
        self.messages.set(counts.messages as f64);
        let ages = [counts.oldest_ready, counts.oldest_scheduled, counts.oldest_leased, counts.oldest_held];
        for (gauge, age) in self.oldest.iter().zip(ages) {
            gauge.set(age.as_secs_f64());
        }
        self.backpressure.set(f64::from(u8::from(backpressure)));
        self.memory.set(counts.memory.0 as f64);
        self.memory_limit.set(counts.memory.1 as f64);
    }

    /// Nobody can say how the queue is.
    pub(crate) fn queue_unknown(&self) {
        let others = [&self.messages, &self.backpressure, &self.memory, &self.memory_limit];
        self.states.iter().chain(&self.oldest).chain(others).for_each(|gauge| gauge.set(f64::NAN));
    }
}

/// Declares every family with its series, for the page about them.
pub(crate) fn declare() {
    drop(Metrics::new());
    drop(Provider::new(OPEN));
    drop(staffetta_transport::sts::declare_metrics());
    drop(staffetta_transport::token::declare_metrics());
    let _ = Readiness::new(CancellationToken::new()).needs("redis", || Standing::Up);
}

/// Starts the counters of every provider at zero.
pub(crate) fn declare_providers(router: &Router) {
    router.providers().iter().for_each(|name| drop(Provider::new(name)));
}

/// Seconds for a histogram.
pub(crate) fn record(histogram: &Histogram, time: Duration) {
    histogram.record(time.as_secs_f64());
}

/// With the class of a failure.
fn deliveries(outcome: Outcome, class: Option<Class>) -> Counter {
    let (outcome, dsn_class) = OUTCOMES[outcome as usize];
    match class {
        None => counter!(DELIVERIES, "outcome" => outcome, "dsn_class" => dsn_class),
        Some(class) => {
            counter!(DELIVERIES, "outcome" => outcome, "dsn_class" => dsn_class, "class" => class.as_str())
        }
    }
}

fn zero(counter: Counter) -> Counter {
    counter.increment(0);
    counter
}

fn row(labels: &[&'static str], make: impl Fn(&'static str) -> Counter) -> Vec<Counter> {
    labels.iter().map(|&label| zero(make(label))).collect()
}

/// Row by row: the second label changes fastest.
fn grid(
    name: &'static str,
    (row_key, rows): (&'static str, &[&'static str]),
    (column_key, columns): (&'static str, &[&'static str]),
) -> Vec<Counter> {
    rows.iter()
        .flat_map(|&r| columns.iter().map(move |&c| zero(counter!(name, row_key => r, column_key => c))))
        .collect()
}

fn describe() {
    provider::describe();
    staffetta_queue::describe_worker_metrics();
    staffetta_queue::describe_conduct_metrics();
    staffetta_transport::dns::describe_metrics();
    describe_counter!(DELIVERIES, "Attempts by outcome, counted per recipient; what failed by what it is of, too.");
    describe_counter!(ATTEMPTS, "Transactions that the server took, and attempts by the stage at which they failed.");
    describe_histogram!(
        DURATION,
        Unit::Seconds,
        "Time in the queue, to connect, for TLS, for a transaction, in total."
    );
    describe_gauge!(CONNECTIONS, "Connections to next hops that are open now.");
    describe_counter!(
        SUPPRESSIONS,
        "Recipients this pod has suppressed because their own servers have refused them for good (delivery.suppress_after)."
    );
    describe_counter!(SUSPENSIONS, "Times this pod has suspended a destination because of what its servers said.");
    describe_counter!(
        CURBS,
        "Times this pod has made a destination slow, given it fewer connections, or begun to take its temporary replies for final, \
         because of what its servers said."
    );
    describe_counter!(THROTTLED, "Times a destination had to wait because its rate was used up.");
    describe_counter!(REUSE, "Messages sent over a connection that had carried one before.");
    describe_counter!(TLS_POLICY, "Connections by TLS level and what came of it.");
    describe_counter!(HANDSHAKES, "TLS handshakes, by side, version and result: ok, or why it failed.");
    describe_counter!(UNREAD, "Jobs put back, without an attempt, because the store with their content was away.");
    describe_counter!(BOUNCES, "Reports to senders that were queued.");
    describe_counter!(TLS_REPORTS, "Attempts to send a domain a report on the TLS of its mail (delivery.tls_report).");
    describe_counter!(SIGNED, "Messages for which there are DKIM keys, by what came of signing them.");
    describe_counter!(
        DUPLICATES,
        "Deliveries that may happen twice: settled too late, or the answer to the final dot was lost."
    );
    describe_gauge!(MESSAGES, "Messages in the queue; the same from every pod, so use max.");
    describe_gauge!(JOBS, "Jobs (message times destination) by state; the same from every pod, so use max.");
    describe_gauge!(
        OLDEST,
        Unit::Seconds,
        "Age of the oldest message by state: ready, since it has been due and not claimed; scheduled (deferred), since the \
         oldest that is not held arrived, while any waits for later; leased and held, since it arrived. Use max."
    );
    describe_histogram!(
        ROUND_TRIP,
        Unit::Seconds,
        "Time of Redis to answer this pod a question that costs it nothing, asked every few seconds."
    );
    describe_counter!(EXPIRED, "Jobs taken back from workers whose lease had expired.");
    describe_counter!(
        OFFLOADED,
        "Waiting messages whose body this pod has moved from Redis to the store of `spool.url`."
    );
    describe_gauge!(BACKPRESSURE, "1 while the queue takes no new mail; use max.");
    describe_gauge!(MEMORY, Unit::Bytes, "Memory that Redis uses; use max.");
    describe_gauge!(MEMORY_LIMIT, Unit::Bytes, "Redis' maxmemory, 0 for none; use max.");
}
