//! What only the queue itself can count.

use metrics::{Counter, counter, describe_counter};

const AMBIGUOUS: &str = "staffetta_queue_enqueue_ambiguous_total";
const UNREADABLE: &str = "staffetta_queue_unreadable_total";
const WITHDRAW_FAILED: &str = "staffetta_queue_withdraw_failed_total";

/// Declares the families, so that they show as zero before anything happens. For the service that accepts mail.
pub fn describe_metrics() {
    describe_counter!(AMBIGUOUS, "Enqueues whose result was not known at first and had to be found out.");
    describe_counter!(WITHDRAW_FAILED, "Refused messages that may be in the queue although they were withdrawn.");
    ambiguous().increment(0);
    withdraw_failed().increment(0);
}

/// The families of a service that takes jobs.
pub fn describe_worker_metrics() {
    describe_counter!(UNREADABLE, "Jobs that could not be read and were left to a newer program.");
    unreadable().increment(0);
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
