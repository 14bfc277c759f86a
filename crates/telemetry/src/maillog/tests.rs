//! Golden lines of every event in both formats.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::UNIX_EPOCH;

use staffetta_policy::classify::Endpoint;
use staffetta_policy::conduct::{Signal, Step};

use super::samples::{client, qid, stranger};
use super::*;

fn origin(syslog_name: &str) -> Origin {
    Origin { host: "relay-0".into(), service: "frontend", pid: 4242, syslog_name: syslog_name.into() }
}

fn written(event: &impl Event, format: LogFormat) -> String {
    let (mut lines, mut stamp) = (Vec::new(), Stamp::new(TimeZone::UTC));
    let origin = origin("staffetta");
    let now = UNIX_EPOCH + Duration::from_millis(samples::NOW);
    render(event, format, &mut lines, &mut stamp, &origin, now);
    let text = String::from_utf8(lines).unwrap();
    if format == LogFormat::Json {
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }
    text
}

/// Compares both formats; the parts that all records share are left out of the rows.
#[track_caller]
fn golden<E: Event>(event: &E, json: &str, classic: &[&str]) {
    let expected = format!("{{\"time\":\"2026-11-24T04:17:27.125Z\",\"level\":\"{}\",{json}}}\n", E::LEVEL);
    let origin = "\"pod\":\"relay-0\",\"service\":\"frontend\"";
    assert_eq!(written(event, LogFormat::Json), expected.replace("POD", origin));
    let expected: String = classic.iter().map(|line| format!("Nov 24 04:17:27 relay-0 staffetta/{line}\n")).collect();
    assert_eq!(written(event, LogFormat::Postfix), expected);
}

#[test]
fn accepted_mail() {
    golden(
        &samples::accepted(),
        r#""event":"accepted",POD,"qid":"05D21F2Y0N800001","listener":"submission","client_name":"client.example.org","client_ip":"192.0.2.7","client_port":50123,"helo":"client.example.org","proto":"ESMTPSA","tls":"TLSv1.3 TLS_AES_256_GCM_SHA384","sasl_method":"PLAIN","sasl_username":"john@example.org","from":"john@example.org","size":4711,"nrcpt":2,"message_id":"1@example.org","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736""#,
        &[
            "submission/smtpd[4242]: 05D21F2Y0N800001: client=client.example.org[192.0.2.7], sasl_method=PLAIN, sasl_username=john@example.org",
            "cleanup[4242]: 05D21F2Y0N800001: message-id=<1@example.org>",
            "qmgr[4242]: 05D21F2Y0N800001: from=<john@example.org>, size=4711, nrcpt=2 (queue active)",
        ],
    );
}

#[test]
fn accepted_mail_of_a_stranger_without_a_message_id() {
    let event = Accepted {
        client: stranger(),
        listener: "smtp",
        proto: "ESMTP",
        tls: None,
        sasl: None,
        from: "".into(),
        message_id: None,
        trace: None,
        ..samples::accepted()
    };
    golden(
        &event,
        r#""event":"accepted",POD,"qid":"05D21F2Y0N800001","listener":"smtp","client_ip":"198.51.100.9","client_port":4711,"helo":"client.example.org","proto":"ESMTP","from":"","size":4711,"nrcpt":2"#,
        &[
            "smtp/smtpd[4242]: 05D21F2Y0N800001: client=unknown[198.51.100.9]",
            "cleanup[4242]: 05D21F2Y0N800001: message-id=<>",
            "qmgr[4242]: 05D21F2Y0N800001: from=<>, size=4711, nrcpt=2 (queue active)",
        ],
    );
}

#[test]
fn mail_that_is_held_says_so() {
    let held = samples::held();
    assert!(
        written(&held, LogFormat::Json).contains("\"message_id\":\"1@example.org\",\"queue\":\"hold\",\"trace_id\":")
    );
    assert!(written(&held, LogFormat::Postfix).ends_with(", size=4711, nrcpt=2 (queue hold)\n"));
}

#[test]
fn a_login_over_its_threshold_writes_one_line_whatever_it_is_called() {
    let event = Crossing {
        login: "john\"\nx: y".into(),
        hour: 498_748,
        signal: Signal::Messages,
        count: 2_001,
        threshold: 500,
        step: Step::Hold,
    };
    assert_eq!(Crossing::LEVEL, "warn");
    golden(
        &event,
        r#""event":"login_over_threshold",POD,"login":"john\"\nx: y","hour":"2026-11-24T04:00:00Z","signal":"messages","count":2001,"threshold":500,"step":"hold""#,
        &[
            r#"abuse[4242]: warning: login=<john"?x: y>, hour=2026-11-24T04:00:00Z, signal=messages, count=2001, threshold=500, step=hold"#,
        ],
    );
}

#[test]
fn refused_mail() {
    let sasl = Sasl { method: "LOGIN", username: "john@example.org".into() };
    let event = Rejected { client: stranger(), sasl: Some(sasl), ..samples::rejected() };
    golden(
        &event,
        r#""event":"rejected",POD,"listener":"submission","client_ip":"198.51.100.9","client_port":4711,"stage":"RCPT","code":553,"dsn":"5.7.1","response":"553 5.7.1 <x@example.org>: Sender address rejected: not owned by user john@example.org","from":"x@example.org","to":"lisa@example.com","proto":"ESMTP","helo":"me","sasl_method":"LOGIN","sasl_username":"john@example.org","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736""#,
        &[
            "submission/smtpd[4242]: NOQUEUE: reject: RCPT from unknown[198.51.100.9]: 553 5.7.1 <x@example.org>: Sender address rejected: not owned by user john@example.org; from=<x@example.org> to=<lisa@example.com> proto=ESMTP helo=<me>",
        ],
    );
}

#[test]
fn a_refused_client_cannot_write_log_lines_of_its_own() {
    let event = Rejected {
        listener: "smtp",
        client: stranger(),
        stage: "CONNECT",
        reply: "421 too many\r\nNov 24 04:17:27 host staffetta/qmgr[1]: A: removed".into(),
        from: None,
        to: None,
        proto: "SMTP",
        helo: Some((&b"a\"\\\n\x1b[31m\xff"[..]).into()),
        sasl: None,
        trace: None,
    };
    golden(
        &event,
        r#""event":"rejected",POD,"listener":"smtp","client_ip":"198.51.100.9","client_port":4711,"stage":"CONNECT","code":421,"response":"421 too many\r\nNov 24 04:17:27 host staffetta/qmgr[1]: A: removed","proto":"SMTP","helo":"a\"\\\n\u001b[31m\ufffd""#,
        &[
            r#"smtp/smtpd[4242]: NOQUEUE: reject: CONNECT from unknown[198.51.100.9]: 421 too many??Nov 24 04:17:27 host staffetta/qmgr[1]: A: removed; proto=SMTP helo=<a"\??[31m?>"#,
        ],
    );
}

#[test]
fn logins() {
    let sasl = Sasl { method: "PLAIN", username: "john@example.org".into() };
    golden(
        &Login { listener: "submission", client: client(), sasl },
        r#""event":"login",POD,"listener":"submission","client_name":"client.example.org","client_ip":"192.0.2.7","client_port":50123,"sasl_method":"PLAIN","sasl_username":"john@example.org""#,
        &[],
    );
    let event = LoginFailed {
        listener: "submission",
        client: stranger(),
        method: "LOGIN",
        username: Some("root".into()),
        reason: "failed",
        reply: "535 5.7.8 Error: authentication failed".into(),
    };
    golden(
        &event,
        r#""event":"login_failed",POD,"listener":"submission","client_ip":"198.51.100.9","client_port":4711,"sasl_method":"LOGIN","sasl_username":"root","reason":"failed","code":535,"dsn":"5.7.8","response":"535 5.7.8 Error: authentication failed""#,
        &[
            "submission/smtpd[4242]: warning: unknown[198.51.100.9]: SASL LOGIN authentication failed: 535 5.7.8 Error: authentication failed, sasl_username=root",
        ],
    );
}

#[test]
fn what_was_agreed_upon_is_said_as_postfix_says_it() {
    golden(
        &samples::secured(),
        r#""event":"client_tls",POD,"listener":"submission","client_name":"client.example.org","client_ip":"192.0.2.7","client_port":50123,"tls":"TLSv1.3 TLS_AES_256_GCM_SHA384","tls_trust":"Anonymous""#,
        &[
            "submission/smtpd[4242]: Anonymous TLS connection established from client.example.org[192.0.2.7]: TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)",
        ],
    );
    let weaker = Encrypted { tls: "TLSv1.3 TLS_AES_128_GCM_SHA256", ..samples::encrypted() };
    golden(
        &weaker,
        r#""event":"relay_tls",POD,"relay":"mx.example.com","relay_ip":"203.0.113.25","relay_port":25,"protocol":"smtp","tls":"TLSv1.3 TLS_AES_128_GCM_SHA256","tls_trust":"Verified""#,
        &[
            "smtp[4242]: Verified TLS connection established to mx.example.com[203.0.113.25]:25: TLSv1.3 with cipher TLS_AES_128_GCM_SHA256 (128/128 bits)",
        ],
    );
}

#[test]
fn a_relay_that_is_called_postfix_names_its_listeners_as_postfix_does() {
    let lines = |syslog_name: &str, listener| {
        let (mut lines, mut stamp) = (Vec::new(), Stamp::new(TimeZone::UTC));
        let event = Connected { listener, client: client() };
        render(&event, LogFormat::Postfix, &mut lines, &mut stamp, &origin(syslog_name), UNIX_EPOCH);
        String::from_utf8(lines).unwrap()
    };
    assert!(lines("postfix", "smtp").contains(" relay-0 postfix/smtpd[4242]: connect"));
    assert!(lines("postfix", "submission").contains(" relay-0 postfix/submission/smtpd[4242]: connect"));
    assert!(lines("staffetta", "smtp").contains(" relay-0 staffetta/smtp/smtpd[4242]: connect"));
    assert!(lines("mx", "smtp").contains(" relay-0 mx/smtp/smtpd[4242]: connect"));
}

#[test]
fn connections() {
    golden(
        &Connected { listener: "smtp", client: stranger() },
        r#""event":"connected",POD,"listener":"smtp","client_ip":"198.51.100.9","client_port":4711"#,
        &["smtp/smtpd[4242]: connect from unknown[198.51.100.9]"],
    );
    golden(
        &Disconnected { listener: "smtp", client: client(), messages: 3 },
        r#""event":"disconnected",POD,"listener":"smtp","client_name":"client.example.org","client_ip":"192.0.2.7","client_port":50123,"messages":3"#,
        &["smtp/smtpd[4242]: disconnect from client.example.org[192.0.2.7] data=3"],
    );
    golden(
        &Lost { listener: "smtp", client: stranger(), timeout: false, stage: "DATA" },
        r#""event":"lost",POD,"listener":"smtp","client_ip":"198.51.100.9","client_port":4711,"reason":"lost connection","stage":"DATA""#,
        &["smtp/smtpd[4242]: lost connection after DATA from unknown[198.51.100.9]"],
    );
}

#[test]
fn a_delivery() {
    golden(
        &Outcome::<DELIVERED>(&samples::delivered()),
        r#""event":"delivered",POD,"qid":"05D21F2Y0N800001","to":"lisa@example.com","from":"john@example.org","relay":"mx.example.com","relay_ip":"203.0.113.25","relay_port":25,"source_ip":"192.0.2.25","protocol":"smtp","tls":"TLSv1.3 TLS_AES_256_GCM_SHA384","tls_trust":"Verified","tls_policy":"dane","dkim":"example.org/s2026","conn_use":2,"delay":1.404,"delay_reception":0.050,"delay_queue":0.004,"delay_connection":0.250,"delay_transfer":1.100,"dsn":"2.0.0","status":"sent","code":250,"response":"250 2.0.0 Ok: queued as 12345","attempt":1,"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736""#,
        &[
            "smtp[4242]: 05D21F2Y0N800001: to=<lisa@example.com>, relay=mx.example.com[203.0.113.25]:25, conn_use=2, delay=1.4, delays=0.05/0/0.25/1.1, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 12345)",
        ],
    );
}

#[test]
fn a_relay_behind_a_unix_socket_has_a_path_in_the_place_of_an_address() {
    let endpoint = Endpoint::Unix("/run/dovecot/lmtp".into());
    let relay = Some(Relay { host: "mail.example.org".into(), endpoint: &endpoint });
    let event = Attempt { relay, source: None, protocol: "lmtp", ..samples::delivered() };
    let [json, classic] = [LogFormat::Json, LogFormat::Postfix].map(|it| written(&Outcome::<DELIVERED>(&event), it));
    let named = r#""relay":"mail.example.org","relay_socket":"/run/dovecot/lmtp","protocol":"lmtp""#;
    assert!(json.contains(named), "{json}");
    assert!(classic.contains(", relay=mail.example.org[/run/dovecot/lmtp], conn_use=2"), "{classic}");
}

#[test]
fn whoever_stands_behind_an_alias_is_logged_with_it() {
    let event = samples::bounced();
    let [json, classic] = [LogFormat::Json, LogFormat::Postfix].map(|it| written(&Outcome::<BOUNCED>(&event), it));
    assert!(json.contains(r#""to":"lisa@example.com","orig_to":"friends@example.org","from":"#), "{json}");
    assert!(json.contains(r#""from":"john@example.org","mail_from":"john+k3fqa7c2mq-lisa=example.com@"#), "{json}");
    assert!(classic.contains(": to=<lisa@example.com>, orig_to=<friends@example.org>, relay=mx."), "{classic}");
}

#[test]
fn what_a_message_did_not_want_asked_for_is_told() {
    let json = written(&Outcome::<BOUNCED>(&samples::bounced()), LogFormat::Json);
    assert!(json.contains(r#""tls_policy":"opportunistic","tls_waived":"dane mta-sts","conn_use""#), "{json}");
}

#[test]
fn failures() {
    let event = samples::deferred();
    golden(
        &Outcome::<DEFERRED>(&event),
        r#""event":"deferred",POD,"qid":"05D21F2Y0N800001","to":"lisa@example.com","from":"john@example.org","protocol":"smtp","conn_use":1,"delay":1.404,"delay_reception":0.050,"delay_queue":0.004,"delay_connection":0.250,"delay_transfer":1.100,"dsn":"4.4.1","status":"deferred","class":"no-answer-from-host","category":"no-answer-from-host","scope":"host","remedy":"wait","response":"connect to mx.example.com[203.0.113.25]:25: Connection refused","attempt":3,"next":300.000"#,
        &[
            "smtp[4242]: 05D21F2Y0N800001: to=<lisa@example.com>, relay=none, delay=1.4, delays=0.05/0/0.25/1.1, dsn=4.4.1, status=deferred (connect to mx.example.com[203.0.113.25]:25: Connection refused)",
        ],
    );
    assert!(written(&Outcome::<BOUNCED>(&event), LogFormat::Postfix).contains(", status=bounced (connect to "));
    // As Postfix: the last attempt is deferred like those before it, and then the message is given up.
    let expired = Outcome::<EXPIRED>(&event);
    assert!(written(&expired, LogFormat::Postfix).contains(", status=deferred (connect to "));
    assert!(written(&expired, LogFormat::Json).contains("\"event\":\"expired\""));
    assert!(written(&expired, LogFormat::Json).contains("\"status\":\"expired\""));
    let class = r#""class":"no-answer-from-host","category":"message-expired","scope":"host","remedy":"wait""#;
    assert!(written(&expired, LogFormat::Json).contains(class), "why, and that it was the last time");
    golden(
        &samples::given_up(),
        r#""event":"given_up",POD,"qid":"05D21F2Y0N800001","from":"john@example.org""#,
        &["qmgr[4242]: 05D21F2Y0N800001: from=<john@example.org>, status=expired, returned to sender"],
    );
}

#[test]
fn what_others_report() {
    golden(
        &samples::remote_bounce(),
        r#""event":"remote_bounce",POD,"qid":"05D21F2Y0N800003","to":"lisa@example.com","from":"news@example.org","proof":"verp","dsn":"5.1.1","class":"bad-mailbox","category":"bad-mailbox","scope":"recipient","remedy":"remove-recipient","response":"550 5.1.1 No such user""#,
        &[
            "bounce[4242]: 05D21F2Y0N800003: returned: to=<lisa@example.com>, from=<news@example.org>, proof=verp, dsn=5.1.1, class=bad-mailbox (550 5.1.1 No such user)",
        ],
    );
}

#[test]
fn what_others_complain_about() {
    golden(
        &samples::complaint(),
        r#""event":"complaint",POD,"qid":"05D21F2Y0N800003","to":"lisa@example.com","from":"news@example.org","proof":"verp","feedback":"abuse","source_ip":"192.0.2.25","user_agent":"Provider-Feedback/2.0","message_id":"1@example.org""#,
        &[
            "bounce[4242]: 05D21F2Y0N800003: complaint: type=abuse, to=<lisa@example.com>, from=<news@example.org>, proof=verp",
        ],
    );
}

#[test]
fn the_end_of_a_message() {
    golden(
        &samples::reported(),
        r#""event":"reported",POD,"qid":"05D21F2Y0N800001","report_qid":"05D21F2Y0N800002","kind":"failure","size":2345"#,
        &[
            "bounce[4242]: 05D21F2Y0N800001: sender non-delivery notification: 05D21F2Y0N800002",
            "qmgr[4242]: 05D21F2Y0N800002: from=<>, size=2345, nrcpt=1 (queue active)",
        ],
    );
    golden(
        &Administered { qid: qid(1), to: "a@x.example", verb: "deleted", by: "ro\not" },
        r#""event":"administered",POD,"qid":"05D21F2Y0N800001","to":"a@x.example","action":"deleted","by":"ro\not""#,
        &["postsuper[4242]: 05D21F2Y0N800001: to=<a@x.example>, deleted by ro?ot"],
    );
    golden(
        &samples::moved(),
        r#""event":"administered",POD,"selection":"--domain example.com","deliveries":12,"action":"held","by":"root@admin-1""#,
        &["postsuper[4242]: held by root@admin-1: 12 deliveries, --domain example.com"],
    );
    let why = Barred { kind: "login", name: "john doe", verb: "blocked", by: "root", reason: "a thief" };
    golden(
        &why,
        r#""event":"administered",POD,"kind":"login","name":"john doe","action":"blocked","by":"root","reason":"a thief""#,
        &["abuse[4242]: login=john doe, blocked by root, reason=a thief"],
    );
    golden(
        &Removed { qid: qid(1) },
        r#""event":"removed",POD,"qid":"05D21F2Y0N800001""#,
        &["qmgr[4242]: 05D21F2Y0N800001: removed"],
    );
}
