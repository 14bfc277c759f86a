//! What an attempt means for a job: a pure function from results to a plan.
//!
//! [`decide`] looks at what happened to each recipient, at the age of the message and at the rules, and says what is
//! settled, what the sender must be told and when the rest is tried again. It knows no clock and no chance; both are
//! arguments.

use std::time::Duration;

use staffetta_mail::{Recipient, RemoteReply, ReversePath, Status};
use staffetta_policy::classify::{Action, Failure, classify};
use staffetta_queue::Message;

/// RFC 3463: delivery time expired, for good.
const EXPIRED: Status = Status::new(5, 4, 7);
/// A job that comes up this short before its end has reached it: clocks differ.
const SKEW: Duration = Duration::from_secs(2);

/// What happened to one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// A server took responsibility.
    Delivered {
        /// With these words.
        reply: RemoteReply,
        /// It reports success itself, if success is to be reported.
        dsn_passed_on: bool,
    },
    /// None did.
    Failed(Failed),
}

/// A failed recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    /// Trying again is no use.
    pub(crate) permanent: bool,
    /// Class 4 or 5, as `permanent` says.
    pub(crate) status: Status,
    /// For the log and the report.
    pub(crate) text: String,
    /// What the server said.
    pub(crate) reply: Option<RemoteReply>,
    /// Which server that was.
    pub(crate) host: Option<String>,
    /// The next hop as a whole is in trouble: leave it alone for a while.
    pub(crate) back_off: bool,
}

impl Fate {
    /// What a failure means once there is no other host to try.
    pub(crate) fn of(failure: &Failure, domain: &str) -> Self {
        let verdict = classify(failure, domain);
        let (reply, host) = match failure {
            Failure::Session { peer, failure } => (failure.reply().cloned(), Some(peer.host.clone())),
            _ => (None, None),
        };
        Self::Failed(Failed {
            permanent: verdict.finally() == Action::Bounce,
            host: host.filter(|_| reply.is_some()),
            status: verdict.status,
            text: verdict.text,
            reply,
            back_off: verdict.back_off,
        })
    }
}

/// What decisions depend on besides the results.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Age at which a delay notice is due.
    pub(crate) delay_warning: Option<Duration>,
    /// A destination with connect failures rests this long.
    pub(crate) back_off: Duration,
}

/// One job before the decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) message: &'a Message,
    /// A delay notice was sent before.
    pub(crate) delay_noticed: bool,
    /// Milliseconds since the Unix epoch.
    pub(crate) now: u64,
    /// The message has reached its end: what fails now is given up.
    pub(crate) expired: bool,
    /// When the schedule would try again, jitter included.
    pub(crate) retry: Duration,
}

/// What becomes of the job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// To be tried again, as indices into the envelope.
    pub(crate) remaining: Vec<u32>,
    /// Not before this.
    pub(crate) after: Duration,
    /// Of the last failure among the remaining.
    pub(crate) reason: Option<Failed>,
    /// No other job of the destination before this.
    pub(crate) back_off: Option<Duration>,
    /// Failed for good just now; the sender has not asked to be spared.
    pub(crate) failed: Vec<(u32, Failed)>,
    /// The sender must be told that these are late.
    pub(crate) delayed: Vec<(u32, Failed)>,
    /// Delivered to a server that will not report the success that the sender asked for.
    pub(crate) relayed: Vec<(u32, RemoteReply)>,
    /// Delivered.
    pub(crate) delivered: Vec<u32>,
    /// Given up because of the message's age (a part of what failed).
    pub(crate) expired: bool,
}

impl Plan {
    /// Must a report be queued?
    pub(crate) fn reports(&self) -> bool {
        !(self.failed.is_empty() && self.delayed.is_empty() && self.relayed.is_empty())
    }
}

/// Sorts the results of an attempt. Every recipient of `results` ends in exactly one of: delivered, remaining, final
/// failure.
pub(crate) fn decide(facts: Facts<'_>, results: Vec<(u32, Fate)>, rules: &Rules) -> Plan {
    let late = is_late(facts, rules);
    let mut plan = Plan { after: facts.retry, expired: facts.expired, ..Plan::default() };
    for (index, fate) in results {
        match fate {
            Fate::Delivered { reply, dsn_passed_on } => delivered(&mut plan, facts, index, reply, dsn_passed_on),
            Fate::Failed(failed) if failed.permanent => report_failure(&mut plan, facts, index, failed),
            Fate::Failed(failed) if facts.expired => report_failure(&mut plan, facts, index, give_up(failed)),
            Fate::Failed(failed) => defer(&mut plan, facts, index, failed, late, rules),
        }
    }
    one_report(&mut plan);
    plan
}

/// A settlement carries one report. Where success is to be reported, what failed for good comes up once more at once,
/// fails again and is reported then; a delay notice waits for the next attempt.
fn one_report(plan: &mut Plan) {
    if plan.relayed.is_empty() || plan.failed.is_empty() {
        return;
    }
    for (index, failed) in plan.failed.drain(..) {
        plan.remaining.push(index);
        plan.reason = Some(failed);
    }
    plan.after = Duration::ZERO;
}

/// Has the message reached its end at `now` (milliseconds since the Unix epoch)?
pub(crate) fn is_expired(message: &Message, now: u64) -> bool {
    now + SKEW.as_millis() as u64 >= message.expires
}

/// A delay notice is due once a message, and never for a report.
fn is_late(facts: Facts<'_>, rules: &Rules) -> bool {
    let age = Duration::from_millis(facts.now.saturating_sub(facts.message.arrived));
    !facts.delay_noticed && rules.delay_warning.is_some_and(|limit| age >= limit)
}

fn delivered(plan: &mut Plan, facts: Facts<'_>, index: u32, reply: RemoteReply, dsn_passed_on: bool) {
    plan.delivered.push(index);
    if !dsn_passed_on && wants(facts, index, Recipient::wants_success) {
        plan.relayed.push((index, reply));
    }
}

fn report_failure(plan: &mut Plan, facts: Facts<'_>, index: u32, failed: Failed) {
    if wants(facts, index, Recipient::wants_failure) {
        plan.failed.push((index, failed));
    }
}

fn defer(plan: &mut Plan, facts: Facts<'_>, index: u32, failed: Failed, late: bool, rules: &Rules) {
    plan.remaining.push(index);
    if failed.back_off {
        plan.back_off = Some(rules.back_off);
    }
    if late && wants(facts, index, Recipient::wants_delay) {
        plan.delayed.push((index, failed.clone()));
    }
    plan.reason = Some(failed);
}

/// A temporary failure that has become final.
fn give_up(failed: Failed) -> Failed {
    Failed { permanent: true, status: EXPIRED, ..failed }
}

/// Reports go to a sender who is there (RFC 5321 section 6.1: never about a report) and wants them (RFC 3461).
fn wants(facts: Facts<'_>, index: u32, asked: impl Fn(&Recipient) -> bool) -> bool {
    let envelope = &facts.message.envelope;
    !matches!(envelope.sender, ReversePath::Null) && envelope.recipients.get(index as usize).is_some_and(asked)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use staffetta_mail::{Address, BodyType, Envelope, Notify, QueueId, Recipient};
    use staffetta_queue::Origin;

    use super::*;

    const DAY: u64 = 86_400_000;
    const RULES: Rules =
        Rules { delay_warning: Some(Duration::from_secs(4 * 3600)), back_off: Duration::from_secs(300) };

    fn message(sender: &str, notify: &[Option<Notify>]) -> Message {
        let recipient = |(i, notify): (usize, &Option<Notify>)| Recipient {
            notify: *notify,
            ..Recipient::new(Address::parse(&format!("r{i}@example.net")).unwrap())
        };
        Message {
            id: QueueId::new(0, 0, 1),
            envelope: Envelope {
                sender: if sender.is_empty() {
                    ReversePath::Null
                } else {
                    ReversePath::Address(Address::parse(sender).unwrap())
                },
                recipients: notify.iter().enumerate().map(recipient).collect(),
                body: BodyType::SevenBit,
                ret: None,
                envid: None,
            },
            origin: Origin { listener: "smtp".to_owned(), client: None, helo: String::new(), login: None },
            size: 10,
            arrived: DAY,
            expires: 6 * DAY,
        }
    }

    fn facts(message: &Message, now: u64) -> Facts<'_> {
        let expired = is_expired(message, now);
        Facts { message, delay_noticed: false, now, expired, retry: Duration::from_secs(300) }
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
            back_off: false,
        })
    }

    fn indices<T>(list: &[(u32, T)]) -> Vec<u32> {
        list.iter().map(|(index, _)| *index).collect()
    }

    #[test]
    fn each_recipient_ends_in_one_place() {
        let message = message("a@b.c", &[None, None, None]);
        let plan = decide(facts(&message, DAY + 1), vec![(0, ok(false)), (1, failed(4)), (2, failed(5))], &RULES);
        assert_eq!((plan.delivered, plan.remaining), (vec![0], vec![1]));
        assert_eq!(indices(&plan.failed), [2]);
        assert_eq!(plan.reason.unwrap().status, Status::new(4, 1, 1));
        assert!(plan.delayed.is_empty() && plan.relayed.is_empty() && !plan.expired);
    }

    #[test]
    fn rfc5321_6_1_the_null_sender_hears_nothing() {
        let message = message("", &[None, None]);
        let plan = decide(facts(&message, 9 * DAY), vec![(0, failed(5)), (1, failed(4))], &RULES);
        assert!(!plan.reports() && plan.remaining.is_empty());
    }

    #[test]
    fn rfc3461_notify_decides_who_hears_what() {
        let never = Some(Notify::default());
        let success = Some(Notify { success: true, ..Notify::default() });
        let all = Some(Notify { success: true, failure: true, delay: true });
        let message = message("a@b.c", &[never, success, all, None]);
        let late = DAY + 5 * 3_600_000;
        let each = |fate: Fate| (0..4).map(|i| (i, fate.clone())).collect::<Vec<_>>();
        assert_eq!(indices(&decide(facts(&message, late), each(failed(5)), &RULES).failed), [2, 3]);
        assert_eq!(indices(&decide(facts(&message, late), each(failed(4)), &RULES).delayed), [2, 3]);
        assert_eq!(indices(&decide(facts(&message, late), each(ok(false)), &RULES).relayed), [1, 2]);
        assert!(decide(facts(&message, late), each(ok(true)), &RULES).relayed.is_empty(), "the server reports itself");
    }

    #[test]
    fn a_message_past_its_lifetime_is_given_up_with_5_4_7() {
        let message = message("a@b.c", &[None]);
        let plan = decide(facts(&message, 6 * DAY - 1000), vec![(0, failed(4))], &RULES);
        assert!(plan.expired && plan.remaining.is_empty());
        assert_eq!(plan.failed[0].1.status, Status::new(5, 4, 7));
        let before = decide(facts(&message, 6 * DAY - 3000), vec![(0, failed(4))], &RULES);
        assert_eq!(before.remaining, [0]);
    }

    #[test]
    fn a_delay_notice_is_due_once() {
        let message = message("a@b.c", &[None]);
        let late = facts(&message, DAY + 4 * 3_600_000);
        assert_eq!(indices(&decide(late, vec![(0, failed(4))], &RULES).delayed), [0]);
        let again = Facts { delay_noticed: true, ..late };
        assert!(decide(again, vec![(0, failed(4))], &RULES).delayed.is_empty());
        let early = facts(&message, DAY + 1);
        assert!(decide(early, vec![(0, failed(4))], &RULES).delayed.is_empty());
    }

    #[test]
    fn success_and_failure_are_reported_one_after_the_other() {
        let all = Some(Notify { success: true, failure: true, delay: true });
        let message = message("a@b.c", &[all, all]);
        let plan = decide(facts(&message, DAY), vec![(0, ok(false)), (1, failed(5))], &RULES);
        assert_eq!((indices(&plan.relayed), plan.remaining, plan.after), (vec![0], vec![1], Duration::ZERO));
        assert!(plan.failed.is_empty());
    }

    #[test]
    fn only_trouble_with_the_next_hop_backs_the_destination_off() {
        let message = message("a@b.c", &[None]);
        assert_eq!(decide(facts(&message, DAY), vec![(0, failed(4))], &RULES).back_off, None);
        let Fate::Failed(hop) = failed(4) else { unreachable!() };
        let hop = Fate::Failed(Failed { back_off: true, ..hop });
        assert_eq!(decide(facts(&message, DAY), vec![(0, hop)], &RULES).back_off, Some(RULES.back_off));
    }
}
