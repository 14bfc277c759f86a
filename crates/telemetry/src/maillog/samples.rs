//! A message's journey, for the page about the log and for the tests: one event of each kind.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use staffetta_mail::{QueueId, SpanContext, Status, TraceId};
use staffetta_policy::classify::Endpoint;
use staffetta_policy::conduct::{Crossing, Signal, Step};
use staffetta_policy::diagnosis::Class;

use super::{
    Accepted, Administered, Attempt, Barred, Client, Complaint, Connected, Delays, Disconnected, Encrypted, GivenUp,
    Login, LoginFailed, Lost, Moved, Rejected, Relay, RemoteBounce, Removed, Report, Reported, Sasl, Secured,
};

/// When it all happens, in milliseconds since the epoch.
pub(super) const NOW: u64 = 1_795_493_847_125;
const TLS: &str = "TLSv1.3 TLS_AES_256_GCM_SHA384";

pub(super) fn qid(unique: u32) -> QueueId {
    QueueId::new(5, NOW, unique)
}

pub(super) fn client() -> Client<'static> {
    Client { address: ([192, 0, 2, 7], 50123).into(), name: Some("client.example.org".into()) }
}

#[cfg(test)]
/// Without a name, by IPv4 on a socket for IPv6.
pub(super) fn stranger() -> Client<'static> {
    Client { address: ([0, 0, 0, 0, 0, 0xffff, 0xc633, 0x6409], 4711).into(), name: None }
}

fn john() -> Sasl<'static> {
    Sasl { method: "PLAIN", username: "john@example.org".into() }
}

fn trace() -> Option<TraceId> {
    SpanContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").map(SpanContext::trace)
}

static ENDPOINT: Endpoint = Endpoint::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 25)), 25));

pub(super) fn relay() -> Relay<'static> {
    Relay { host: "mx.example.com".into(), endpoint: &ENDPOINT }
}

pub(super) fn connected() -> Connected<'static> {
    Connected { listener: "smtp", client: client() }
}

pub(super) fn disconnected() -> Disconnected<'static> {
    Disconnected { listener: "smtp", client: client(), messages: 3 }
}

pub(super) fn secured() -> Secured<'static> {
    Secured { listener: "submission", client: client(), tls: TLS, trust: "Anonymous" }
}

pub(super) fn lost() -> Lost<'static> {
    Lost { listener: "smtp", client: client(), timeout: false, stage: "DATA" }
}

pub(super) fn login() -> Login<'static> {
    Login { listener: "submission", client: client(), sasl: john() }
}

pub(super) fn login_failed() -> LoginFailed<'static> {
    LoginFailed {
        listener: "submission",
        client: client(),
        method: "LOGIN",
        username: Some("root".into()),
        reason: "failed",
        reply: "535 5.7.8 Error: authentication failed".into(),
    }
}

pub(super) fn accepted() -> Accepted<'static> {
    Accepted {
        qid: qid(1),
        listener: "submission",
        client: client(),
        helo: "client.example.org".into(),
        proto: "ESMTPSA",
        tls: Some(TLS),
        sasl: Some(john()),
        from: "john@example.org".into(),
        size: 4711,
        nrcpt: 2,
        message_id: Some("1@example.org".into()),
        held: false,
        trace: trace(),
    }
}

#[cfg(test)]
pub(super) fn held() -> Accepted<'static> {
    Accepted { held: true, ..accepted() }
}

pub(super) fn rejected() -> Rejected<'static> {
    Rejected {
        listener: "submission",
        client: client(),
        stage: "RCPT",
        reply: "553 5.7.1 <x@example.org>: Sender address rejected: not owned by user john@example.org".into(),
        from: Some("x@example.org".into()),
        to: Some("lisa@example.com".into()),
        proto: "ESMTP",
        helo: Some("me".into()),
        sasl: Some(john()),
        trace: trace(),
    }
}

pub(super) fn encrypted() -> Encrypted<'static> {
    Encrypted { relay: relay(), protocol: "smtp", tls: TLS, trust: "Verified" }
}

pub(super) fn delivered() -> Attempt<'static> {
    Attempt {
        qid: qid(1),
        to: "lisa@example.com".into(),
        orig_to: None,
        from: "john@example.org".into(),
        mail_from: None,
        relay: Some(relay()),
        source: Some(Ipv4Addr::new(192, 0, 2, 25).into()),
        protocol: "smtp",
        tls: Some(TLS),
        tls_trust: Some("Verified"),
        tls_policy: Some("dane"),
        tls_waived: None,
        dkim: Some("example.org/s2026"),
        conn_use: 2,
        delays: Delays {
            reception: Duration::from_millis(50),
            queue: Duration::from_millis(4),
            connection: Duration::from_millis(250),
            transfer: Duration::from_millis(1100),
        },
        dsn: Status::new(2, 0, 0),
        code: Some(250),
        class: None,
        response: "250 2.0.0 Ok: queued as 12345".into(),
        attempt: 1,
        next: None,
        trace: trace(),
    }
}

/// Nobody was there.
pub(super) fn unreachable() -> Attempt<'static> {
    Attempt {
        relay: None,
        source: None,
        tls: None,
        tls_trust: None,
        tls_policy: None,
        dkim: None,
        conn_use: 1,
        dsn: Status::new(4, 4, 1),
        code: None,
        class: Some(Class::NoAnswerFromHost),
        response: "connect to mx.example.com[203.0.113.25]:25: Connection refused".into(),
        attempt: 3,
        trace: None,
        ..delivered()
    }
}

pub(super) fn deferred() -> Attempt<'static> {
    Attempt { next: Some(Duration::from_secs(300)), ..unreachable() }
}

pub(super) fn bounced() -> Attempt<'static> {
    Attempt {
        orig_to: Some("friends@example.org".into()),
        mail_from: Some("john+k3fqa7c2mq-lisa=example.com@example.org".into()),
        tls_trust: Some("Untrusted"),
        tls_policy: Some("opportunistic"),
        tls_waived: Some("dane mta-sts"),
        dkim: None,
        conn_use: 1,
        dsn: Status::new(5, 1, 1),
        code: Some(550),
        class: Some(Class::BadMailbox),
        response: "host mx.example.com[203.0.113.25] said: 550 5.1.1 No such user (in reply to RCPT TO command)".into(),
        trace: None,
        ..delivered()
    }
}

pub(super) fn given_up() -> GivenUp<'static> {
    GivenUp { qid: qid(1), from: "john@example.org".into() }
}

pub(super) fn reported() -> Reported {
    Reported { qid: qid(1), report: qid(2), kind: Report::Failure, size: 2345 }
}

pub(super) fn remote_bounce() -> RemoteBounce<'static> {
    RemoteBounce {
        qid: qid(3),
        to: "lisa@example.com".into(),
        from: "news@example.org".into(),
        proven: true,
        dsn: Status::new(5, 1, 1),
        class: Class::BadMailbox,
        response: "550 5.1.1 No such user".into(),
    }
}

pub(super) fn complaint() -> Complaint<'static> {
    Complaint {
        qid: qid(3),
        to: Some("lisa@example.com".into()),
        from: Some("news@example.org".into()),
        proven: true,
        feedback: "abuse",
        source: Some(Ipv4Addr::new(192, 0, 2, 25).into()),
        user_agent: Some("Provider-Feedback/2.0".into()),
        message_id: Some("1@example.org".into()),
    }
}

pub(super) fn removed() -> Removed {
    Removed { qid: qid(1) }
}

pub(super) fn administered() -> Administered<'static> {
    Administered { qid: qid(1), to: "lisa@example.com", verb: "deleted", by: "root@admin-1" }
}

pub(super) fn moved() -> Moved<'static> {
    Moved { selection: "--domain example.com", deliveries: 12, verb: "held", by: "root@admin-1" }
}

pub(super) fn barred() -> Barred<'static> {
    Barred { kind: "login", name: "john@example.org", verb: "blocked", by: "root@admin-1", reason: "sends spam" }
}

pub(super) fn crossing() -> Crossing {
    Crossing {
        login: "john@example.org".into(),
        hour: 498_748,
        signal: Signal::Messages,
        count: 2_001,
        threshold: 500,
        step: Step::Hold,
    }
}
