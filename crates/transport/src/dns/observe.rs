//! `staffetta_dns_queries_total` and `staffetta_dns_query_duration_seconds`, with handles kept.

use std::time::Duration;

use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::RecordType;
use metrics::{Counter, Histogram};
use staffetta_policy::mx::Answer;

use super::Found;

const QUERIES: &str = "staffetta_dns_queries_total";
const DURATION: &str = "staffetta_dns_query_duration_seconds";

/// Which records are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Mx,
    A,
    Aaaa,
    Ptr,
    Cname,
    Tlsa,
    Txt,
}

/// How a question ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Found,
    NoData,
    NoName,
    Timeout,
    Refused,
    Bogus,
    Error,
}

impl Kind {
    const ALL: [Self; 7] = [Self::Mx, Self::A, Self::Aaaa, Self::Ptr, Self::Cname, Self::Tlsa, Self::Txt];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mx => "MX",
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Ptr => "PTR",
            Self::Cname => "CNAME",
            Self::Tlsa => "TLSA",
            Self::Txt => "TXT",
        }
    }

    pub(super) fn record_type(self) -> RecordType {
        match self {
            Self::Mx => RecordType::MX,
            Self::A => RecordType::A,
            Self::Aaaa => RecordType::AAAA,
            Self::Ptr => RecordType::PTR,
            Self::Cname => RecordType::CNAME,
            Self::Tlsa => RecordType::TLSA,
            Self::Txt => RecordType::TXT,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Mx => "mx",
            Self::A => "a",
            Self::Aaaa => "aaaa",
            Self::Ptr => "ptr",
            Self::Cname => "cname",
            Self::Tlsa => "tlsa",
            Self::Txt => "txt",
        }
    }
}

impl Outcome {
    const ALL: [Self; 7] =
        [Self::Found, Self::NoData, Self::NoName, Self::Timeout, Self::Refused, Self::Bogus, Self::Error];

    pub(super) fn of(result: &Result<Answer<Found>, NetError>) -> Self {
        match result {
            Ok(Answer { data: Found::Records(_), .. }) => Self::Found,
            Ok(Answer { data: Found::NoData | Found::NoWord, .. }) => Self::NoData,
            Ok(Answer { data: Found::NoName, .. }) => Self::NoName,
            Err(NetError::Timeout) => Self::Timeout,
            Err(NetError::Dns(DnsError::ResponseCode(_))) => Self::Refused,
            Err(NetError::Dns(DnsError::DnssecBogus | DnsError::Nsec { .. })) => Self::Bogus,
            Err(_) => Self::Error,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::NoData => "nodata",
            Self::NoName => "nxdomain",
            Self::Timeout => "timeout",
            Self::Refused => "servfail",
            Self::Bogus => "bogus",
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

/// Declares the two families, with all their series; call once after the recorder is installed.
pub fn describe_metrics() {
    drop(Observer::new());
    metrics::describe_counter!(QUERIES, "DNS questions by record type and result; answers from the cache count too.");
    metrics::describe_histogram!(
        DURATION,
        metrics::Unit::Seconds,
        "Time until a DNS question was answered, cache included."
    );
}
