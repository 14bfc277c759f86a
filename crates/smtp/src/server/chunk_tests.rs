//! Stories of chunks that a transcript cannot tell: limits, and what the shell sees of a message that is not finished.

use super::tests::Story;
use super::*;

/// A session with a recipient, which waits for a chunk.
fn story(settings: Settings) -> Story {
    let mut story = Story::begin(settings);

    story.say("EHLO c\r\n");
    story.say("MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\n");
    story.seen.clear();
    story
}

#[test]
fn rfc1870_6_3_the_limit_counts_all_chunks_and_is_said_once() {
    let mut story = story(Settings { size_limit: 10, ..Settings::default() });
    let replies = story.say("BDAT 6\r\nabcd\r\nBDAT 5\r\nefg\r\nBDAT 3 LAST\r\nh\r\nNOOP\r\n");
    let expected = "250 2.0.0 Ok: 6 bytes\r\n552 5.3.4 Chunk exceeds message size limit\r\n\
                    551 5.0.0 Discarded 3 bytes after earlier error\r\n250 2.0.0 Ok\r\n";
    assert_eq!(replies, expected);
    assert_eq!(story.seen[..2], ["body 6", "abandon"]);
    assert!(!story.seen.iter().any(|seen| seen.starts_with("store")), "{:?}", story.seen);
}

#[test]
fn what_is_announced_beyond_all_measure_ends_the_session() {
    let mut story = story(Settings { size_limit: 10, ..Settings::default() });
    assert_eq!(story.say("BDAT 18446744073709551615 LAST\r\n"), "552 5.3.4 Chunk exceeds message size limit\r\n");
    assert!(story.closed);
    let mut story = Story::begin(Settings { size_limit: 10, ..Settings::default() });
    assert_eq!(story.say("BDAT 4294967296\r\n"), "503 5.5.1 Error: need RCPT command\r\n");
    assert!(story.closed, "there is nothing that such a chunk could belong to");
}

#[test]
fn chunks_of_nothing_are_not_taken_for_ever() {
    let mut story = story(Settings::default());
    let replies = story.say(&"BDAT 0\r\n".repeat(10_020));
    assert_eq!(replies.matches("250 2.0.0 Ok: 0 bytes\r\n").count(), 10_000);
    assert_eq!(replies.matches("552 5.3.4 Error: too many chunks\r\n").count(), 1);
    story.say("NOOP\r\n");
    assert!(story.closed, "each chunk more is an error");
}

#[test]
fn a_message_of_single_octets_is_a_message() {
    let mut story = story(Settings::default());
    let replies = story.say(&"BDAT 1\r\nx".repeat(2_000));
    assert_eq!(replies.matches("250 2.0.0 Ok: 1 bytes\r\n").count(), 2_000);
    assert!(story.say("BDAT 0 LAST\r\n").starts_with("250 2.0.0 Ok: 2002 bytes queued as "));
}

#[test]
fn a_reset_tells_the_shell_to_drop_what_it_has() {
    for reset in ["RSET\r\n", "EHLO c\r\n"] {
        let mut story = story(Settings::default());
        story.say("BDAT 1\r\nx");
        story.say(reset);
        assert_eq!(story.seen, ["body 1", "abandon"], "{reset}");
    }
}

#[test]
fn rfc4954_4_an_initial_response_may_be_as_long_as_any_other() {
    let mut story = Story::begin(Settings { mechanisms: vec!["PLAIN".into()], ..Settings::default() });
    story.say("STARTTLS\r\n");
    story.say("EHLO c\r\n");
    story.input.extend_from_slice(format!("AUTH PLAIN {}\r\n", "A".repeat(12_288)).as_bytes());
    let asked = story.session.next(&mut story.input, &mut story.output, story.now);
    assert!(matches!(asked, Action::Ask(Question::Sasl(SaslStep::Start { initial: Some(_), .. }))), "{asked:?}");
    story.session.answer(Answer::Refuse(crate::Reply::authentication_failed(), ()), &mut story.output);
    story.run();
    let long = format!("NOOP {}\r\n", "A".repeat(12_288));
    assert_eq!(story.say(&long), "500 5.5.2 mx Error: command too long\r\n");
}
