//! Tells all pods: for operators' commands.

use std::time::Duration;

use redis::{Cmd, Pipeline, Value};

use super::block::Block;
use super::follow::{each_block, is_ours};
use super::target::Target;
use super::{BLOCKS, ENDS, HOLD, JOURNAL, REVOKE};
use crate::address::Address;
use crate::connection;
use crate::error::Fault;
use crate::live::Live;
use crate::script;
use crate::value;
use crate::{Error, Settings, UnixMillis};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Entries that the journal keeps: who was away for more of them begins anew.
pub(super) const LENGTH: u64 = 10_000;
/// Blocks that hold at a time.
pub(super) const ROOM: u64 = 100_000;

/// Who blocks somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// An operator, whose word replaces what was said.
    Operator,
    /// A program, because of what a login does. There are no more of those than logins, so it may take all of the room.
    Ladder,
    /// A program, because of what servers do or say. Strangers run those, so it may take half of the room.
    Program(Held),
}

/// What a program does about a block that holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Leaves it as it is.
    Stays = 1,
    /// Puts its own in its place, which ends no earlier.
    Lasts = 2,
}

/// What blocks somebody.
pub(crate) fn block(target: &Target, life: Option<Duration>, reason: &str, by: By) -> Cmd {
    let (yields, room) = match by {
        By::Operator => (0, ROOM),
        By::Ladder => (Held::Lasts as u64, ROOM),
        By::Program(held) => (held as u64, ROOM / 2),
    };
    let target = target.to_string();
    let command = script::Block {
        journal: JOURNAL,
        blocks: BLOCKS,
        ends: ENDS,
        target: (&*target).into(),
        life: life.unwrap_or_default().into(),
        reason: reason.into(),
        yields: yields.into(),
        room: room.into(),
        length: LENGTH.into(),
    };
    command.call()
}

/// A connection through which everybody can be told.
pub struct Announcer {
    live: Live,
    /// How many replicas must have heard it.
    replicas: Option<u32>,
}

impl Announcer {
    /// Connects. Creates no queue and does not need one.
    ///
    /// # Errors
    /// Redis is away, the URL is wrong, or the queue there is another cluster's.
    pub async fn connect(settings: &Settings) -> Result<Self, Error> {
        let address = Address::parse(settings)?.of_key(JOURNAL);
        let live = tokio::time::timeout(PATIENCE, connection::open(&address, PATIENCE)).await;
        let live = live.map_err(|_| Error::Unavailable("no answer in time".to_owned()))?;
        let live = live.map_err(|trouble| Error::Unavailable(trouble.into()))?;
        is_ours(&address, &live, &settings.name).await.map_err(|end| Error::Unavailable(end.reason()))?;
        Ok(Self { live, replicas: settings.wait_for() })
    }

    /// What pods believe of this login must be asked again: credentials that were verified, sessions that are open.
    ///
    /// # Errors
    /// Redis is away or too few replicas heard it: it may be told or not. To tell it twice is no harm.
    pub async fn revoke(&self, login: &str) -> Result<(), Error> {
        self.tell(REVOKE, login).await
    }

    /// What is under way of this login now, and cannot be delivered by its attempt, is held instead of waiting again.
    ///
    /// # Errors
    /// As [`Self::revoke`].
    pub async fn hold(&self, login: &str) -> Result<(), Error> {
        self.tell(HOLD, login).await
    }

    async fn tell(&self, what: &'static str, login: &str) -> Result<(), Error> {
        let target = Target::login(login).map_err(|error| Error::Settings(error.to_string()))?;
        let target = target.to_string();
        let (target, what) = ((&*target).into(), what.into());
        self.call(script::Tell { journal: JOURNAL, what, target, length: LENGTH.into() }.call()).await?;
        Ok(())
    }

    /// Blocks it for so long, or until it is unblocked; a block that there is gets this end and this reason. False: there
    /// are too many blocks.
    ///
    /// # Errors
    /// As [`Self::revoke`].
    pub async fn block(&self, target: &Target, life: Option<Duration>, reason: &str) -> Result<bool, Error> {
        Ok(value::count(&self.call(block(target, life, reason, By::Operator)).await?) == 1)
    }

    /// The same because of what a login does: what holds for longer keeps its end.
    pub(crate) async fn block_misused(&self, target: &Target, life: Duration, reason: &str) -> Result<bool, Error> {
        Ok(value::count(&self.call(block(target, Some(life), reason, By::Ladder)).await?) == 1)
    }

    /// Ends a block; of a destination also what it gets less of, of a host that it gets commands one by one. That replies of it are
    /// final by a rule has a target of its own. False: there was none.
    ///
    /// # Errors
    /// As [`Self::revoke`].
    pub async fn unblock(&self, target: &Target) -> Result<bool, Error> {
        let mut was = false;
        for target in target.with_others() {
            was |= self.unblock_one(&target).await?;
        }
        Ok(was)
    }

    async fn unblock_one(&self, target: &Target) -> Result<bool, Error> {
        let target = target.to_string();
        let command = script::Unblock {
            journal: JOURNAL,
            blocks: BLOCKS,
            ends: ENDS,
            target: (&*target).into(),
            length: LENGTH.into(),
        };
        Ok(value::count(&self.call(command.call()).await?) == 1)
    }

    /// All that hold now, by kind and name, and what time it is by the clock of Redis.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn blocks(&self) -> Result<(Vec<(Target, Block)>, UnixMillis), Error> {
        let mut command = Cmd::new();
        command.arg("TIME");
        let now = value::time(&self.live.ask(command).await?).unwrap_or_else(crate::clock::wall);
        let mut all = Vec::new();
        each_block(&self.live, |target, block| {
            if block.holds(now) {
                all.push((target, block));
            }
        })
        .await?;
        all.sort_by_cached_key(|(target, _)| (target.kind(), target.name()));
        // A scan may show what has moved meanwhile twice.
        all.dedup_by(|one, other| one.0 == other.0);
        Ok((all, now))
    }

    /// One script, heard by as many replicas as must hear it.
    async fn call(&self, script: Cmd) -> Result<Value, Error> {
        let mut pipeline = Pipeline::new();
        pipeline.add_command(script);
        if let Some(replicas) = self.replicas {
            pipeline.cmd("WAIT").arg(replicas).arg(PATIENCE.as_millis() as u64 / 2);
        }
        let mut answers = self.live.send(&pipeline).await?.into_iter();
        let answer = answers.next().unwrap_or_else(|| Err(Fault::Unknown("no answer".to_owned())))?;
        if let Some(replicas) = self.replicas {
            let heard = answers.next().and_then(Result::ok).map_or(0, |heard| value::count(&heard));
            if heard < u64::from(replicas) {
                let text = format!("{heard} replicas have heard it, {replicas} are needed: check the replicas");
                return Err(Error::Unavailable(text));
            }
        }
        Ok(answer)
    }
}
