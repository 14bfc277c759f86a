//! One record, built piece by piece in either format.
//!
//! [`Json`] writes a flat object, [`Classic`] the line that Postfix would log. Both append to a buffer that the
//! caller reuses; neither allocates for ordinary text.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use super::number::{push_delay, push_number, push_seconds};
use super::stamp::Stamp;
use super::text::Text;

/// Who writes: the host and the process.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// The machine's name; in Kubernetes that is the pod's.
    pub(super) host: String,
    /// The process.
    pub(super) pid: u32,
}

/// Something that can be logged.
pub(super) trait Event {
    /// The value of `event` in JSON.
    const NAME: &'static str;
    /// Adds the fields.
    fn json(&self, json: &mut Json<'_>);
    /// Writes one or more lines, or none where Postfix has none.
    fn classic(&self, classic: &mut Classic<'_>);
}

/// A flat JSON object.
pub(super) struct Json<'a> {
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
        out.extend_from_slice(b"{\"time\":\"");
        stamp.push_rfc3339(out, now);
        out.push(b'"');
        let mut json = Json { out };
        json.str("event", E::NAME).str("pod", &origin.host);
        event.json(&mut json);
        out.extend_from_slice(b"}\n");
    }

    fn key(&mut self, key: &str) {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// A string.
    pub(super) fn str<'t>(&mut self, key: &str, value: impl Into<Text<'t>>) -> &mut Self {
        self.key(key);
        self.out.push(b'"');
        value.into().push_json(self.out);
        self.out.push(b'"');
        self
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

    /// `Nov 24 04:17:27 host staffetta/submission/smtpd[pid]: `; `listener` is what `syslog_name` is to Postfix.
    pub(super) fn line(&mut self, listener: Option<&str>, program: &str) -> &mut Self {
        self.stamp.push_classic(self.out, self.now);
        let origin = self.origin;
        self.raw(" ").text(&origin.host).raw(" staffetta/");
        if let Some(listener) = listener {
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
