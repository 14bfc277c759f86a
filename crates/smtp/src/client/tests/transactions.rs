//! MAIL to the final reply: what is in which write, and what every trap ends in.

use super::*;

#[test]
fn rfc5321_without_pipelining_every_command_waits_for_its_answer() {
    let mut d = Dialogue::with(settings(), &["SIZE 1000"], &[&["a@b.c", "d@b.c"]]);
    for (say, sent) in [
        ("", "MAIL FROM:<s@example.org> SIZE=3\r\n"),
        ("250 ok\r\n", "RCPT TO:<a@b.c>\r\n"),
        ("250 ok\r\n", "RCPT TO:<d@b.c>\r\n"),
        ("550 5.1.1 no\r\n", "DATA\r\n"),
    ] {
        assert!(matches!(d.on(say), Event::Read(_)));
        assert_eq!(d.sent(), sent);
    }
    assert_eq!(d.on("354 go\r\n"), Event::SendBody(TransactionId(1)));
    assert_eq!(d.body(".x\r\n"), Event::Read(Stage::Final));
    assert_eq!(d.sent(), "..x\r\n.\r\n");
    let expected = vec!["delivered 250 2.0.0 queued".to_owned(), "Rcpt 550 5.1.1 no".to_owned()];
    assert_eq!(Dialogue::done(d.on("250 2.0.0 queued\r\n")), (1, expected));
    assert_eq!(d.next(), Event::Idle);
    d.session.quit();
    assert_eq!(d.next(), Event::Read(Stage::Quit));
    assert_eq!(d.sent(), "QUIT\r\n");
    assert_eq!(d.on("221 bye\r\n"), Event::Closed(None));
}

#[test]
fn rfc2920_the_next_group_travels_behind_the_final_dot() {
    let mut d = Dialogue::pipelined(&[&["a@b.c"], &["d@b.c"]]);
    assert_eq!(d.next(), Event::Read(Stage::Mail));
    assert_eq!(d.sent(), "MAIL FROM:<s@example.org>\r\nRCPT TO:<a@b.c>\r\nDATA\r\n");
    assert_eq!(d.on("250 1\r\n250 2\r\n354 3\r\n"), Event::SendBody(TransactionId(1)));
    assert_eq!(d.body("one"), Event::Read(Stage::Final));
    assert_eq!(d.sent(), "one\r\n.\r\nMAIL FROM:<s@example.org>\r\nRCPT TO:<d@b.c>\r\nDATA\r\n");
    assert_eq!(Dialogue::done(d.on("250 A\r\n250 1\r\n250 2\r\n354 3\r\n")), (1, vec!["delivered 250 A".to_owned()]));
    assert_eq!(d.next(), Event::SendBody(TransactionId(2)));
    assert_eq!(d.body("two"), Event::Read(Stage::Final));
    assert_eq!(d.sent(), "two\r\n.\r\n");
    assert_eq!(Dialogue::done(d.on("451 4.3.0 B\r\n")), (2, vec!["Final 451 4.3.0 B".to_owned()]));
    assert_eq!(d.next(), Event::Idle);
}

#[test]
fn a_question_ends_with_the_answers_to_rcpt_and_data_is_never_said() {
    let expected = vec!["delivered 250 2.1.5 ok".to_owned(), "Rcpt 550 5.1.1 no".to_owned()];
    let mut d = Dialogue::with(settings(), &["PIPELINING"], &[]);
    d.session.ask(TransactionId(1), message(&["a@b.c", "d@b.c"]));
    assert_eq!(d.next(), Event::Read(Stage::Mail));
    assert_eq!(d.sent(), "MAIL FROM:<s@example.org>\r\nRCPT TO:<a@b.c>\r\nRCPT TO:<d@b.c>\r\n");
    assert_eq!(d.on("250 1\r\n250 2.1.5 ok\r\n"), Event::Read(Stage::Rcpt));
    assert_eq!(Dialogue::done(d.on("550 5.1.1 no\r\n")), (1, expected.clone()));
    d.session.submit(TransactionId(2), message(&["a@b.c"]));
    d.next();
    assert_eq!(d.sent(), "RSET\r\nMAIL FROM:<s@example.org>\r\nRCPT TO:<a@b.c>\r\nDATA\r\n", "a message is none");

    let mut d = Dialogue::with(settings(), &[], &[]);
    d.session.ask(TransactionId(1), message(&["a@b.c", "d@b.c"]));
    for (say, sent) in [
        ("", "MAIL FROM:<s@example.org>\r\n"),
        ("250 ok\r\n", "RCPT TO:<a@b.c>\r\n"),
        ("250 2.1.5 ok\r\n", "RCPT TO:<d@b.c>\r\n"),
    ] {
        assert!(matches!(d.on(say), Event::Read(_)));
        assert_eq!(d.sent(), sent);
    }
    assert_eq!(Dialogue::done(d.on("550 5.1.1 no\r\n")), (1, expected));
    d.session.quit();
    assert_eq!(d.next(), Event::Read(Stage::Quit));
    assert_eq!(d.sent(), "QUIT\r\n");
}

#[test]
fn a_question_that_is_put_once_more_stays_a_question() {
    let mut d = Dialogue::with(settings(), &["PIPELINING"], &[]);
    d.session.ask(TransactionId(1), message(&["a@b.c"]));
    d.next();
    d.sent();
    assert!(matches!(d.on("503 5.5.1 nested MAIL\r\n503 5.5.1 no\r\n"), Event::Read(Stage::Reset)));
    assert_eq!(d.sent(), "RSET\r\n");
    assert!(matches!(d.on("250 ok\r\n"), Event::Read(Stage::Mail)));
    d.on("250 ok\r\n");
    assert_eq!(d.sent(), "MAIL FROM:<s@example.org>\r\nRCPT TO:<a@b.c>\r\n");
    assert_eq!(Dialogue::done(d.on("250 ok\r\n")), (1, vec!["delivered 250 ok".to_owned()]));
}

#[test]
fn a_question_that_mail_is_refused_is_answered_so() {
    let mut d = Dialogue::with(settings(), &["PIPELINING"], &[]);
    d.session.ask(TransactionId(1), message(&["a@b.c"]));
    d.next();
    let refused = d.on("550 5.7.1 not from you\r\n503 5.5.1 no\r\n");
    assert_eq!(Dialogue::done(refused), (1, vec!["Mail 550 5.7.1 not from you".to_owned()]));
}

#[test]
fn what_is_withdrawn_behind_a_dot_without_an_answer_is_never_sent() {
    let mut d = Dialogue::pipelined(&[&["a@b.c"], &["d@b.c"], &["e@b.c"]]);
    d.next();
    d.on("250 1\r\n250 2\r\n354 3\r\n");
    assert_eq!(d.body("one"), Event::Read(Stage::Final));
    assert!(d.sent().ends_with("RCPT TO:<d@b.c>\r\nDATA\r\n"), "the second is on the wire, the third is not");
    assert_eq!(d.session.withdraw(false), [TransactionId(3)]);
    assert_eq!(d.session.withdraw(true), [TransactionId(2)]);
    assert!(d.session.withdraw(true).is_empty());
    assert_eq!(Dialogue::done(d.on("250 A\r\n")), (1, vec!["delivered 250 A".to_owned()]));
    assert_eq!(d.on("250 1\r\n250 2\r\n354 3\r\n"), Event::Closed(Some(Failure::Lost { stage: Stage::Idle })));
    assert_eq!(d.sent(), "", "neither content nor an empty message");
}

#[test]
fn after_a_refusal_of_what_was_withdrawn_the_session_goes_on() {
    let mut d = Dialogue::pipelined(&[&["a@b.c"], &["d@b.c"]]);
    d.next();
    d.on("250 1\r\n250 2\r\n354 3\r\n");
    d.body("one");
    assert_eq!(d.session.withdraw(true), [TransactionId(2)]);
    d.session.submit(TransactionId(7), message(&["f@b.c"]));
    assert_eq!(Dialogue::done(d.on("250 A\r\n250 1\r\n550 no\r\n554 no\r\n")), (1, vec!["delivered 250 A".to_owned()]));
    d.sent();
    assert_eq!(d.next(), Event::Read(Stage::Reset));
    assert_eq!(d.sent(), "RSET\r\nMAIL FROM:<s@example.org>\r\nRCPT TO:<f@b.c>\r\nDATA\r\n");
    assert_eq!(d.on("250 reset\r\n250 1\r\n250 2\r\n354 3\r\n"), Event::SendBody(TransactionId(7)));
}

#[test]
fn an_extension_that_is_ignored_is_not_called_absent() {
    let unwanted = ServerProfile { ignored: vec![Keyword::SmtpUtf8, Keyword::Dsn], ..settings() };
    let mut d = Dialogue::with(unwanted, &["PIPELINING", "SMTPUTF8"], &[]);
    assert_eq!(d.session.capabilities().ignored, [Keyword::SmtpUtf8], "DSN is not offered");
    d.session.submit(TransactionId(1), Transfer { smtputf8: true, ..message(&["u@b.c"]) });
    assert_eq!(Dialogue::done(d.next()), (1, vec!["SMTPUTF8 is required, but is not used".to_owned()]));
}

#[test]
fn rfc6531_3_6_a_server_without_smtputf8_is_not_given_what_needs_it() {
    for (extensions, sent) in
        [(&["PIPELINING"][..], ""), (&["PIPELINING", "SMTPUTF8"], "MAIL FROM:<s@example.org> SMTPUTF8")]
    {
        let mut d = Dialogue::with(settings(), extensions, &[]);
        d.session.submit(TransactionId(1), Transfer { smtputf8: true, ..message(&["u@b.c"]) });
        d.session.submit(TransactionId(2), message(&["a@b.c"]));
        if sent.is_empty() {
            let expected = vec!["SMTPUTF8 is required, but was not offered".to_owned()];
            assert_eq!(Dialogue::done(d.next()), (1, expected));
        }
        assert_eq!(d.next(), Event::Read(Stage::Mail));
        let text = d.sent();
        assert_eq!((text.contains("SMTPUTF8"), text.contains("<u@b.c>")), (!sent.is_empty(), !sent.is_empty()));
        assert!(text.starts_with(if sent.is_empty() { "MAIL FROM:<s@example.org>\r\nRCPT TO:<a@b.c>" } else { sent }));
    }
}

#[test]
fn rfc8689_4_2_1_requiretls_goes_only_to_a_verified_server_that_offers_it() {
    for (verified, offers) in [(true, true), (true, false), (false, true)] {
        let mut d = Dialogue::new(ServerProfile { tls: Tls::Required, verified, ..settings() });
        d.on("220 mx ESMTP\r\n");
        d.on(&ehlo(&["STARTTLS", "REQUIRETLS"]));
        assert_eq!(d.on("220 go\r\n"), Event::StartTls);
        d.session.on_tls_started();
        d.next();
        assert_eq!(d.on(&ehlo(if offers { &["REQUIRETLS"] } else { &["DSN"] })), Event::Ready);
        d.sent();
        d.session.submit(TransactionId(1), Transfer { require_tls: true, ..message(&["a@b.c"]) });
        if verified && offers {
            assert_eq!(d.next(), Event::Read(Stage::Mail));
            assert_eq!(d.sent(), "MAIL FROM:<s@example.org> REQUIRETLS\r\n");
        } else {
            let expected = vec!["REQUIRETLS is required, but was not offered over verified TLS".to_owned()];
            assert_eq!(Dialogue::done(d.next()), (1, expected));
            assert_eq!((d.next(), d.sent()), (Event::Idle, String::new()));
        }
    }
}

#[test]
fn the_message_that_the_server_is_asked_about_is_not_withdrawn() {
    let mut d = Dialogue::pipelined(&[&["a@b.c"], &["d@b.c"]]);
    assert_eq!(d.next(), Event::Read(Stage::Mail));
    assert_eq!(d.session.withdraw(true), [TransactionId(2)], "nothing hangs before the first");
    assert_eq!(d.on("250 1\r\n250 2\r\n354 3\r\n"), Event::SendBody(TransactionId(1)));
    assert!(d.session.withdraw(true).is_empty());
    assert_eq!(d.body("one"), Event::Read(Stage::Final));
}

#[test]
fn all_recipients_refused_is_followed_by_rset_in_the_next_group() {
    let mut d = Dialogue::pipelined(&[&["a@b.c"], &["d@b.c"]]);
    d.next();
    d.sent();
    let refused = vec!["Rcpt 550 no".to_owned()];
    assert_eq!(Dialogue::done(d.on("250 1\r\n550 no\r\n554 no valid recipients\r\n")), (1, refused));
    assert_eq!(d.next(), Event::Read(Stage::Reset));
    assert_eq!(d.sent(), "RSET\r\nMAIL FROM:<s@example.org>\r\nRCPT TO:<d@b.c>\r\nDATA\r\n");
    assert_eq!(d.on("250 reset\r\n250 1\r\n250 2\r\n354 3\r\n"), Event::SendBody(TransactionId(2)));
}

#[test]
fn rfc2920_a_354_without_recipients_is_taken_back_with_an_empty_message() {
    let mut d = Dialogue::pipelined(&[&["a@b.c"], &["d@b.c"]]);
    d.next();
    d.sent();
    assert_eq!(Dialogue::done(d.on("250 1\r\n450 no\r\n354 go\r\n")), (1, vec!["Rcpt 450 no".to_owned()]));
    assert_eq!(d.next(), Event::Read(Stage::Reset));
    assert_eq!(d.sent(), ".\r\nMAIL FROM:<s@example.org>\r\nRCPT TO:<d@b.c>\r\nDATA\r\n");
    assert_eq!(d.on("250 queued nothing\r\n250 1\r\n250 2\r\n354 3\r\n"), Event::SendBody(TransactionId(2)));
}

#[test]
fn a_refused_mail_and_yet_a_354_ends_in_a_hang_up_not_in_an_empty_message() {
    let mut d = Dialogue::pipelined(&[&["a@b.c"]]);
    d.next();
    d.sent();
    assert_eq!(Dialogue::done(d.on("550 no\r\n250 2\r\n354 go\r\n")), (1, vec!["Mail 550 no".to_owned()]));
    assert!(matches!(d.next(), Event::Closed(Some(Failure::Malformed { stage: Stage::Data, .. }))));
    assert_eq!(d.sent(), "");
}

#[test]
fn mail_refused_needs_no_rset_and_data_refused_does() {
    let mut d = Dialogue::pipelined(&[&["a@b.c"], &["d@b.c"], &["e@b.c"]]);
    d.next();
    d.sent();
    assert_eq!(Dialogue::done(d.on("550 no\r\n503 a\r\n503 b\r\n")), (1, vec!["Mail 550 no".to_owned()]));
    assert_eq!(d.next(), Event::Read(Stage::Mail));
    assert_eq!(d.sent(), "MAIL FROM:<s@example.org>\r\nRCPT TO:<d@b.c>\r\nDATA\r\n");
    assert_eq!(Dialogue::done(d.on("250 1\r\n250 2\r\n451 later\r\n")), (2, vec!["Data 451 later".to_owned()]));
    assert_eq!(d.next(), Event::Read(Stage::Reset));
    assert!(d.sent().starts_with("RSET\r\nMAIL "));
}

#[test]
fn without_pipelining_a_refused_transaction_sends_nothing_more() {
    let mut d = Dialogue::with(settings(), &[], &[&["a@b.c"], &["d@b.c"]]);
    d.next();
    d.on("250 ok\r\n");
    d.sent();
    assert_eq!(Dialogue::done(d.on("550 no\r\n")), (1, vec!["Rcpt 550 no".to_owned()]));
    assert_eq!(d.next(), Event::Read(Stage::Reset));
    assert_eq!(d.sent(), "RSET\r\n");
    d.on("250 ok\r\n");
    assert_eq!(d.sent(), "MAIL FROM:<s@example.org>\r\n");
    assert_eq!(Dialogue::done(d.on("451 later\r\n")), (2, vec!["Mail 451 later".to_owned()]));
    assert_eq!(d.next(), Event::Idle);
    assert_eq!(d.sent(), "");
}

#[test]
fn a_nested_mail_error_behind_a_dot_is_tried_again_in_lock_step() {
    let mut d = Dialogue::pipelined(&[&["a@b.c"], &["d@b.c"]]);
    d.next();
    d.on("250 1\r\n250 2\r\n354 3\r\n");
    d.body("one");
    d.sent();
    let refused = vec!["Final 554 no".to_owned()];
    assert_eq!(Dialogue::done(d.on("554 no\r\n503 nested MAIL\r\n250 2\r\n503 no DATA now\r\n")), (1, refused));
    assert_eq!(d.next(), Event::Read(Stage::Reset));
    assert_eq!(d.sent(), "RSET\r\n");
    assert_eq!(d.on("250 ok\r\n"), Event::Read(Stage::Mail));
    assert_eq!(d.sent(), "MAIL FROM:<s@example.org>\r\n");
    assert_eq!(Dialogue::done(d.on("503 still\r\n")), (2, vec!["Mail 503 still".to_owned()]));
}

#[test]
fn a_421_ends_the_transaction_it_answers_and_leaves_later_ones_untouched() {
    for (say, stage, text) in [
        ("421 busy\r\n", Stage::Final, "421 busy"),
        ("250 A\r\n421 4.3.2 down\r\n", Stage::Mail, "421 4.3.2 down"),
        ("250 A\r\n250 1\r\n421 x\r\n", Stage::Rcpt, "421 x"),
        ("250 A\r\n250 1\r\n250 2\r\n421 x\r\n", Stage::Data, "421 x"),
    ] {
        let mut d = Dialogue::pipelined(&[&["a@b.c"], &["d@b.c"], &["e@b.c"]]);
        d.next();
        d.on("250 1\r\n250 2\r\n354 3\r\n");
        d.body("one");
        d.sent();
        let (mut event, mut ids) = (d.on(say), Vec::new());
        while let Event::Done(TransactionId(id), _) = event {
            ids.push(id);
            event = d.next();
        }
        assert_eq!(ids, if stage == Stage::Final { vec![1] } else { vec![1, 2] });
        assert_eq!(event, closed(stage, text));
        assert_eq!(d.sent(), "");
    }
}

#[test]
fn a_loss_after_the_dot_is_ambiguous_and_nowhere_else() {
    for (say, stage) in [
        ("", Stage::Mail),
        ("250 1\r\n", Stage::Rcpt),
        ("250 1\r\n250 2\r\n", Stage::Data),
        ("250 1\r\n250 2\r\n354 3\r\n", Stage::Transfer),
        ("250 1\r\n250 2\r\n354 3\r\n.", Stage::Final),
    ] {
        for timeout in [false, true] {
            let mut d = Dialogue::pipelined(&[&["a@b.c"], &["d@b.c"]]);
            d.next();
            d.on(say.trim_end_matches('.'));
            if say.ends_with('.') {
                d.body("one");
            }
            let failure = if timeout {
                d.session.on_timeout();
                Failure::TimedOut { stage }
            } else {
                d.session.on_lost();
                Failure::Lost { stage }
            };
            assert_eq!(failure.is_ambiguous(), stage == Stage::Final);
            assert_eq!(Dialogue::done(d.next()), (1, vec![failure.to_string()]));
            assert_eq!(d.next(), Event::Closed(Some(failure.clone())));
            assert_eq!(d.next(), Event::Closed(Some(failure)));
        }
    }
}

#[test]
fn replies_that_arrived_before_the_loss_count() {
    let mut d = Dialogue::pipelined(&[&["a@b.c"], &["d@b.c"]]);
    d.next();
    d.on("250 1\r\n250 2\r\n354 3\r\n");
    d.body("one");
    d.input.extend_from_slice(b"250 A\r\n250 1\r\n");
    d.session.on_lost();
    assert_eq!(Dialogue::done(d.next()), (1, vec!["delivered 250 A".to_owned()]));
    assert_eq!(Dialogue::done(d.next()), (2, vec!["lost connection while sending RCPT TO".to_owned()]));
}

#[test]
fn a_refusal_during_the_content_is_the_reason_of_the_hang_up() {
    for (say, outcome) in [
        ("552 5.3.4 too big\r\n", "Transfer 552 5.3.4 too big"),
        ("421 4.3.2 down\r\n", "Transfer 421 4.3.2 down"),
        ("250 what\r\n", "reply out of order while sending message body"),
        ("", "lost connection while sending message body"),
    ] {
        let mut d = Dialogue::pipelined(&[&["a@b.c"]]);
        d.next();
        assert_eq!(d.on("250 1\r\n250 2\r\n354 3\r\n"), Event::SendBody(TransactionId(1)));
        d.input.extend_from_slice(say.as_bytes());
        assert_eq!(d.next(), Event::SendBody(TransactionId(1)));
        d.session.on_lost();
        assert_eq!(Dialogue::done(d.next()), (1, vec![outcome.to_owned()]));
    }
}

#[test]
fn rfc2033_lmtp_answers_the_dot_once_for_each_accepted_recipient() {
    let lmtp = ServerProfile { protocol: Protocol::Lmtp, ..settings() };
    let mut d = Dialogue::new(lmtp);
    d.on("220 lmtp\r\n");
    assert_eq!(d.sent(), "LHLO relay.example.org\r\n");
    assert_eq!(d.on(&ehlo(&["PIPELINING"])), Event::Ready);
    d.session.submit(TransactionId(1), message(&["a@b.c", "d@b.c", "e@b.c", "f@b.c"]));
    d.next();
    assert_eq!(d.on("250 1\r\n250 2\r\n550 no\r\n250 3\r\n250 4\r\n354 5\r\n"), Event::SendBody(TransactionId(1)));
    assert_eq!(d.body("x"), Event::Read(Stage::Final));
    assert_eq!(d.on("250 first\r\n452 4.2.2 full\r\n"), Event::Read(Stage::Final));
    d.session.on_lost();
    let outcomes = ["delivered 250 first", "Rcpt 550 no", "Final 452 4.2.2 full"].map(str::to_owned).to_vec();
    let lost = Failure::Lost { stage: Stage::Final }.to_string();
    assert_eq!(Dialogue::done(d.next()), (1, [outcomes, vec![lost]].concat()));
}

#[test]
fn lmtp_with_a_354_for_nobody_hangs_up() {
    let mut d = Dialogue::new(ServerProfile { protocol: Protocol::Lmtp, ..settings() });
    d.on("220 lmtp\r\n");
    d.on(&ehlo(&["PIPELINING"]));
    d.session.submit(TransactionId(1), message(&["a@b.c"]));
    d.next();
    assert_eq!(Dialogue::done(d.on("250 1\r\n550 no\r\n354 5\r\n")), (1, vec!["Rcpt 550 no".to_owned()]));
    assert!(matches!(d.next(), Event::Closed(Some(Failure::Malformed { .. }))));
}

#[test]
fn a_message_that_turns_out_not_to_be_for_this_server_ends_the_session_behind_the_354() {
    let mut d = Dialogue::pipelined(&[&["a@b.c", "d@b.c"], &["e@b.c"]]);
    d.next();
    d.sent();
    assert_eq!(d.on("250 1\r\n250 2\r\n550 no\r\n354 3\r\n"), Event::SendBody(TransactionId(1)));
    let failure = Failure::NoEightBitMime("a header field has octets above 127".to_owned());
    d.session.give_up(failure.clone());
    assert_eq!(Dialogue::done(d.next()), (1, vec![failure.to_string(), "Rcpt 550 no".to_owned()]));
    assert_eq!(d.next(), Event::Closed(Some(failure)), "the second was not begun");
    assert_eq!(d.sent(), "", "neither content nor dot nor command");
}

#[test]
fn rfc1870_a_message_above_the_limit_is_not_sent() {
    let mut d = Dialogue::with(settings(), &["PIPELINING", "SIZE 2"], &[&["a@b.c"]]);
    assert_eq!(Dialogue::done(d.next()), (1, vec!["message size 3 exceeds size limit 2".to_owned()]));
    assert_eq!(d.next(), Event::Idle);
    assert_eq!(d.sent(), "");
}

#[test]
fn many_recipients_go_out_in_bounded_groups() {
    let names: Vec<_> = (0..450).map(|i| format!("u{i}@b.c")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut d = Dialogue::pipelined(&[&names]);
    let (mut event, mut say) = (d.next(), String::new());
    while let Event::Read(_) = event {
        let lines = d.sent();
        assert!(lines.lines().count() <= 200);
        say.clear();
        lines.lines().for_each(|line| say.push_str(if line == "DATA" { "354 go\r\n" } else { "250 ok\r\n" }));
        event = d.on(&say);
    }
    assert_eq!(event, Event::SendBody(TransactionId(1)));
}

#[test]
fn dsn_is_passed_on_only_to_servers_that_offer_it() {
    for (extensions, passed) in [(&["PIPELINING", "DSN"][..], true), (&["PIPELINING"], false)] {
        let mut d = Dialogue::ready(settings(), extensions);
        let mut transaction = message(&["a@b.c"]);
        transaction.recipients[0].notify = Some(Notify { success: true, ..Notify::default() });
        d.session.submit(TransactionId(1), transaction);
        d.next();
        assert_eq!(d.sent().contains("NOTIFY=SUCCESS ORCPT=rfc822;a@b.c"), passed);
        d.on("250 1\r\n250 2\r\n354 3\r\n");
        d.body("x");
        let Event::Done(_, report) = d.on("250 ok\r\n") else { panic!("no report") };
        assert_eq!(report.dsn_passed_on, passed);
    }
}

#[test]
fn a_421_while_idle_is_seen_before_the_next_message() {
    let mut d = Dialogue::pipelined(&[]);
    assert_eq!(d.next(), Event::Idle);
    assert_eq!(d.on("421 4.4.2 timeout\r\n"), closed(Stage::Idle, "421 4.4.2 timeout"));
}

#[test]
fn a_hang_up_instead_of_the_answer_to_quit_is_fine() {
    let mut d = Dialogue::pipelined(&[]);
    d.session.quit();
    assert_eq!(d.next(), Event::Read(Stage::Quit));
    d.session.on_lost();
    assert_eq!(d.next(), Event::Closed(None));
}

/// Final replies as they come from servers in the field, and what they mean. None of them may send the content again.
const ODD: [(&str, &str); 9] = [
    ("250OK\r\n", "delivered 250 OK"),
    ("250\tok\r\n", "delivered 250 ok"),
    ("250\n", "delivered 250 "),
    ("\r\n250 ok\r\n", "delivered 250 ok"),
    ("queued, I think\r\n250 ok\r\n", "delivered 250 ok"),
    ("250-x\r\n550 y\r\n", "Final 550 x y"),
    ("550-x\r\n250 y\r\n", "delivered 250 x y"),
    ("550-5.7.1 no\r\n550 5.7.1 spam\r\n", "Final 550 5.7.1 no spam"),
    ("451 4.3.0later\r\n", "Final 451 4.3.0later"),
];

#[test]
fn an_odd_reply_to_the_dot_is_an_answer_and_the_session_goes_on() {
    for (say, outcome) in ODD {
        for cut in 0..say.len() {
            let mut d = Dialogue::pipelined(&[&["a@b.c"], &["d@b.c"]]);
            d.next();
            d.on("250 1\r\n250 2\r\n354 3\r\n");
            d.body("one");
            assert_eq!(d.sent().matches("one\r\n.\r\n").count(), 1);
            d.on(&say[..cut]);
            assert_eq!(Dialogue::done(d.on(&say[cut..])), (1, vec![outcome.to_owned()]), "{say:?} cut at {cut}");
            assert_eq!(d.on("250 1\r\n250 2\r\n354 3\r\n"), Event::SendBody(TransactionId(2)));
            assert_eq!(d.sent(), "");
        }
    }
}

#[test]
fn an_odd_reply_to_the_dot_is_an_answer_in_lmtp_too() {
    for (say, outcome) in ODD {
        let mut d = Dialogue::new(ServerProfile { protocol: Protocol::Lmtp, ..settings() });
        d.on("220 lmtp\r\n");
        d.on(&ehlo(&["PIPELINING"]));
        d.session.submit(TransactionId(1), message(&["a@b.c", "d@b.c"]));
        d.next();
        d.on("250 1\r\n250 2\r\n250 3\r\n354 4\r\n");
        assert_eq!(d.body("one"), Event::Read(Stage::Final));
        let (_, outcomes) = Dialogue::done(d.on(&format!("{say}452 4.2.2 full\r\n")));
        assert_eq!(outcomes, [outcome, "Final 452 4.2.2 full"], "{say:?}");
        assert_eq!(d.next(), Event::Idle);
    }
}

#[test]
fn octets_without_an_end_are_no_answer() {
    let mut d = Dialogue::pipelined(&[&["a@b.c"]]);
    d.next();
    let before = d.session.answers();
    d.on("250 1\r\n250 2\r\n354 3\r\n");
    assert_eq!(d.session.answers(), before + 3);
    d.body("one");
    for say in ["2", "50-", "more\r\n", "junk\r\n", "250 o"] {
        assert_eq!(d.on(say), Event::Read(Stage::Final));
        assert_eq!(d.session.answers(), before + 3, "nothing but a whole reply counts");
    }
    d.on("k\r\n");
    assert_eq!(d.session.answers(), before + 4);
}

#[test]
fn a_dot_that_never_left_leaves_no_doubt() {
    // The client has written `one`, the dot and the next group; so much of it did not get out.
    let group = "MAIL FROM:<s@example.org>\r\nRCPT TO:<d@b.c>\r\nDATA\r\n".len();
    for (unwritten, stage) in [
        (0, Stage::Final),
        (group, Stage::Final),
        // The dot's own LF: the server waits for it.
        (group + 1, Stage::Transfer),
        (group + 6, Stage::Transfer),
        (group + 8, Stage::Transfer),
    ] {
        for timeout in [false, true] {
            let mut d = Dialogue::pipelined(&[&["a@b.c"], &["d@b.c"]]);
            d.next();
            d.on("250 1\r\n250 2\r\n354 3\r\n");
            d.sent();
            d.body("one");
            assert_eq!(d.sent().len(), "one\r\n.\r\n".len() + group);
            d.session.on_unwritten(unwritten);
            if timeout {
                d.session.on_timeout();
            } else {
                d.session.on_lost();
            }
            let failure = if timeout { Failure::TimedOut { stage } } else { Failure::Lost { stage } };
            assert_eq!(Dialogue::done(d.next()), (1, vec![failure.to_string()]), "{unwritten}");
            assert_eq!(d.next(), Event::Closed(Some(failure.clone())));
            assert_eq!(failure.is_ambiguous(), stage == Stage::Final);
        }
    }
}

#[test]
fn an_answer_that_came_all_the_same_counts_more_than_a_dot_that_never_left() {
    let mut d = Dialogue::pipelined(&[&["a@b.c"]]);
    d.next();
    d.on("250 1\r\n250 2\r\n354 3\r\n");
    d.body("one");
    d.input.extend_from_slice(b"552 5.3.4 too big\r\n");
    d.session.on_unwritten(100);
    d.session.on_lost();
    let (_, outcomes) = Dialogue::done(d.next());
    assert!(outcomes[0].ends_with("552 5.3.4 too big"), "{outcomes:?}");
}
