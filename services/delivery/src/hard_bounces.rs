//! Recipients that get no mail any more because their own servers have refused them for good: `delivery.suppress_after`.
//!
//! It is told beside the attempt, after its result is in the log, and nothing waits for it: what is lost of it, while Redis
//! is away or more come than can be told, is found out by the next attempt. What may be said so, and by whom, is narrow, for
//! whoever is suppressed hears nothing of it (docs/decisions/025).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::metrics::Counter;
use staffetta_config::{Delivery, Rate};
use staffetta_dispatch::Failed;
use staffetta_mail::Address;
use staffetta_policy::client;
use staffetta_policy::diagnosis::{Class, condemns_address};
use staffetta_queue::{Block, Error, HardBounces, Message, Queue, Reckoning, Target, login_key};
use staffetta_telemetry::maillog::{self, Barred};
use staffetta_transport::hop::{NextHop, Router};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::terms::Terms;

/// Told at a time.
const AT_ONCE: usize = 64;
/// Hard bounces of one login that count, or of one client without a login, in the time for which they suppress.
const OF_ONE: u32 = 5_000;
/// The name of that limit in Redis.
const SCOPE: &str = "hard_bounces";
/// Who does it, in the log.
const BY: &str = "delivery.suppress_after";

/// See the module.
pub(crate) struct Suppressor {
    queue: Queue,
    suppressions: Counter,
    /// What is told; a drain waits for it.
    telling: TaskTracker,
    turns: Arc<Semaphore>,
    /// There was no room, and that is said.
    is_full: Arc<AtomicBool>,
}

/// One hard bounce.
struct Refusal {
    target: Target,
    /// Whose mail it was.
    who: String,
    /// The words of the server.
    reason: String,
}

/// The rule of the configuration.
pub(crate) fn rule(delivery: &Delivery) -> Option<HardBounces> {
    delivery.suppress_after.map(|after| HardBounces { after, life: delivery.suppress_for })
}

/// Does this count against the recipient's address, whoever is the sender?
fn counts(hop: &NextHop, failed: &Failed, class: Class) -> bool {
    let (host, reply) = (failed.host.as_deref().unwrap_or_default(), failed.reply.as_ref());
    let is_condemned = reply.is_some_and(|reply| condemns_address(host, reply, class));
    failed.refuses_recipient() && is_condemned && !Router::is_for_many(hop)
}

/// Whose mail it was; `None`: a stranger's, or nobody's, whose bounces count against no one.
fn who(message: &Message, terms: &Terms) -> Option<String> {
    let origin = &message.origin;
    message.envelope.sender.address()?;
    if client::stranger(origin.client, origin.login.as_deref(), &terms.trusted_networks).is_some() {
        return None;
    }
    match (&origin.login, origin.client) {
        (Some(login), _) => Some(login_key(login)),
        (None, client) => Some(client::network(client?).to_string()),
    }
}

impl Suppressor {
    pub(crate) fn new(queue: Queue, suppressions: Counter, telling: TaskTracker) -> Self {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        Self { queue, suppressions, telling, turns, is_full: Arc::default() }
    }

    /// A recipient of the message has failed for good.
    pub(crate) fn bounced(
        &self,
        terms: &Terms,
        hop: &NextHop,
        message: &Message,
        (recipient, failed, class): (&Address, &Failed, Class),
    ) {
        let Some(rule) = terms.hard_bounces.filter(|_| counts(hop, failed, class)) else { return };
        let (Some(who), Ok(target)) = (who(message, terms), Target::recipient(recipient.as_str())) else { return };
        let Ok(turn) = self.turns.clone().try_acquire_owned() else {
            return tracing::debug!("a hard bounce is not counted: too many at a time");
        };
        // So that it is told apart from one that an operator has made.
        let said = failed.text.chars().filter(|c| !c.is_control());
        let reason: String = "hard bounces: ".chars().chain(said).collect();
        let reason = reason[..reason.floor_char_boundary(Block::MAX_REASON)].to_owned();
        let refusal = Refusal { target, who, reason };
        let (queue, suppressions, is_full) = (self.queue.clone(), self.suppressions.clone(), self.is_full.clone());
        self.telling.spawn(async move {
            match count(&queue, rule, &refusal).await {
                Ok(Reckoning::Counted) => {}
                Ok(Reckoning::Suppressed) => {
                    is_full.store(false, Ordering::Relaxed);
                    suppressions.increment(1);
                    refusal.tell();
                }
                Ok(Reckoning::Full) if is_full.swap(true, Ordering::Relaxed) => {}
                Ok(Reckoning::Full) => {
                    tracing::warn!("hard bounces suppress nobody for now: there are too many suppressions and blocks");
                }
                Err(error) => tracing::debug!(%error, "failed to count a hard bounce"),
            }
            drop(turn);
        });
    }
}

/// Nothing is counted of those who have more than their share.
async fn count(queue: &Queue, rule: HardBounces, refusal: &Refusal) -> Result<Reckoning, Error> {
    let share = Rate { count: OF_ONE, per: rule.life };
    if queue.limiter(SCOPE, share).acquire(&refusal.who, 1).await?.tokens == 0 {
        return Ok(Reckoning::Counted);
    }
    queue.hard_bounce(&refusal.target, rule, &refusal.reason).await
}

impl Refusal {
    fn tell(&self) {
        let (kind, name) = (self.target.kind(), self.target.name());
        maillog::barred(&Barred { kind, name: &name, verb: "suppressed", by: BY, reason: &self.reason });
    }
}
