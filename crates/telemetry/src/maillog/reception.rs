//! Events of the frontend: connections, logins, accepted and refused mail.

use std::net::SocketAddr;

use staffetta_mail::{QueueId, Status, TraceId};

use super::line::{Classic, Event, Json};
use super::text::Text;

/// The other end of an inbound connection.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Its address; behind a proxy the one that the proxy tells.
    pub address: SocketAddr,
    /// Its verified host name; `None` is logged as `unknown`.
    pub name: Option<Text<'a>>,
}

impl Client<'_> {
    pub(super) fn json(&self, json: &mut Json<'_>) {
        json.opt("client_name", self.name)
            .display("client_ip", self.address.ip().to_canonical())
            .number("client_port", u64::from(self.address.port()));
    }

    pub(super) fn classic(&self, classic: &mut Classic<'_>) {
        classic.peer(self.name, self.address.ip());
    }
}

/// A connection was opened. Logged only at level `debug`.
#[derive(Clone, Copy, Debug)]
pub struct Connected<'a> {
    /// Name of the listener.
    pub listener: &'a str,
    /// Who connected.
    pub client: Client<'a>,
}

impl Event for Connected<'_> {
    const NAME: &'static str = "connected";
    const LEVEL: &'static str = "debug";
    const ABOUT: &'static str = "A client connected. Only from `log.level = \"debug\"` on.";
    const FIELDS: &'static [&'static str] = &["listener", "client_name", "client_ip", "client_port"];

    fn json(&self, json: &mut Json<'_>) {
        json.str("listener", self.listener);
        self.client.json(json);
    }

    fn classic(&self, classic: &mut Classic<'_>) {
        self.client.classic(classic.line(Some(self.listener), "smtpd").raw("connect from "));
        classic.end();
    }
}

/// A connection ended in an orderly way. Logged only at level `debug`.
#[derive(Clone, Copy, Debug)]
pub struct Disconnected<'a> {
    /// Name of the listener.
    pub listener: &'a str,
    /// Who was connected.
    pub client: Client<'a>,
    /// Messages accepted on the connection.
    pub messages: u64,
}

impl Event for Disconnected<'_> {
    const NAME: &'static str = "disconnected";
    const LEVEL: &'static str = "debug";
    const ABOUT: &'static str = "A client said goodbye. Only from `log.level = \"debug\"` on.";
    const FIELDS: &'static [&'static str] = &["listener", "client_name", "client_ip", "client_port", "messages"];

    fn json(&self, json: &mut Json<'_>) {
        json.str("listener", self.listener);
        self.client.json(json);
        json.number("messages", self.messages);
    }

    fn classic(&self, classic: &mut Classic<'_>) {
        self.client.classic(classic.line(Some(self.listener), "smtpd").raw("disconnect from "));
        classic.raw(" data=").number(self.messages).end();
    }
}

/// A connection broke off, or the client was silent for too long.
#[derive(Clone, Copy, Debug)]
pub struct Lost<'a> {
    /// Name of the listener.
    pub listener: &'a str,
    /// Who was connected.
    pub client: Client<'a>,
    /// True when we closed for silence, false when the client did.
    pub timeout: bool,
    /// The last command, as in `lost connection after DATA`; `CONNECT` before the first.
    pub stage: &'a str,
}

impl Event for Lost<'_> {
    const NAME: &'static str = "lost";
    const ABOUT: &'static str = "A connection broke off, or the client was silent for too long.";
    const FIELDS: &'static [&'static str] = &["listener", "client_name", "client_ip", "client_port", "reason", "stage"];

    fn json(&self, json: &mut Json<'_>) {
        json.str("listener", self.listener);
        self.client.json(json);
        json.str("reason", if self.timeout { "timeout" } else { "lost connection" }).str("stage", self.stage);
    }

    fn classic(&self, classic: &mut Classic<'_>) {
        let what = if self.timeout { "timeout after " } else { "lost connection after " };
        classic.line(Some(self.listener), "smtpd").raw(what).text(self.stage).raw(" from ");
        self.client.classic(classic);
        classic.end();
    }
}

/// Who logged in, and how.
#[derive(Clone, Copy, Debug)]
pub struct Sasl<'a> {
    /// `PLAIN`, `LOGIN`, …
    pub method: &'a str,
    /// The login.
    pub username: Text<'a>,
}

/// A client proved who it is. In the Postfix format the `client=` line of each message tells it instead.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// Name of the listener.
    pub listener: &'a str,
    /// Who connected.
    pub client: Client<'a>,
    /// The proof.
    pub sasl: Sasl<'a>,
}

impl Event for Login<'_> {
    const NAME: &'static str = "login";
    const ABOUT: &'static str =
        "A client proved who it is. In Postfix' format the `client=` line of each message tells it instead.";
    const FIELDS: &'static [&'static str] =
        &["listener", "client_name", "client_ip", "client_port", "sasl_method", "sasl_username"];

    fn json(&self, json: &mut Json<'_>) {
        json.str("listener", self.listener);
        self.client.json(json);
        json.str("sasl_method", self.sasl.method).str("sasl_username", self.sasl.username.login());
    }

    fn classic(&self, _: &mut Classic<'_>) {}
}

/// A client could not prove who it is, or the auth service was away.
#[derive(Clone, Copy, Debug)]
pub struct LoginFailed<'a> {
    /// Name of the listener.
    pub listener: &'a str,
    /// Who connected.
    pub client: Client<'a>,
    /// The mechanism.
    pub method: &'a str,
    /// The login that was tried, as far as it is known.
    pub username: Option<Text<'a>>,
    /// Why: `failed`, `blocked`, `limited`, `unavailable`, `malformed` or `aborted`.
    pub reason: &'static str,
    /// The whole reply: `535 5.7.8 Error: authentication failed`.
    pub reply: Text<'a>,
}

impl Event for LoginFailed<'_> {
    const NAME: &'static str = "login_failed";
    const ABOUT: &'static str = "A client could not prove who it is, or nobody could say.";
    const FIELDS: &'static [&'static str] = &[
        "listener",
        "client_name",
        "client_ip",
        "client_port",
        "sasl_method",
        "sasl_username",
        "reason",
        "code",
        "dsn",
        "response",
    ];

    fn json(&self, json: &mut Json<'_>) {
        json.str("listener", self.listener);
        self.client.json(json);
        json.str("sasl_method", self.method)
            .opt("sasl_username", self.username.map(Text::login))
            .str("reason", self.reason);
        json_reply(json, self.reply);
    }

    /// The shape that fail2ban's `postfix-sasl` filter knows.
    fn classic(&self, classic: &mut Classic<'_>) {
        self.client.classic(classic.line(Some(self.listener), "smtpd").raw("warning: "));
        classic.raw(": SASL ").text(self.method).raw(" authentication failed: ").text(self.reply);
        if let Some(username) = self.username {
            classic.raw(", sasl_username=").text(username.login());
        }
        classic.end();
    }
}

/// A message is in the queue and its `250` may be sent.
#[derive(Clone, Copy, Debug)]
pub struct Accepted<'a> {
    /// The message.
    pub qid: QueueId,
    /// Name of the listener.
    pub listener: &'a str,
    /// Who sent it.
    pub client: Client<'a>,
    /// The name given with EHLO or HELO.
    pub helo: Text<'a>,
    /// `SMTP`, `ESMTP`, `ESMTPS`, `ESMTPSA`, … (RFC 3848).
    pub proto: &'a str,
    /// Protocol and cipher: `TLSv1.3 TLS_AES_256_GCM_SHA384`; `None` in clear.
    pub tls: Option<&'a str>,
    /// The login, if there was one.
    pub sasl: Option<Sasl<'a>>,
    /// The envelope sender without brackets.
    pub from: Text<'a>,
    /// Octets of the message as queued.
    pub size: u64,
    /// Recipients accepted.
    pub nrcpt: usize,
    /// The Message-ID without brackets.
    pub message_id: Option<Text<'a>>,
    /// It is held until an operator releases it.
    pub held: bool,
    /// The trace that it is part of, if it is traced.
    pub trace: Option<TraceId>,
}

impl Event for Accepted<'_> {
    const NAME: &'static str = "accepted";
    const ABOUT: &'static str = "A message is in the queue, and its `250` may be sent.";
    const FIELDS: &'static [&'static str] = &[
        "qid",
        "listener",
        "client_name",
        "client_ip",
        "client_port",
        "helo",
        "proto",
        "tls",
        "sasl_method",
        "sasl_username",
        "from",
        "size",
        "nrcpt",
        "message_id",
        "queue",
        "trace_id",
    ];

    fn json(&self, json: &mut Json<'_>) {
        json.display("qid", self.qid).str("listener", self.listener);
        self.client.json(json);
        json.str("helo", self.helo).str("proto", self.proto).opt("tls", self.tls);
        if let Some(sasl) = self.sasl {
            json.str("sasl_method", sasl.method).str("sasl_username", sasl.username.login());
        }
        json.str("from", self.from)
            .number("size", self.size)
            .number("nrcpt", self.nrcpt as u64)
            .opt("message_id", self.message_id.map(Text::whole))
            .opt("queue", self.held.then_some("hold"))
            .trace(self.trace);
    }

    /// Three lines, as Postfix's smtpd, cleanup and qmgr write them.
    fn classic(&self, classic: &mut Classic<'_>) {
        self.client.classic(classic.line(Some(self.listener), "smtpd").display(self.qid).raw(": client="));
        if let Some(sasl) = self.sasl {
            classic.raw(", sasl_method=").text(sasl.method).raw(", sasl_username=").text(sasl.username.login());
        }
        classic.end();
        let line = classic.line(None, "cleanup").display(self.qid);
        line.path(": message-id=", self.message_id.unwrap_or_default().whole()).end();
        let line = classic.line(None, "qmgr").display(self.qid).path(": from=", self.from);
        let queue = if self.held { " (queue hold)" } else { " (queue active)" };
        line.raw(", size=").number(self.size).raw(", nrcpt=").number(self.nrcpt as u64).raw(queue).end();
    }
}

/// A command or a message was refused.
#[derive(Clone, Copy, Debug)]
pub struct Rejected<'a> {
    /// Name of the listener.
    pub listener: &'a str,
    /// Who was refused.
    pub client: Client<'a>,
    /// The command: `CONNECT`, `MAIL`, `RCPT`, `DATA`, `END-OF-MESSAGE`, …
    pub stage: &'a str,
    /// The whole reply: `554 5.7.1 <x@example.com>: Relay access denied`.
    pub reply: Text<'a>,
    /// The envelope sender, once it is known.
    pub from: Option<Text<'a>>,
    /// The recipient that was refused.
    pub to: Option<Text<'a>>,
    /// `SMTP` or `ESMTP`.
    pub proto: &'a str,
    /// The name given with EHLO or HELO.
    pub helo: Option<Text<'a>>,
    /// The login, if there was one.
    pub sasl: Option<Sasl<'a>>,
    /// The trace that it is part of, if it is traced.
    pub trace: Option<TraceId>,
}

impl Event for Rejected<'_> {
    const NAME: &'static str = "rejected";
    const ABOUT: &'static str = "A command or a message was refused.";
    const FIELDS: &'static [&'static str] = &[
        "listener",
        "client_name",
        "client_ip",
        "client_port",
        "stage",
        "code",
        "dsn",
        "response",
        "from",
        "to",
        "proto",
        "helo",
        "sasl_method",
        "sasl_username",
        "trace_id",
    ];

    fn json(&self, json: &mut Json<'_>) {
        json.str("listener", self.listener);
        self.client.json(json);
        json.str("stage", self.stage);
        json_reply(json, self.reply);
        json.opt("from", self.from).opt("to", self.to).str("proto", self.proto).opt("helo", self.helo);
        if let Some(sasl) = self.sasl {
            json.str("sasl_method", sasl.method).str("sasl_username", sasl.username.login());
        }
        json.trace(self.trace);
    }

    fn classic(&self, classic: &mut Classic<'_>) {
        classic.line(Some(self.listener), "smtpd").raw("NOQUEUE: reject: ").text(self.stage).raw(" from ");
        self.client.classic(classic);
        classic.raw(": ").text(self.reply).raw(";");
        if let Some(from) = self.from {
            classic.path(" from=", from);
        }
        if let Some(to) = self.to {
            classic.path(" to=", to);
        }
        classic.raw(" proto=").raw(self.proto);
        if let Some(helo) = self.helo {
            classic.path(" helo=", helo);
        }
        classic.end();
    }
}

/// `code` and `dsn` taken from the front of a reply, and the reply itself.
fn json_reply(json: &mut Json<'_>, reply: Text<'_>) {
    let text = std::str::from_utf8(reply.as_bytes()).unwrap_or_default();
    let mut words = text.split_ascii_whitespace();
    if let Some(code) = words.next().filter(|w| w.len() == 3).and_then(|w| w.parse().ok()) {
        json.number("code", code);
    }
    if let Some(dsn) = words.next().and_then(|w| w.parse::<Status>().ok()) {
        json.display("dsn", dsn);
    }
    json.str("response", reply);
}
