//! Tables.

use client::Failure as F;

use super::*;

const DOMAIN: &str = "example.net";

fn peer() -> Peer {
    Peer { host: "mx.example.net".to_owned(), endpoint: Endpoint::Tcp(([192, 0, 2, 1], 25).into()) }
}

fn with(failure: F) -> Failure {
    Failure::Session { peer: peer(), failure }
}

fn said(stage: Stage, code: u16, status: Option<Status>) -> Failure {
    with(F::Reply { stage, reply: RemoteReply { code, status, text: "no".to_owned() } })
}

/// Each row: the failure; action, action without another host, status, back off; the text, `{mx}` being the peer.
fn check(rows: impl IntoIterator<Item = (Failure, &'static str, &'static str)>) {
    for (failure, decision, text) in rows {
        let verdict = classify(&failure, DOMAIN);
        let back_off = if verdict.back_off { " back off" } else { "" };
        let found = format!("{:?}/{:?} {}{back_off}", verdict.action, verdict.finally(), verdict.status);
        assert_eq!(verdict.text, text.replace("{mx}", &peer().to_string()));
        assert_eq!(found, decision, "{text}");
    }
}

#[test]
fn without_a_session() {
    let detail = "for name=example.net type=MX: Host not found".to_owned();
    let not_found = "Host or domain name not found. Name service error for name=example.net type=MX: Host not found";
    check([
        (Failure::NullMx, "Bounce/Bounce 5.1.0", "Domain example.net does not accept mail (nullMX)"),
        (Failure::NotFound { detail: detail.clone() }, "Bounce/Bounce 5.4.4", not_found),
        (Failure::Route { detail: detail.clone() }, "Defer/Defer 4.3.5 back off", not_found),
        (Failure::Dns { detail }, "Defer/Defer 4.4.3", not_found),
        (Failure::Unproven { flaw: Flaw::ValidationFailure, reason: "why".to_owned() }, "NextHost/Defer 4.7.5", "why"),
        (Failure::Loop, "Bounce/Bounce 5.4.6", "mail for example.net loops back to myself"),
        (
            Failure::Blocked,
            "Bounce/Bounce 5.4.4",
            "every mail host of example.net has an address that must not be used",
        ),
        (
            Failure::Connect { peer: peer(), reason: "Connection refused".to_owned() },
            "NextHost/Defer 4.4.1 back off",
            "connect to {mx}:25: Connection refused",
        ),
        (Failure::Local { reason: "x".to_owned() }, "Defer/Defer 4.3.0", "x"),
    ]);
}

#[test]
fn a_unix_socket_is_named_by_its_path() {
    let peer = Peer { host: "mail.test".to_owned(), endpoint: Endpoint::Unix("/run/lmtp".into()) };
    let failure = Failure::Connect { peer, reason: "No such file or directory".to_owned() };
    let text = "connect to mail.test[/run/lmtp]: No such file or directory";
    assert_eq!(classify(&failure, DOMAIN).text, text);
}

#[test]
fn a_host_that_the_operator_named_is_never_the_senders_fault() {
    let not_found = Failure::NotFound { detail: "x".to_owned() };
    for (failure, expected) in [
        (not_found, Failure::Route { detail: "x".to_owned() }),
        (Failure::Dns { detail: "x".to_owned() }, Failure::Dns { detail: "x".to_owned() }),
        (
            Failure::NullMx,
            Failure::Route { detail: "for name=r.test type=MX: it does not accept mail (nullMX)".to_owned() },
        ),
        (Failure::Loop, Failure::Route { detail: "for name=r.test type=MX: its mail host is this system".to_owned() }),
    ] {
        let failure = failure.of_a_route("r.test");
        assert_eq!(failure, expected);
        assert_eq!(classify(&failure, DOMAIN).finally(), Action::Defer);
    }
}

#[test]
fn rfc5321_4_5_3_1_10_552_after_an_accepted_recipient_is_452() {
    let reply = |stage, code, status| F::Reply { stage, reply: RemoteReply { code, status, text: "no".to_owned() } };
    let full = Some(Status::new(5, 5, 3));
    for (failure, accepted, expected) in [
        (reply(Stage::Rcpt, 552, full), true, reply(Stage::Rcpt, 452, Some(Status::new(4, 5, 3)))),
        (reply(Stage::Rcpt, 552, None), true, reply(Stage::Rcpt, 452, None)),
        (reply(Stage::Rcpt, 552, full), false, reply(Stage::Rcpt, 552, full)),
        (reply(Stage::Rcpt, 550, full), true, reply(Stage::Rcpt, 550, full)),
        (reply(Stage::Final, 552, full), true, reply(Stage::Final, 552, full)),
        (reply(Stage::Mail, 552, full), true, reply(Stage::Mail, 552, full)),
    ] {
        assert_eq!(too_many_recipients(failure, accepted), expected);
    }
    let verdict = classify(&with(too_many_recipients(reply(Stage::Rcpt, 552, full), true)), DOMAIN);
    assert_eq!((verdict.action, verdict.status), (Action::NextHost, Status::new(4, 5, 3)));
}

#[test]
fn a_421_after_a_set_up_that_worked_is_offered_to_the_next_host() {
    check([
        (said(Stage::Idle, 421, None), "NextHost/Defer 4.0.0", "host {mx} said: 421 no"),
        (said(Stage::Helo, 421, None), "NextHost/Defer 4.0.0 back off", "host {mx} refused to talk to me: 421 no"),
        (
            with(F::Lost { stage: Stage::Idle }),
            "NextHost/Defer 4.4.2",
            "lost connection with {mx} while waiting for the next message",
        ),
    ]);
}

#[test]
fn while_the_session_is_set_up() {
    check([
        (said(Stage::Greeting, 421, None), "NextHost/Defer 4.0.0 back off", "host {mx} refused to talk to me: 421 no"),
        (said(Stage::Greeting, 554, None), "NextHost/Defer 4.0.0 back off", "host {mx} refused to talk to me: 554 no"),
        (said(Stage::Helo, 450, None), "NextHost/Defer 4.0.0 back off", "host {mx} refused to talk to me: 450 no"),
        (said(Stage::Helo, 550, None), "NextHost/Bounce 5.0.0", "host {mx} refused to talk to me: 550 no"),
        (
            said(Stage::Auth, 535, Some(Status::new(5, 7, 8))),
            "NextHost/Defer 4.7.8 back off",
            "SASL authentication failed; server {mx} said: 535 5.7.8 no",
        ),
        (
            said(Stage::StartTls, 502, None),
            "NextHost/Defer 4.0.0 back off",
            "TLS is required, but host {mx} refused to start TLS: 502 no",
        ),
        (with(F::TlsNotOffered), "NextHost/Defer 4.7.4 back off", "TLS is required, but was not offered by host {mx}"),
        (
            with(F::TlsHandshake("bad".to_owned())),
            "NextHost/Defer 4.7.5 back off",
            "Cannot start TLS: handshake failure with {mx}: bad",
        ),
        (
            with(F::TlsInjection),
            "NextHost/Defer 4.7.5 back off",
            "Cannot start TLS: {mx} sent plaintext after its answer to STARTTLS",
        ),
        (
            with(F::NoMechanism),
            "NextHost/Defer 4.7.0 back off",
            "SASL authentication failed: cannot authenticate to server {mx}: no mechanism available",
        ),
        (
            with(F::Lost { stage: Stage::Greeting }),
            "NextHost/Defer 4.4.2 back off",
            "lost connection with {mx} while receiving the initial server greeting",
        ),
        (
            with(F::TimedOut { stage: Stage::Helo }),
            "NextHost/Defer 4.4.2 back off",
            "conversation with {mx} timed out while performing the EHLO handshake",
        ),
        (
            with(F::NoBdat),
            "NextHost/Defer 4.5.0",
            "protocol error with {mx}: BDAT is not known though CHUNKING was offered",
        ),
        (with(F::Loop), "Bounce/Bounce 5.4.6", "mail for example.net loops back to myself"),
    ]);
}

#[test]
fn within_a_transaction() {
    let gone = Some(Status::new(5, 1, 1));
    check([
        (
            said(Stage::Rcpt, 550, gone),
            "Bounce/Bounce 5.1.1",
            "host {mx} said: 550 5.1.1 no (in reply to RCPT TO command)",
        ),
        (said(Stage::Rcpt, 450, None), "NextHost/Defer 4.0.0", "host {mx} said: 450 no (in reply to RCPT TO command)"),
        (
            said(Stage::Mail, 421, None),
            "NextHost/Defer 4.0.0",
            "host {mx} said: 421 no (in reply to MAIL FROM command)",
        ),
        (
            said(Stage::Final, 554, None),
            "Bounce/Bounce 5.0.0",
            "host {mx} said: 554 no (in reply to end of DATA command)",
        ),
        (said(Stage::Reset, 502, None), "NextHost/Defer 4.0.0", "host {mx} said: 502 no (in reply to RSET command)"),
        (
            with(F::NoSmtpUtf8 { ignored: false }),
            "NextHost/Bounce 5.6.7",
            "SMTPUTF8 is required, but was not offered by host {mx}",
        ),
        (
            with(F::NoSmtpUtf8 { ignored: true }),
            "NextHost/Bounce 5.6.7",
            "SMTPUTF8 is required, but is ignored by configuration at host {mx}",
        ),
        (
            with(F::NoRequireTls),
            "NextHost/Bounce 5.7.30",
            "REQUIRETLS is required, but was not offered over verified TLS by host {mx}",
        ),
        (
            with(F::NoEightBitMime("a signed part has octets above 127".to_owned())),
            "NextHost/Bounce 5.6.3",
            "8BITMIME is required, but was not offered by host {mx}: a signed part has octets above 127",
        ),
        (
            with(F::TooLarge { size: 9, limit: 8 }),
            "Bounce/Bounce 5.3.4",
            "message size 9 exceeds size limit 8 of server {mx}",
        ),
        (
            with(F::Lost { stage: Stage::Transfer }),
            "NextHost/Defer 4.4.2",
            "lost connection with {mx} while sending message body",
        ),
        (
            with(F::Lost { stage: Stage::Final }),
            "Defer/Defer 4.4.2",
            "lost connection with {mx} while sending end of data -- message may be sent more than once",
        ),
        (
            with(F::Malformed { stage: Stage::Rcpt, what: "malformed reply" }),
            "NextHost/Defer 4.5.0",
            "protocol error with {mx}: malformed reply while sending RCPT TO",
        ),
    ]);
}
