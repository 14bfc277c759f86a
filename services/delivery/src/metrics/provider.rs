//! What deliveries come to at one provider, of the few that `staffetta_transport::hop` tells apart.

use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_histogram, histogram};
use staffetta_telemetry::maillog::Delays;

use super::{OUTCOMES, Outcome, record, zero};

const DELIVERIES: &str = "staffetta_provider_deliveries_total";
const DURATION: &str = "staffetta_provider_duration_seconds";

/// The handles of one.
#[derive(Debug)]
pub(crate) struct Provider {
    /// By [`Outcome`].
    outcomes: [Counter; 4],
    queue: Histogram,
    transaction: Histogram,
}

impl Provider {
    /// That of this name. What was counted under it before stays.
    pub(crate) fn new(name: &str) -> Self {
        let stage = |stage: &'static str| histogram!(DURATION, "provider" => name.to_owned(), "stage" => stage);
        Self {
            outcomes: OUTCOMES
                .map(|(outcome, _)| zero(counter!(DELIVERIES, "provider" => name.to_owned(), "outcome" => outcome))),
            queue: stage("queue"),
            transaction: stage("transaction"),
        }
    }

    /// One recipient's outcome, and where its time has gone.
    pub(crate) fn delivery(&self, outcome: Outcome, delays: &Delays) {
        self.outcomes[outcome as usize].increment(1);
        if outcome == Outcome::Delivered {
            record(&self.queue, delays.queue);
            record(&self.transaction, delays.transfer);
        }
    }
}

pub(super) fn describe() {
    describe_counter!(
        DELIVERIES,
        "Attempts by outcome, counted per recipient, at a provider: an entry of `[[delivery.destination]]`, the servers of a \
         route (`route` where it has addresses instead of names), one that is known (`google`, `microsoft`, `yahoo`, `apple`, `comcast`), or `other`."
    );
    describe_histogram!(
        DURATION,
        Unit::Seconds,
        "Time of what was delivered to a provider, as above: in the queue, and for the transaction."
    );
}
