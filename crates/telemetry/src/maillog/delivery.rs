//! Events of the delivery worker: the outcome for each recipient, reports, and the end of a message.

use std::net::IpAddr;
use std::time::Duration;

use staffetta_mail::{QueueId, Status, TraceId};
use staffetta_policy::classify::Endpoint;
use staffetta_policy::diagnosis::Class;

use super::line::{Classic, Event, Json};
use super::text::Text;

/// The server that a message was offered to.
#[derive(Clone, Copy, Debug)]
pub struct Relay<'a> {
    /// Its host name.
    pub host: Text<'a>,
    /// Where it takes connections.
    pub endpoint: &'a Endpoint,
}

impl Relay<'_> {
    /// `host[192.0.2.1]:25`, `host[/path]`.
    pub(super) fn classic(&self, classic: &mut Classic<'_>) {
        match self.endpoint {
            Endpoint::Tcp(address) => classic.peer_port(self.host, *address),
            Endpoint::Unix(path) => classic.text(self.host).raw("[").text(&**path).raw("]"),
        };
    }

    pub(super) fn json(&self, json: &mut Json<'_>) {
        json.str("relay", self.host);
        match self.endpoint {
            Endpoint::Tcp(address) => {
                json.display("relay_ip", address.ip().to_canonical()).number("relay_port", u64::from(address.port()));
            }
            Endpoint::Unix(path) => {
                json.str("relay_socket", &**path);
            }
        }
    }
}

/// Where the time went: Postfix's `delays=a/b/c/d`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delays {
    /// a: from the start of the reception to the queue.
    pub reception: Duration,
    /// b: in the queue.
    pub queue: Duration,
    /// c: DNS, connection, greeting, TLS.
    pub connection: Duration,
    /// d: the transaction.
    pub transfer: Duration,
}

impl Delays {
    /// All of it: `delay=`.
    pub fn total(&self) -> Duration {
        self.reception + self.queue + self.connection + self.transfer
    }

    fn parts(&self) -> [Duration; 4] {
        [self.reception, self.queue, self.connection, self.transfer]
    }
}

/// What an attempt came to for one recipient.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The message.
    pub qid: QueueId,
    /// The recipient without brackets.
    pub to: Text<'a>,
    /// What the client named, if that was an alias that led to `to`.
    pub orig_to: Option<Text<'a>>,
    /// The envelope sender without brackets.
    pub from: Text<'a>,
    /// What the server is told instead, if that is an address of this recipient's alone.
    pub mail_from: Option<Text<'a>>,
    /// The server; `None` when there was none to talk to.
    pub relay: Option<Relay<'a>>,
    /// Our end of the connection, if the configuration has chosen it.
    pub source: Option<IpAddr>,
    /// `smtp` or `lmtp`.
    pub protocol: &'static str,
    /// Protocol and cipher: `TLSv1.3 TLS_AES_256_GCM_SHA384`; `None` in clear.
    pub tls: Option<&'a str>,
    /// What is known of the server's certificate: `Verified` or `Untrusted`, as Postfix says it; `None` in clear.
    pub tls_trust: Option<&'static str>,
    /// By whose word the connection is as it is: `opportunistic`, `dane` and so on; `None` without one.
    pub tls_policy: Option<&'static str>,
    /// What was not asked for because the message does not want it (RFC 8689 section 5); `None`: it has no such wish.
    pub tls_waived: Option<&'static str>,
    /// Domain and selector of each DKIM signature that it was delivered with: `example.org/s2026`; `None` without one.
    pub dkim: Option<&'a str>,
    /// Which message on its connection this was, from 1.
    pub conn_use: u32,
    /// Where the time went.
    pub delays: Delays,
    /// The enhanced status code.
    pub dsn: Status,
    /// The reply code of the server, if it gave one.
    pub code: Option<u16>,
    /// What the failure is of; `None`: there is none.
    pub class: Option<Class>,
    /// What the server said, or why there was nothing said.
    pub response: Text<'a>,
    /// How many attempts there were, this one included.
    pub attempt: u32,
    /// When it is tried again; only for `deferred`.
    pub next: Option<Duration>,
    /// The trace that it is part of, if it is traced.
    pub trace: Option<TraceId>,
}

/// An attempt with the word that says how it ended.
pub(super) struct Outcome<'a, const S: usize>(pub(super) &'a Attempt<'a>);

/// What `Outcome`'s parameter counts.
const STATUS: [(&str, &str, &str); 4] = [
    ("delivered", "sent", "A recipient has the message."),
    ("deferred", "deferred", "A recipient does not have it yet, and is tried again."),
    ("bounced", "bounced", "A recipient failed for good."),
    ("expired", "expired", "A recipient did not get it in the message's lifetime, and is given up."),
];
pub(super) const DELIVERED: usize = 0;
pub(super) const DEFERRED: usize = 1;
pub(super) const BOUNCED: usize = 2;
pub(super) const EXPIRED: usize = 3;

impl<const S: usize> Event for Outcome<'_, S> {
    const NAME: &'static str = STATUS[S].0;
    const ABOUT: &'static str = STATUS[S].2;
    const FIELDS: &'static [&'static str] = &[
        "qid",
        "to",
        "orig_to",
        "from",
        "mail_from",
        "relay",
        "relay_ip",
        "relay_port",
        "source_ip",
        "protocol",
        "tls",
        "tls_trust",
        "tls_policy",
        "tls_waived",
        "dkim",
        "conn_use",
        "delay",
        "delay_reception",
        "delay_queue",
        "delay_connection",
        "delay_transfer",
        "dsn",
        "status",
        "code",
        "class",
        "category",
        "scope",
        "remedy",
        "response",
        "attempt",
        "next",
        "trace_id",
    ];

    fn json(&self, json: &mut Json<'_>) {
        let Attempt { relay, delays, .. } = self.0;
        json.display("qid", self.0.qid).str("to", self.0.to).opt("orig_to", self.0.orig_to);
        json.str("from", self.0.from).opt("mail_from", self.0.mail_from);
        if let Some(relay) = relay {
            relay.json(json);
        }
        if let Some(source) = self.0.source {
            json.display("source_ip", source);
        }
        json.str("protocol", self.0.protocol)
            .opt("tls", self.0.tls)
            .opt("tls_trust", self.0.tls_trust)
            .opt("tls_policy", self.0.tls_policy)
            .opt("tls_waived", self.0.tls_waived)
            .opt("dkim", self.0.dkim)
            .number("conn_use", u64::from(self.0.conn_use));
        json.seconds("delay", delays.total())
            .seconds("delay_reception", delays.reception)
            .seconds("delay_queue", delays.queue)
            .seconds("delay_connection", delays.connection)
            .seconds("delay_transfer", delays.transfer);
        json.display("dsn", self.0.dsn).str("status", STATUS[S].1);
        if let Some(code) = self.0.code {
            json.number("code", u64::from(code));
        }
        if let Some(class) = self.0.class {
            let category = if S == EXPIRED { "message-expired" } else { class.category() };
            json.str("class", class.as_str()).str("category", category);
            json.str("scope", class.scope().as_str()).str("remedy", class.remedy().as_str());
        }
        json.str("response", self.0.response).number("attempt", u64::from(self.0.attempt));
        if let Some(next) = self.0.next {
            json.seconds("next", next);
        }
        json.trace(self.0.trace);
    }

    fn classic(&self, classic: &mut Classic<'_>) {
        let Attempt { relay, delays, .. } = self.0;
        classic.line(None, self.0.protocol).display(self.0.qid).path(": to=", self.0.to);
        if let Some(alias) = self.0.orig_to {
            classic.path(", orig_to=", alias);
        }
        match relay {
            Some(relay) => relay.classic(classic.raw(", relay=")),
            None => drop(classic.raw(", relay=none")),
        }
        if self.0.conn_use > 1 {
            classic.raw(", conn_use=").number(u64::from(self.0.conn_use));
        }
        classic.raw(", delay=").delay(delays.total());
        for (i, part) in delays.parts().into_iter().enumerate() {
            classic.raw(if i == 0 { ", delays=" } else { "/" }).delay(part);
        }
        // To Postfix the last attempt is one like those before it; that it was the last is told of the message (`GivenUp`).
        let status = if S == EXPIRED { STATUS[DEFERRED].1 } else { STATUS[S].1 };
        classic.raw(", dsn=").display(self.0.dsn).raw(", status=").raw(status);
        classic.raw(" (").text(self.0.response).raw(")").end();
    }
}

/// What a report to the sender is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// A recipient failed for good.
    Failure,
    /// The message is late.
    Delay,
    /// The message arrived, and the sender asked to hear of it.
    Success,
}

/// A report to the sender was put into the queue.
#[derive(Clone, Copy, Debug)]
pub struct Reported {
    /// The message that it is about.
    pub qid: QueueId,
    /// The report's own queue id.
    pub report: QueueId,
    /// What it says.
    pub kind: Report,
    /// Its octets.
    pub size: u64,
}

impl Event for Reported {
    const NAME: &'static str = "reported";
    const ABOUT: &'static str = "A report to the sender was put into the queue.";
    const FIELDS: &'static [&'static str] = &["qid", "report_qid", "kind", "size"];

    fn json(&self, json: &mut Json<'_>) {
        let kind = match self.kind {
            Report::Failure => "failure",
            Report::Delay => "delay",
            Report::Success => "success",
        };
        json.display("qid", self.qid).display("report_qid", self.report).str("kind", kind).number("size", self.size);
    }

    /// The report is a message of its own, so Postfix writes a `from=<>` line for it, which is where its size stands.
    fn classic(&self, classic: &mut Classic<'_>) {
        let kind = match self.kind {
            Report::Failure => ": sender non-delivery notification: ",
            Report::Delay => ": sender delay notification: ",
            Report::Success => ": sender delivery status notification: ",
        };
        classic.line(None, "bounce").display(self.qid).raw(kind).display(self.report).end();
        let line = classic.line(None, "qmgr").display(self.report).raw(": from=<>, size=").number(self.size);
        line.raw(", nrcpt=1 (queue active)").end();
    }
}

/// The lifetime of a message is over for recipients of one destination.
#[derive(Clone, Copy, Debug)]
pub struct GivenUp<'a> {
    /// The message.
    pub qid: QueueId,
    /// The envelope sender without brackets.
    pub from: Text<'a>,
}

impl Event for GivenUp<'_> {
    const NAME: &'static str = "given_up";
    const ABOUT: &'static str =
        "The lifetime of a message is over for recipients in one destination, each of which has its `expired`.";
    const FIELDS: &'static [&'static str] = &["qid", "from"];

    fn json(&self, json: &mut Json<'_>) {
        json.display("qid", self.qid).str("from", self.from);
    }

    fn classic(&self, classic: &mut Classic<'_>) {
        let line = classic.line(None, "qmgr").display(self.qid).path(": from=", self.from);
        line.raw(", status=expired, returned to sender").end();
    }
}

/// A message left the queue: every recipient has its final state.
#[derive(Clone, Copy, Debug)]
pub struct Removed {
    /// The message.
    pub qid: QueueId,
}

impl Event for Removed {
    const NAME: &'static str = "removed";
    const ABOUT: &'static str = "A message left the queue: each of its recipients has its end.";
    const FIELDS: &'static [&'static str] = &["qid"];

    fn json(&self, json: &mut Json<'_>) {
        json.display("qid", self.qid);
    }

    fn classic(&self, classic: &mut Classic<'_>) {
        classic.line(None, "qmgr").display(self.qid).raw(": removed").end();
    }
}

/// An operator has taken a recipient out of the queue.
#[derive(Clone, Copy, Debug)]
pub struct Administered<'a> {
    /// The message.
    pub qid: QueueId,
    /// To whom it would have been delivered.
    pub to: &'a str,
    /// What was done: `deleted` or `bounced`.
    pub verb: &'a str,
    /// Who did it.
    pub by: &'a str,
}

impl Event for Administered<'_> {
    const NAME: &'static str = "administered";
    const ABOUT: &'static str = "An operator took a recipient out of the queue.";
    const FIELDS: &'static [&'static str] = &["qid", "to", "action", "by"];

    fn json(&self, json: &mut Json<'_>) {
        json.display("qid", self.qid)
            .str("to", self.to)
            .str("action", self.verb)
            .str("by", Text::from(self.by).whole());
    }

    fn classic(&self, classic: &mut Classic<'_>) {
        classic.line(None, "postsuper").display(self.qid).raw(": to=<").text(self.to);
        classic.raw(">, ").text(self.verb).raw(" by ").text(Text::from(self.by).whole()).end();
    }
}

/// An operator has moved what a selection found in the queue.
#[derive(Clone, Copy, Debug)]
pub struct Moved<'a> {
    /// As he wrote it.
    pub selection: &'a str,
    /// Deliveries that were moved.
    pub deliveries: u64,
    /// What was done: `held`, `released` or `flushed`.
    pub verb: &'a str,
    /// Who did it.
    pub by: &'a str,
}

impl Event for Moved<'_> {
    const NAME: &'static str = "administered";
    const ABOUT: &'static str = "An operator held, released or flushed what a selection found in the queue.";
    const FIELDS: &'static [&'static str] = &["selection", "deliveries", "action", "by"];

    fn json(&self, json: &mut Json<'_>) {
        json.str("selection", self.selection).number("deliveries", self.deliveries);
        json.str("action", self.verb).str("by", Text::from(self.by).whole());
    }

    fn classic(&self, classic: &mut Classic<'_>) {
        let line = classic.line(None, "postsuper").text(self.verb).raw(" by ").text(Text::from(self.by).whole());
        line.raw(": ").number(self.deliveries).raw(" deliveries, ").text(self.selection).end();
    }
}
