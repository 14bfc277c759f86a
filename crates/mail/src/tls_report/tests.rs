use super::*;

fn policy(kind: Kind) -> Policy {
    Policy { kind, lines: Vec::new(), domain: "example.com".to_owned(), hosts: Vec::new() }
}

fn failure(flaw: Flaw) -> Failure {
    Failure { flaw, from: None, host: None, address: None, reason: None }
}

fn report(outcomes: Vec<(Outcome, u64)>) -> Report<'static> {
    let second = |second| Timestamp::from_second(second).unwrap_or_default();
    Report {
        domain: "example.com",
        organization: "Relay Inc.",
        contact: "tls@relay.test",
        submitter: "relay.test",
        id: "1460246400.example.com@relay.test",
        period: (second(1_460_246_400), second(1_460_332_799)),
        outcomes,
    }
}

#[test]
fn rfc8460_4_4_the_outcomes_of_a_policy_are_counted_together() {
    let sts = Policy {
        lines: vec!["version: STSv1".to_owned(), "mode: testing".to_owned()],
        hosts: vec!["*.mail.example.com".to_owned()],
        ..policy(Kind::Sts)
    };
    let expired = Failure {
        from: "192.0.2.1".parse().ok(),
        host: Some("mx1.mail.example.com".to_owned()),
        address: "2001:db8::9".parse().ok(),
        reason: Some("expired yesterday".to_owned()),
        ..failure(Flaw::CertificateExpired)
    };
    let outcome =
        |policy: &Policy, failure: Option<&Failure>| Outcome { policy: policy.clone(), failure: failure.cloned() };
    let none = policy(Kind::None);
    let json = report(vec![
        (outcome(&sts, Some(&expired)), 100),
        (outcome(&none, None), 7),
        (outcome(&sts, None), 5326),
        (outcome(&sts, Some(&failure(Flaw::StartTlsNotSupported))), 203),
    ])
    .to_json();
    let found: serde_json::Value = serde_json::from_slice(&json).unwrap_or_default();
    let expected = serde_json::json!({
        "organization-name": "Relay Inc.",
        "date-range": { "start-datetime": "2016-04-10T00:00:00Z", "end-datetime": "2016-04-10T23:59:59Z" },
        "contact-info": "tls@relay.test",
        "report-id": "1460246400.example.com@relay.test",
        "policies": [
            {
                "policy": {
                    "policy-type": "sts",
                    "policy-string": ["version: STSv1", "mode: testing"],
                    "policy-domain": "example.com",
                    "mx-host": ["*.mail.example.com"],
                },
                "summary": { "total-successful-session-count": 5326, "total-failure-session-count": 303 },
                "failure-details": [
                    {
                        "result-type": "certificate-expired",
                        "sending-mta-ip": "192.0.2.1",
                        "receiving-mx-hostname": "mx1.mail.example.com",
                        "receiving-ip": "2001:db8::9",
                        "failure-reason-code": "expired yesterday",
                        "failed-session-count": 100,
                    },
                    { "result-type": "starttls-not-supported", "failed-session-count": 203 },
                ],
            },
            {
                "policy": { "policy-type": "no-policy-found", "policy-domain": "example.com" },
                "summary": { "total-successful-session-count": 7, "total-failure-session-count": 0 },
            },
        ],
    });
    assert_eq!(found, expected);
}

#[test]
fn rfc8460_4_3_flaws_have_the_names_of_the_registry() {
    let names = [
        (Flaw::StartTlsNotSupported, "starttls-not-supported"),
        (Flaw::CertificateHostMismatch, "certificate-host-mismatch"),
        (Flaw::CertificateExpired, "certificate-expired"),
        (Flaw::CertificateNotTrusted, "certificate-not-trusted"),
        (Flaw::TlsaInvalid, "tlsa-invalid"),
        (Flaw::DnssecInvalid, "dnssec-invalid"),
        (Flaw::StsPolicyFetchError, "sts-policy-fetch-error"),
        (Flaw::StsPolicyInvalid, "sts-policy-invalid"),
        (Flaw::StsWebpkiInvalid, "sts-webpki-invalid"),
        (Flaw::ValidationFailure, "validation-failure"),
    ];
    for (flaw, name) in names {
        assert_eq!(serde_json::to_value(flaw).ok(), Some(name.into()));
    }
}

#[test]
fn an_outcome_is_what_it_was_after_it_was_kept_as_a_text() {
    for failed in [None, Some(failure(Flaw::DnssecInvalid))] {
        let outcome = Outcome { policy: policy(Kind::Tlsa), failure: failed };
        assert_eq!(Outcome::from_text(&outcome.to_text()), Some(outcome));
    }
    assert_eq!(Outcome::from_text("{}"), None);
}

#[test]
fn rfc8460_5_3_a_report_travels_as_an_attachment() {
    let report = report(Vec::new());
    let address = |text: &str| text.parse().unwrap_or_else(|_| unreachable!("{text}"));
    let (from, to) = (address("tls@relay.test"), address("reports@example.com"));
    let attachment: Vec<u8> = (0..=255).collect();
    let message = letter(&report, Letter { from: &from, to: &to, now: Timestamp::UNIX_EPOCH, attachment: &attachment });
    let text = String::from_utf8(message).unwrap_or_default();
    for line in [
        "From: tls@relay.test",
        "To: reports@example.com",
        "Subject: Report Domain: example.com",
        " Report-ID: <1460246400.example.com@relay.test>",
        "Date: Thu, 01 Jan 1970 00:00:00 +0000",
        "TLS-Report-Domain: example.com",
        "TLS-Report-Submitter: relay.test",
        "TLS-Required: No",
        "\tfilename=\"relay.test!example.com!1460246400!1460332799.json.gz\"",
        "Content-Type: application/tlsrpt+gzip",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    assert!(text.split("\r\n").all(|line| line.len() <= 998 && !line.contains('\n')));
    assert!(text.ends_with("--\r\n"));
}
