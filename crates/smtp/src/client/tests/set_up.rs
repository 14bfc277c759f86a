//! Greeting, EHLO, STARTTLS, AUTH.

use super::*;

#[test]
fn a_refused_greeting_ends_the_session() {
    for (say, closing) in [("554 no\r\n", "QUIT\r\n"), ("421 busy\r\n", ""), ("450 later\r\n", "QUIT\r\n")] {
        let mut d = Dialogue::new(settings());
        d.session.submit(TransactionId(1), message(&["a@b.c"]));
        assert_eq!(d.on(say), closed(Stage::Greeting, say.trim_end()));
        assert_eq!(d.sent(), closing);
    }
}

#[test]
fn garbage_for_a_greeting_is_malformed() {
    let mut d = Dialogue::new(settings());
    assert!(matches!(
        d.on("SSH-2.0-OpenSSH\r\n"),
        Event::Closed(Some(Failure::Malformed { stage: Stage::Greeting, .. }))
    ));
}

#[test]
fn an_odd_greeting_keeps_its_reason() {
    for (say, reply) in [
        ("220-x\r\n521 5.7.1 blocked\r\n", "521 5.7.1 x blocked"),
        ("\r\n554 5.7.1 blocked\r\n", "554 5.7.1 blocked"),
        ("421\t4.3.2 busy\r\n", "421 4.3.2 busy"),
    ] {
        let mut d = Dialogue::new(settings());
        assert_eq!(d.on(say), closed(Stage::Greeting, reply), "{say:?}");
    }
    let mut d = Dialogue::new(settings());
    assert_eq!(d.on("554-x\r\n220 welcome\r\n"), Event::Read(Stage::Helo));
}

#[test]
fn rfc5321_4_1_4_helo_is_tried_when_ehlo_is_unknown() {
    let mut d = Dialogue::new(settings());
    d.on("220 old\r\n");
    assert_eq!(d.on("500 what\r\n"), Event::Read(Stage::Helo));
    assert_eq!(d.sent(), "EHLO relay.example.org\r\nHELO relay.example.org\r\n");
    assert_eq!(d.on("250-mx\r\n250 PIPELINING\r\n"), Event::Ready);
    assert_eq!(*d.session.capabilities(), Capabilities { name: "mx".to_owned(), ..Capabilities::default() });
}

#[test]
fn a_server_with_our_name_is_a_loop() {
    let mut d = Dialogue::new(settings());
    d.on("220 x\r\n");
    assert_eq!(d.on("250 Relay.Example.ORG hello\r\n"), Event::Closed(Some(Failure::Loop)));
}

fn secured(tls: Tls, say: &str) -> (Dialogue, Event) {
    let mut d = Dialogue::new(ServerProfile { tls, ..settings() });
    d.on("220 mx\r\n");
    d.on(&ehlo(&["STARTTLS", "PIPELINING"]));
    assert_eq!(d.sent(), "EHLO relay.example.org\r\nSTARTTLS\r\n");
    let event = d.on(say);
    (d, event)
}

#[test]
fn rfc3207_ehlo_is_said_again_after_the_handshake() {
    let (mut d, event) = secured(Tls::IfOffered, "220 go\r\n");
    assert_eq!(event, Event::StartTls);
    assert_eq!(d.next(), Event::StartTls);
    d.session.on_tls_started();
    assert_eq!(d.next(), Event::Read(Stage::Helo));
    assert_eq!(d.sent(), "EHLO relay.example.org\r\n");
    assert_eq!(d.on(&ehlo(&["STARTTLS"])), Event::Ready);
    assert!(d.session.is_encrypted() && !d.session.capabilities().pipelining);
}

#[test]
fn rfc8314_3_3_with_implicit_tls_the_greeting_comes_after_the_handshake_and_starttls_never() {
    let mut d = Dialogue::new(ServerProfile { tls: Tls::Implicit, ..settings() });
    assert_eq!((d.next(), d.sent().as_str()), (Event::StartTls, ""));
    d.session.on_tls_started();
    assert_eq!(d.next(), Event::Read(Stage::Greeting));
    d.on("220 mx\r\n");
    assert_eq!(d.on(&ehlo(&["STARTTLS"])), Event::Ready);
    assert_eq!(d.sent(), "EHLO relay.example.org\r\n");
    assert!(d.session.is_encrypted());
}

#[test]
fn a_server_that_is_lost_before_the_handshake_is_lost_in_it() {
    let mut d = Dialogue::new(with_login(Tls::Implicit));
    d.session.on_lost();
    assert_eq!(d.next(), Event::Closed(Some(Failure::Lost { stage: Stage::StartTls })));
}

#[test]
fn what_follows_the_answer_to_starttls_in_the_clear_is_an_attack() {
    let (mut d, event) = secured(Tls::IfOffered, "220 go\r\n250 mx\r\n");
    assert_eq!(event, Event::Closed(Some(Failure::TlsInjection)));
    assert_eq!(d.sent(), "");
}

#[test]
fn a_refused_starttls_is_fatal_only_where_tls_is_required() {
    let (_, event) = secured(Tls::IfOffered, "454 no\r\n");
    assert_eq!(event, Event::Ready);
    let (mut d, event) = secured(Tls::Required, "454 no\r\n");
    assert_eq!(event, closed(Stage::StartTls, "454 no"));
    assert_eq!(d.sent(), "QUIT\r\n");
    let (_, event) = secured(Tls::IfOffered, "421 no\r\n");
    assert_eq!(event, closed(Stage::StartTls, "421 no"));
}

#[test]
fn a_failed_handshake_ends_the_session() {
    let (mut d, _) = secured(Tls::IfOffered, "220 go\r\n");
    d.session.on_tls_failed("bad certificate");
    assert_eq!(d.next(), Event::Closed(Some(Failure::TlsHandshake("bad certificate".to_owned()))));
}

fn with_login(tls: Tls) -> ServerProfile {
    let credentials = Credentials { username: "john".to_owned(), secret: Secret::Password("summersun".to_owned()) };
    assert!(!format!("{credentials:?}").contains("summersun"));
    ServerProfile { tls, credentials: Some(Arc::new(credentials)), ..settings() }
}

#[test]
fn credentials_make_tls_mandatory() {
    for tls in [Tls::Off, Tls::IfOffered, Tls::Required] {
        let mut d = Dialogue::new(with_login(tls));
        d.on("220 mx\r\n");
        assert_eq!(d.on(&ehlo(&["AUTH PLAIN"])), Event::Closed(Some(Failure::TlsNotOffered)));
        assert_eq!(d.sent(), "EHLO relay.example.org\r\nQUIT\r\n");
    }
}

/// Up to AUTH at a server in TLS that offers these.
fn asked_to_log_in(mechanisms: &str) -> Dialogue {
    let mut d = Dialogue::new(with_login(Tls::Implicit));
    d.session.on_tls_started();
    d.on("220 mx\r\n");
    d.sent();
    d.on(&ehlo(&[mechanisms]));
    d
}

#[test]
fn who_refuses_scram_is_shown_the_password_and_whoever_does_not_prove_itself_is_left() {
    let mut d = asked_to_log_in("AUTH SCRAM-SHA-256 PLAIN");
    assert!(d.sent().starts_with("AUTH SCRAM-SHA-256 "));
    d.on("535 5.7.8 not for you\r\n");
    assert_eq!(d.sent(), "AUTH PLAIN AGpvaG4Ac3VtbWVyc3Vu\r\n");
    assert_eq!(d.on("235 ok\r\n"), Event::Ready);

    let mut d = asked_to_log_in("AUTH SCRAM-SHA-256");
    assert_eq!(d.on("535 5.7.8 no\r\n"), closed(Stage::Auth, "535 5.7.8 no"));

    let mut d = asked_to_log_in("AUTH SCRAM-SHA-256 PLAIN");
    d.sent();
    let what = "it has not proved that it knows the password";
    assert_eq!(d.on("235 ok\r\n"), Event::Closed(Some(Failure::Malformed { stage: Stage::Auth, what })));
    assert_eq!(d.sent(), "");
}

#[test]
fn rfc4954_auth_happens_once_encrypted() {
    for (mechanisms, say, expected) in [
        ("AUTH PLAIN", "235 ok\r\n", Event::Ready),
        ("AUTH PLAIN", "535 5.7.8 no\r\n", closed(Stage::Auth, "535 5.7.8 no")),
        ("AUTH GSSAPI", "", Event::Closed(Some(Failure::NoMechanism))),
    ] {
        let mut d = Dialogue::new(with_login(Tls::IfOffered));
        d.on("220 mx\r\n");
        d.on(&ehlo(&["STARTTLS", "AUTH PLAIN"]));
        assert_eq!(d.on("220 go\r\n"), Event::StartTls);
        d.session.on_tls_started();
        d.next();
        d.sent();
        let event = d.on(&ehlo(&[mechanisms]));
        assert_eq!(if say.is_empty() { event } else { d.on(say) }, expected);
        assert_eq!(d.sent().contains("AUTH PLAIN AGpvaG4Ac3VtbWVyc3Vu\r\n"), !say.is_empty());
    }
}
