//! What was counted of logins, for those who look.

use std::sync::Arc;

use redis::{Cmd, Value};
use staffetta_policy::conduct::{Counts, Signal, Step};

use super::{HOUR, call};
use crate::Error;
use crate::inquiry::{PATIENCE, ask, ask_one};
use crate::shared::Shared;
use crate::value;

/// Logins asked for at a time.
const GROUP: usize = 500;

/// Reads what [`super::Conduct`] has written. Cheap to clone.
#[derive(Clone)]
pub struct Records {
    shared: Arc<Shared>,
}

/// An hour that can be looked at, by the clock of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hour {
    /// The one that is.
    Now,
    /// The one before.
    Last,
}

/// What a login did in an hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// As [`crate::login_key`] spells it.
    pub login: String,
    /// How much of each signal.
    pub counts: Counts,
    /// What was done about it, by which signal.
    pub taken: Vec<(Signal, Step)>,
}

impl Records {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Those who have done most of something, at most `limit` and at most 10,000, the first one first.
    ///
    /// # Errors
    /// Redis is away or does not answer within a second.
    pub async fn top(&self, hour: Hour, by: Signal, limit: usize) -> Result<Vec<Record>, Error> {
        let hour = self.number(hour);
        let mut command = Cmd::new();
        command.arg("ZREVRANGE").arg(call::top(hour, by)).arg(0).arg(limit.saturating_sub(1));
        let answer = if limit == 0 { Value::Nil } else { ask_one(PATIENCE, &self.shared, command).await? };
        let logins: Vec<&str> = value::array(&answer).iter().filter_map(value::str).collect();
        let mut all = Vec::with_capacity(logins.len());
        for logins in logins.chunks(GROUP) {
            all.extend(self.of(hour, logins).await?);
        }
        Ok(all)
    }

    /// What this login, in any spelling, did in an hour.
    ///
    /// # Errors
    /// As [`Self::top`].
    pub async fn login(&self, hour: Hour, login: &str) -> Result<Record, Error> {
        let login = crate::login_key(login);
        let mut records = self.of(self.number(hour), &[&login]).await?;
        Ok(records.pop().unwrap_or(Record { login, counts: Counts::default(), taken: Vec::new() }))
    }

    async fn of(&self, hour: u64, logins: &[&str]) -> Result<Vec<Record>, Error> {
        let commands = logins.iter().map(|login| {
            let mut command = Cmd::new();
            command.arg("HGETALL").arg(call::record(hour, login));
            command
        });
        let mut all = Vec::with_capacity(logins.len());
        for (login, answer) in logins.iter().zip(ask(&self.shared, commands).await?) {
            let (counts, taken) = call::read(&answer?);
            all.push(Record { login: (*login).to_owned(), counts, taken });
        }
        Ok(all)
    }

    fn number(&self, hour: Hour) -> u64 {
        let now = self.shared.node_at(*super::SLOT).clock.now() / HOUR;
        match hour {
            Hour::Now => now,
            Hour::Last => now.saturating_sub(1),
        }
    }
}
