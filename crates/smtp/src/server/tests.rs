//! Stories of whole sessions that a transcript cannot tell: time, shutdown, limits, memory, what the shell sees.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use proptest::prelude::*;
use staffetta_mail::QueueId;

use super::*;
use crate::Reply;

/// A session with a shell that says yes to everything.
pub(super) struct Story {
    pub(super) session: Session,
    pub(super) input: BytesMut,
    pub(super) output: BytesMut,
    pub(super) now: Instant,
    /// What the shell saw: questions, bodies, refusals.
    pub(super) seen: Vec<String>,
    pub(super) closed: bool,
    pub(super) refuse_store: Option<Reply>,
}

impl Story {
    pub(super) fn begin(settings: Settings) -> Self {
        let now = Instant::now();
        let settings = Settings { hostname: "mx".into(), ..settings };
        let mut story = Self {
            session: Session::new(Arc::new(settings), Link::default(), now),
            input: BytesMut::new(),
            output: BytesMut::new(),
            now,
            seen: Vec::new(),
            closed: false,
            refuse_store: None,
        };
        assert_eq!(story.run(), "220 mx ESMTP Staffetta\r\n");
        story
    }

    /// A session within a message.
    fn in_data(settings: Settings) -> Self {
        let mut story = Self::begin(settings);
        story.say("EHLO c\r\n");
        let replies = story.say("MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n");
        assert!(replies.ends_with("354 End data with <CR><LF>.<CR><LF>\r\n"), "{replies}");
        story.seen.clear();
        story
    }

    pub(super) fn say(&mut self, text: &str) -> String {
        self.input.extend_from_slice(text.as_bytes());
        self.run()
    }

    pub(super) fn run(&mut self) -> String {
        loop {
            match self.session.next(&mut self.input, &mut self.output, self.now) {
                Action::Read => break,
                Action::Close => {
                    self.closed = true;
                    break;
                }
                Action::Ask(question) => self.answer(&question),
                Action::Body(bytes) => self.seen.push(format!("body {}", bytes.len())),
                Action::Abandon => self.seen.push("abandon".into()),
                Action::Refused(refusal) => self.seen.push(format!("{}: {}", refusal.activity, refusal.reply)),
                Action::StartTls => self.session.tls_started(),
            }
        }
        String::from_utf8_lossy(&self.output.split()).into_owned()
    }

    fn answer(&mut self, question: &Question) {
        let answer = match question {
            Question::Store(envelope) => {
                self.seen.push(format!("store for {}", envelope.recipients.len()));
                match self.refuse_store.take() {
                    Some(reply) => Answer::Refuse(reply, ()),
                    None => Answer::Stored(QueueId::new(0, 0, 1)),
                }
            }
            _ => Answer::Proceed,
        };
        self.session.answer(answer, &mut self.output);
    }
}

const QUEUED: &str = "250 2.0.0 Ok: queued as 0000000000000001\r\n";

#[test]
fn the_clock_starts_again_with_a_command_but_not_with_a_part_of_one() {
    let mut story = Story::begin(Settings::default());
    let (first, minute) = (story.session.deadline(), Duration::from_secs(60));
    assert_eq!(first, story.now + Duration::from_secs(300));
    story.now += minute;
    story.say("NO");
    assert_eq!(story.session.deadline(), first);
    story.say("OP\r\n");
    assert_eq!(story.session.deadline(), first + minute);
}

#[test]
fn the_clock_starts_again_with_every_piece_of_a_message() {
    let mut story = Story::in_data(Settings::default());
    story.now += Duration::from_secs(60);
    story.say("x");
    assert_eq!(story.session.deadline(), story.now + Duration::from_secs(300));
}

#[test]
fn every_answer_is_counted_by_command_and_class_and_told_once() {
    let mut story = Story::in_data(Settings::default());
    story.say("x\r\n.\r\nFOO\r\nRCPT TO:<d@e.f>\r\nRSET\r\n");
    let tally = |story: &mut Story| {
        let mut told = Vec::new();
        story.session.drain_tally(|activity, class, n| told.push(format!("{activity} {class} {n}")));
        told
    };
    let expected =
        ["END-OF-MESSAGE 2 1", "UNKNOWN 5 1", "RCPT 2 1", "RCPT 5 1", "MAIL 2 1", "DATA 3 1", "EHLO 2 1", "RSET 2 1"];
    assert_eq!(tally(&mut story), expected);
    story.session.on_timeout(&mut story.output);
    story.run();
    assert_eq!(tally(&mut story), Vec::<String>::new(), "nobody asked for that one");
}

#[test]
fn rfc5321_4_5_3_2_a_silent_client_gets_421() {
    let mut story = Story::begin(Settings::default());
    story.say("EHLO c\r\n");
    story.session.on_timeout(&mut story.output);
    assert_eq!(story.run(), "421 4.4.2 mx Error: timeout exceeded\r\n");
    assert_eq!((story.closed, story.seen), (true, vec!["EHLO: 421 4.4.2 mx Error: timeout exceeded".to_owned()]));
}

#[test]
fn rfc5321_3_8_shutdown_at_rest_is_told_at_once() {
    let mut story = Story::begin(Settings::default());
    story.session.on_shutdown(&mut story.output);
    assert_eq!(story.run(), "421 4.3.2 mx Service shutting down, closing connection\r\n");
    assert!(story.closed);
}

#[test]
fn shutdown_within_a_message_waits_for_the_reply_to_its_final_dot() {
    let mut story = Story::in_data(Settings::default());
    story.say("x\r\n");
    story.session.on_shutdown(&mut story.output);
    assert_eq!((story.run().as_str(), story.closed), ("", false));
    let replies = story.say(".\r\nMAIL FROM:<a@b.c>\r\n");
    assert_eq!(replies, format!("{QUEUED}421 4.3.2 mx Service shutting down, closing connection\r\n"));
    assert!(story.closed);
}

#[test]
fn shutdown_lets_a_transaction_come_to_its_end_and_no_other_begin() {
    let mut story = Story::begin(Settings::default());
    story.say("EHLO c\r\n");
    story.say("MAIL FROM:<a@b.c>\r\n");
    story.session.on_shutdown(&mut story.output);
    assert_eq!((story.run().as_str(), story.closed), ("", false));
    assert_eq!(story.say("RCPT TO:<d@e.f>\r\n"), "250 2.1.5 Ok\r\n");
    assert!(story.say("DATA\r\n").starts_with("354 "));
    let replies = story.say("x\r\n.\r\nMAIL FROM:<a@b.c>\r\n");
    assert_eq!(replies, format!("{QUEUED}421 4.3.2 mx Service shutting down, closing connection\r\n"));
    assert!(story.closed);
}

fn gone() -> Reply {
    Reply::login_revoked("mx")
}

const GONE: &str = "421 4.7.0 mx Error: the login has changed, authenticate again\r\n";

#[test]
fn a_client_that_was_dismissed_hears_it_in_place_of_the_next_answer() {
    for before in ["", "MAIL FROM:<a@b.c>\r\n", "MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\n"] {
        let mut story = Story::begin(Settings::default());
        story.say("EHLO c\r\n");
        story.say(before);
        story.session.dismiss(gone(), ());
        assert_eq!(story.say("NOOP\r\nDATA\r\n"), GONE, "{before:?}");
        assert!(story.closed && !story.seen.iter().any(|seen| seen.starts_with("store")), "{before:?}");
    }
}

#[test]
fn who_is_dismissed_within_content_hears_it_at_its_end() {
    let mut story = Story::in_data(Settings::default());
    story.say("x\r\n");
    story.session.dismiss(gone(), ());
    assert_eq!((story.run().as_str(), story.closed), ("", false));
    story.refuse_store = Some(gone());
    assert_eq!(story.say(".\r\nMAIL FROM:<a@b.c>\r\n"), GONE, "once, and nothing behind it");
    assert!(story.closed);
}

#[test]
fn who_is_dismissed_between_chunks_leaves_the_message_unfinished() {
    let mut story = Story::begin(Settings::default());
    story.say("EHLO c\r\n");
    story.say("MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nBDAT 3\r\nx\r\n");
    story.session.dismiss(gone(), ());
    assert_eq!(story.say("BDAT 3 LAST\r\ny\r\n"), GONE);
    assert!(story.closed && !story.seen.iter().any(|seen| seen.starts_with("store")));
}

#[test]
fn shutdown_before_the_greeting_is_the_greeting() {
    let settings = Arc::new(Settings { hostname: "mx".into(), ..Settings::default() });
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    let mut session: Session = Session::new(settings, Link::default(), Instant::now());
    session.on_shutdown(&mut output);
    assert!(matches!(session.next(&mut input, &mut output, Instant::now()), Action::Refused(_)));
    assert_eq!(session.next(&mut input, &mut output, Instant::now()), Action::Close);
    assert!(output.starts_with(b"421 4.3.2 mx "));
}

#[test]
fn a_client_that_talks_before_the_greeting_gets_none() {
    let (mut input, mut output) = (BytesMut::from(&b"EHLO c\r\n"[..]), BytesMut::new());
    let mut session: Session = Session::new(Arc::new(Settings::default()), Link::default(), Instant::now());
    assert!(matches!(session.next(&mut input, &mut output, Instant::now()), Action::Refused(_)));
    assert_eq!(session.next(&mut input, &mut output, Instant::now()), Action::Close);
    assert_eq!(&output[..], b"554 5.5.0 Error: SMTP protocol synchronization\r\n");
}

#[test]
fn a_message_may_be_as_long_as_the_limit() {
    let mut story = Story::in_data(Settings { size_limit: 5, ..Settings::default() });
    assert_eq!(story.say("..23\r\n.\r\n"), QUEUED, "the stuffed dot does not count");
    assert_eq!(story.seen.last().map(String::as_str), Some("store for 1"));
}

#[test]
fn rfc1870_6_3_a_message_beyond_the_limit_is_read_to_its_end_and_kept_nowhere() {
    let mut story = Story::in_data(Settings { size_limit: 1000, ..Settings::default() });
    for _ in 0..1000 {
        assert_eq!(story.say(&"x".repeat(998)), "");
        assert!(story.input.len() <= 2);
    }
    let replies = story.say("\r\n.\r\nMAIL FROM:<a@b.c>\r\n");
    assert_eq!(replies, "552 5.3.4 Error: message file too big\r\n250 2.1.0 Ok\r\n");
    let refused = "END-OF-MESSAGE: 552 5.3.4 Error: message file too big";
    assert_eq!(story.seen, ["body 998", "abandon", refused]);
}

#[test]
fn rfc5321_6_3_a_message_with_fifty_received_fields_loops() {
    for (hops, reply) in [(49, QUEUED), (50, "554 5.4.0 Error: too many hops\r\n")] {
        let mut story = Story::in_data(Settings::default());
        let header = "Received: from a\r\n\tby b\r\n".repeat(hops);
        assert_eq!(story.say(&format!("{header}\r\nReceived: not this\r\n.\r\n")), reply);
    }
}

#[test]
fn a_refused_store_ends_the_transaction_only() {
    let mut story = Story::in_data(Settings::default());
    story.refuse_store = Some(Reply::queue_write_error());
    let replies = story.say("x\r\n.\r\nDATA\r\n");
    assert_eq!(replies, "451 4.3.0 Error: queue file write error\r\n503 5.5.1 Error: need RCPT command\r\n");
    assert!(!story.closed);
}

#[test]
fn recipients_beyond_the_limit_are_forgiven_for_a_while() {
    let mut story = Story::begin(Settings { recipient_limit: 2, ..Settings::default() });
    story.say("EHLO c\r\n");
    let replies = story.say(&format!("MAIL FROM:<>\r\n{}", "RCPT TO:<a@b.c>\r\n".repeat(1002)));
    assert_eq!(replies.matches("250 2.1.5 Ok\r\n").count(), 2);
    assert_eq!(replies.matches("452 4.5.3 Error: too many recipients\r\n").count(), 1000);
    assert_eq!(story.session.errors(), 0);
    story.say("RCPT TO:<a@b.c>\r\n");
    assert_eq!(story.session.errors(), 1);
    assert!(story.say("DATA\r\n").starts_with("354 "));
}

#[test]
fn after_twenty_errors_the_next_command_is_the_last() {
    let mut story = Story::begin(Settings::default());
    for _ in 0..20 {
        assert_eq!(story.say("FOO\r\n"), "500 5.5.2 Error: command not recognized\r\n");
    }
    assert_eq!(story.say("NOOP\r\n"), "421 4.7.0 mx Error: too many errors\r\n");
    assert!(story.closed);
}

#[test]
fn a_good_message_makes_up_for_errors() {
    let mut story = Story::in_data(Settings { error_limit: 2, ..Settings::default() });
    assert_eq!(story.say("x\r\n.\r\nFOO\r\n"), format!("{QUEUED}500 5.5.2 Error: command not recognized\r\n"));
    assert_eq!(story.session.errors(), 1);
}

#[test]
fn junk_commands_beyond_the_limit_count_as_errors() {
    let mut story = Story::begin(Settings { junk_limit: 3, error_limit: 2, ..Settings::default() });
    for _ in 0..5 {
        assert_eq!(story.say("NOOP\r\n"), "250 2.0.0 Ok\r\n");
    }
    assert_eq!(story.say("NOOP\r\n"), "421 4.7.0 mx Error: too many errors\r\n");
}

#[test]
fn overlong_commands_are_refused_and_cost_no_memory() {
    let mut story = Story::begin(Settings::default());
    for _ in 0..1000 {
        assert_eq!(story.say(&"x".repeat(4096)), "");
        assert_eq!(story.input.len(), 0);
    }
    assert_eq!(story.say("\r\nNOOP\r\n"), "500 5.5.2 mx Error: command too long\r\n250 2.0.0 Ok\r\n");
}

#[test]
fn rfc4954_4_an_overlong_response_ends_the_exchange_only() {
    let mut story = Story::begin(Settings { mechanisms: vec!["PLAIN".into()], ..Settings::default() });
    story.say("EHLO c\r\n");
    story.say("STARTTLS\r\n");
    story.say("EHLO c\r\n");
    story.input.extend_from_slice(b"AUTH PLAIN\r\n");
    let asked = story.session.next(&mut story.input, &mut story.output, story.now);
    assert!(matches!(asked, Action::Ask(Question::Sasl(SaslStep::Start { initial: None, .. }))), "{asked:?}");
    story.session.answer(Answer::Challenge(Vec::new()), &mut story.output);
    assert_eq!(story.run(), "334 \r\n");
    story.say(&"A".repeat(12_289));
    assert_eq!(story.say("\r\nNOOP\r\n"), "500 5.5.6 SASL response limit exceeded\r\n250 2.0.0 Ok\r\n");
}

#[test]
fn a_password_leaves_the_buffer_and_prints_nowhere() {
    let mut story = Story::begin(Settings { mechanisms: vec!["PLAIN".into()], ..Settings::default() });
    story.say("STARTTLS\r\n");
    story.say("EHLO c\r\n");
    story.input.extend_from_slice(b"AUTH PLAIN AGpvaG4Ac3VtbWVyc3Vu\r\n");
    let asked = story.session.next(&mut story.input, &mut story.output, story.now);
    assert_eq!(
        format!("{asked:?}"),
        "Ask(Sasl(Start { mechanism: \"PLAIN\", initial: Some(Secret(…)) }))",
        "the octets are in it, out of sight"
    );
    story.session.answer(Answer::Success { login: "john".into() }, &mut story.output);
    assert_eq!(story.session.login(), Some("john"));
}

/// The buffer lives on for minutes behind an idle client; whoever reads the memory must not find a password there.
#[test]
fn the_line_of_auth_and_the_response_are_wiped_where_they_were_read() {
    let mut story = Story::begin(Settings { mechanisms: vec!["PLAIN".into()], ..Settings::default() });
    story.say("STARTTLS\r\n");
    story.say("EHLO c\r\n");
    for (line, wiped) in [
        ("NOOP AGpvaG4Ac3VtbWVyc3Vu\r\n", false),
        ("AUTH PLAIN AGpvaG4Ac3VtbWVyc3Vu\r\n", true),
        ("AGpvaG4Ac3VtbWVyc3Vu\r\n", true),
        ("AGpvaG4Ac3VtbWVyc3V\r\n", true),
    ] {
        story.input.reserve(4096);
        story.input.extend_from_slice(line.as_bytes());
        let address = story.input.as_ptr() as u64;
        while let Action::Ask(_) = story.session.next(&mut story.input, &mut story.output, story.now) {
            story.session.answer(Answer::Challenge(Vec::new()), &mut story.output);
        }
        assert!(story.input.is_empty());
        // The allocation is still there: its owner has only moved on in it.
        let left = own_memory(address, line.len() - 2);
        assert_eq!(left.iter().all(|&b| b == 0), wiped, "{line:?}: {:?}", String::from_utf8_lossy(&left));
    }
}

/// What this process holds at an address, read without a reference to it.
fn own_memory(address: u64, length: usize) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let mut octets = vec![b'?'; length];
    let memory = std::fs::File::open("/proc/self/mem").unwrap();
    memory.read_exact_at(&mut octets, address).unwrap();
    octets
}

#[test]
fn an_answer_that_does_not_fit_or_is_missing_is_an_internal_error() {
    let mut story = Story::begin(Settings::default());
    story.say("EHLO c\r\n");
    for answer in [Some(Answer::Success { login: "x".into() }), None] {
        story.input.extend_from_slice(b"MAIL FROM:<a@b.c>\r\n");
        let asked = story.session.next(&mut story.input, &mut story.output, story.now);
        assert!(matches!(asked, Action::Ask(Question::Mail(_))));
        if let Some(answer) = answer {
            story.session.answer(answer, &mut story.output);
        }
        assert_eq!(story.run(), "451 4.3.0 Error: internal protocol error\r\n");
    }
    assert_eq!(story.session.login(), None);
}

#[test]
fn a_refusal_by_421_closes() {
    let mut story = Story::in_data(Settings::default());
    story.refuse_store = Some(Reply::shutting_down("mx"));
    let replies = story.say("x\r\n.\r\nMAIL FROM:<>\r\n");
    assert_eq!(replies, "421 4.3.2 mx Service shutting down, closing connection\r\n");
    assert!(story.closed);
}

#[test]
fn the_shell_learns_whom_a_refusal_concerned() {
    let mut story = Story::begin(Settings::default());
    story.say("EHLO c\r\n");
    story.say("MAIL FROM:<a@b.c>\r\n");
    story.input.extend_from_slice(b"RCPT TO:<d@e.f>\r\n");
    let asked = story.session.next(&mut story.input, &mut story.output, story.now);
    assert!(matches!(asked, Action::Ask(Question::Recipient(_))));
    story.session.answer(Answer::Refuse(Reply::relay_denied("d@e.f"), ()), &mut story.output);
    let Action::Refused(refusal) = story.session.next(&mut story.input, &mut story.output, story.now) else {
        panic!("no refusal");
    };
    assert_eq!(refusal.activity.name(), "RCPT");
    assert_eq!(refusal.sender.map(|sender| sender.to_string()).as_deref(), Some("a@b.c"));
    assert_eq!(refusal.recipient.map(String::from).as_deref(), Some("d@e.f"));

    let mut story = Story::in_data(Settings::default());
    story.input.extend_from_slice(b"x\r\n.\r\n");
    while !matches!(story.session.next(&mut story.input, &mut story.output, story.now), Action::Ask(Question::Store(_)))
    {
    }
    story.session.answer(Answer::Refuse(Reply::queue_write_error(), ()), &mut story.output);
    let refused = story.session.next(&mut story.input, &mut story.output, story.now);
    assert!(matches!(refused, Action::Refused(Refusal { sender: Some(sender), .. }) if sender.to_string() == "a@b.c"));
}

#[test]
fn any_chunking_of_a_session_gives_the_same_replies() {
    let (hello, group) = ("EHLO c\r\n", "MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n");
    let content = "Subject: x\r\n\r\n..\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<d@e.f>\r\nRSET\r\nQUIT\r\n";
    let play = |size: usize| {
        let mut story = Story::begin(Settings::default());
        let mut replies = String::new();
        for text in [hello, group, content] {
            for chunk in text.as_bytes().chunks(size) {
                replies += &story.say(&String::from_utf8_lossy(chunk));
            }
        }
        assert!(story.closed, "{replies}");
        replies
    };
    let whole = play(usize::MAX);
    for size in 1..40 {
        assert_eq!(play(size), whole, "chunks of {size}");
    }
}

/// Pieces of dialogues, sense and nonsense.
fn soup() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let piece = prop::sample::select(vec![
        &b"EHLO c\r\n"[..],
        b"HELO c\r\n",
        b"MAIL FROM:<a@b.c> SIZE=3 BODY=8BITMIME\r\n",
        b"MAIL FROM:<\"a",
        b"RCPT TO:<d@e.f> NOTIFY=NEVER\r\n",
        b"RCPT TO:\xc3\xa9<\\\r\n",
        b"DATA\r\n",
        b"x\r\n.\r\n",
        b".",
        b"\r\n",
        b"\r",
        b"\n",
        b"RSET\r\n",
        b"VRFY a@b.c\r\n",
        b"ETRN b.c\r\n",
        b"STARTTLS\r\n",
        b"AUTH PLAIN AGEAYg==\r\n",
        b"AUTH PLAIN\r\n",
        b"*\r\n",
        b"\xff\0\r\n",
    ]);
    prop::collection::vec(piece.prop_map(<[u8]>::to_vec), 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn nothing_that_a_client_says_upsets_the_session(soup in soup()) {
        let mechanisms = vec!["PLAIN".into()];
        let mut story = Story::begin(Settings { line_limit: 40, size_limit: 5, mechanisms, ..Settings::default() });
        for piece in soup {
            story.input.extend_from_slice(&piece);
            let replies = story.run();
            prop_assert!(replies.is_empty() || replies.ends_with("\r\n"), "{replies:?}");
            prop_assert!(replies.is_ascii() && !replies.replace("\r\n", "").contains(['\r', '\n']), "{replies:?}");
            if story.closed {
                break;
            }
            prop_assert!(story.input.len() <= 40 + 1, "{:?}", story.input);
        }
    }
}

#[test]
fn the_recipients_of_the_group_behind_a_question_are_known_and_nothing_else_is() {
    let mut story = Story::begin(Settings::default());
    story.say("EHLO c\r\n");
    for (behind, expected) in [
        ("RCPT TO:<1@b.c>\r\nrcpt to:<2@b.c> NOTIFY=NEVER\r\nDATA\r\n", vec!["1@b.c", "2@b.c"]),
        ("RCPT TO:<1@b.c>\r\nNOOP\r\nRCPT TO:<2@b.c>\r\n", vec!["1@b.c"]),
        ("RCPT TO:<1@b.c>\r\nRCPT TO:<2@b.c", vec!["1@b.c"]),
        ("RCPT TO:<1@b.c>\r\nRCPT TO:nobody@\r\nRCPT TO:<2@b.c>\r\n", vec!["1@b.c"]),
        ("RCPT TO:<1@b.c>\r\n\u{0}\r\n", vec!["1@b.c"]),
        ("", vec![]),
    ] {
        story.say("RSET\r\n");
        story.say("MAIL FROM:<a@b.c>\r\n");
        story.input.extend_from_slice(b"RCPT TO:<0@b.c>\r\n");
        story.input.extend_from_slice(behind.as_bytes());
        let Action::Ask(question) = story.session.next(&mut story.input, &mut story.output, story.now) else {
            panic!("no question");
        };
        let ahead = story.session.recipients_ahead(&story.input);
        assert_eq!(ahead.map(|recipient| recipient.address.to_string()).collect::<Vec<_>>(), expected, "{behind:?}");
        story.input.clear();
        story.answer(&question);
        story.run();
    }
}
