//! Where a piece of work stands in a distributed trace (W3C Trace Context, version 00): in which trace, and below which span.
//!
//! Only what is sampled has a context. Who is not traced has none, so there is no flag to ask for.

use std::fmt;

/// A trace and a span of it; neither is all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanContext {
    trace: [u8; 16],
    span: [u8; 8],
}

/// The trace as logs name it: 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

impl SpanContext {
    /// Octets of its binary form.
    pub const LENGTH: usize = 24;

    /// `None`: one of both is no id.
    pub fn new(trace: [u8; 16], span: [u8; 8]) -> Option<Self> {
        (trace != [0; 16] && span != [0; 8]).then_some(Self { trace, span })
    }

    /// The trace.
    pub const fn trace(self) -> TraceId {
        TraceId(self.trace)
    }

    /// Octets of the trace's id.
    pub const fn trace_octets(self) -> [u8; 16] {
        self.trace
    }

    /// Octets of the span's id.
    pub const fn span_octets(self) -> [u8; 8] {
        self.span
    }

    /// Another span of the same trace.
    pub fn with_span(self, span: [u8; 8]) -> Option<Self> {
        Self::new(self.trace, span)
    }

    /// Trace, then span.
    pub fn octets(self) -> [u8; Self::LENGTH] {
        let mut octets = [0; Self::LENGTH];
        octets[..16].copy_from_slice(&self.trace);
        octets[16..].copy_from_slice(&self.span);
        octets
    }

    /// What [`Self::octets`] has written; more may follow.
    pub fn from_octets(octets: &[u8]) -> Option<Self> {
        let (trace, rest) = octets.split_first_chunk()?;
        Self::new(*trace, *rest.first_chunk()?)
    }

    /// The value of the `traceparent` field.
    pub fn traceparent(self) -> String {
        format!("00-{}-{}-01", Hex(&self.trace), Hex(&self.span))
    }

    /// Reads a `traceparent`. `None` also for what its sender does not sample. A later version may say more behind it.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let [version] = octets(version)?;
        let [flags] = octets(flags)?;
        let is_known = version != 0xff && (version > 0 || parts.next().is_none());
        Self::new(octets(trace)?, octets(span)?).filter(|_| is_known && flags & 1 == 1)
    }
}

/// So many octets of lower-case digits.
fn octets<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let digit = |at: usize| match digits.as_bytes()[at] {
        digit @ b'0'..=b'9' => Some(digit - b'0'),
        digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    if digits.len() != 2 * N {
        return None;
    }
    let mut octets = [0; N];
    for (at, octet) in octets.iter_mut().enumerate() {
        *octet = digit(2 * at)? << 4 | digit(2 * at + 1)?;
    }
    Some(octets)
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.traceparent())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the W3C recommendation.
    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_and_its_octets_come_back() {
        let context = SpanContext::parse(EXAMPLE);
        assert_eq!(context.map(SpanContext::traceparent).as_deref(), Some(EXAMPLE));
        assert_eq!(context.and_then(|context| SpanContext::from_octets(&context.octets())), context);
        let trace = context.map(|context| context.trace().to_string());
        assert_eq!(trace.as_deref(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
    }

    #[test]
    fn what_is_not_sampled_or_no_context_is_none() {
        let later = EXAMPLE.replacen("00", "01", 1) + "-more";
        assert!(SpanContext::parse(&later).is_some(), "a later version says more");
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473\u{e4}-00f067aa0ba902b7-01",
        ] {
            assert_eq!(SpanContext::parse(text), None, "{text}");
        }
        assert_eq!(SpanContext::from_octets(&[7; 23]), None);
        assert_eq!(SpanContext::from_octets(&[0; 24]), None);
    }
}
