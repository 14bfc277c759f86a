//! BDAT (RFC 3030): when it goes out, and what its answers mean.

use super::*;

#[test]
fn rfc3030_content_follows_the_answers_to_rcpt_and_the_next_group_the_last_chunk() {
    let mut d = Dialogue::with(settings(), &["PIPELINING", "CHUNKING"], &[&["a@b.c", "x@b.c"], &["d@b.c"]]);
    assert_eq!(d.next(), Event::Read(Stage::Mail));
    assert_eq!(d.sent(), "MAIL FROM:<s@example.org>\r\nRCPT TO:<a@b.c>\r\nRCPT TO:<x@b.c>\r\n");
    assert_eq!(d.on("250 1\r\n250 2\r\n"), Event::Read(Stage::Rcpt), "not before all are answered");
    assert_eq!(d.on("550 no\r\n"), Event::SendBody(TransactionId(1)));
    assert_eq!(d.body(".one"), Event::Read(Stage::Final));
    assert_eq!(d.sent(), "BDAT 6 LAST\r\n.one\r\nMAIL FROM:<s@example.org>\r\nRCPT TO:<d@b.c>\r\n");
    let expected = vec!["delivered 250 A".to_owned(), "Rcpt 550 no".to_owned()];
    assert_eq!(Dialogue::done(d.on("250 A\r\n250 1\r\n250 2\r\n")), (1, expected));
    assert_eq!(d.next(), Event::SendBody(TransactionId(2)));
    d.body("");
    assert_eq!(d.sent(), "BDAT 0 LAST\r\n");
    assert_eq!(Dialogue::done(d.on("552 5.3.4 B\r\n")), (2, vec!["Final 552 5.3.4 B".to_owned()]));
    assert_eq!(d.next(), Event::Idle);
}

#[test]
fn rfc3030_without_pipelining_a_chunk_waits_for_the_answer_to_rcpt() {
    let mut d = Dialogue::with(settings(), &["CHUNKING"], &[&["a@b.c"]]);
    for (say, sent) in [("", "MAIL FROM:<s@example.org>\r\n"), ("250 ok\r\n", "RCPT TO:<a@b.c>\r\n")] {
        assert!(matches!(d.on(say), Event::Read(_)));
        assert_eq!(d.sent(), sent);
    }
    assert_eq!(d.on("250 ok\r\n"), Event::SendBody(TransactionId(1)));
    d.body("x\r\n");
    assert_eq!(d.sent(), "BDAT 3 LAST\r\nx\r\n");
    assert_eq!(Dialogue::done(d.on("250 A\r\n")), (1, vec!["delivered 250 A".to_owned()]));
}

#[test]
fn rfc3030_what_nobody_takes_is_not_sent_and_not_left_open() {
    let mut d = Dialogue::with(settings(), &["PIPELINING", "CHUNKING"], &[&["a@b.c"], &["d@b.c"]]);
    d.next();
    d.sent();
    assert_eq!(Dialogue::done(d.on("250 1\r\n550 no\r\n")), (1, vec!["Rcpt 550 no".to_owned()]));
    d.next();
    assert_eq!(d.sent(), "RSET\r\nMAIL FROM:<s@example.org>\r\nRCPT TO:<d@b.c>\r\n");
    assert_eq!(Dialogue::done(d.on("250 reset\r\n451 no\r\n503 no\r\n")), (2, vec!["Mail 451 no".to_owned()]));
}

#[test]
fn what_is_withdrawn_before_its_chunk_costs_no_connection() {
    let mut d = Dialogue::with(settings(), &["PIPELINING", "CHUNKING"], &[&["a@b.c"], &["d@b.c"]]);
    d.next();
    d.on("250 1\r\n250 2\r\n");
    d.body("one");
    assert_eq!(d.session.withdraw(true), [TransactionId(2)]);
    d.session.submit(TransactionId(3), message(&["e@b.c"]));
    d.sent();
    assert_eq!(Dialogue::done(d.on("250 A\r\n250 1\r\n250 2\r\n")), (1, vec!["delivered 250 A".to_owned()]));
    d.next();
    assert_eq!(d.sent(), "RSET\r\nMAIL FROM:<s@example.org>\r\nRCPT TO:<e@b.c>\r\n");
}

/// A session in the middle of content, of which so many chunks are out.
fn in_chunks(count: usize) -> (Dialogue, Framer) {
    let mut d = Dialogue::with(settings(), &["PIPELINING", "CHUNKING"], &[&["a@b.c"], &["d@b.c"]]);
    d.next();
    assert_eq!(d.on("250 1\r\n250 2\r\n"), Event::SendBody(TransactionId(1)));
    let mut framer = d.session.framer();
    for _ in 0..count {
        framer.append(b"x\r\n", &mut d.output);
        assert!(framer.release(&mut d.output));
        d.session.on_chunk_sent();
    }
    d.sent();
    (d, framer)
}

#[test]
fn rfc3030_2_each_chunk_has_its_answer_and_the_last_one_counts() {
    let (mut d, framer) = in_chunks(2);
    d.input.extend_from_slice(b"250 chunk\r\n");
    assert!(d.session.heed_chunks(&mut d.input, &mut d.output));
    assert_eq!(d.session.chunks_owed(), 1);
    framer.finish(&mut d.output);
    d.session.on_body_sent();
    assert_eq!(d.next(), Event::Read(Stage::Final));
    assert_eq!(Dialogue::done(d.on("250 chunk\r\n250 A\r\n")), (1, vec!["delivered 250 A".to_owned()]));
}

#[test]
fn rfc3030_2_a_chunk_that_is_refused_ends_message_and_session() {
    for (reply, outcome) in [
        ("552 5.3.4 full", "Transfer 552 5.3.4 full"),
        ("452 4.3.1 later", "Transfer 452 4.3.1 later"),
        ("500 5.5.2 what?", "BDAT is not known though CHUNKING was offered"),
        ("354 go", "reply out of order while sending message body"),
    ] {
        for whole in [false, true] {
            let (mut d, framer) = in_chunks(1);
            if whole {
                framer.finish(&mut d.output);
                d.session.on_body_sent();
            }
            d.input.extend_from_slice(format!("{reply}\r\n").as_bytes());
            assert!(whole || !d.session.heed_chunks(&mut d.input, &mut d.output));
            assert_eq!(Dialogue::done(d.next()), (1, vec![outcome.to_owned()]));
            assert!(matches!(d.next(), Event::Closed(Some(_))), "the second is left to another session");
        }
    }
}

#[test]
fn a_last_chunk_that_is_refused_is_told_from_one_that_is_not_understood() {
    for (reply, outcome) in [
        ("550 5.7.1 spam", "Final 550 5.7.1 spam"),
        ("500 5.7.1 spam", "Final 500 5.7.1 spam"),
        ("502 no", "BDAT is not known though CHUNKING was offered"),
    ] {
        let (mut d, framer) = in_chunks(0);
        framer.finish(&mut d.output);
        d.session.on_body_sent();
        assert_eq!(Dialogue::done(d.on(&format!("{reply}\r\n"))), (1, vec![outcome.to_owned()]));
    }
}

#[test]
fn a_loss_is_ambiguous_once_the_last_chunk_is_out() {
    for (whole, unwritten, ambiguous) in [(false, 0, false), (true, 0, true), (true, 5000, false)] {
        let (mut d, framer) = in_chunks(2);
        if whole {
            framer.finish(&mut d.output);
            d.session.on_body_sent();
            d.session.on_unwritten(unwritten);
        }
        d.session.on_lost();
        assert!(whole || !d.session.heed_chunks(&mut d.input, &mut d.output));
        let Event::Done(_, report) = d.next() else { panic!("no report") };
        let Outcome::Failed(failure) = &report.outcomes[0] else { panic!("delivered") };
        assert_eq!(failure.is_ambiguous(), ambiguous, "{failure:?}");
    }
}

#[test]
fn who_does_not_want_chunks_says_data() {
    let unwanted = ServerProfile { ignored: vec![Keyword::Chunking], ..settings() };
    let mut d = Dialogue::with(unwanted, &["PIPELINING", "CHUNKING"], &[&["a@b.c"]]);
    d.next();
    assert!(d.sent().ends_with("DATA\r\n"));
}
