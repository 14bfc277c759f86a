//! How the TLS of mail to other domains went, counted for the whole cluster until they are told (TLSRPT, RFC 8460).
//!
//! Here an outcome is a text. Of a domain and a period there is one hash of them, and one entry in the list of what will be due.
//! Both are bounded: what does not fit is not told, and mail never waits for it.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};

use crate::inquiry::{PATIENCE, ask, ask_one, next};
use crate::op::unexpected;
use crate::script::{self, Arg};
use crate::shared::Shared;
use crate::{Error, UnixMillis, value};

/// What will be due, and when. One slot for all: whoever counts writes both.
const PENDING: &str = "{T:}pending";
/// Reports that may be pending.
const MOST: u64 = 10_000;
/// Outcomes that one report tells apart.
const ROOM: u64 = 16;
/// Octets of the longest outcome that is kept.
const LONGEST: usize = 2_048;

/// The counts of one cluster. Cheap to clone.
#[derive(Clone)]
pub struct TlsCounts {
    shared: Arc<Shared>,
}

/// What a domain is told of one period.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsPeriod {
    /// The domain.
    pub domain: String,
    /// When it begins.
    pub start: UnixMillis,
    /// When the next one begins.
    pub end: UnixMillis,
}

impl TlsCounts {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Adds to the counts of a period, which is to be told at `due`. False: there are too many that wait to be told.
    ///
    /// # Errors
    /// Redis is away, full, or does not answer within a second: it may be counted or not.
    pub async fn add(&self, period: &TlsPeriod, due: UnixMillis, outcomes: &[(String, u64)]) -> Result<bool, Error> {
        let kept = || outcomes.iter().filter(|(outcome, _)| outcome.len() <= LONGEST);
        let texts: Vec<Arg<'_>> = kept().map(|(outcome, _)| outcome.as_str().into()).collect();
        let numbers: Vec<Arg<'_>> = kept().map(|(_, number)| (*number).into()).collect();
        if texts.is_empty() {
            return Ok(true);
        }
        let (report, counts) = (period.name(), period.key());
        let length = Duration::from_millis(period.end.saturating_sub(period.start));
        let command = script::NoteSessions {
            pending: PENDING,
            counts: &counts,
            report: (&*report).into(),
            due: due.into(),
            // One that is not told by then never is.
            life: (4 * length).into(),
            most: MOST.into(),
            room: ROOM.into(),
            outcomes: &texts,
            numbers: &numbers,
        };
        Ok(value::count(&ask_one(PATIENCE, &self.shared, command.call()).await?) == 1)
    }

    /// Takes one that is due; nobody else gets it before `lease` is over. What cannot be read goes.
    ///
    /// # Errors
    /// Redis is away or does not answer within a second.
    pub async fn claim(&self, lease: Duration) -> Result<Option<TlsPeriod>, Error> {
        let command = script::ClaimReport { pending: PENDING, lease: lease.into() };
        let name = ask_one(PATIENCE, &self.shared, command.call()).await?;
        let Some(name) = value::str(&name) else { return Ok(None) };
        let period = TlsPeriod::from_name(name);
        if period.is_none() {
            let mut command = Cmd::new();
            command.arg("ZREM").arg(PENDING).arg(name);
            ask_one(PATIENCE, &self.shared, command).await?;
        }
        Ok(period)
    }

    /// What was counted of it; empty if that is gone.
    ///
    /// # Errors
    /// As [`Self::claim`].
    pub async fn read(&self, period: &TlsPeriod) -> Result<Vec<(String, u64)>, Error> {
        let mut command = Cmd::new();
        command.arg("HGETALL").arg(period.key());
        match ask_one(PATIENCE, &self.shared, command).await? {
            Value::Map(pairs) => Ok(pairs.iter().filter_map(|(outcome, number)| pair(outcome, number)).collect()),
            Value::Array(flat) => Ok(flat.chunks_exact(2).filter_map(|each| pair(&each[0], &each[1])).collect()),
            other => Err(unexpected("hgetall", &other).into()),
        }
    }

    /// It was told, or nobody wants to hear of it.
    ///
    /// # Errors
    /// As [`Self::claim`]: it may be claimed again.
    pub async fn forget(&self, period: &TlsPeriod) -> Result<(), Error> {
        let (mut counts, mut entry) = (Cmd::new(), Cmd::new());
        counts.arg("DEL").arg(period.key());
        entry.arg("ZREM").arg(PENDING).arg(period.name());
        let mut answers = ask(&self.shared, [counts, entry]).await?.into_iter();
        next(&mut answers)?;
        next(&mut answers)?;
        Ok(())
    }
}

fn pair(outcome: &Value, number: &Value) -> Option<(String, u64)> {
    Some((value::str(outcome)?.to_owned(), value::str(number)?.parse().ok()?))
}

impl TlsPeriod {
    /// In the list of what will be due.
    fn name(&self) -> String {
        format!("{} {} {}", self.start, self.end, self.domain)
    }

    fn from_name(name: &str) -> Option<Self> {
        let mut parts = name.splitn(3, ' ');
        let mut time = || parts.next()?.parse().ok();
        let (start, end) = (time()?, time()?);
        Some(Self { start, end, domain: parts.next()?.to_owned() })
    }

    fn key(&self) -> String {
        format!("{{T:}}{}:{}", self.start, self.domain)
    }
}
