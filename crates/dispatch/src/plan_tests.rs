//! Rows for [`decide`](super::decide): who ends where, and who hears of it.

use std::time::{Duration, Instant};

use staffetta_mail::{BodyType, Envelope, Notify, RemoteReply, Status};
use staffetta_policy::diagnosis::{Class, Trouble};
use staffetta_policy::schedule::Schedule;

use super::*;
use crate::attempt::Facts;
use crate::testing::envelope;

const HOUR: u64 = 3600;
const RULES: Rules = Rules {
    schedule: Schedule {
        min: Duration::from_secs(300),
        max: Duration::from_secs(4020),
        lifetime: Duration::from_secs(120 * HOUR),
    },
    delay_warning: Some(Duration::from_secs(4 * HOUR)),
    back_off: Duration::from_secs(300),
    doubt: Duration::from_secs(660),
};

fn facts(age: u64, left: u64) -> Facts {
    Facts {
        age: Duration::from_secs(age),
        left: Duration::from_secs(left),
        claimed: Instant::now(),
        attempts: 0,
        delay_noticed: false,
        jitter: 0.5,
    }
}

fn plan(facts: Facts, envelope: &Envelope, fates: &[Fate]) -> Plan {
    let mut attempt = Attempt::new(facts, 0..fates.len() as u32);
    for (at, fate) in fates.iter().enumerate() {
        attempt.set(at, State::Done(fate.clone()));
    }
    decide(attempt, envelope, &RULES, facts.claimed).unwrap()
}

fn message(sender: &str, notify: &[Option<Notify>]) -> Envelope {
    let envelope = envelope(sender, notify.len());
    let recipients = envelope.recipients.into_iter().zip(notify);
    let recipients = recipients.map(|(recipient, notify)| Recipient { notify: *notify, ..recipient }).collect();
    Envelope { recipients, body: BodyType::SevenBit, ..envelope }
}

fn ok(dsn_passed_on: bool) -> Fate {
    Fate::Delivered { reply: RemoteReply { code: 250, status: None, text: "ok".to_owned() }, dsn_passed_on }
}

fn failed(class: u8) -> Fate {
    Fate::Failed(Failed {
        permanent: class == 5,
        status: Status::new(class, 1, 1),
        text: "no".to_owned(),
        reply: None,
        host: None,
        trouble: Trouble::Met(Class::Other),
        back_off: false,
        doubtful: false,
        unfinished: false,
    })
}

fn indices<T>(list: &[(u32, T)]) -> Vec<u32> {
    list.iter().map(|(index, _)| *index).collect()
}

#[test]
fn each_recipient_ends_in_one_place() {
    let plan = plan(facts(1, 99), &message("a@b.c", &[None, None, None]), &[ok(false), failed(4), failed(5)]);
    assert_eq!((plan.delivered, plan.remaining), (vec![0], vec![1]));
    assert_eq!(indices(&plan.failed), [2]);
    assert_eq!(plan.reason.unwrap().status, Status::new(4, 1, 1));
    assert!(plan.delayed.is_empty() && plan.relayed.is_empty() && !plan.expired);
}

#[test]
fn nothing_is_settled_while_a_recipient_has_no_result() {
    let mut attempt = Attempt::new(facts(1, 99), [3, 7]);
    attempt.set(0, State::Done(ok(false)));
    let refused = decide(attempt, &message("a@b.c", &[None; 8]), &RULES, Instant::now());
    assert_eq!(refused, Err(Incomplete(7)));
}

#[test]
fn rfc5321_6_1_the_null_sender_hears_nothing() {
    let plan = plan(facts(9, 0), &message("", &[None, None]), &[failed(5), failed(4)]);
    assert!(!plan.reports() && plan.remaining.is_empty());
}

#[test]
fn rfc3461_notify_decides_who_hears_what() {
    let never = Some(Notify::default());
    let success = Some(Notify { success: true, ..Notify::default() });
    let all = Some(Notify { success: true, failure: true, delay: true });
    let message = message("a@b.c", &[never, success, all, None]);
    let each = |fate: Fate| plan(facts(5 * HOUR, 99), &message, &[fate.clone(), fate.clone(), fate.clone(), fate]);
    assert_eq!(indices(&each(failed(5)).failed), [2, 3]);
    assert_eq!(indices(&each(failed(4)).delayed), [2, 3]);
    assert_eq!(indices(&each(ok(false)).relayed), [1, 2]);
    assert!(each(ok(true)).relayed.is_empty(), "the server reports itself");
}

#[test]
fn a_message_past_its_lifetime_is_given_up_with_5_4_7() {
    let message = message("a@b.c", &[None]);
    let over = plan(facts(5 * HOUR, 1), &message, &[failed(4)]);
    assert!(over.expired && over.remaining.is_empty());
    assert_eq!(over.failed[0].1.status, Status::new(5, 4, 7));
    assert_eq!(plan(facts(5 * HOUR, 3), &message, &[failed(4)]).remaining, [0]);
}

#[test]
fn what_comes_back_after_its_life_has_one_last_attempt_and_its_end_is_reported() {
    // Poison that an operator released, or a job that was held: nothing of its life is left at the claim.
    let message = message("a@b.c", &[None, None]);
    let last = plan(facts(200 * HOUR, 0), &message, &[ok(false), failed(4)]);
    assert_eq!((&last.delivered[..], &last.remaining[..]), (&[0][..], &[][..]));
    assert!(last.expired && last.failed[0].0 == 1 && last.failed[0].1.permanent);
    assert_eq!(last.failed[0].1.status, Status::new(5, 4, 7));
}

#[test]
fn a_delay_notice_is_due_once() {
    let message = message("a@b.c", &[None]);
    let late = facts(4 * HOUR, 99);
    assert_eq!(indices(&plan(late, &message, &[failed(4)]).delayed), [0]);
    assert!(plan(Facts { delay_noticed: true, ..late }, &message, &[failed(4)]).delayed.is_empty());
    assert!(plan(facts(1, 99), &message, &[failed(4)]).delayed.is_empty());
}

#[test]
fn success_and_failure_are_both_final_and_both_reported() {
    let all = Some(Notify { success: true, failure: true, delay: true });
    let message = message("a@b.c", &[all, all, all]);
    let plan = plan(facts(5 * HOUR, 9999), &message, &[ok(false), failed(5), failed(4)]);
    assert_eq!((indices(&plan.relayed), indices(&plan.failed)), (vec![0], vec![1]));
    assert_eq!((plan.remaining, plan.after), (vec![2], RULES.schedule.max), "who has a result is not tried again");
    assert!(plan.delayed.is_empty(), "a third report waits for the next attempt");
}

#[test]
fn only_trouble_with_the_next_hop_backs_it_off() {
    let message = message("a@b.c", &[None]);
    assert_eq!(plan(facts(1, 99), &message, &[failed(4)]).back_off, None);
    let Fate::Failed(hop) = failed(4) else { unreachable!() };
    let hop = Fate::Failed(Failed { back_off: true, ..hop });
    assert_eq!(plan(facts(1, 99), &message, &[hop]).back_off, Some(RULES.back_off));
}

#[test]
fn rfc1047_after_a_late_answer_to_the_dot_the_next_try_outlasts_the_other_side() {
    let message = message("a@b.c", &[None, None]);
    let Fate::Failed(lost) = failed(4) else { unreachable!() };
    let lost = Failed { doubtful: true, ..lost };
    let late = Fate::Failed(Failed { unfinished: true, ..lost.clone() });
    let doubt = plan(facts(1, 9999), &message, &[late, failed(4)]);
    assert_eq!((doubt.after, doubt.doubtful), (RULES.doubt, 1));
    // Who closed the connection has decided; the next try waits for nothing.
    let closed = plan(facts(1, 9999), &message, &[Fate::Failed(lost), failed(4)]);
    assert_eq!((closed.after, closed.doubtful), (RULES.schedule.min, 1));
    assert_eq!(plan(facts(1, 9999), &message, &[failed(4), failed(4)]).after, RULES.schedule.min);
}

#[test]
fn what_is_judged_stays_judged() {
    let facts = facts(300, 99);
    let mut attempt = Attempt::new(facts, [0]);
    let first = attempt.judge(&RULES, facts.claimed);
    let later = facts.claimed + Duration::from_secs(98);
    assert_eq!(attempt.judge(&RULES, later), first, "a second transaction does not roll again");
    assert!(Attempt::new(facts, [0]).judge(&RULES, later).expired);
}
