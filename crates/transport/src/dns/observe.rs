//! `staffetta_dns_queries_total` and `staffetta_dns_query_duration_seconds`, with handles kept.

use std::time::Duration;

use hickory_resolver::net::{DnsError, NetError};
use metrics::{Counter, Histogram};

const QUERIES: &str = "staffetta_dns_queries_total";
const DURATION: &str = "staffetta_dns_query_duration_seconds";

/// Which records are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Mx,
    A,
    Aaaa,
    Ptr,
}

/// How a question ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Found,
    NoData,
    NoName,
    Timeout,
    Refused,
    Error,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Mx, Self::A, Self::Aaaa, Self::Ptr];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mx => "MX",
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Ptr => "PTR",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Mx => "mx",
            Self::A => "a",
            Self::Aaaa => "aaaa",
            Self::Ptr => "ptr",
        }
    }
}

impl Outcome {
    const ALL: [Self; 6] = [Self::Found, Self::NoData, Self::NoName, Self::Timeout, Self::Refused, Self::Error];

    pub(super) fn of(error: &NetError) -> Self {
        match error {
            NetError::Timeout => Self::Timeout,
            NetError::Dns(DnsError::ResponseCode(_)) => Self::Refused,
            _ => Self::Error,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::NoData => "nodata",
            Self::NoName => "nxdomain",
            Self::Timeout => "timeout",
            Self::Refused => "servfail",
            Self::Error => "error",
        }
    }
}

/// The handles, in the order of the two `ALL`s.
pub(super) struct Observer {
    queries: Vec<Counter>,
    durations: Vec<Histogram>,
}

impl Observer {
    /// Takes the handles; every counter starts to exist with zero.
    pub(super) fn new() -> Self {
        let queries = Kind::ALL
            .iter()
            .flat_map(|kind| Outcome::ALL.iter().map(|outcome| (kind.label(), outcome.label())))
            .map(|(kind, result)| {
                let counter = metrics::counter!(QUERIES, "type" => kind, "result" => result);
                counter.increment(0);
                counter
            })
            .collect();
        let durations = Kind::ALL.iter().map(|kind| metrics::histogram!(DURATION, "type" => kind.label())).collect();
        Self { queries, durations }
    }

    pub(super) fn asked(&self, kind: Kind, outcome: Outcome, took: Duration) {
        self.queries[kind as usize * Outcome::ALL.len() + outcome as usize].increment(1);
        self.durations[kind as usize].record(took.as_secs_f64());
    }
}

/// Help texts of the two families; call once after the recorder is installed.
pub fn describe_metrics() {
    metrics::describe_counter!(QUERIES, "DNS questions by record type and result; answers from the cache count too.");
    metrics::describe_histogram!(
        DURATION,
        metrics::Unit::Seconds,
        "Time until a DNS question was answered, cache included."
    );
}
