//! How many connections a client has in all pods, and how many all workers have to a next hop: a hash for each in Redis,
//! with an entry for each pod.
//!
//! An entry ends by the time of Redis unless its pod repeats it, so that a pod that died holds nobody's places for long.
//! Entries have versions: what a pod said earlier and what arrives later changes nothing. A client has a key only while
//! some pod has said something of it.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};

use crate::Error;
use crate::inquiry::{ask, ask_one};
use crate::op::unexpected;
use crate::script;
use crate::shared::Shared;
use crate::value;

/// How long an entry of a client holds, and one of a next hop at most.
const LIFE: Duration = Duration::from_secs(90);
/// And at least, however short leases are: who has it looks once a second whether it is to be repeated.
const SHORTEST: Duration = Duration::from_secs(5);
/// Longest wait for an answer; the greeting waits for it.
const PATIENCE: Duration = Duration::from_millis(100);
/// Clients that are told of in one go.
const GROUP: usize = 500;

/// One pod's part of the count. Cheap to clone.
#[derive(Clone)]
pub struct Headcount {
    shared: Arc<Shared>,
    pod: Arc<str>,
    /// Stands in front of the name in the key.
    kind: &'static str,
    life: Duration,
}

/// What a pod says of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heads {
    /// The name of the client, or of the next hop.
    pub client: String,
    /// Its connections in this pod. 0: it is forgotten.
    pub count: u32,
    /// Higher than whatever this pod said of the client before.
    pub version: u64,
}

impl Headcount {
    /// Entries are to be repeated this often, at least.
    pub const RENEWAL: Duration = Duration::from_secs(30);

    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, pod: format!("{:016x}", rand::random::<u64>()).into(), kind: "", life: LIFE }
    }

    /// Of a worker: entries hold about as long as its leases.
    pub(crate) fn of_hops(shared: Arc<Shared>) -> Self {
        let life = shared.settings.lease.clamp(SHORTEST, LIFE);
        Self { kind: "to ", life, ..Self::new(shared) }
    }

    /// How often the entries of next hops are to be repeated, at least.
    pub fn renewal(&self) -> Duration {
        self.life / 3
    }

    /// Wants, of each, to have so many connections, so that all pods together have no more than the limit beside it; with a
    /// limit of 0 it has them already. Answers how many it may have.
    ///
    /// # Errors
    /// Redis is away or does not answer within a second: any of it may be counted or not.
    pub async fn claim_all(&self, all: &[(Heads, u32)]) -> Result<Vec<u32>, Error> {
        let answers = ask(&self.shared, all.iter().map(|(heads, limit)| self.command(heads, *limit))).await?;
        answers.into_iter().map(|answer| granted(&answer?)).collect()
    }

    /// Wants to have so many connections of a client, so that all pods together have no more than `limit`; answers how
    /// many it may have.
    ///
    /// # Errors
    /// Redis is away or does not answer within 100 ms; it may be counted or not.
    pub async fn claim(&self, heads: &Heads, limit: u32) -> Result<u32, Error> {
        granted(&ask_one(PATIENCE, &self.shared, self.command(heads, limit)).await?)
    }

    /// Says what is so already, or still.
    ///
    /// # Errors
    /// Redis is away: some of it may be counted.
    pub async fn tell(&self, all: &[Heads]) -> Result<(), Error> {
        for group in all.chunks(GROUP) {
            for answer in ask(&self.shared, group.iter().map(|heads| self.command(heads, 0))).await? {
                granted(&answer?)?;
            }
        }
        Ok(())
    }

    fn command(&self, heads: &Heads, limit: u32) -> Cmd {
        let Heads { client, count, version } = heads;
        script::Headcount {
            pods: &format!("{{C:{}{client}}}", self.kind),
            pod: (&*self.pod).into(),
            count: u64::from(*count).into(),
            version: (*version).into(),
            life: self.life.into(),
            limit: u64::from(limit).into(),
        }
        .call()
    }
}

fn granted(answer: &Value) -> Result<u32, Error> {
    let granted = value::integer(answer).and_then(|granted| u32::try_from(granted).ok());
    granted.ok_or_else(|| unexpected("headcount", answer).into())
}
