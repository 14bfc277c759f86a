//! Where a connection comes from: one of our addresses, with the name that we have there, and how many messages it may
//! carry if the address is new.
//!
//! What new addresses may send on a day is a bucket of tokens in Redis, one for each of them and day. A connection takes some
//! before it begins, and gives back at its end what it has not used.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::RngExt;
use staffetta_config::Rate;
use staffetta_policy::classify::Failure;
use staffetta_policy::source::{Source, day_of};
use staffetta_queue::Limiter;
use staffetta_transport::hop::NextHop;
use staffetta_transport::itinerary::Candidate;

use crate::worker::Worker;

/// The name of these limits in Redis.
const SCOPE: &str = "source";
/// Most messages that a connection takes from the bucket: so few lie idle in slow ones.
const PORTION: u32 = 20;
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
    pub(crate) portion: Option<Portion>,
}

/// Messages that a connection from a new address may carry.
pub(crate) struct Portion {
    bucket: Limiter,
    who: String,
    pub(crate) messages: u32,
}

/// New addresses that have sent what they may today, and until when nobody asks about them.
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
                let reason = format!("the pool {} has no address for it that may be used", pool.name);
                return Err(Failure::Connect { peer: to.peer(), reason });
            };
            let (address, name) = (Some(source.address), source.hostname.clone());
            match self.portion(source).await {
                None => return Ok(Origin { address, name, portion: None }),
                Some(portion) if portion.messages > 0 => return Ok(Origin { address, name, portion: Some(portion) }),
                Some(_) => self.spent.note(source.address),
            }
        }
    }

    /// What a connection from there may carry; `None`: any number. While Redis is away it is nothing.
    async fn portion(&self, source: &Source) -> Option<Portion> {
        let warm_up = source.warm_up.as_ref()?;
        let day = day_of(self.queue.now());
        let count = warm_up.allowed_on(day)?;
        let (bucket, who) =
            (self.queue.limiter(SCOPE, Rate { count, per: REFILL }), format!("{} {day}", source.address));
        let granted =
            if count == 0 { Ok(0) } else { bucket.acquire(&who, PORTION).await.map(|granted| granted.tokens) };
        let messages = granted.unwrap_or_else(|error| {
            tracing::debug!(source = %source.address, %error, "failed to ask what a new address may send");
            0
        });
        Some(Portion { bucket, who, messages })
    }

    /// A connection has ended that carried so many messages.
    pub(crate) async fn has_carried(&self, portion: Option<Portion>, messages: u32) {
        let Some(Portion { bucket, who, messages: taken }) = portion else { return };
        let unused = taken.saturating_sub(messages);
        if unused > 0
            && let Err(error) = bucket.give_back(&who, unused).await
        {
            tracing::debug!(source = who, %error, "some of what a new address may send today is lost");
        }
    }
}
