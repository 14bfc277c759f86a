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

fn read(message: &str, size: usize) -> Vec<Failure> {
    let mut reader = Reader::new();
    message.as_bytes().chunks(size).for_each(|piece| reader.feed(piece));
    reader.failures()
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
        at in 0..POSTFIX.len(), length in 0..80_usize, noise in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut octets = POSTFIX.as_bytes().to_vec();
        octets.splice(at..(at + length).min(POSTFIX.len()), noise);
        let mut reader = Reader::new();
        octets.chunks(97).for_each(|piece| reader.feed(piece));
        for failure in reader.failures() {
            prop_assert!(failure.reply.text.len() <= 4 * 1024 && !failure.reply.text.contains(char::is_control));
            prop_assert!(matches!(failure.reply.code, 200..=599));
        }
    }
}
