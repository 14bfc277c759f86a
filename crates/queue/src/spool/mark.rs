//! Is the store the one of this queue?
//!
//! The first process that comes with a store says so: it puts a mark into it, with a name made by chance, and writes that into
//! the registry, unless another was faster. Whoever does not find the mark of the registry has another store, and uses it for nothing: a directory that only one pod has, or one
//! that is not mounted. While there are workers it is they who begin: what is written must be read by them, so a frontend with a
//! directory of its own never gets to write to it.

use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Value};
use staffetta_store::Fault;

use super::{Home, PIECE, Spool};
use crate::partition::{READERS, REGISTRY};
use crate::readers::GONE;
use crate::shared::Shared;
use crate::{Error, value};

/// Looks of a process that has just begun: others may have as well.
const YOUNG: u32 = 10;
/// Until the store is known, and while it cannot be used.
const SOON: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_secs(5);
/// While all is well.
const LATER: Duration = Duration::from_secs(60);
/// Field of the registry, and how the name of the object begins.
const FIELD: &str = "store";
const MARK: &str = "mark";
/// What is wrong where there is none.
pub(super) const NONE_HERE: &str = "the queue has large bodies in a store, and spool.url is not set here";

impl Shared {
    /// Looks as long as the process lives.
    pub(crate) async fn watch_store(self: Arc<Self>, spool: Arc<Spool>) {
        let mut looks = 0_u32;
        let mut standing = spool.standing.subscribe();
        loop {
            self.home().admin.wait().await;
            let is_young = looks < YOUNG;
            let pause = match self.look_at_store(&spool, is_young).await {
                Ok(()) => LATER,
                Err(_) if is_young => SOON,
                Err(_) => AGAIN,
            };
            looks = looks.saturating_add(1);
            if pause == LATER
                && let Err(reason) = self.sweep_store(&spool).await
            {
                tracing::debug!(%reason, "the store was not searched for bodies without a message");
            }
            // Trouble that somebody has met is not left alone for long: it may be over.
            let trouble = async {
                let _ = standing.wait_for(|standing| standing.complaint().is_some()).await;
                tokio::time::sleep(AGAIN).await;
            };
            let _ = tokio::time::timeout(pause, trouble).await;
        }
    }

    /// For a process without a store: says so, once, if the queue has one.
    pub(crate) async fn miss_store(self: Arc<Self>) {
        loop {
            self.home().admin.wait().await;
            if self.has_store().await.unwrap_or_default() {
                tracing::error!("{NONE_HERE}; mail whose body is there has to wait for a process that has it");
                return;
            }
            tokio::time::sleep(LATER).await;
        }
    }

    /// Do others keep bodies in a store?
    pub(crate) async fn has_store(&self) -> Result<bool, Fault> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("HEXISTS").arg(REGISTRY).arg(FIELD);
        let told = |error: Error| Fault::Away(error.to_string());
        Ok(self.home().ask_all(&pipeline).await.map_err(told)?.first().is_some_and(|found| value::count(found) == 1))
    }

    /// Is it the queue's, and may it be used? `is_young`: this process has just begun.
    async fn look_at_store(&self, spool: &Spool, is_young: bool) -> Result<(), Arc<str>> {
        let looked = self.find_mark(spool).await;
        let mut unwritable = None;
        if let Ok(home) = &looked
            && spool.cannot_write().is_some()
        {
            let chance = format!("trial-{:016x}", rand::random::<u64>());
            // As large as what could not be written: a disk that is full has room for a word.
            let tried = spool.store.try_out(&home.under, &chance, PIECE).await;
            unwritable = tried.err().map(|fault| Arc::<str>::from(fault.to_string()));
        }
        let trouble = match &looked {
            Ok(_) => None,
            Err(Unfit::Away(reason) | Unfit::Foreign(reason) | Unfit::Unmarked(reason)) => {
                Some(Arc::<str>::from(reason.as_str()))
            }
        };
        let early = is_young && matches!(looked, Err(Unfit::Unmarked(_)));
        let complaint = trouble.clone().or_else(|| unwritable.clone());
        spool.stand(|standing| {
            standing.trouble = trouble;
            standing.unwritable = unwritable;
            standing.early = early;
            match looked {
                Ok(home) => standing.home = Some(home),
                Err(Unfit::Foreign(_) | Unfit::Unmarked(_)) => standing.home = None,
                Err(Unfit::Away(_)) => {}
            }
        });
        complaint.map_or(Ok(()), Err)
    }

    async fn find_mark(&self, spool: &Spool) -> Result<Home, Unfit> {
        let since = self.home().clock.now().saturating_sub(GONE);
        let mut pipeline = Pipeline::new();
        pipeline.cmd("HMGET").arg(REGISTRY).arg("id").arg(FIELD);
        pipeline.cmd("ZCOUNT").arg(READERS).arg(since).arg("+inf");
        let answers = self.home().ask_all(&pipeline).await?;
        let [fields, workers] = answers.as_slice() else { return Err(Unfit::Away("Redis is not clear".to_owned())) };
        let text = |value: Option<&Value>| value.and_then(value::str).map(str::to_owned);
        let fields = value::array(fields);
        let Some(under) = text(fields.first()) else {
            return Err(Unfit::Unmarked("there is no queue in Redis yet".to_owned()));
        };
        let expected = match text(fields.get(1)) {
            Some(expected) => expected,
            None if !spool.founds => return Err(Unfit::Unmarked(UNUSED.to_owned())),
            None if !self.formats().is_listed() && value::count(workers) > 0 => {
                let why = "no worker has used it yet: one of them begins, so that it is known that they see it";
                return Err(Unfit::Unmarked(why.to_owned()));
            }
            None => self.found_store(spool, &under).await?,
        };
        let home = Home { under: under.into(), mark: expected.into() };
        if spool.has_mark(&home).await? { Ok(home) } else { Err(Unfit::Foreign(NOT_OURS.to_owned())) }
    }

    /// The mark that counts from now on: ours, or that of whoever was faster. Ours is in the store before anybody can ask for
    /// it; one that does not count is not asked for.
    async fn found_store(&self, spool: &Spool, under: &str) -> Result<String, Unfit> {
        let mark = format!("{:032x}", rand::random::<u128>());
        let home = Home { under: under.into(), mark: mark.as_str().into() };
        spool.store.put(&home.name(), mark.clone().into()).await?;
        if !spool.has_mark(&home).await? {
            return Err(Unfit::Away("what was written cannot be read".to_owned()));
        }
        let mut pipeline = Pipeline::new();
        pipeline.cmd("HSETNX").arg(REGISTRY).arg(FIELD).arg(mark);
        pipeline.cmd("HGET").arg(REGISTRY).arg(FIELD);
        let answers = self.home().ask_all(&pipeline).await?;
        let kept = answers.get(1).and_then(value::str).map(str::to_owned);
        kept.ok_or_else(|| Unfit::Away("Redis did not keep the mark".to_owned()))
    }
}

/// Why the store is not used.
enum Unfit {
    /// It cannot be asked, or Redis cannot.
    Away(String),
    /// It is not known to be the queue's.
    Foreign(String),
    /// Nobody has said yet which store is the queue's.
    Unmarked(String),
}

impl From<Fault> for Unfit {
    fn from(fault: Fault) -> Self {
        Self::Away(fault.to_string())
    }
}

impl From<Error> for Unfit {
    fn from(error: Error) -> Self {
        Self::Away(error.to_string())
    }
}

impl Home {
    /// The object that says so.
    fn name(&self) -> String {
        format!("{}/{MARK}-{}", self.under, self.mark)
    }
}

impl Spool {
    async fn has_mark(&self, home: &Home) -> Result<bool, Fault> {
        match self.store.get(&home.name()).await {
            Ok(_) => Ok(true),
            Err(Fault::Missing(_)) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Is it still the store that it was?
    pub(super) async fn look_again(&self, home: &Home) -> Result<(), Fault> {
        if self.has_mark(home).await? { Ok(()) } else { Err(Fault::Away(NOT_OURS.to_owned())) }
    }
}

/// Of a store that no queue has yet.
pub(super) const UNUSED: &str = "no service has used it yet; those that run look once a minute";
const NOT_OURS: &str = "it is not the store that this queue uses, whose mark it would have: all services need the same one, and a \
     directory must be shared (docs/operations.md, \"Large bodies\")";
