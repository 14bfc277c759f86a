//! What is asked of the store, and how long it takes.

use std::time::Instant;

use metrics::{counter, describe_counter, describe_histogram, histogram};

use crate::Fault;

const REQUESTS: &str = "staffetta_store_requests_total";
const BYTES: &str = "staffetta_store_bytes_total";
const DURATION: &str = "staffetta_store_duration_seconds";

/// What is asked.
#[derive(Clone, Copy)]
pub(crate) enum Act {
    Put,
    Get,
    Delete,
}

impl Act {
    const ALL: [Self; 3] = [Self::Put, Self::Get, Self::Delete];

    fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Delete => "delete",
        }
    }
}

/// Declares the families, so that they show as zero before anything happens. For services that take or deliver mail.
pub fn describe_metrics() {
    describe_counter!(REQUESTS, "Requests to the store of `spool.url`, by what was asked and how it went.");
    describe_counter!(BYTES, "Octets that were written to the store of `spool.url`, and read from it.");
    describe_histogram!(DURATION, "How long requests to the store of `spool.url` took, with all tries.");
    for act in Act::ALL {
        for result in ["ok", "missing", "failed"] {
            counter!(REQUESTS, "act" => act.name(), "result" => result).increment(0);
        }
        drop(histogram!(DURATION, "act" => act.name()));
    }
    for act in [Act::Put, Act::Get] {
        counter!(BYTES, "act" => act.name()).increment(0);
    }
}

/// It was so many octets.
pub(crate) fn done(act: Act, began: Instant, outcome: Result<usize, &Fault>) {
    let result = match outcome {
        Ok(_) => "ok",
        Err(Fault::Missing(_)) => "missing",
        Err(Fault::Away(_)) => "failed",
    };
    counter!(REQUESTS, "act" => act.name(), "result" => result).increment(1);
    histogram!(DURATION, "act" => act.name()).record(began.elapsed().as_secs_f64());
    if let (Ok(octets), Act::Put | Act::Get) = (outcome, act) {
        counter!(BYTES, "act" => act.name()).increment(octets as u64);
    }
}
