//! Spans as OTLP has them.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use staffetta_mail::SpanContext;
use staffetta_proto::otlp::any_value::Value as Any;
use staffetta_proto::otlp::span::{Kind as WireKind, Link};
use staffetta_proto::otlp::status::Code;
use staffetta_proto::otlp::{
    self as wire, AnyValue, ExportTraceServiceRequest, KeyValue, ResourceSpans, Scope, ScopeSpans, Status,
};

use super::{Kind, Record, Value};
use crate::Build;
use crate::origin::Origin;

/// W3C flags of a span that is sampled.
const SAMPLED: u32 = 1;

/// What all spans of this process have in common.
pub(super) struct Resource {
    host: String,
    build: Build,
}

impl Resource {
    pub(super) fn here(build: Build) -> Self {
        Self { host: Origin::here(&[]).host, build }
    }

    /// All of them, by service: several can share a process.
    pub(super) fn request(&self, records: Vec<Record>) -> ExportTraceServiceRequest {
        let clock = Clock { instant: Instant::now(), unix: unix_nanos() };
        let mut by_service: BTreeMap<&'static str, Vec<wire::Span>> = BTreeMap::new();
        for record in records {
            by_service.entry(record.service).or_default().push(span(record, &clock));
        }
        let resource_spans = by_service.into_iter().map(|(service, spans)| ResourceSpans {
            resource: Some(self.of(service)),
            scope_spans: vec![ScopeSpans {
                scope: Some(Scope { name: "staffetta".to_owned(), version: self.build.version.to_owned() }),
                spans,
            }],
        });
        ExportTraceServiceRequest { resource_spans: resource_spans.collect() }
    }

    fn of(&self, service: &str) -> wire::Resource {
        let attributes = [
            ("service.name", format!("staffetta-{service}")),
            ("service.version", self.build.version.to_owned()),
            ("service.instance.id", self.host.clone()),
            ("host.name", self.host.clone()),
        ];
        wire::Resource { attributes: attributes.map(|(key, value)| attribute(key, Value::Text(value))).into() }
    }
}

/// One moment by both clocks.
struct Clock {
    instant: Instant,
    unix: u64,
}

impl Clock {
    /// A moment that is past.
    fn unix(&self, at: Instant) -> u64 {
        let ago = self.instant.saturating_duration_since(at).as_nanos();
        self.unix.saturating_sub(u64::try_from(ago).unwrap_or(u64::MAX))
    }
}

fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn span(record: Record, clock: &Clock) -> wire::Span {
    let kind = match record.kind {
        Kind::Server => WireKind::Server,
        Kind::Client => WireKind::Client,
        Kind::Producer => WireKind::Producer,
        Kind::Consumer => WireKind::Consumer,
    };
    wire::Span {
        trace_id: record.context.trace_octets().into(),
        span_id: record.context.span_octets().into(),
        parent_span_id: record.parent.map_or_else(Vec::new, |parent| parent.span_octets().into()),
        name: record.name.to_owned(),
        kind: kind.into(),
        start_time_unix_nano: clock.unix(record.began),
        end_time_unix_nano: record.ended.map_or(clock.unix, |ended| clock.unix(ended)),
        attributes: record.attributes.into_iter().map(|(key, value)| attribute(key, value)).collect(),
        links: record.follows.map(link).into_iter().collect(),
        status: record.failure.map(|message| Status { message, code: Code::Error.into() }),
        flags: SAMPLED,
    }
}

fn link(to: SpanContext) -> Link {
    Link { trace_id: to.trace_octets().into(), span_id: to.span_octets().into(), flags: SAMPLED }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => Any::StringValue(text),
        Value::Number(number) => Any::IntValue(number),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}
