//! What only the queue itself can count.

use staffetta_policy::conduct::{Signal, Step};

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

const AMBIGUOUS: &str = "staffetta_queue_enqueue_ambiguous_total";
const STORE_UP: &str = "staffetta_store_up";
const STORE_REFUSED: &str = "staffetta_store_incoming_refused_total";
const UNREADABLE: &str = "staffetta_queue_unreadable_total";
const CREATED: &str = "staffetta_queue_created_total";
const WITHDRAW_FAILED: &str = "staffetta_queue_withdraw_failed_total";
const REVOCATIONS: &str = "staffetta_revocations_total";
const REVOCATION_GAPS: &str = "staffetta_revocation_gaps_total";
const REVOCATIONS_CURRENT: &str = "staffetta_revocations_current";
const BLOCKS: &str = "staffetta_blocks";
/// Who has said that something is blocked.
pub(crate) const BY: [&str; 2] = ["operator", "program"];
const STEPS: &str = "staffetta_login_steps_total";
const OVER_THRESHOLD: &str = "staffetta_logins_over_threshold";
const UNCOUNTED: &str = "staffetta_login_signals_lost_total";

/// Declares the families, so that they show as zero before anything happens. For the service that accepts mail.
pub fn describe_metrics() {
    describe_counter!(AMBIGUOUS, "Enqueues whose result was not known at first and had to be found out.");
    describe_counter!(WITHDRAW_FAILED, "Refused messages that may be in the queue although they were withdrawn.");
    describe_counter!(
        STORE_REFUSED,
        "Messages that were refused because those on their way in have as much of the store as `spool.incoming_limit` lets them."
    );
    store_refused().increment(0);
    ambiguous().increment(0);
    withdraw_failed().increment(0);
    describe_creation();
    describe_store();
}

fn describe_creation() {
    describe_counter!(CREATED, "How often this pod has found no queue in Redis and made one.");
    queue_created().increment(0);
}

/// The families of a service that takes jobs.
pub fn describe_worker_metrics() {
    describe_counter!(UNREADABLE, "Jobs that could not be read and were left to a newer program.");
    unreadable().increment(0);
    describe_creation();
    describe_store();
}

fn describe_store() {
    describe_gauge!(
        STORE_UP,
        "1 while the store of `spool.url` can be used by this pod, 0 while it cannot, or there is none."
    );
    store_up().set(0.0);
    staffetta_store::describe_metrics();
}

/// Can the store of large bodies be used?
pub(crate) fn store_up() -> Gauge {
    gauge!(STORE_UP)
}

/// There was no room in the store for a message that came in.
pub(crate) fn store_refused() -> Counter {
    counter!(STORE_REFUSED)
}

/// A queue was made.
pub(crate) fn queue_created() -> Counter {
    counter!(CREATED)
}

/// A job was put back unread.
pub(crate) fn unreadable() -> Counter {
    counter!(UNREADABLE)
}

/// An enqueue timed out or lost its connection.
pub(crate) fn ambiguous() -> Counter {
    counter!(AMBIGUOUS)
}

/// A message was refused, may have landed, and could not be withdrawn.
pub(crate) fn withdraw_failed() -> Counter {
    counter!(WITHDRAW_FAILED)
}

/// The families of a service that follows revocations.
pub fn describe_revocation_metrics() {
    describe_counter!(REVOCATIONS, "Entries of the journal of revocations that this pod has read, by what they say.");
    describe_counter!(REVOCATION_GAPS, "How often the journal had a gap, so that every login had to be asked again.");
    describe_gauge!(REVOCATIONS_CURRENT, "Whether this pod hears of revocations now.");
    describe_gauge!(
        BLOCKS,
        "Logins, networks of clients and domains that are blocked, recipients that are suppressed, destinations and addresses of \
         ours that are suspended, destinations that are slow, have fewer connections or of which replies are final by a rule, hosts \
         that get commands one by one, as this pod knows, by kind and by whether an operator or a program has said so."
    );
    for what in ["revoke", "hold", "block", "unblock", "unknown"] {
        revocation(what).increment(0);
    }
    revocation_gaps().increment(0);
    revocations_current().set(0.0);
    for kind in
        ["login", "client", "domain", "recipient", "destination", "slow", "fewer", "bounce", "unpipelined", "source"]
    {
        BY.into_iter().for_each(|by| blocks(kind, by).set(0.0));
    }
}

/// An entry of the journal.
pub(crate) fn revocation(what: &'static str) -> Counter {
    counter!(REVOCATIONS, "what" => what)
}

/// Entries were missing.
pub(crate) fn revocation_gaps() -> Counter {
    counter!(REVOCATION_GAPS)
}

/// 1 while nothing is missed.
pub(crate) fn revocations_current() -> Gauge {
    gauge!(REVOCATIONS_CURRENT)
}

/// How many of a kind are blocked; `by`: one of [`BY`].
pub(crate) fn blocks(kind: &'static str, by: &'static str) -> Gauge {
    gauge!(BLOCKS, "kind" => kind, "by" => by)
}

/// The families of a service that sees how logins behave.
pub fn describe_conduct_metrics() {
    describe_counter!(
        STEPS,
        "Steps that this pod has taken against logins, by the signal that had come to its threshold and the step; each is \
         taken once in the cluster, so sum over the pods."
    );
    describe_counter!(UNCOUNTED, "What logins did and this pod had no room to remember, Redis being away or slow.");
    uncounted().increment(0);
    for signal in Signal::ALL {
        for step in Step::ALL {
            self::step(signal, step).increment(0);
        }
    }
}

/// The family of a service that shows how many logins are over a threshold.
pub fn describe_logins_over_threshold() {
    describe_gauge!(
        OVER_THRESHOLD,
        "Logins that are over their threshold in this hour, up to 10,000, by signal. All frontends show the same number: \
         use max, not sum."
    );
    for signal in Signal::ALL {
        logins_over_threshold(signal).set(0.0);
    }
}

/// A step was taken.
pub(crate) fn step(signal: Signal, step: Step) -> Counter {
    counter!(STEPS, "signal" => signal.name(), "step" => step.name())
}

/// Something is not remembered.
pub(crate) fn uncounted() -> Counter {
    counter!(UNCOUNTED)
}

/// How many logins are over a threshold now.
pub(crate) fn logins_over_threshold(signal: Signal) -> Gauge {
    gauge!(OVER_THRESHOLD, "signal" => signal.name())
}
