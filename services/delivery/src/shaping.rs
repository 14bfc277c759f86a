//! Destinations that get no mail for a while, or less of it: by an operator's word, or because their servers have said that it
//! is too much.
//!
//! What is said stands beside the blocks in Redis, so that every worker knows within a second, and operators see it and end
//! it (`staffetta destination`). Mail waits where it is: its queue rests, a minute at a time, so that the end of it is
//! noticed; at each look what has become too old goes back to its sender. What is only curbed goes on: at the lower rate
//! ([`Worker::pace`]), over fewer connections ([`Worker::room_at`]). And of some servers temporary replies are final.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use staffetta_config::{Action, Delivery, Rate};
use staffetta_dispatch::{Fate, Handle, owes_delay_notice};
use staffetta_mail::{Address, Envelope, RemoteReply};
use staffetta_policy::classify::Failure;
use staffetta_policy::shaping::{Measure, Rule, Rules, pattern, without_addresses};
use staffetta_queue::{Curb, Curbs, Queue, Suspension, Target};
use staffetta_smtp::client::{Failure as SessionFailure, Stage};
use staffetta_telemetry::maillog::{self, Barred};
use staffetta_transport::hop::NextHop;

use crate::lanes::{Lane, Work};
use crate::leased::{Leased, Task};
use crate::worker::{Claimed, Worker};

/// The names of the limits in Redis: of replies, and of what comes of them.
const REPLIES: &str = "replies";
const SUSPENSIONS: &str = "suspensions";
/// Between looks at mail that waits for the end of a suspension.
const LOOK: Duration = Duration::from_secs(60);
/// One of those who find at the same time that it is too much tells it.
const ONCE: Rate = Rate { count: 1, per: Duration::from_secs(5) };
/// A curb is made longer once in this time at most.
const AGAIN: Duration = Duration::from_secs(60);
/// How long the known rules last, in waits between attempts.
const WAITS: u32 = 6;
/// How long it rests in this pod after each reply that a rule is for: until then everybody knows if it was one too many.
const BREATH: Duration = Duration::from_secs(1);
/// How long a host gets commands one by one that has not answered some which came together.
const LOCK_STEP: Duration = Duration::from_secs(86_400);
/// So many hosts are remembered for that, at most: they are strangers', and each has a place among what holds for all.
const STALLS: Rate = Rate { count: 1_000, per: LOCK_STEP };
/// Destinations of which that is remembered.
const REMEMBERED: usize = 1_000;

/// What this pod has just heard.
#[derive(Default)]
pub(crate) struct Shaping {
    /// Destination, until when it rests.
    breaths: Mutex<HashMap<String, Instant>>,
    /// How many of them there were.
    version: AtomicU64,
}

impl Shaping {
    /// Changes when a destination begins to rest in this pod.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn breathe(&self, site: String, now: Instant) {
        let mut breaths = self.breaths.lock().unwrap_or_else(PoisonError::into_inner);
        if breaths.len() >= REMEMBERED {
            breaths.retain(|_, until| *until > now);
        }
        if breaths.len() < REMEMBERED {
            breaths.insert(site, now + BREATH);
        }
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// How long it rests yet.
    fn breath(&self, hop: &NextHop, now: Instant) -> Option<Duration> {
        if self.version() == 0 {
            return None;
        }
        let breaths = self.breaths.lock().unwrap_or_else(PoisonError::into_inner);
        let left = breaths.get(&hop.party())?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }
}

/// The rules of `[[delivery.rule]]`, and those of this program.
pub(crate) fn rules(delivery: &Delivery) -> Rules {
    let one = |(index, rule): (usize, &staffetta_config::Rule)| {
        // What is no pattern was refused when the configuration was read.
        let reply = pattern(&rule.reply).ok()?;
        let names = (rule.domain.clone(), rule.mx.clone());
        let name = format!("delivery.rule[{index}]");
        let new = Rule::new(name, names, reply);
        // Neither is absent, or the configuration was refused.
        let (measure, lasts) = match rule.action {
            Action::Suspend => (Measure::Suspend, rule.suspend),
            Action::Slow => {
                let Rate { count: messages, per } = rule.rate?;
                (Measure::Slow { messages, per }, rule.r#for)
            }
            Action::Fewer => (Measure::Fewer(rule.connections?), rule.r#for),
            Action::Bounce => (Measure::Bounce, rule.r#for),
        };
        Some(new.doing(measure).after(rule.times.count, rule.times.per, lasts))
    };
    let configured = delivery.rule.iter().enumerate().filter_map(one).collect();
    Rules::new(configured, delivery.known_rules.then(|| delivery.retry_min * WAITS))
}

/// Forgets the replies of some servers that were counted for rules, by what they go by, in lower case: an operator has ended what came of them.
///
/// # Errors
/// Redis is away; some may be forgotten.
pub async fn forget_replies(queue: &Queue, delivery: &Delivery, site: &str) -> Result<(), staffetta_queue::Error> {
    let any = Rate { count: 1, per: LOOK };
    for key in rules(delivery).keys() {
        for counted in [REPLIES, SUSPENSIONS] {
            queue.limiter(counted, any).forget(&counted_by(key, site)).await?;
        }
    }
    Ok(())
}

/// By what a rule says, and not by its place in the file, which changes.
fn counted_by(key: &str, site: &str) -> String {
    format!("{key} {site}")
}

/// The first rule for what servers have said of mail with this envelope for the domain, and what they have said, without
/// what strangers chose.
fn rule_for<'a>(
    rules: &'a Rules,
    hop: &NextHop,
    domain: &str,
    envelope: &Envelope,
    reply: &RemoteReply,
) -> Option<(&'a Rule, String)> {
    let hosts = hop.site.as_ref().map_or(&[][..], |site| &site.hosts);
    let recipients = envelope.recipients.iter().map(|recipient| &recipient.address);
    let addresses = envelope.sender.address().into_iter().chain(recipients).map(Address::as_str);
    let text = without_addresses(&reply.to_string(), addresses);
    rules.find(domain, hosts, &text).map(|rule| (rule, text))
}

/// The rule by which a temporary refusal of a message is final, at once or after more of them; with what was said.
fn bouncing<'a>(
    rules: &'a Rules,
    hop: &NextHop,
    domain: &str,
    envelope: &Envelope,
    failure: &SessionFailure,
) -> Option<(&'a Rule, String)> {
    let SessionFailure::Reply { stage: Stage::Mail | Stage::Rcpt | Stage::Data | Stage::Final, reply } = failure else {
        return None;
    };
    if reply.code / 100 != 4 || !rules.have_bounces() {
        return None;
    }
    rule_for(rules, hop, domain, envelope, reply).filter(|(rule, _)| rule.measure == Measure::Bounce)
}

/// What of the replies in one transaction is final by a rule, and is to be counted.
pub(crate) struct Verdicts<'a> {
    worker: &'a Arc<Worker>,
    hop: &'a Arc<NextHop>,
    rules: &'a Rules,
    /// The first such rule, which counts, with what was said.
    first: OnceCell<(Rule, String)>,
}

impl<'a> Verdicts<'a> {
    pub(crate) fn new(worker: &'a Arc<Worker>, hop: &'a Arc<NextHop>, rules: &'a Rules) -> Self {
        Self { worker, hop, rules, first: OnceCell::new() }
    }

    /// The rule by which this is final: its first reply is, or there were enough before. One that is still too few is a deferral,
    /// and so is the last that it takes: nobody waits for the count.
    pub(crate) fn final_by(&self, domain: &str, envelope: &Envelope, failure: &SessionFailure) -> Option<String> {
        let (rule, text) = bouncing(self.rules, self.hop, domain, envelope, failure)?;
        if rule.times > 1 {
            self.first.get_or_init(|| (rule.clone(), text));
        }
        (rule.times == 1 || self.worker.is_final(self.hop, rule)).then(|| rule.name.clone())
    }

    /// Counts a reply, if there was one for a rule.
    pub(crate) fn count(self) {
        if let Some((rule, text)) = self.first.into_inner() {
            self.worker.count(self.hop, rule, text);
        }
    }
}

/// What a rule leaves to a destination; `None`: it has another effect.
fn curb(measure: Measure) -> Option<Curb> {
    match measure {
        Measure::Slow { messages, per } => Some(Curb::Rate(Rate { count: messages, per })),
        Measure::Fewer(connections) => Some(Curb::Connections(connections)),
        Measure::Suspend | Measure::Bounce => None,
    }
}

fn until_the_next_look(suspension: &Suspension) -> Duration {
    suspension.left.map_or(LOOK, |left| left.min(LOOK))
}

impl Worker {
    /// Why, and for how long yet, these servers get no mail for this domain.
    pub(crate) fn suspension(&self, hop: &NextHop, domain: &str) -> Option<Suspension> {
        if self.revocations.has_suspensions()
            && let Some(found) = self.revocations.suspension(hop.names(domain).iter().map(String::as_str))
        {
            return Some(found);
        }
        let left = self.shaping.breath(hop, Instant::now())?;
        Some(Suspension { left: Some(left), reason: String::new() })
    }

    /// What these servers have asked for: messages are those from the addresses of a pool, connections those of all.
    pub(crate) fn curbs(&self, hop: &NextHop) -> Curbs {
        let of = |name: String| self.revocations.curbs(&name.to_ascii_lowercase());
        Curbs { rate: of(hop.party()).rate, connections: of(hop.speaker()).connections }
    }

    /// Most connections to these servers at present.
    pub(crate) fn room_at(&self, hop: &NextHop) -> u32 {
        self.curbs(hop).connections.map_or(hop.concurrency, |fewer| fewer.min(hop.concurrency))
    }

    /// Instead of a claim: the work rests, what is too old to wait for the end of it goes back, and whose sender is to hear
    /// of the delay has him told.
    pub(crate) async fn sit_out(&self, lane: &Lane, work: &Work, suspension: Suspension) -> Claimed {
        let Some((tasks, _)) = self.lease(work, 1).await else { return Claimed::default() };
        let mut settled = false;
        for task in tasks {
            match self.unless_late(task, lane, &suspension) {
                Some(task) => self.settler.release(task.job),
                None => settled = true,
            }
        }
        if !settled {
            self.park(work, until_the_next_look(&suspension)).await;
        }
        Claimed { tasks: Vec::new(), full: settled }
    }

    /// The same, of jobs that were claimed already: with each, how long it is to wait in the queue.
    pub(crate) fn sat_out(
        &self,
        tasks: impl IntoIterator<Item = Task>,
        lane: &Lane,
        suspension: &Suspension,
    ) -> Vec<(Task, Duration)> {
        let left = tasks.into_iter().filter_map(|task| self.unless_late(task, lane, suspension));
        left.map(|task| (task, until_the_next_look(suspension))).collect()
    }

    /// `None`: it was, or its sender hears of the delay, and it is settled.
    fn unless_late(&self, mut task: Task, lane: &Lane, suspension: &Suspension) -> Option<Task> {
        let (rules, now) = (self.rules(), Instant::now());
        let Task { job, attempt } = &mut task;
        // What is over soon needs no word: the attempt behind it has the better one. And strangers hear of nothing.
        let lasts = suspension.left.is_none_or(|left| left >= LOOK);
        let is_told = lasts
            && self.terms.load().stranger(&job.message.origin).is_none()
            && owes_delay_notice(attempt, job.envelope(), &rules, now);
        let expired = attempt.judge(&rules, now).expired;
        if !expired && !is_told {
            return Some(task);
        }
        // Not at the next look: others must be looked at, too.
        if let Some(left) = suspension.left {
            attempt.look_again(&rules, now, left);
        }
        let failure = Failure::Suspended { reason: suspension.reason.clone() };
        let fate = Fate::of(&failure, job.destination());
        if expired {
            self.fail(task, lane, &fate);
        } else {
            // Nobody was asked: that is no deferral to be logged and counted.
            attempt.fail_rest(&fate);
            self.finish(task, lane);
        }
        None
    }

    /// A server has said this of a message for the domain: is it too much?
    pub(crate) fn weigh(self: &Arc<Self>, hop: &Arc<NextHop>, job: &Leased, reply: &RemoteReply) {
        let terms = self.terms.load();
        let Some((rule, text)) = rule_for(&terms.shaping, hop, job.destination(), job.envelope(), reply) else {
            return;
        };
        if rule.measure == Measure::Bounce {
            return;
        }
        if rule.measure == Measure::Suspend {
            self.shaping.breathe(hop.party(), Instant::now());
        }
        self.count(hop, rule.clone(), text);
    }

    /// Are the replies of these servers that the rule is for final now?
    fn is_final(&self, hop: &NextHop, rule: &Rule) -> bool {
        self.revocations.is_final(&hop.party().to_ascii_lowercase(), &rule.key)
    }

    fn count(self: &Arc<Self>, hop: &Arc<NextHop>, rule: Rule, text: String) {
        let (worker, hop) = (self.clone(), hop.clone());
        self.carriers.spawn(async move {
            if let Err(error) = worker.count_reply(&hop, &rule, &text).await {
                tracing::debug!(rule = rule.name, %error, "failed to count a reply");
            }
        });
    }

    async fn count_reply(&self, hop: &NextHop, rule: &Rule, text: &str) -> Result<(), staffetta_queue::Error> {
        let site = match rule.measure {
            // All pools share the places of a destination.
            Measure::Fewer(_) => hop.speaker(),
            _ => hop.party(),
        };
        let site = site.to_ascii_lowercase();
        let who = counted_by(&rule.key, &site);
        // Where such replies are final, each makes that last longer.
        let holds = rule.measure == Measure::Bounce && self.is_final(hop, rule);
        if rule.times > 1 && !holds {
            let before = Rate { count: rule.times - 1, per: rule.within };
            let counted = self.queue.limiter(REPLIES, before).acquire(&who, 1).await?;
            if counted.tokens > 0 {
                return Ok(());
            }
        }
        let once = match rule.measure {
            Measure::Suspend => ONCE,
            _ => Rate { count: 1, per: AGAIN.min(rule.lasts / 2) },
        };
        if self.queue.limiter(SUSPENSIONS, once).acquire(&who, 1).await?.tokens == 0 {
            return Ok(());
        }
        let reason: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
        match (rule.measure, curb(rule.measure)) {
            (_, Some(curb)) => self.curb((hop, &site), curb, rule, &reason).await,
            (Measure::Bounce, None) => self.make_final(&site, rule, &reason, holds).await,
            (_, None) => self.suspend(&site, rule, &reason).await,
        }
    }

    async fn make_final(
        &self,
        site: &str,
        rule: &Rule,
        reason: &str,
        held: bool,
    ) -> Result<(), staffetta_queue::Error> {
        if self.queue.make_final(site, &rule.key, rule.lasts, reason).await? && !held {
            self.metrics.bounce.increment(1);
            maillog::barred(&Barred { kind: "bounce", name: site, verb: "curbed", by: &rule.name, reason });
        }
        Ok(())
    }

    async fn suspend(&self, site: &str, rule: &Rule, reason: &str) -> Result<(), staffetta_queue::Error> {
        let Ok(target) = Target::destination(site) else { return Ok(()) };
        if self.queue.block(&target, rule.lasts, reason).await? {
            self.metrics.suspensions.increment(1);
            let (kind, name) = (target.kind(), target.name());
            maillog::barred(&Barred { kind, name: &name, verb: "suspended", by: &rule.name, reason });
        }
        Ok(())
    }

    /// A host has not answered commands that came together: everybody speaks to it in lock step for a while.
    pub(crate) async fn note_stall(&self, host: IpAddr, reason: &str) -> Result<(), staffetta_queue::Error> {
        if self.queue.limiter("stalls", STALLS).acquire("hosts", 1).await?.tokens > 0 {
            self.queue.block(&Target::Unpipelined(host), LOCK_STEP, reason).await?;
        }
        Ok(())
    }

    /// What holds already is only made longer, which is no news, or stricter.
    async fn curb(
        &self,
        (hop, site): (&NextHop, &str),
        curb: Curb,
        rule: &Rule,
        reason: &str,
    ) -> Result<(), staffetta_queue::Error> {
        let before = self.curbs(hop);
        let (kind, count, was) = match curb {
            Curb::Rate(_) => ("slow", &self.metrics.slow, before.rate.map(Curb::Rate)),
            Curb::Connections(_) => ("fewer", &self.metrics.fewer, before.connections.map(Curb::Connections)),
        };
        if was.is_some_and(|was| was.is_stricter_than(curb)) {
            return Ok(());
        }
        if self.queue.curb(site, curb, rule.lasts, reason).await? && was != Some(curb) {
            count.increment(1);
            let reason = format!("{curb}: {reason}");
            maillog::barred(&Barred { kind, name: site, verb: "curbed", by: &rule.name, reason: &reason });
        }
        Ok(())
    }
}
