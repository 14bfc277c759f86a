//! Traces: what becomes of a message as spans for an OpenTelemetry collector. Off until [`start`]; then each call is a branch.
//!
//! A [`Span`] is begun by its service's [`Tracer`], is given a few words, and goes to the exporter ([`export`]) when it is
//! dropped. Nobody waits for a collector. Only what is sampled has spans: of anything else the span is empty and there is
//! no context to hand on, in a call, in the log or with a queued message. Whether a message is traced is decided once,
//! where it comes in.
//!
//! Inside a service the context goes along with the task: [`within`], [`current`]. Texts are shown as the mail log shows them,
//! without addresses if those are hidden there.

mod export;
mod wire;

use std::sync::OnceLock;
use std::time::Instant;

use staffetta_mail::{SpanContext, TraceId};

use crate::plain::as_logged;
pub(crate) use export::declare_metrics;
pub use export::{Settings, finish, reach, start};

/// Characters of a text that are kept.
const LONGEST: usize = 256;
/// Attributes of a span.
const MOST: usize = 32;

static SAMPLER: OnceLock<Sampler> = OnceLock::new();

tokio::task_local! {
    static CURRENT: Option<SpanContext>;
}

/// What a service begins its spans with: its name.
#[derive(Clone, Copy, Debug)]
pub struct Tracer(&'static str);

/// What a span is to others (`SpanKind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Answers a caller.
    Server,
    /// Asks somebody else.
    Client,
    /// Leaves work for somebody else.
    Producer,
    /// Takes work that was left.
    Consumer,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// As the log would show it.
    Text(String),
    /// A count, a code.
    Number(i64),
}

/// A piece of work, which ends when this is dropped. Empty if the work is not traced.
#[derive(Debug, Default)]
pub struct Span(Option<Box<Record>>);

/// What the collector is told.
#[derive(Clone, Debug)]
struct Record {
    service: &'static str,
    name: &'static str,
    kind: Kind,
    context: SpanContext,
    parent: Option<SpanContext>,
    /// Of another trace.
    follows: Option<SpanContext>,
    began: Instant,
    /// `None`: when it is dropped.
    ended: Option<Instant>,
    attributes: Vec<(&'static str, Value)>,
    failure: Option<String>,
}

/// One trace in so many, by its id, as the SDKs of OpenTelemetry do it.
#[derive(Clone, Copy, Debug)]
struct Sampler {
    /// Ids whose last 63 bits are below this.
    below: u64,
}

/// The context of the work that this task does, if that is traced.
pub fn current() -> Option<SpanContext> {
    CURRENT.try_with(|context| *context).ok().flatten()
}

/// Does the work in this context.
pub fn within<F: Future>(context: Option<SpanContext>, work: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(context, work)
}

impl Tracer {
    /// Of this service.
    pub const fn of(service: &'static str) -> Self {
        Self(service)
    }

    /// A new trace, if one is to be taken.
    pub fn root(self, name: &'static str, kind: Kind) -> Span {
        let Some(sampler) = SAMPLER.get() else { return Span::default() };
        let context = new_context().filter(|context| sampler.takes(*context));
        context.map_or_else(Span::default, |context| self.begin(name, kind, context))
    }

    /// A part of what has this context.
    pub fn part_of(self, parent: Option<SpanContext>, name: &'static str, kind: Kind) -> Span {
        let parent = parent.filter(|_| SAMPLER.get().is_some());
        let Some(context) = parent.and_then(|parent| parent.with_span(rand::random())) else { return Span::default() };
        let mut span = self.begin(name, kind, context);
        span.record(|record| record.parent = parent);
        span
    }

    /// A new trace that follows from what has this context.
    pub fn following(self, earlier: Option<SpanContext>, name: &'static str, kind: Kind) -> Span {
        let earlier = earlier.filter(|_| SAMPLER.get().is_some());
        let Some(context) = earlier.and_then(|_| new_context()) else { return Span::default() };
        let mut span = self.begin(name, kind, context);
        span.record(|record| record.follows = earlier);
        span
    }

    fn begin(self, name: &'static str, kind: Kind, context: SpanContext) -> Span {
        Span(Some(Box::new(Record {
            service: self.0,
            name,
            kind,
            context,
            parent: None,
            follows: None,
            began: Instant::now(),
            ended: None,
            attributes: Vec::new(),
            failure: None,
        })))
    }
}

impl Span {
    /// To hand on.
    pub fn context(&self) -> Option<SpanContext> {
        self.0.as_ref().map(|record| record.context)
    }

    /// For the log.
    pub fn trace(&self) -> Option<TraceId> {
        self.context().map(SpanContext::trace)
    }

    /// A part of this.
    pub fn part(&self, name: &'static str, kind: Kind) -> Span {
        match &self.0 {
            Some(record) => Tracer(record.service).part_of(Some(record.context), name, kind),
            None => Self::default(),
        }
    }

    /// It began and ended at these moments, whenever it is dropped.
    pub fn lasted(&mut self, began: Instant, ended: Instant) {
        self.record(|record| (record.began, record.ended) = (began, Some(ended)));
    }

    /// Notes an attribute; `value` is asked for only if somebody is told. There is room for [`MOST`].
    pub fn note<V: Into<Value>>(&mut self, key: &'static str, value: impl FnOnce() -> V) {
        self.record(|record| {
            if record.attributes.len() < MOST {
                record.attributes.push((key, value().into()));
            }
        });
    }

    /// It has failed.
    pub fn fail(&mut self, why: &str) {
        self.record(|record| record.failure = Some(shown(why)));
    }

    /// It has not failed after all.
    pub fn succeed(&mut self) {
        self.record(|record| record.failure = None);
    }

    /// It has come to nothing, and nobody is told.
    pub fn discard(&mut self) {
        self.0 = None;
    }

    fn record(&mut self, change: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.0 {
            change(record);
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut record) = self.0.take() {
            record.ended.get_or_insert_with(Instant::now);
            export::offer(*record);
        }
    }
}

impl Sampler {
    /// One in 1/`share`.
    fn new(share: f64) -> Self {
        Self { below: (share.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64 }
    }

    fn takes(self, context: SpanContext) -> bool {
        let [.., a, b, c, d, e, f, g, h] = context.trace_octets();
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < self.below
    }
}

fn new_context() -> Option<SpanContext> {
    SpanContext::new(rand::random(), rand::random())
}

/// As the log has it, and not longer than anybody reads.
fn shown(text: &str) -> String {
    let mut shown = as_logged(text);
    if let Some((end, _)) = shown.char_indices().nth(LONGEST) {
        shown.truncate(end);
    }
    shown
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(shown(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

macro_rules! numbers {
    ($($number:ty),+) => {$(
        impl From<$number> for Value {
            fn from(number: $number) -> Self {
                Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
            }
        }
    )+};
}
numbers!(u16, u32, u64, usize, i32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_all_traces_is_taken() {
        let taken = |share| {
            let sampler = Sampler::new(share);
            (0..4000).filter(|_| new_context().is_some_and(|context| sampler.takes(context))).count()
        };
        assert_eq!((taken(0.0), taken(1.0)), (0, 4000));
        assert!((800..1200).contains(&taken(0.25)));
    }

    #[tokio::test]
    async fn without_an_exporter_there_are_no_spans_and_no_context() {
        let tracer = Tracer::of("test");
        let span = tracer.root("a", Kind::Server);
        assert_eq!(span.context(), None);
        assert_eq!(tracer.part_of(new_context(), "b", Kind::Client).context(), None);
        assert_eq!(current(), None);
        let context = new_context();
        assert!(context.is_some());
        assert_eq!(within(context, async { current() }).await, context);
        assert_eq!(current(), None);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(shown(&"\u{e4}".repeat(300)), "\u{e4}".repeat(256));
    }
}
