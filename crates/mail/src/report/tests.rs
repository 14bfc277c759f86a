//! Whole reports, taken apart by hand.

use super::*;

const MESSAGE: &[u8] = b"From: a@example.org\r\nSubject: hello\r\n\r\nbody\r\n.\r\nend\r\n";

struct Parts {
    head: String,
    parts: Vec<(String, Vec<u8>)>,
}

#[expect(clippy::unwrap_used, reason = "tests")]
fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn recipient(text: &str) -> Recipient {
    Recipient::new(address(text))
}

fn reply(text: &str) -> RemoteReply {
    RemoteReply { code: 550, status: Some(Status::new(5, 1, 1)), text: text.to_owned() }
}

/// A failure report about one recipient, changed by `change`, taken apart.
fn with(
    recipient: &Recipient,
    remote: Option<(&str, &RemoteReply)>,
    text: &str,
    change: impl Fn(Notice<'_>) -> Report,
) -> (Parts, Report) {
    let fates = [Fate {
        recipient,
        status: Status::new(5, 1, 1),
        text,
        remote: remote.map(|(host, _)| host),
        reply: remote.map(|(_, reply)| reply),
    }];
    let sender = address("a@example.org");
    let report = change(Notice {
        hostname: "mail.example.org",
        sender: &sender,
        id: QueueId::new(1, 1_790_000_000_000, 5),
        arrived: 1_790_000_000_000,
        now: 1_790_000_300_000,
        unique: 0xabc,
        envid: None,
        ret: None,
        smtputf8: false,
        fates: &fates,
        original: Original::whole(MESSAGE),
    });
    (taken_apart(&report.content), report)
}

#[expect(clippy::unwrap_used, reason = "tests")]
fn split_head(content: &[u8]) -> (String, &[u8]) {
    let end = memchr::memmem::find(content, b"\r\n\r\n").unwrap();
    (String::from_utf8(content[..end + 2].to_vec()).unwrap(), &content[end + 4..])
}

/// Splits as RFC 2046 section 5.1 says, and checks every line on the way.
#[expect(clippy::unwrap_used, reason = "tests")]
fn taken_apart(content: &[u8]) -> Parts {
    assert!(content.ends_with(b"\r\n"));
    for line in content[..content.len() - 2].split(|&b| b == b'\n') {
        assert!(line.len() <= 999 && !line[..line.len().saturating_sub(1)].contains(&b'\r'));
    }
    let (head, body) = split_head(content);
    let boundary = head.split_once("boundary=\"").unwrap().1.split_once('"').unwrap().0;
    assert!(boundary.len() <= 70);
    let delimiter = format!("\r\n--{boundary}");
    let at: Vec<_> = memchr::memmem::find_iter(body, delimiter.as_bytes()).collect();
    assert_eq!(at.len(), 4, "three parts and the end");
    assert_eq!(&body[at[3] + delimiter.len()..], b"--\r\n");
    let part = |i: usize| {
        let (head, content) = split_head(&body[at[i] + delimiter.len() + 2..at[i + 1]]);
        (head, content.to_vec())
    };
    Parts { parts: (0..3).map(part).collect(), head }
}

fn text(part: &(String, Vec<u8>)) -> String {
    String::from_utf8_lossy(&part.1).into_owned()
}

#[test]
fn rfc3464_a_failure_report_has_three_parts() {
    let mut lisa = recipient("lisa@example.net");
    lisa.orcpt = Some("rfc822;Lisa+2Bx@example.net".to_owned());
    let gone = reply("no such user");
    let said = "host mx.example.net[192.0.2.1] said: 550 5.1.1 no such user (in reply to RCPT TO command)";
    let (parts, report) = with(&lisa, Some(("mx.example.net", &gone)), said, |notice| {
        failure(&Notice { envid: Some("id+20one"), ..notice })
    });
    assert_eq!(report.body, BodyType::SevenBit);
    for line in [
        "From: MAILER-DAEMON@mail.example.org (Mail Delivery System)\r\n",
        "To: a@example.org\r\n",
        "Subject: Undelivered Mail Returned to Sender\r\n",
        "Date: Mon, 21 Sep 2026 14:18:20 +0000\r\n",
        "Auto-Submitted: auto-replied\r\n",
        "MIME-Version: 1.0\r\n",
        "Content-Type: multipart/report; report-type=delivery-status;\r\n",
        "Content-Transfer-Encoding: 7bit\r\n",
    ] {
        assert!(parts.head.contains(line), "{line:?} is not in {}", parts.head);
    }
    assert!(text(&parts.parts[0]).contains("\r\n<lisa@example.net>: host mx.example.net[192.0.2.1] said: 550 5.1.1"));
    assert!(parts.parts[1].0.contains("Content-Type: message/delivery-status\r\n"));
    assert_eq!(
        text(&parts.parts[1]),
        "Reporting-MTA: dns; mail.example.org\r\n\
         Original-Envelope-Id: id one\r\n\
         X-Staffetta-Queue-ID: 01D31B8JR0000005\r\n\
         X-Staffetta-Sender: rfc822; a@example.org\r\n\
         Arrival-Date: Mon, 21 Sep 2026 14:13:20 +0000\r\n\
         \r\n\
         Original-Recipient: rfc822;Lisa+x@example.net\r\n\
         Final-Recipient: rfc822; lisa@example.net\r\n\
         Action: failed\r\n\
         Status: 5.1.1\r\n\
         Remote-MTA: dns; mx.example.net\r\n\
         Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n\
         Last-Attempt-Date: Mon, 21 Sep 2026 14:18:20 +0000\r\n"
            .replace("01D31B8JR0000005", &QueueId::new(1, 1_790_000_000_000, 5).to_string())
    );
    assert!(parts.parts[2].0.contains("Content-Type: message/rfc822\r\n"));
    assert_eq!(parts.parts[2].1, [b"Return-Path: <a@example.org>\r\n", MESSAGE].concat());
}

#[test]
fn every_recipient_has_its_group() {
    let names = ["a@b.c", "d@e.f"].map(recipient);
    let (parts, _) = with(&names[0], None, "x", |notice| {
        let fates = names.each_ref().map(|recipient| Fate { recipient, ..notice.fates[0] });
        failure(&Notice { fates: &fates, ..notice })
    });
    let status = text(&parts.parts[1]);
    let groups: Vec<_> = status.split("\r\n\r\n").collect();
    assert_eq!(groups.len(), 3);
    assert!(groups[1].starts_with("Final-Recipient: rfc822; a@b.c\r\n"));
    assert!(groups[2].starts_with("Final-Recipient: rfc822; d@e.f\r\n"));
    assert!(status.contains("Diagnostic-Code: X-Staffetta; x\r\n") && !status.contains("Remote-MTA"));
}

#[test]
fn the_other_kinds_name_their_action_and_return_headers_only() {
    type Make = fn(Notice<'_>) -> Report;
    let kinds: [(Make, &str, &str); 3] = [
        (|n| delay(&n, 1_790_432_000_000), "delayed", "Delayed Mail (still being retried)"),
        (|n| relayed(&n), "relayed", "Successful Mail Delivery Report"),
        (|n| delivered(&n), "delivered", "Successful Mail Delivery Report"),
    ];
    for (make, action, subject) in kinds {
        let (parts, _) = with(&recipient("b@example.net"), None, "late", make);
        assert!(parts.head.contains(&format!("Subject: {subject}\r\n")));
        let status = text(&parts.parts[1]);
        assert!(status.contains(&format!("Action: {action}\r\n")));
        let until = "Will-Retry-Until: Sat, 26 Sep 2026 14:13:20 +0000\r\n";
        assert_eq!(status.contains(until), action == "delayed", "{status}");
        assert!(parts.parts[2].0.contains("Content-Type: text/rfc822-headers\r\n"));
        assert_eq!(text(&parts.parts[2]), "Return-Path: <a@example.org>\r\nFrom: a@example.org\r\nSubject: hello\r\n");
    }
}

#[test]
fn rfc3461_4_3_ret_and_size_decide_how_much_is_returned() {
    let big = [b"Subject: big\r\n\r\n".to_vec(), b"line\r\n".repeat(9000)].concat();
    let long = [b"Subject: long\r\n\r\n".to_vec(), vec![b'x'; 2000]].concat();
    for (content, size, ret, whole) in [
        (MESSAGE, MESSAGE.len(), None, true),
        (MESSAGE, MESSAGE.len(), Some(Return::Full), true),
        (MESSAGE, MESSAGE.len(), Some(Return::Headers), false),
        (MESSAGE, MESSAGE.len() + 1, None, false),
        (&big, big.len(), Some(Return::Full), false),
        (&long, long.len(), None, false),
    ] {
        let (parts, _) = with(&recipient("b@example.net"), None, "x", |notice| {
            failure(&Notice { ret, original: Original { size: size as u64, ..Original::whole(content) }, ..notice })
        });
        assert_eq!(parts.parts[2].0.contains("message/rfc822"), whole);
        assert_eq!(parts.parts[2].0.contains("text/rfc822-headers"), !whole);
    }
}

#[test]
fn reports_about_many_recipients_return_little_each() {
    let big = [b"Subject: big\r\n".to_vec(), b"X-Line: y\r\n".repeat(200), b"\r\n".to_vec(), b"line\r\n".repeat(5000)]
        .concat();
    let returned = |recipients: usize| {
        let original = Original { most: Original::share(recipients), ..Original::whole(&big) };
        let (parts, _) = with(&recipient("b@example.net"), None, "x", |notice| failure(&Notice { original, ..notice }));
        (parts.parts[2].0.contains("message/rfc822"), text(&parts.parts[2]).len())
    };
    assert!(returned(1).0 && returned(20).0);
    let (whole, octets) = returned(1000);
    assert!(!whole && (900..1200).contains(&octets), "{octets}");
    assert!(!returned(100).0 && returned(100).1 > 2000, "the whole header section still fits");
}

#[test]
fn rfc6152_an_8bit_message_makes_an_8bit_report() {
    let (parts, report) = with(&recipient("b@example.net"), None, "x", |notice| {
        failure(&Notice { original: Original::whole("Subject: x\r\n\r\ncaf\u{e9}\r\n".as_bytes()), ..notice })
    });
    assert_eq!(report.body, BodyType::EightBitMime);
    assert!(parts.head.contains("Content-Transfer-Encoding: 8bit\r\n"));
    assert!(parts.parts[2].0.contains("Content-Transfer-Encoding: 8bit\r\n"));
    assert!(parts.parts[0].0.contains("Content-Transfer-Encoding: 7bit\r\n"));
}

#[test]
fn text_from_outside_adds_no_field_no_part_and_no_line() {
    let evil = "no\r\nAction: delivered\r\n\r\n--boundary--\r\n\u{202e}caf\u{e9}\0\u{1b}[2J";
    let mut victim = recipient("\"a b;c: d\"@example.net");
    victim.orcpt = Some("rfc822;x+0D+0AStatus:+202.0.0".to_owned());
    let reply = reply(evil);
    let (parts, report) = with(&victim, Some((evil, &reply)), evil, |notice| {
        failure(&Notice { envid: Some("x+0D+0A+0D+0AAction:+20relayed"), ..notice })
    });
    assert!(report.content.is_ascii());
    let status = text(&parts.parts[1]);
    for name in ["Action:", "Status:", "Final-Recipient:", "Diagnostic-Code:"] {
        assert_eq!(status.lines().filter(|line| line.starts_with(name)).count(), 1, "{name} in {status}");
    }
    assert!(!text(&parts.parts[0]).lines().any(|line| line.starts_with("Action:") || line.starts_with("--")));
}

#[test]
fn the_boundary_avoids_what_the_message_contains() {
    let plain = with(&recipient("b@example.net"), None, "x", |notice| failure(&notice));
    let boundary = plain.0.head.split("boundary=\"").nth(1).and_then(|rest| rest.split('"').next());
    let hostile = format!("Subject: x\r\n\r\n--{0}\r\n--{0}--\r\n", boundary.unwrap_or_default());
    let (parts, _) = with(&recipient("b@example.net"), None, "x", |notice| {
        failure(&Notice { original: Original::whole(hostile.as_bytes()), ..notice })
    });
    assert!(parts.parts[2].1.ends_with(hostile.as_bytes()));
}

proptest::proptest! {
    #[test]
    fn whatever_the_inputs_the_report_stays_a_report(
        said in "(\\PC|[\r\n\t]){0,60}", content in proptest::collection::vec(0u8.., 0..200), long in 0usize..2000,
        sender in "[a\u{fc}]@example[.]org", smtputf8: bool,
    ) {
        let (reply, sender) = (reply(&format!("{said}{}", "y".repeat(long))), address(&sender));
        let (parts, _) = with(&recipient("b@example.net"), Some(("mx", &reply)), &said, |notice| {
            failure(&Notice { original: Original::whole(&content), sender: &sender, smtputf8, ..notice })
        });
        proptest::prop_assert_eq!(text(&parts.parts[1]).split("\r\n\r\n").count(), 2);
    }
}

#[test]
fn a_message_that_is_withheld_leaves_no_trace_of_itself() {
    let (whom, sender) = (recipient("b@example.org"), address("a@example.org"));
    let fates =
        [Fate { recipient: &whom, status: Status::new(5, 1, 1), text: "no such user", remote: None, reply: None }];
    let report = failure(&Notice {
        hostname: "mail.example.org",
        sender: &sender,
        id: QueueId::new(1, 1_790_000_000_000, 5),
        arrived: 1_790_000_000_000,
        now: 1_790_000_300_000,
        unique: 0xabc,
        envid: None,
        ret: Some(Return::Full),
        smtputf8: false,
        fates: &fates,
        original: Original::withheld(),
    });
    let text = String::from_utf8_lossy(&report.content);
    assert_eq!(text.matches("Content-Description: ").count(), 2, "words and status: {text}");
    assert!(!text.contains("Return-Path") && !text.contains("rfc822-headers"), "{text}");
    assert!(text.contains("The message is not attached."), "{text}");
    assert!(text.ends_with("/staffetta--\r\n"), "{text}");
}

#[test]
fn rfc6533_3_an_alias_with_utf_8_is_told_to_an_ascii_sender_in_the_old_types() {
    let said = "no such user";
    let (parts, report) =
        with(&recipient("j\u{fc}rgen+x=y@b\u{fc}cher.example"), None, said, |notice| failure(&notice));
    assert!(report.content.is_ascii());
    assert!(text(&parts.parts[0]).contains("<j\\x{FC}rgen\\x{2B}x\\x{3D}y@b\\x{FC}cher.example>: no such user"));
    assert!(parts.parts[1].0.contains("Content-Type: message/delivery-status\r\n"));
    let status = text(&parts.parts[1]);
    assert!(
        status.contains("Final-Recipient: utf-8; j\\x{FC}rgen\\x{2B}x\\x{3D}y@b\\x{FC}cher.example\r\n"),
        "{status}"
    );
    let (parts, _) = with(&recipient("u+x=y@x.example"), None, said, |notice| failure(&notice));
    assert!(text(&parts.parts[1]).contains("Final-Recipient: rfc822; u+x=y@x.example\r\n"), "ASCII stays as it is");
}

const INTERNATIONAL: &str = "From: a@example.org\r\nSubject: Gr\u{fc}\u{df}e\r\n\r\nbody\r\n";

/// The report about a message that was sent with SMTPUTF8 by this sender to `jürgen+x@bücher.example`.
fn international(sender: &str, ret: Option<Return>) -> (Parts, Report) {
    let mut whom = recipient("j\u{fc}rgen+x@b\u{fc}cher.example");
    whom.orcpt = Some("utf-8;\\x{43F}+2By@b\\x{FC}cher.example".to_owned());
    let (said, sender) = (reply("\u{43d}\u{435}\u{442} \u{202e}such\x07 user"), address(sender));
    let words = said.to_string();
    with(&whom, Some(("mx.example.net", &said)), &words, |notice| {
        let original = Original::whole(INTERNATIONAL.as_bytes());
        failure(&Notice { sender: &sender, smtputf8: true, ret, original, ..notice })
    })
}

#[test]
fn rfc6533_4_a_report_to_an_ascii_sender_needs_no_smtputf8() {
    for (ret, media) in [(None, "message/global"), (Some(Return::Headers), "message/global-headers")] {
        let (parts, report) = international("a@example.org", ret);
        assert_eq!(report.body, BodyType::EightBitMime, "what is returned is as it was");
        assert!(
            parts.head.is_ascii() && parts.head.contains("report-type=global-delivery-status;\r\n"),
            "{}",
            parts.head
        );
        let words = text(&parts.parts[0]).replace("\r\n    ", " ");
        let said = "550 5.1.1 \\x{43D}\\x{435}\\x{442} \\x{202E}such? user";
        assert!(words.contains(&format!("<j\\x{{FC}}rgen\\x{{2B}}x@b\\x{{FC}}cher.example>: {said}\r\n")), "{words}");
        assert!(parts.parts[1].0.contains("Content-Type: message/global-delivery-status\r\n"));
        assert!(parts.parts[1].0.contains("Content-Transfer-Encoding: 7bit\r\n"));
        let status = text(&parts.parts[1]);
        for field in [
            "X-Staffetta-Sender: rfc822; a@example.org",
            "Original-Recipient: utf-8;\\x{43F}\\x{2B}y@b\\x{FC}cher.example",
            "Final-Recipient: utf-8; j\\x{FC}rgen\\x{2B}x@b\\x{FC}cher.example",
            "Diagnostic-Code: smtp; 550 5.1.1 \\x{43D}\\x{435}\\x{442} \\x{202E}such? user",
        ] {
            assert!(status.contains(&format!("{field}\r\n")), "{field}: {status}");
        }
        assert!(parts.parts[2].0.contains(&format!("Content-Type: {media}\r\nContent-Transfer-Encoding: 8bit\r\n")));
        assert_eq!(text(&parts.parts[2]).contains("body"), ret.is_none());
    }
}

#[test]
fn rfc6533_4_a_report_that_goes_by_smtputf8_is_in_utf_8() {
    let (parts, report) = international("\u{fc}@example.org", None);
    assert_eq!(report.body, BodyType::EightBitMime);
    assert!(
        parts.head.contains("To: \u{fc}@example.org\r\n") && parts.head.contains("report-type=global-delivery-status")
    );
    assert!(parts.parts[0].0.contains("text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"));
    assert!(text(&parts.parts[0]).contains(
        "<j\u{fc}rgen\\x{2B}x@b\u{fc}cher.example>: 550 5.1.1 \u{43d}\u{435}\u{442} \\x{202E}such? user\r\n"
    ));
    assert!(parts.parts[1].0.contains("message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n"));
    let status = text(&parts.parts[1]);
    for field in [
        "X-Staffetta-Sender: utf-8; \u{fc}@example.org",
        "Original-Recipient: utf-8;\u{43f}\\x{2B}y@b\u{fc}cher.example",
        "Final-Recipient: utf-8; j\u{fc}rgen\\x{2B}x@b\u{fc}cher.example",
        "Diagnostic-Code: smtp; 550 5.1.1 \\x{43D}\\x{435}\\x{442} \\x{202E}such? user",
    ] {
        assert!(status.contains(&format!("{field}\r\n")), "{field}: {status}");
    }
    assert!(parts.parts[2].0.contains("Content-Type: message/global\r\n"));
}
