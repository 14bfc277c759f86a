use proptest::prelude::*;

use super::*;
use crate::{RemoteReply, Status};

/// As Postfix writes it.
const POSTFIX: &str = "\
From: MAILER-DAEMON@mx.example.com (Mail Delivery System)\r
To: news+abcdefghij-lisa=example.com@example.org\r
MIME-Version: 1.0\r
Content-Type: multipart/report; report-type=delivery-status;\r
\tboundary=\"A1B2.1/mx.example.com\"\r
\r
This is a MIME-encapsulated message.\r
\r
--A1B2.1/mx.example.com\r
Content-Description: Notification\r
Content-Type: text/plain; charset=us-ascii\r
\r
Action: failed\r
Status: 5.7.1\r
\r
--A1B2.1/mx.example.com\r
Content-Description: Delivery report\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; mx.example.com\r
Arrival-Date: Mon, 30 Nov 2026 12:00:00 +0000 (UTC)\r
\r
Final-Recipient: rfc822; lisa@example.com\r
Original-Recipient: rfc822;lisa@example.com\r
Action: failed\r
Status: 5.1.1\r
Remote-MTA: dns; mailbox.example.com\r
Diagnostic-Code: smtp; 550 5.1.1 <lisa@example.com>: Recipient address\r
    rejected: User unknown\r
\r
--A1B2.1/mx.example.com\r
Content-Type: message/rfc822\r
\r
Subject: news\r
\r
Action: failed\r
Status: 5.2.2\r
--A1B2.1/mx.example.com--\r
";

/// As the large providers write it: the message is there as a whole, and may have a report in it.
const PROVIDER: &str = "\
From: <feedback@arf.provider.example>\r
Content-Type: multipart/report; boundary=\"----=_Part_1\"; report-type=feedback-report\r
\r
------=_Part_1\r
Content-Type: text/plain; charset=us-ascii\r
\r
This is an email abuse report.\r
\r
------=_Part_1\r
Content-Type: message/feedback-report\r
\r
Feedback-Type: abuse\r
User-Agent: Provider!-Mail-Feedback/2.0\r
Version: 0.1\r
Original-Mail-From: <news+k3fqa7c2mq-lisa=example.com@example.org>\r
Original-Rcpt-To: lisa@example.com\r
Received-Date: Mon, 30 Nov 2026 12:00:00 UTC\r
Source-IP: 203.0.113.25\r
Reported-Domain: example.org\r
\r
------=_Part_1\r
Content-Type: message/rfc822\r
Content-Disposition: inline\r
\r
Received: from mail.example.org (203.0.113.25)\r
Message-ID: <1@example.org>\r
Content-Type: multipart/report; boundary=b; report-type=feedback-report\r
\r
--b\r
Content-Type: message/feedback-report\r
\r
Feedback-Type: virus\r
--b--\r
------=_Part_1--\r
";

/// After RFC 5965 appendix B.1: the header of the message only, and no more of its recipient than there is in it.
const MINIMAL: &str = "\
From: <abusedesk@example.com>\r
MIME-Version: 1.0\r
Content-Type: multipart/report; report-type=feedback-report;\r
     boundary=\"part1_13d.2e68ed54_boundary\"\r
\r
--part1_13d.2e68ed54_boundary\r
Content-Type: text/plain; charset=\"US-ASCII\"\r
Content-Transfer-Encoding: 7bit\r
\r
This is an email abuse report.\r
\r
--part1_13d.2e68ed54_boundary\r
Content-Type: message/feedback-report\r
\r
Feedback-Type: ABUSE\r
User-Agent: SomeGenerator/1.0\r
Version: 1\r
\r
--part1_13d.2e68ed54_boundary\r
Content-Type: text/rfc822-headers\r
Content-Disposition: inline\r
\r
Return-Path: <news@example.org>\r
Message-ID: <8787KJKJ3K4J3K4J3K4J3.mail@example.org>\r
\r
--part1_13d.2e68ed54_boundary--\r
";

#[test]
fn rfc5965_what_somebody_complains_about_is_read_however_it_comes() {
    let provider = Complaint {
        kind: ComplaintKind::Abuse,
        user_agent: Some("Provider!-Mail-Feedback/2.0".to_owned()),
        source: Some([203, 0, 113, 25].into()),
        senders: vec!["news+k3fqa7c2mq-lisa=example.com@example.org".parse().unwrap()],
        recipient: Some("lisa@example.com".parse().unwrap()),
        message_id: Some("1@example.org".to_owned()),
    };
    let minimal = Complaint {
        kind: ComplaintKind::Abuse,
        user_agent: Some("SomeGenerator/1.0".to_owned()),
        source: None,
        senders: vec!["news@example.org".parse().unwrap()],
        recipient: None,
        message_id: Some("8787KJKJ3K4J3K4J3K4J3.mail@example.org".to_owned()),
    };
    for (text, expected) in [(PROVIDER, provider), (MINIMAL, minimal)] {
        for size in 1..text.len() {
            assert_eq!(feedback(text, size), Some(Feedback::Complaint(expected.clone())), "in pieces of {size}");
        }
    }
}

#[test]
fn rfc5965_3_a_complaint_has_a_type_and_all_else_may_be_missing_or_wrong() {
    for (kind, known) in
        [("not-spam", ComplaintKind::NotSpam), ("Opt-Out", ComplaintKind::OptOut), ("dmarc", ComplaintKind::Other)]
    {
        let Some(Feedback::Complaint(it)) = feedback(&MINIMAL.replace("ABUSE", kind), 64) else { panic!("{kind}") };
        assert_eq!(it.kind, known);
    }
    assert_eq!(feedback(&MINIMAL.replace("Feedback-Type", "X-Type"), 64), None);
    assert_eq!(feedback(&MINIMAL.replace("report-type=feedback-report", "report-type=delivery-status"), 64), None);
    let wrong =
        PROVIDER.replace("203.0.113.25", "999.9.9.9").replace("lisa@example.com", "[redacted]").replace("1@", "");
    let Some(Feedback::Complaint(it)) = feedback(&wrong, 64) else { panic!("no complaint") };
    assert_eq!((it.source, it.recipient, it.message_id.as_deref()), (None, None, Some("example.org")));
}

fn feedback(message: &str, size: usize) -> Option<Feedback> {
    let mut reader = Reader::new();
    message.as_bytes().chunks(size).for_each(|piece| reader.feed(piece));
    reader.finish()
}

fn read(message: &str, size: usize) -> Vec<Failure> {
    match feedback(message, size) {
        Some(Feedback::Failures(failures)) => failures,
        other => {
            assert_eq!(other, None);
            Vec::new()
        }
    }
}

/// A report with these groups of fields.
fn report(groups: &str) -> String {
    let fields = groups.replace('\n', "\r\n");
    format!(
        "Content-Type: Multipart/Report; boundary=b; Report-Type=\"delivery-status\"\r\n\r\n\
         --b\r\n\r\nwords\r\n--b\r\nContent-type: message/delivery-status\r\n\r\n{fields}\r\n--b--\r\n"
    )
}

#[test]
fn what_failed_is_read_however_it_comes() {
    let text = "<lisa@example.com>: Recipient address rejected: User unknown".to_owned();
    let reply = RemoteReply { code: 550, status: Some(Status::new(5, 1, 1)), text };
    let expected = [Failure { recipient: Some("lisa@example.com".parse().unwrap()), reply }];
    for size in 1..POSTFIX.len() {
        assert_eq!(read(POSTFIX, size), expected, "in pieces of {size}");
    }
    assert_eq!(read(&POSTFIX.replace("\r\n", "\n"), 100), expected, "with bare line feeds");
}

#[test]
fn rfc3464_2_what_a_report_says_of_each_recipient() {
    for (groups, expected) in [
        // Exim repeats the reply with its codes on each line; Exchange says its own.
        (
            "Action: failed\nFinal-Recipient: rfc822;a@b.c\nStatus: 5.0.0\nDiagnostic-Code: smtp; 550-5.1.1 gone\n 550 5.1.1 really",
            Some("a@b.c 550 5.1.1 gone 550 5.1.1 really"),
        ),
        (
            "Final-Recipient: RFC822;<a@b.c>\nAction: FAILED\nStatus: 5.1.10 (no)\nDiagnostic-Code: SMTP;550 5.1.10 RESOLVER.ADR.RecipientNotFound",
            Some("a@b.c 550 5.1.10 RESOLVER.ADR.RecipientNotFound"),
        ),
        // A mailbox is full of a week: given up for a temporary reason.
        (
            "Action: failed\nFinal-Recipient: rfc822; a@b.c\nStatus: 4.4.7\nDiagnostic-Code: smtp; 452 4.2.2 full",
            Some("a@b.c 452 4.4.7 full"),
        ),
        (
            "Action: failed\nFinal-Recipient: x-local; a\nStatus: 5.2.2\nDiagnostic-Code: x-unix; input/output error",
            Some("? 550 5.2.2 input/output error"),
        ),
        ("Action: failed\nStatus: 5.2.2", Some("? 550 5.2.2 ")),
        ("Action: failed\nDiagnostic-Code: smtp; 553 5.1.3 no such address", Some("? 553 5.1.3 no such address")),
        // The codes contradict each other.
        ("Action: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 450 4.1.1 later", Some("? 550 5.1.1 later")),
        ("Action: delayed\nFinal-Recipient: rfc822;a@b.c\nStatus: 4.4.1", None),
        ("Action: delivered\nStatus: 2.1.5", None),
        ("Action: failed\nStatus: 2.0.0", None),
        ("Action: failed", None),
        ("Action: failed\nStatus: 5.1", None),
        ("Status: 5.1.1", None),
    ] {
        let said = |failure: &Failure| {
            let recipient = failure.recipient.as_ref().map_or("?", |recipient| recipient.as_str());
            format!("{recipient} {}", failure.reply)
        };
        let read = read(&report(&format!("Reporting-MTA: dns; x\n\n{groups}")), 50);
        assert_eq!(read.first().map(said).as_deref(), expected, "{groups}");
    }
}

#[test]
fn of_many_recipients_some_are_read_and_of_a_large_report_its_beginning() {
    let many = report(&"Action: failed\nStatus: 5.1.1\n\n".repeat(100));
    assert_eq!(read(&many, 1000).len(), 10);
    let late = many.replace("words", &"words\r\n".repeat(LOOKED_AT / 7));
    assert_eq!(read(&late, 1000), []);
    let long = report(&format!("X: {}\n\nAction: failed\nStatus: 5.1.1", "x".repeat(MAX_FIELDS)));
    assert_eq!(read(&long, 1000), []);
}

#[test]
fn what_is_no_report_says_nothing() {
    for (from, to) in [
        ("multipart/report", "multipart/mixed"),
        ("report-type=delivery-status", "report-type=disposition-notification"),
        ("message/delivery-status", "text/plain"),
        ("boundary", "border"),
    ] {
        assert_eq!(read(&POSTFIX.replace(from, to), 100), [], "{to}");
    }
    assert_eq!(read("", 1), []);
}

proptest! {
    #[test]
    fn no_report_panics_or_says_what_cannot_be_logged(
        at in 0..PROVIDER.len().max(POSTFIX.len()), length in 0..80_usize, noise in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        for report in [POSTFIX, PROVIDER] {
            let mut octets = report.as_bytes().to_vec();
            let at = at.min(octets.len());
            octets.splice(at..(at + length).min(report.len()), noise.clone());
            let mut reader = Reader::new();
            octets.chunks(97).for_each(|piece| reader.feed(piece));
            let texts = match reader.finish() {
                Some(Feedback::Failures(failures)) => {
                    prop_assert!(failures.iter().all(|failure| matches!(failure.reply.code, 400..=599)));
                    failures.into_iter().map(|failure| failure.reply.text).collect()
                }
                Some(Feedback::Complaint(it)) => it.user_agent.into_iter().chain(it.message_id).collect(),
                None => Vec::new(),
            };
            prop_assert!(texts.iter().all(|text| text.len() <= 4 * MAX_TEXT && !text.contains(char::is_control)));
        }
    }
}
