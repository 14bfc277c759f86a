//! One record, built piece by piece in either format.
//!
//! [`Json`] writes a flat object, [`Classic`] the line that Postfix would log. Both append to a buffer that the
//! caller reuses; neither allocates for ordinary text.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use staffetta_mail::TraceId;

use super::number::{push_delay, push_number, push_seconds};
use super::stamp::Stamp;
use super::text::Text;
use crate::origin::Origin;

/// Something that can be logged.
pub(super) trait Event {
    /// The value of `event` in JSON.
    const NAME: &'static str;
    /// The value of `level` in JSON.
    const LEVEL: &'static str = "info";
    /// What has happened, for docs/log.md.
    const ABOUT: &'static str;
    /// Every field that `json` may add, in its order; what they mean stands in `manual`.
    const FIELDS: &'static [&'static str];
    /// Adds the fields.
    fn json(&self, json: &mut Json<'_>);
    /// Writes one or more lines, or none where Postfix has none.
    fn classic(&self, classic: &mut Classic<'_>);
}

/// A flat JSON object.
pub(crate) struct Json<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Json<'a> {
    /// Writes a whole record.
    pub(super) fn write<E: Event>(
        event: &E,
        out: &'a mut Vec<u8>,
        stamp: &mut Stamp,
        origin: &Origin,
        now: SystemTime,
    ) {
        let mut json = Json::begin(out, stamp, now);
        json.head(E::LEVEL, E::NAME, origin);
        event.json(&mut json);
        json.end();
    }

    /// Opens an object with the time.
    pub(crate) fn begin(out: &'a mut Vec<u8>, stamp: &mut Stamp, now: SystemTime) -> Self {
        out.extend_from_slice(b"{\"time\":\"");
        stamp.push_rfc3339(out, now);
        out.push(b'"');
        Self { out }
    }

    /// What every record of either stream says, behind the time.
    pub(crate) fn head(&mut self, level: &str, event: &str, origin: &Origin) {
        self.str("level", level).str("event", event).str("pod", &origin.host).str("service", origin.service);
    }

    /// Closes the object, and the line.
    pub(crate) fn end(self) {
        self.out.extend_from_slice(b"}\n");
    }

    fn key(&mut self, key: &str) {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// A string.
    pub(crate) fn str<'t>(&mut self, key: &str, value: impl Into<Text<'t>>) -> &mut Self {
        self.key(key);
        self.out.push(b'"');
        value.into().push_json(self.out);
        self.out.push(b'"');
        self
    }

    /// A string of any length.
    pub(crate) fn long<'t>(&mut self, key: &str, value: impl Into<Text<'t>>) {
        self.key(key);
        self.out.push(b'"');
        value.into().push_json_whole(self.out);
        self.out.push(b'"');
    }

    /// A number or a truth value, which JSON writes as Rust does.
    pub(crate) fn bare(&mut self, key: &str, value: impl std::fmt::Display) {
        self.key(key);
        push_display(self.out, format_args!("{value}"));
    }

    /// A string, if there is one.
    pub(super) fn opt<'t>(&mut self, key: &str, value: Option<impl Into<Text<'t>>>) -> &mut Self {
        match value {
            Some(value) => self.str(key, value),
            None => self,
        }
    }

    /// A string of our own making, which needs no escapes.
    pub(super) fn display(&mut self, key: &str, value: impl std::fmt::Display) -> &mut Self {
        self.key(key);
        self.out.push(b'"');
        push_display(self.out, format_args!("{value}"));
        self.out.push(b'"');
        self
    }

    /// The trace that the record belongs to, by the name that the data model of OpenTelemetry gives it.
    pub(super) fn trace(&mut self, trace: Option<TraceId>) -> &mut Self {
        match trace {
            Some(trace) => self.display("trace_id", trace),
            None => self,
        }
    }

    /// A whole number.
    pub(super) fn number(&mut self, key: &str, value: u64) -> &mut Self {
        self.key(key);
        push_number(self.out, value);
        self
    }

    /// A duration in seconds.
    pub(super) fn seconds(&mut self, key: &str, value: Duration) -> &mut Self {
        self.key(key);
        push_seconds(self.out, value);
        self
    }
}

/// A line of Postfix's log.
pub(super) struct Classic<'a> {
    out: &'a mut Vec<u8>,
    stamp: &'a mut Stamp,
    origin: &'a Origin,
    now: SystemTime,
}

impl<'a> Classic<'a> {
    /// Writes all lines of a record.
    pub(super) fn write<E: Event>(
        event: &E,
        out: &'a mut Vec<u8>,
        stamp: &'a mut Stamp,
        origin: &'a Origin,
        now: SystemTime,
    ) {
        event.classic(&mut Classic { out, stamp, origin, now });
    }

    /// `Nov 24 04:17:27 host staffetta/submission/smtpd[pid]: `: the name and the listener are what `syslog_name` is to
    /// Postfix.
    pub(super) fn line(&mut self, listener: Option<&str>, program: &str) -> &mut Self {
        self.stamp.push_classic(self.out, self.now);
        let origin = self.origin;
        self.raw(" ").text(&origin.host).raw(" ").raw(&origin.syslog_name).raw("/");
        if let Some(listener) = listener.filter(|name| !origin.is_unnamed(name)) {
            self.text(listener).raw("/");
        }
        self.raw(program).raw("[").number(u64::from(origin.pid)).raw("]: ")
    }

    /// Ends the line.
    pub(super) fn end(&mut self) {
        self.out.push(b'\n');
    }

    /// Our own text.
    pub(super) fn raw(&mut self, text: &str) -> &mut Self {
        self.out.extend_from_slice(text.as_bytes());
        self
    }

    /// A peer's text.
    pub(super) fn text<'t>(&mut self, text: impl Into<Text<'t>>) -> &mut Self {
        text.into().push_classic(self.out);
        self
    }

    /// `key` and the text in angle brackets.
    pub(super) fn path<'t>(&mut self, key: &str, text: impl Into<Text<'t>>) -> &mut Self {
        self.raw(key).raw("<").text(text).raw(">")
    }

    /// Anything of ours that can print itself.
    pub(super) fn display(&mut self, value: impl std::fmt::Display) -> &mut Self {
        push_display(self.out, format_args!("{value}"));
        self
    }

    /// A whole number.
    pub(super) fn number(&mut self, value: u64) -> &mut Self {
        push_number(self.out, value);
        self
    }

    /// A delay with two significant digits.
    pub(super) fn delay(&mut self, value: Duration) -> &mut Self {
        push_delay(self.out, value);
        self
    }

    /// `host[192.0.2.1]`, `unknown[192.0.2.1]` without a name.
    pub(super) fn peer(&mut self, name: Option<Text<'_>>, ip: IpAddr) -> &mut Self {
        self.text(name.unwrap_or("unknown".into())).raw("[").display(ip.to_canonical()).raw("]")
    }

    /// `TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)`, of `TLSv1.3 TLS_AES_256_GCM_SHA384`.
    pub(super) fn cipher(&mut self, tls: &str) -> &mut Self {
        let (version, cipher) = tls.split_once(' ').unwrap_or((tls, ""));
        let bits = if cipher.contains("AES_128") { "128/128" } else { "256/256" };
        self.raw(version).raw(" with cipher ").raw(cipher).raw(" (").raw(bits).raw(" bits)")
    }

    /// `host[192.0.2.1]:25`.
    pub(super) fn peer_port(&mut self, name: Text<'_>, address: SocketAddr) -> &mut Self {
        self.peer(Some(name), address.ip()).raw(":").number(u64::from(address.port()))
    }
}

fn push_display(out: &mut Vec<u8>, value: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    // Writing to a vector cannot fail.
    let _ = out.write_fmt(value);
}
