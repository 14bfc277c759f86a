//! Where a connection comes from: one of our addresses, with the name that we have there, and how many messages it may
//! carry if the address is new.
//!
//! What new addresses may send on a day is a bucket of tokens in Redis, one for each of them and day. A connection takes some
//! once its session is ready, and gives back at its end what it has not used: who never answers takes none.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::RngExt;
use staffetta_config::Rate;
use staffetta_policy::classify::Failure;
use staffetta_policy::source::{Source, day_of};
use staffetta_queue::{Limiter, Queue};
use staffetta_transport::hop::NextHop;
use staffetta_transport::itinerary::Candidate;

use crate::worker::Worker;

/// The name of these limits in Redis.
const SCOPE: &str = "source";
/// Most messages that a connection takes from the bucket, and what part of the bucket: so few lie idle in slow ones.
const PORTION: u32 = 20;
const PART: u32 = 10;
/// A bucket of a day is of no use on the next: it hardly fills again, and is forgotten after this time.
const REFILL: Duration = Duration::from_secs(30 * 86_400);
/// How long an address is left alone that has sent what it may. Connections give back what they have not used.
const PAUSE: Duration = Duration::from_secs(30);

/// Our end of a connection.
#[derive(Default)]
pub(crate) struct Origin {
    /// `None`: the system chooses.
    pub(crate) address: Option<IpAddr>,
    /// What we call ourselves there; `None`: as everywhere.
    pub(crate) name: Option<Arc<str>>,
    /// `None`: any number of messages.
    pub(crate) allowance: Option<Allowance>,
}

/// What a new address may send today.
pub(crate) struct Allowance {
    address: IpAddr,
    bucket: Limiter,
    /// Whose bucket. With another number it is another one, and the day begins anew.
    who: String,
    count: u32,
}

/// Messages that a connection from a new address may carry.
pub(crate) struct Portion {
    of: Allowance,
    pub(crate) messages: u32,
}

/// Addresses of pools from which nothing can be sent: new ones that have sent what they may today, and those that this machine does
/// not have. And until when nobody tries.
#[derive(Default)]
pub(crate) struct Spent(Mutex<HashMap<IpAddr, Instant>>);

impl Spent {
    fn has(&self, address: IpAddr) -> bool {
        let until = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&address).copied();
        until.is_some_and(|until| Instant::now() < until)
    }

    fn note(&self, address: IpAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(address, Instant::now() + PAUSE);
    }
}

impl Allowance {
    /// Of an address on a day; `None`: any number.
    fn of(source: &Source, day: u32, queue: &Queue) -> Option<Self> {
        let count = source.warm_up.as_ref()?.allowed_on(day)?;
        let bucket = queue.limiter(SCOPE, Rate { count: count.max(1), per: REFILL });
        Some(Self { address: source.address, bucket, who: format!("{} {day} {count}", source.address), count })
    }
}

/// How many messages of what an address may send on a day are gone: they were sent, or a connection is about to. `None`: it may
/// send any number, or Redis does not say.
pub async fn spent_on(day: u32, source: &Source, queue: &Queue) -> Option<u32> {
    let Allowance { bucket, who, .. } = Allowance::of(source, day, queue)?;
    bucket.used(&who).await.ok()
}

impl Worker {
    /// One of our addresses of the right family, from the pool of the next hop, if it has one.
    ///
    /// # Errors
    /// The pool has none that may be used for this host now.
    pub(crate) async fn origin_for(&self, hop: &NextHop, to: &Candidate) -> Result<Origin, Failure> {
        let Some(peer) = to.endpoint.ip() else { return Ok(Origin::default()) };
        let Some(pool) = &hop.pool else {
            let address = self.sources.choose(peer, rand::rng().random(), |_| true).map(|source| source.address);
            return Ok(Origin { address, ..Origin::default() });
        };
        loop {
            let may = |address| !self.revocations.is_source_suspended(address) && !self.spent.has(address);
            let Some(source) = pool.choose(peer, rand::rng().random(), may) else {
                let unfit = || pool.sources.iter().filter(|source| self.spent.has(source.address));
                let why = match unfit().next() {
                    None => "",
                    Some(_) if unfit().all(|source| source.warm_up.is_some()) => {
                        "; those that are new have sent what they may today"
                    }
                    Some(_) => "; this machine does not have all of them",
                };
                let reason = format!("the pool {} has no address for it that may be used{why}", pool.name);
                return Err(Failure::NoSource { reason });
            };
            let (address, name) = (Some(source.address), source.hostname.clone());
            let allowance = Allowance::of(source, day_of(self.queue.now()), &self.queue);
            if let Some(allowance) = &allowance
                && !self.is_left_of(allowance).await
            {
                self.spent.note(source.address);
                continue;
            }
            return Ok(Origin { address, name, allowance });
        }
    }

    /// This machine does not have this address: the others of its pool stand for it.
    pub(crate) fn note_absent(&self, address: IpAddr, reason: &str) {
        self.spent.note(address);
        tracing::warn!(%address, reason, "an address of delivery.source cannot be used; is it one of this machine?");
    }

    /// While Redis is away nothing is.
    async fn is_left_of(&self, allowance: &Allowance) -> bool {
        let Allowance { bucket, who, count, .. } = allowance;
        *count > 0 && bucket.acquire(who, 0).await.is_ok_and(|seen| seen.empty_for.is_zero())
    }

    /// What a connection from there may carry now that it is ready; `None`: nothing, others were faster.
    pub(crate) async fn portion(&self, of: Allowance) -> Option<Portion> {
        let granted = of.bucket.acquire(&of.who, (of.count / PART).clamp(1, PORTION)).await;
        let messages = granted.map_or(0, |granted| granted.tokens);
        if messages == 0 {
            self.spent.note(of.address);
            return None;
        }
        Some(Portion { of, messages })
    }

    /// A connection has ended that carried so many messages.
    pub(crate) async fn has_carried(&self, portion: Option<Portion>, messages: u32) {
        let Some(Portion { of: Allowance { bucket, who, .. }, messages: taken }) = portion else { return };
        let unused = taken.saturating_sub(messages);
        if unused > 0
            && let Err(error) = bucket.give_back(&who, unused).await
        {
            tracing::debug!(source = who, %error, "some of what a new address may send today is lost");
        }
    }
}
