//! Counters of what comes of something, of which there are two kinds.

use metrics::{Counter, counter, describe_counter};

/// The two series of a family, there from the start.
pub(crate) fn tally(family: &'static str, text: &'static str, results: [&'static str; 2]) -> [Counter; 2] {
    describe_counter!(family, text);
    results.map(|result| {
        let counter = counter!(family, "result" => result);
        counter.increment(0);
        counter
    })
}
