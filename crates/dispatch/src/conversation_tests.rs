//! One connection's flow, told by reports.

use std::time::Duration;

use staffetta_mail::{Recipient, RemoteReply, Status};
use staffetta_policy::classify::Endpoint;
use staffetta_policy::schedule::Schedule;
use staffetta_policy::tls::{Label, Trust};
use staffetta_policy::verp::Signer;
use staffetta_smtp::client::{Failure as F, Tls};

use super::*;
use crate::attempt::{Attempt, Facts};
use crate::testing::{Job, envelope};

const LIMITS: Limits = Limits { recipients: 100, messages: 1000 };

fn in_clear() -> Security {
    Security { starttls: Tls::Off, trust: Trust::Any, fallback: false, label: Label::None, waived: false }
}

/// A conversation, its stock, and what it is asked with.
struct World {
    talk: Conversation<Job>,
    stock: VecDeque<Task<Job>>,
    rules: Rules,
    peer: Peer,
    now: Instant,
    other_host: bool,
    undecided: bool,
    security: Security,
}

impl World {
    fn new(jobs: u32, recipients: usize) -> Self {
        let now = Instant::now();
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let facts = Facts {
            age: minutes(1),
            left: minutes(1000),
            claimed: now,
            attempts: 0,
            delay_noticed: false,
            jitter: 0.5,
        };
        let job = |number| Task {
            job: Job(number, envelope("a@b.c", recipients), None),
            attempt: Attempt::new(facts, 0..recipients as u32),
        };
        let schedule = Schedule { min: minutes(5), max: minutes(67), lifetime: minutes(7200) };
        Self {
            talk: Conversation::default(),
            stock: (0..jobs).map(job).collect(),
            rules: Rules { schedule, delay_warning: None, back_off: minutes(5), doubt: minutes(11) },
            peer: Peer { host: "mx.test".to_owned(), endpoint: Endpoint::Tcp(([192, 0, 2, 1], 25).into()) },
            now,
            other_host: false,
            undecided: false,
            security: in_clear(),
        }
    }

    fn submit(&mut self, limits: Limits) -> Option<(TransactionId, usize)> {
        match self.talk.next(&mut self.stock, &self.security, limits, |_| true, self.now) {
            Next::Submit(id, transaction) => Some((id, transaction.recipients.len())),
            Next::Disown(_) | Next::Nothing => None,
        }
    }

    fn report(&mut self, id: TransactionId, outcomes: Vec<Outcome>) -> Option<Task<Job>> {
        self.report_all(id, outcomes).pop()
    }

    fn report_all(&mut self, id: TransactionId, outcomes: Vec<Outcome>) -> Vec<Task<Job>> {
        let peer = || self.peer.clone();
        let final_by = |_: &Envelope, _: &str, failure: &client::Failure| {
            failure.reply().filter(|reply| reply.text.contains("hopeless")).map(|_| "a rule".to_owned())
        };
        let others = Others { any: self.other_host, after_a_word: self.other_host, undecided: self.undecided };
        let seen = Seen { peer: &peer, others, final_by: &final_by, rules: &self.rules, now: self.now };
        self.talk.on_report(id, Report { outcomes, dsn_passed_on: false }, &seen, |_, _, _| {})
    }

    /// Submits one and reports it.
    fn serve(&mut self, outcomes: Vec<Outcome>) -> Option<Task<Job>> {
        let (id, _) = self.submit(LIMITS).unwrap();
        self.report(id, outcomes)
    }
}

fn ok() -> Outcome {
    Outcome::Delivered(RemoteReply { code: 250, status: None, text: "ok".to_owned() })
}

fn said(stage: Stage, code: u16) -> F {
    F::Reply { stage, reply: RemoteReply { code, status: None, text: "no".to_owned() } }
}

fn no(stage: Stage, code: u16) -> Outcome {
    Outcome::Failed(said(stage, code))
}

fn lost(stage: Stage) -> Outcome {
    Outcome::Failed(F::Lost { stage })
}

fn numbers(stock: &[Task<Job>]) -> Vec<u32> {
    stock.iter().map(|task| task.job.0).collect()
}

#[test]
fn a_job_with_many_recipients_goes_out_in_several_transactions_and_ends_once() {
    let mut world = World::new(1, 250);
    let sizes: Vec<_> = std::iter::from_fn(|| world.submit(LIMITS)).collect();
    assert_eq!(sizes.iter().map(|(_, size)| *size).collect::<Vec<_>>(), [100, 100, 50]);
    assert!(world.report(sizes[1].0, vec![ok(); 100]).is_none());
    assert!(world.report(sizes[0].0, vec![ok(); 100]).is_none());
    let task = world.report(sizes[2].0, vec![ok(); 50]).unwrap();
    assert!(task.attempt.is_done());
}

#[test]
fn where_recipients_have_senders_of_their_own_each_has_a_transaction_and_no_company() {
    let mut world = World::new(2, 3);
    for (number, task) in (100..).zip(&mut world.stock) {
        (task.job.0, task.job.2) = (number, Some(Signer::new(b"one key of many")));
    }
    let long = format!("{}@x.test", "r".repeat(60)).parse().unwrap();
    world.stock[0].job.1.recipients[1].address = long;
    let mut senders = Vec::new();
    while let Next::Submit(id, transfer) =
        world.talk.next(&mut world.stock, &world.security, LIMITS, |_| true, world.now)
    {
        assert_eq!(transfer.recipients.len(), 1);
        senders.push(transfer.sender.as_str().to_owned());
        assert_eq!(world.report(id, vec![ok()]).is_some(), senders.len() % 3 == 0);
    }
    assert_eq!((senders.len(), world.stock.len()), (6, 0));
    assert!(senders[0].starts_with("a+") && senders[0].ends_with("-r0=x.test@b.c"), "{senders:?}");
    assert_eq!(senders[1], "a@b.c", "too long: it leaves as it is, and alone");
    assert_eq!(senders[5], senders[2]);
}

#[test]
fn a_server_that_ends_a_used_session_has_not_failed_the_next_message() {
    for outcome in [no(Stage::Mail, 421), no(Stage::Rcpt, 421), no(Stage::Data, 421), lost(Stage::Mail)] {
        let mut world = World::new(3, 1);
        assert!(world.serve(vec![ok()]).is_some());
        assert!(world.serve(vec![outcome]).is_none(), "it is not settled");
        assert!(world.submit(LIMITS).is_none(), "and nothing more goes this way");
        let ended = world.talk.end(Some(said(Stage::Mail, 421)), false);
        assert_eq!((numbers(&ended.stock), ended.course), (vec![1], Course::Afresh));
        assert!(ended.stock[0].attempt.is_untouched(), "it may go back uncounted");
    }
}

#[test]
fn a_refusal_of_the_message_itself_counts_on_a_used_connection_too() {
    for outcome in [no(Stage::Mail, 451), no(Stage::Final, 421), lost(Stage::Transfer), lost(Stage::Final)] {
        let mut world = World::new(2, 1);
        world.serve(vec![ok()]);
        assert!(world.serve(vec![outcome.clone()]).is_some(), "{outcome:?}");
    }
}

#[test]
fn a_fresh_connection_that_ends_at_mail_counts() {
    let mut world = World::new(2, 1);
    assert!(world.serve(vec![no(Stage::Mail, 421)]).is_some());
    assert_eq!(world.talk.end(Some(said(Stage::Mail, 421)), false).course, Course::Afresh);
}

#[test]
fn the_next_host_is_asked_when_the_first_hangs_up_after_its_greeting() {
    let hang_up = said(Stage::Idle, 421);
    let mut world = World::new(1, 1);
    world.submit(LIMITS);
    let ended = world.talk.end(Some(hang_up.clone()), true);
    assert_eq!((numbers(&ended.stock), ended.course), (vec![0], Course::NextHost));
    let mut last = World::new(1, 1);
    last.submit(LIMITS);
    assert_eq!(last.talk.end(Some(hang_up.clone()), false).course, Course::Fail(hang_up));
}

#[test]
fn what_somebody_calls_final_is_given_up_with_the_words_of_the_server_whatever_hosts_are_left() {
    let mut world = World::new(1, 2);
    world.other_host = true;
    let text = "this is hopeless".to_owned();
    let reply = RemoteReply { code: 450, status: Some(Status::new(4, 2, 1)), text };
    let hopeless = Outcome::Failed(F::Reply { stage: Stage::Rcpt, reply: reply.clone() });
    let task = world.serve(vec![ok(), hopeless]).unwrap();
    let State::Done(Fate::Failed(failed)) = &task.attempt.table()[1].1 else { panic!("{:?}", task.attempt.table()) };
    assert!(failed.permanent && !failed.refuses_recipient(), "the server has not refused it for good");
    assert_eq!((failed.status, failed.reply.as_ref()), (Status::new(5, 2, 1), Some(&reply)));
    assert!(failed.text.contains("450 4.2.1 this is hopeless") && failed.text.ends_with("final by a rule"));
}

#[test]
fn what_one_host_puts_off_waits_for_the_next_one() {
    let mut world = World::new(1, 3);
    world.other_host = true;
    assert!(world.serve(vec![ok(), no(Stage::Rcpt, 450), no(Stage::Rcpt, 550)]).is_none());
    assert!(world.talk.has_aside());
    let mut ended = world.talk.end(None, true);
    assert_eq!(ended.course, Course::NextHost);
    world.talk = Conversation::default();
    world.stock.extend(ended.stock.drain(..));
    world.other_host = false;
    let (id, recipients) = world.submit(LIMITS).unwrap();
    assert_eq!(recipients, 1, "those with a result never go out again");
    assert!(world.report(id, vec![ok()]).unwrap().attempt.is_done());
}

#[test]
fn what_the_last_host_cannot_do_is_final_unless_one_before_it_may_take_the_mail_another_time() {
    for (undecided, permanent, status) in [(false, true, Status::new(5, 6, 3)), (true, false, Status::new(4, 6, 3))] {
        let mut world = World { undecided, ..World::new(1, 1) };
        let task = world.serve(vec![Outcome::Failed(F::NoEightBitMime("a signed part".to_owned()))]).unwrap();
        let State::Done(Fate::Failed(failed)) = &task.attempt.table()[0].1 else {
            panic!("{:?}", task.attempt.table())
        };
        assert_eq!((failed.permanent, failed.status), (permanent, status));
        let mut world = World { undecided, ..World::new(1, 1) };
        let task = world.serve(vec![no(Stage::Rcpt, 550)]).unwrap();
        let State::Done(Fate::Failed(failed)) = &task.attempt.table()[0].1 else {
            panic!("{:?}", task.attempt.table())
        };
        assert!(failed.permanent, "the word of the receiver");
    }
}

#[test]
fn a_server_is_heard_once_it_has_answered_to_a_message() {
    for (outcome, heard) in [
        (ok(), true),
        (no(Stage::Rcpt, 451), true),
        (lost(Stage::Mail), false),
        (Outcome::Failed(F::NoSmtpUtf8 { ignored: false }), false),
    ] {
        let mut world = World::new(1, 1);
        world.serve(vec![outcome.clone()]);
        assert_eq!(world.talk.end(None, true).said.heard, heard, "{outcome:?}");
    }
}

#[test]
fn rfc5321_4_5_3_1_10_too_many_recipients_is_temporary_behind_an_accepted_one() {
    let fates = |outcomes: Vec<Outcome>| {
        let mut world = World::new(1, outcomes.len());
        let task = world.serve(outcomes).unwrap();
        let permanent = |(_, state): &(u32, State)| match state {
            State::Done(Fate::Failed(failed)) => Some((failed.permanent, failed.status)),
            _ => None,
        };
        task.attempt.table().iter().map(permanent).collect::<Vec<_>>()
    };
    let full = || no(Stage::Rcpt, 552);
    assert_eq!(fates(vec![ok(), full()]), [None, Some((false, Status::new(4, 0, 0)))]);
    assert_eq!(fates(vec![full(), ok()])[0].map(|(permanent, _)| permanent), Some(true), "a full mailbox");
}

#[test]
fn a_connection_takes_no_more_than_its_server_allows() {
    let mut world = World::new(3, 1);
    let limits = Limits { messages: 2, ..LIMITS };
    assert!(world.submit(limits).is_some() && world.submit(limits).is_some());
    assert!(world.submit(limits).is_none());
    assert_eq!(world.stock.len(), 1);
}

#[test]
fn rfc8689_a_message_that_demands_tls_waits_for_a_connection_that_proves_the_server() {
    let mut world = World::new(3, 1);
    world.stock[0].job.1.require_tls = true;
    let taken = |world: &mut World| -> Vec<u32> {
        let each = |world: &mut World| {
            let (id, _) = world.submit(LIMITS)?;
            world.talk.task(id).map(|task| task.job.0)
        };
        std::iter::from_fn(|| each(world)).collect()
    };
    assert_eq!(taken(&mut world), [1, 2]);
    assert_eq!(world.stock.len(), 1);
    world.security = Security { starttls: Tls::Required, ..in_clear() };
    assert!(taken(&mut world).is_empty(), "encrypted with whomever");
    world.security.trust = Trust::WebPki { name: "mx.test".into() };
    assert_eq!(taken(&mut world), [0]);
}

#[test]
fn what_the_session_takes_back_is_free_unless_a_part_of_it_is_under_way() {
    let limits = Limits { recipients: 2, messages: 1000 };
    let mut world = World::new(2, 3);
    let ids: Vec<_> = (0..4).filter_map(|_| world.submit(limits)).map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 4, "two transactions a job");
    let free = world.talk.withdraw(&ids[1..]);
    assert_eq!(numbers(&free), [1], "the first job hangs with its first transaction");
    assert!(free[0].attempt.is_untouched() && free[0].attempt.has_waiting());
    world.stock.clear();
    assert!(world.report(ids[0], vec![ok(), ok()]).is_none());
    let (id, count) = world.submit(limits).unwrap();
    assert_eq!((count, ids.contains(&id)), (1, false), "its rest goes out under a new name");
    assert!(world.report(id, vec![ok()]).is_some_and(|task| task.attempt.is_done()));
}

#[test]
fn a_job_whose_lease_has_passed_is_neither_sent_nor_kept() {
    let mut world = World::new(2, 1);
    let next = world.talk.next(&mut world.stock, &in_clear(), LIMITS, |job| job.0 != 0, world.now);
    assert!(matches!(next, Next::Disown(Task { job: Job(0, ..), .. })));
    assert!(world.submit(LIMITS).is_some(), "the next one is sent");
    assert_eq!(numbers(&world.talk.end(None, false).stock), [1]);
}

/// Jobs of one message, with one recipient each.
fn company(jobs: u32) -> World {
    let mut world = World::new(jobs, jobs as usize);
    for (index, task) in (0..).zip(&mut world.stock) {
        task.job.0 += 100;
        task.attempt = Attempt::new(*task.attempt.facts(), [index]);
    }
    world
}

#[test]
fn jobs_of_one_message_travel_together_and_each_comes_to_its_own_end() {
    let mut world = company(4);
    // Another message, among them.
    let mut other = World::new(1, 1);
    world.stock.insert(2, other.stock.pop_front().unwrap());
    let (id, recipients) = world.submit(LIMITS).unwrap();
    assert_eq!(recipients, 4);
    assert_eq!(world.talk.tasks(id).map(|task| task.job.0).collect::<Vec<_>>(), [100, 101, 102, 103]);
    let (next, recipients) = world.submit(LIMITS).unwrap();
    assert_eq!((recipients, world.stock.len()), (1, 0));
    let outcomes = vec![ok(), no(Stage::Rcpt, 550), no(Stage::Rcpt, 450), ok()];
    let ended = world.report_all(id, outcomes);
    assert_eq!(numbers(&ended), [100, 101, 102, 103]);
    let fates: Vec<_> = ended.iter().map(|task| task.attempt.table()[0].1.clone()).collect();
    let is_failed =
        |state: &State, permanent| matches!(state, State::Done(Fate::Failed(it)) if it.permanent == permanent);
    assert!(matches!(fates[0], State::Done(Fate::Delivered { .. })) && is_failed(&fates[1], true));
    assert!(is_failed(&fates[2], false) && matches!(fates[3], State::Done(Fate::Delivered { .. })));
    assert_eq!(numbers(&world.report_all(next, vec![ok()])), [0]);
}

#[test]
fn a_transaction_has_as_many_as_it_may_and_no_job_is_parted_for_that() {
    let mut world = company(5);
    let limits = Limits { recipients: 3, ..LIMITS };
    let envelope = envelope("a@b.c", 7);
    world.stock.iter_mut().for_each(|task| task.job.1 = envelope.clone());
    // The second has too many for what is left.
    world.stock[1].attempt = Attempt::new(*world.stock[1].attempt.facts(), [1, 5, 6]);
    let mut travelled = Vec::new();
    while let Some((id, _)) = world.submit(limits) {
        travelled.push(world.talk.tasks(id).map(|task| task.job.0).collect::<Vec<_>>());
    }
    assert_eq!(travelled, [vec![100, 102, 103], vec![101], vec![104]]);
}

#[test]
fn what_has_passed_to_others_or_needs_smtputf8_stays_behind() {
    let mut world = company(3);
    let next = world.talk.next(&mut world.stock, &world.security, LIMITS, |job| job.0 != 101, world.now);
    let Next::Submit(id, transaction) = next else { panic!("nothing") };
    assert_eq!((transaction.recipients.len(), world.talk.tasks(id).count()), (2, 2));
    assert_eq!(world.stock.front().unwrap().job.0, 101);

    for (special, expected) in [(0, [1, 2]), (1, [2, 1])] {
        let mut world = company(3);
        for task in &mut world.stock {
            task.job.1.recipients[special] = Recipient::new("j\u{f6}rg@x.test".parse().unwrap());
        }
        let counts: Vec<_> = std::iter::from_fn(|| world.submit(LIMITS)).map(|(_, count)| count).collect();
        assert_eq!(counts, expected, "whoever needs it goes alone");
    }
}

#[test]
fn what_the_session_takes_back_or_a_host_puts_off_is_all_of_them() {
    let mut world = company(3);
    let (id, _) = world.submit(LIMITS).unwrap();
    let free = world.talk.withdraw(&[id]);
    assert_eq!(numbers(&free), [100, 101, 102]);
    assert!(free.iter().all(|task| task.attempt.is_untouched()));
    world.stock.extend(free);
    let (id, _) = world.submit(LIMITS).unwrap();
    assert_eq!(numbers(&world.talk.take(id)), [100, 101, 102]);
    assert!(world.report_all(id, vec![ok(); 3]).is_empty(), "they are not here any more");

    let mut world = company(3);
    world.other_host = true;
    let (id, _) = world.submit(LIMITS).unwrap();
    let ended = world.report_all(id, vec![ok(), no(Stage::Rcpt, 450), no(Stage::Rcpt, 550)]);
    assert_eq!(numbers(&ended), [100, 102]);
    assert_eq!(numbers(&world.talk.end(None, true).stock), [101]);
}

#[test]
fn a_session_that_ends_before_anything_was_said_leaves_all_of_them_in_stock() {
    let mut world = company(2);
    let mut first = World::new(1, 1);
    world.stock.push_front(first.stock.pop_front().unwrap());
    world.serve(vec![ok()]);
    let (id, count) = world.submit(LIMITS).unwrap();
    assert_eq!(count, 2);
    assert!(world.report_all(id, vec![no(Stage::Mail, 421); 2]).is_empty());
    let ended = world.talk.end(None, false);
    assert_eq!(numbers(&ended.stock), [100, 101]);
    assert!(ended.stock.iter().all(|task| task.attempt.is_untouched()));
}
