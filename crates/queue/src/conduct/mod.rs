//! How logins behave, counted by the hour for the whole cluster, and what is done about those that are over a threshold.
//!
//! Services tell [`Conduct`] what they see; it is gathered in memory, within bounds, and told to Redis once a second in as few
//! requests as it takes ([`Conduct::run`]). The answer brings the counts of the whole cluster, so the pod learns within
//! about a second what its logins have come to ([`Conduct::stance`]), and nobody's message waits for it. A step is taken by
//! the pod that sees first that it is due: in Redis a field says that it was. While Redis is away everything is gathered on;
//! what was told and not answered is told again, and counts once. [`Records`] is for those who look.
//!
//! Hours are those of Redis. A pod that believes in another one is corrected, and tells it again.

mod call;
mod records;
mod table;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use redis::Pipeline;
use staffetta_policy::conduct::{Counts, Crossing, Ladder, Signal, Stance, Step};

use crate::error::Fault;
use crate::inquiry::{ask, next};
use crate::metrics;
use crate::shared::Shared;
use crate::slot;
use crate::value;
use crate::{Announcer, Target, login_key};
use call::{Call, Counted};
use table::Table;

pub use records::{Hour, Record, Records};
pub use table::Sending;

/// Where all that is counted lies.
static SLOT: LazyLock<u16> = LazyLock::new(|| slot::of_tag(b"A"));
/// How often Redis is told.
const TURN: Duration = Duration::from_secs(1);
/// In how many turns the gauges are looked up once.
const LOOK: u32 = 10;
/// Calls of one request.
const GROUP: usize = 200;
/// How long the counts of an hour live: as the one that is, and as the last one.
const LIFE: Duration = Duration::from_secs(2 * 3_600);
/// Milliseconds of an hour.
const HOUR: u64 = 3_600_000;
/// How long deliveries that are under way are waited for when their login is blocked, and the longest work at its mail in all.
const UNDER_WAY: Duration = Duration::from_secs(10);
const HOLD: Duration = Duration::from_secs(120);

/// One pod's part. Share it in an `Arc`.
pub struct Conduct {
    shared: Arc<Shared>,
    ladder: Ladder,
    block_for: Duration,
    /// The field of this pod in the counts of a login.
    pod: String,
    /// Of the last call; never 0.
    number: AtomicU64,
    table: Mutex<Table>,
    /// What was told, or is about to be, and has no answer. Nothing is added before it is empty: so it is as large as the
    /// table at most, and there is one call of a login.
    told: tokio::sync::Mutex<Vec<Call>>,
    stances: RwLock<Stances>,
    /// Is there any of these?
    has_stances: AtomicBool,
}

/// What sessions of logins meet in an hour, as sessions spell them. Who meets nothing is not among them.
#[derive(Default)]
struct Stances {
    hour: u64,
    logins: HashMap<Box<str>, Stance>,
}

impl Conduct {
    pub(crate) fn new(shared: Arc<Shared>, ladder: Ladder, block_for: Duration) -> Self {
        Self {
            shared,
            ladder,
            block_for,
            pod: format!("pod:{:016x}", rand::random::<u64>()),
            number: AtomicU64::new(0),
            table: Mutex::default(),
            told: tokio::sync::Mutex::default(),
            stances: RwLock::default(),
            has_stances: AtomicBool::new(false),
        }
    }

    /// A message of this login was accepted.
    pub fn sent(&self, login: &str, sending: &Sending) {
        remembered(self.table().add_sending(login, sending));
    }

    /// A recipient of this login's mail was refused for good; `unknown`: because there is none such.
    pub fn bounced(&self, login: &str, unknown: bool) {
        let mut table = self.table();
        remembered(table.add(login, Signal::Bounces, 1));
        if unknown {
            remembered(table.add(login, Signal::UnknownRecipients, 1));
        }
    }

    /// This login was used from a network that was not known.
    pub fn seen_elsewhere(&self, login: &str) {
        remembered(self.table().add(login, Signal::NewNetworks, 1));
    }

    /// Is the signal worth asking for?
    pub fn watches(&self, signal: Signal) -> bool {
        self.ladder.thresholds[signal] > 0
    }

    /// What a session of this login meets now, as far as this pod has learnt.
    pub fn stance(&self, login: &str) -> Stance {
        if !self.has_stances.load(Ordering::Relaxed) {
            return Stance::default();
        }
        let stances = self.stances.read().unwrap_or_else(PoisonError::into_inner);
        let known = stances.logins.get(login).filter(|_| stances.hour == self.hour());
        known.copied().unwrap_or_default()
    }

    /// Tells Redis every second, for ever, and takes the steps that are due; `tell` hears of each. `shows`: the gauges are
    /// kept up to date.
    pub async fn run(self: Arc<Self>, shows: bool, tell: impl Fn(&Crossing)) {
        if shows {
            metrics::describe_logins_over_threshold();
        }
        for turn in 0u32.. {
            tokio::time::sleep(TURN).await;
            self.flush(&tell).await;
            if shows && turn % LOOK == 0 {
                self.show().await;
            }
        }
    }

    /// Tells Redis now what was gathered, and before it what is left of the last time. What has no answer within a second is
    /// told again the next time.
    pub async fn flush(&self, tell: &impl Fn(&Crossing)) {
        let mut told = self.told.lock().await;
        if !told.is_empty() {
            self.tell(&mut told, tell).await;
        }
        if told.is_empty() {
            self.gather(&mut told);
            self.tell(&mut told, tell).await;
        }
    }

    /// Leaves what is to be told again.
    async fn tell(&self, told: &mut Vec<Call>, tell: &impl Fn(&Crossing)) {
        let (mut done, mut again) = (0, Vec::new());
        while done < told.len() {
            let group = &told[done..told.len().min(done + GROUP)];
            let Ok(answers) = ask(&self.shared, group.iter().map(|call| call.command(&self.pod))).await else { break };
            done += group.len();
            let mut answers = answers.into_iter();
            for call in group {
                match next(&mut answers).and_then(|answer| Counted::read(&answer)) {
                    Ok(counted) => self.learn(call, counted, tell).await,
                    Err(fault) => again.extend(is_worth_repeating(&fault).then(|| call.clone())),
                }
            }
        }
        again.extend(told.drain(..).skip(done));
        *told = again;
    }

    /// A call for each login of which something was seen.
    fn gather(&self, told: &mut Vec<Call>) {
        let (taken, hour) = (self.table().take(), self.hour());
        told.extend(taken.map(|(login, seen)| {
            let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
            Call { key: login_key(&login), login, hour, number, seen }
        }));
    }

    async fn learn(&self, call: &Call, counted: Counted, tell: &impl Fn(&Crossing)) {
        match counted {
            Counted::Elsewhen => remembered(self.table().put_back(&call.login, call.seen.clone())),
            Counted::Now { counts, taken } => {
                self.stand(call, self.ladder.stance(&counts));
                for (signal, step) in self.ladder.reached(&counts).filter(|step| !taken.contains(step)) {
                    self.take_step(call, &counts, signal, step, tell).await;
                }
            }
        }
    }

    fn stand(&self, call: &Call, stance: Stance) {
        let nothing = stance == Stance::default();
        if nothing && !self.has_stances.load(Ordering::Relaxed) {
            return;
        }
        let mut stances = self.stances.write().unwrap_or_else(PoisonError::into_inner);
        if stances.hour < call.hour {
            *stances = Stances { hour: call.hour, logins: HashMap::new() };
        }
        if stances.hour > call.hour {
            return;
        }
        if nothing {
            stances.logins.remove(&call.login);
        } else if stances.logins.len() < table::LOGINS {
            stances.logins.insert(call.login.clone(), stance);
        }
        self.has_stances.store(!stances.logins.is_empty(), Ordering::Relaxed);
    }

    /// A block comes before its field: who dies between the two leaves it to others, and to block twice is no harm.
    async fn take_step(&self, call: &Call, counts: &Counts, signal: Signal, step: Step, tell: &impl Fn(&Crossing)) {
        let crossing = Crossing {
            login: call.key.clone(),
            hour: call.hour,
            signal,
            count: counts[signal],
            threshold: self.ladder.thresholds[signal],
            step,
        };
        if step == Step::Block && !self.block(&crossing).await {
            return;
        }
        if self.claim(call, signal, step).await {
            metrics::step(signal, step).increment(1);
            tell(&crossing);
            if step == Step::Block {
                tokio::spawn(hold_waiting(self.shared.clone(), crossing.login));
            }
        }
    }

    /// Is it for this pod to tell of the step? Without an answer rather twice than never.
    async fn claim(&self, call: &Call, signal: Signal, step: Step) -> bool {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("HSETNX").arg(call.record()).arg(call::field_of(signal, step)).arg(1);
        // It is not made by this, unless it ended a moment ago.
        pipeline.cmd("PEXPIRE").arg(call.record()).arg(LIFE.as_millis() as u64).arg("NX");
        match ask(&self.shared, pipeline.cmd_iter().cloned()).await {
            Ok(answers) => next(&mut answers.into_iter()).map_or(true, |first| value::integer(&first) != Some(0)),
            Err(_) => true,
        }
    }

    async fn block(&self, crossing: &Crossing) -> bool {
        let Crossing { login, signal, count, threshold, .. } = crossing;
        let Ok(target) = Target::login(login) else { return false };
        let reason = format!("abuse: {} is {count} in an hour, the threshold {threshold}", signal.name());
        let blocked = async {
            Announcer::connect(&self.shared.settings).await?.block_misused(&target, self.block_for, &reason).await
        };
        match blocked.await {
            Ok(true) => true,
            Ok(false) => {
                tracing::warn!(login, "a login could not be blocked: there are too many blocks");
                false
            }
            Err(error) => {
                tracing::warn!(login, %error, "a login could not be blocked, it is tried again");
                false
            }
        }
    }

    /// How many logins are over each threshold.
    async fn show(&self) {
        let hour = self.hour();
        let watched: Vec<Signal> = Signal::ALL.into_iter().filter(|signal| self.watches(*signal)).collect();
        let commands = watched.iter().map(|signal| call::over(hour, *signal, self.ladder.thresholds[*signal]));
        let Ok(answers) = ask(&self.shared, commands).await else { return };
        for (signal, answer) in watched.into_iter().zip(answers) {
            let Ok(count) = answer.map(|answer| value::count(&answer)) else { continue };
            metrics::logins_over_threshold(signal).set(count as f64);
        }
    }

    /// Which one it is, in hours since the Unix epoch.
    fn hour(&self) -> u64 {
        self.shared.node_at(*SLOT).clock.now() / HOUR
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Was nothing done, and may it be done another time? What Redis cannot make sense of is lost.
fn is_worth_repeating(fault: &Fault) -> bool {
    tracing::debug!(%fault, "what a login does could not be counted");
    let repeated = !matches!(fault, Fault::Unknown(_));
    remembered(repeated);
    repeated
}

fn remembered(there_was_room: bool) {
    if !there_was_room {
        metrics::uncounted().increment(1);
    }
}

/// Of a login that was blocked.
async fn hold_waiting(shared: Arc<Shared>, login: String) {
    match tokio::time::timeout(HOLD, shared.hold_blocked(&login, UNDER_WAY)).await {
        Ok(Ok(moved)) => {
            let held = moved.jobs + moved.already;
            tracing::info!(login, held, "waiting mail of a blocked login is held");
        }
        Ok(Err(error)) => tracing::warn!(login, %error, "failed to hold the mail of a blocked login"),
        Err(_) => tracing::warn!(login, "it takes too long to hold the mail of a blocked login"),
    }
}
