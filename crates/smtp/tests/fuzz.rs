//! Mutated conversations and addresses: what must hold whatever a client sends. `fuzz/README.md` says how to run it for longer.
#![expect(clippy::expect_used, reason = "tests")]

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use staffetta_mail::trace::{HeaderScan, Part};
use staffetta_mail::{Address, QueueId};
use staffetta_smtp::server::{Action, Answer, Link, Question, SaslStep, Session, Settings};
use staffetta_testkit::fuzz::fuzz;

/// Words that a mutation puts in.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\r",
    b"\n",
    b".",
    b"\r\n.\r\n",
    b"\n.\n",
    b"BDAT 5\r\n",
    b"BDAT 0 LAST\r\n",
    b"BDAT 3 LAST\r\n",
    b" LAST",
    b"MAIL FROM:<a@b.c>\r\n",
    b"RCPT TO:<d@e.f>\r\n",
    b"DATA\r\n",
    b"RSET\r\n",
    b"EHLO x\r\n",
    b"STARTTLS\r\n",
    b"QUIT\r\n",
    b"AUTH PLAIN ",
    b"SMTPUTF8",
    b"\xc3\xa9",
    b"\xff",
    b"<",
    b">",
    b"\"",
    b"@",
    b"=",
    b"+3D",
    b"\0",
    b"18446744073709551615",
];
const SIZE_LIMIT: u64 = 64;

/// What came of a conversation.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    replies: String,
    stored: Vec<(usize, Vec<u8>)>,
}

/// Plays the input in pieces of so many octets, with a shell that says yes to everything.
fn play(input: &[u8], step: usize) -> Seen {
    let settings = Settings { size_limit: SIZE_LIMIT, mechanisms: vec!["PLAIN".into()], ..Settings::default() };
    let now = Instant::now();
    let mut session: Session = Session::new(Arc::new(settings), Link::default(), now);
    let (mut buffer, mut output, mut body) = (BytesMut::new(), BytesMut::new(), None::<Vec<u8>>);
    let mut seen = Seen::default();
    let mut pieces = input.chunks(step);
    loop {
        match session.next(&mut buffer, &mut output, now) {
            Action::Read => match pieces.next() {
                Some(piece) => buffer.extend_from_slice(piece),
                None => break,
            },
            Action::Ask(Question::Data) => {
                body = Some(Vec::new());
                session.answer(Answer::Proceed, &mut output);
            }
            Action::Ask(Question::Store(envelope)) => {
                seen.stored.push((envelope.recipients.len(), body.take().expect("a body was opened")));
                session.answer(Answer::Stored(QueueId::new(0, 0, 1)), &mut output);
            }
            Action::Ask(Question::Sasl(SaslStep::Start { initial: None, .. })) => {
                session.answer(Answer::Challenge(Vec::new()), &mut output);
            }
            Action::Ask(Question::Sasl(_)) => session.answer(Answer::Success { login: "x".into() }, &mut output),
            Action::Ask(_) => session.answer(Answer::Proceed, &mut output),
            Action::Body(octets) => body.as_mut().expect("a body is open").extend_from_slice(&octets),
            Action::Abandon => body = None,
            Action::Refused(_) => {}
            Action::StartTls => session.tls_started(),
            Action::Close => break,
        }
    }
    seen.replies = String::from_utf8(output.to_vec()).expect("replies are ASCII");
    seen
}

fn no_bare(text: &[u8]) -> bool {
    let lone = |at: usize| match text[at] {
        b'\r' => text.get(at + 1) != Some(&b'\n'),
        b'\n' => at == 0 || text[at - 1] != b'\r',
        _ => false,
    };
    !(0..text.len()).any(lone)
}

/// RFC 5321 sections 2.3.8, 4.5.3.1.5 and 4.1.1.4: replies are lines, and what is stored is lines, whatever came; it has a
/// recipient and fits; and packets do not matter, unless somebody talked out of turn.
#[test]
fn a_conversation_never_breaks_the_session() {
    fuzz("session", WORDS, |input| {
        let whole = play(input, input.len().max(1));
        assert!(whole.replies.is_ascii() && no_bare(whole.replies.as_bytes()), "{:?}", whole.replies);
        assert!(whole.replies.split("\r\n").all(|line| line.len() <= 510));
        for (recipients, body) in &whole.stored {
            assert!(*recipients > 0 && no_bare(body) && body.len() as u64 <= SIZE_LIMIT + 2, "{body:?}");
            assert!(body.is_empty() || body.ends_with(b"\r\n"), "{body:?}");
        }
        if !whole.replies.contains("554 5.5.0 ") {
            assert_eq!(play(input, 1), whole);
        }
    });
}

#[test]
fn an_address_is_kept_or_refused() {
    fuzz("address", WORDS, |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let Ok(address) = Address::parse(text) else { return };
        assert_eq!(address.as_str(), text);
        assert!(!text.chars().any(char::is_control), "{text:?}");
        let key = address.domain_key().unwrap_or_default();
        assert!(key.is_ascii() && !key.chars().any(|c| c.is_ascii_uppercase()), "{key:?}");
    });
}

/// What stands in header sections, and what looks as if it did.
const FIELDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b":",
    b" :",
    b" ",
    b"\t",
    b"From x\r\n",
    b">From x\r\n",
    b"From: a@b.c\r\n",
    b"Bcc: d@e.f\r\n",
    b"bCC:",
    b"Resent-Bcc: d@e.f,\r\n\tg@h.i\r\n",
    b"Return-Path: <>\r\n",
    b"Content-Length: 5\r\n",
    b"Date: x\r\n",
    b"Message-ID: <x@y>\r\n",
    b"Received: x\r\n",
    b"\0",
    b"\xff",
];
const DROPPED: &[&str] = &["Bcc", "Resent-Bcc", "Return-Path", "Content-Length"];

/// What came of a message.
#[derive(Debug, PartialEq, Eq)]
struct Scanned {
    octets: Vec<u8>,
    /// Where the header section ends, and if a blank line follows.
    end: Option<(usize, bool)>,
    facts: (u32, bool, bool, Option<String>),
}

fn scan(mut header: HeaderScan, input: &[u8], step: usize) -> Scanned {
    let (mut octets, mut end) = (Vec::new(), None);
    let mut take = |part, piece: &[u8]| match part {
        Part::Held(held) | Part::Field(held) => octets.extend_from_slice(&held),
        Part::Chunk(range) => octets.extend_from_slice(&piece[range]),
        Part::End { blank_follows } => {
            assert_eq!(end, None, "a header section has one end");
            end = Some((octets.len(), blank_follows));
        }
    };
    for piece in input.chunks(step) {
        header.feed(piece).for_each(|part| take(part, piece));
    }
    header.finish().for_each(|part| take(part, &[]));
    let facts = (header.received(), header.has_date(), header.has_from(), header.message_id());
    Scanned { octets, end, facts }
}

/// RFC 5322 section 2.2, and what must not leave with a message: packets do not matter, nothing is lost but what is to be,
/// and none of that is left.
#[test]
fn a_header_section_is_read_the_same_however_it_is_split() {
    const MARK: &[u8] = b"X-Mailbox-Line: ";
    fuzz("header", FIELDS, |input| {
        let all = input.len().max(1);
        let whole = scan(HeaderScan::new(), input, all);
        for step in [1, 7, 130] {
            assert_eq!(scan(HeaderScan::new(), input, step), whole, "in pieces of {step}");
            let collecting = HeaderScan::new().collecting(&["From", "Subject", "Received"]);
            assert_eq!(scan(collecting, input, step), whole, "in pieces of {step}, some fields as a whole");
        }
        // A line of a mailbox file becomes a field; nothing else changes.
        let (mut rest, mut from) = (&whole.octets[..], input);
        while from.starts_with(b"From ") || from.starts_with(b">From ") {
            let Some(line) = rest.strip_prefix(MARK) else { break };
            let end = from.iter().position(|octet| *octet == b'\n').map_or(from.len(), |at| at + 1);
            assert_eq!(line[..end], from[..end]);
            (rest, from) = (&line[end..], &from[end..]);
        }
        assert_eq!(rest, from);

        let less = scan(HeaderScan::dropping(DROPPED), input, all);
        for step in [1, 7, 130] {
            assert_eq!(scan(HeaderScan::dropping(DROPPED), input, step), less, "in pieces of {step}");
        }
        assert_eq!(less.facts, whole.facts);
        let ((end, blank), (whole_end, whole_blank)) = (less.end.expect("an end"), whole.end.expect("an end"));
        assert_eq!((blank, &less.octets[end..]), (whole_blank, &whole.octets[whole_end..]), "the body stays");
        for line in less.octets[..end].split(|octet| *octet == b'\n') {
            let name = line.split(|octet| *octet == b':').next().unwrap_or_default();
            let left = DROPPED.iter().find(|dropped| name.trim_ascii_end().eq_ignore_ascii_case(dropped.as_bytes()));
            assert!(left.is_none() || name == line, "{left:?}");
        }
    });
}
