//! Limits that hold for the whole cluster: a bucket of tokens in Redis for each of those who are limited.
//!
//! A rate of `10/10m` is a bucket of ten tokens, of which one comes back every minute, by the time of Redis. Buckets
//! live in Redis only while they are not full. Take a token before the act that is limited and give it back if the act
//! does not count after all: to look first and count afterwards lets any number through at once. What to do while
//! Redis is away is the caller's decision.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};
use staffetta_config::Rate;

use crate::Error;
use crate::inquiry::{PATIENCE, ask_one};
use crate::op::unexpected;
use crate::script::{self, Arg};
use crate::shared::Shared;
use crate::value;

/// A part of a token that is none, as in the script.
const ROUNDING: f64 = 0.002;

/// The limit of one kind of event.
#[derive(Clone)]
pub struct Limiter {
    shared: Arc<Shared>,
    scope: &'static str,
    rate: Rate,
}

/// What became of a wish for tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// So many were there and are taken now.
    pub tokens: u32,
    /// How long the bucket stays empty; zero: there are more.
    pub empty_for: Duration,
}

impl Limiter {
    pub(crate) fn new(shared: Arc<Shared>, scope: &'static str, rate: Rate) -> Self {
        Self { shared, scope, rate }
    }

    /// Takes up to `tokens` of `who`'s tokens, as many as there are. Of 0 it only looks.
    ///
    /// # Errors
    /// Redis is away or does not answer within a second; the tokens may be taken.
    pub async fn acquire(&self, who: &str, tokens: u32) -> Result<Granted, Error> {
        self.call(who, tokens.into()).await
    }

    /// Puts back what was acquired for something that does not count.
    ///
    /// # Errors
    /// As [`Self::acquire`]. Do not repeat it then: time brings the tokens back, and twice would be too many.
    pub async fn give_back(&self, who: &str, tokens: u32) -> Result<(), Error> {
        self.call(who, -f64::from(tokens)).await.map(drop)
    }

    /// How many of `who`'s tokens are gone now, by the time of Redis as it is known here.
    ///
    /// # Errors
    /// As [`Self::acquire`]; nothing changes.
    pub async fn used(&self, who: &str) -> Result<u32, Error> {
        let mut get = redis::cmd("GET");
        get.arg(self.bucket(who));
        let full = ask_one(PATIENCE, &self.shared, get).await?;
        let full: f64 = value::str(&full).and_then(|full| full.parse().ok()).unwrap_or_default();
        let left = (full - self.shared.home().clock.now() as f64).max(0.0);
        Ok(((left / interval(self.rate) - ROUNDING).ceil().max(0.0) as u32).min(self.rate.count))
    }

    /// Makes `who`'s bucket full.
    ///
    /// # Errors
    /// As [`Self::acquire`]; to repeat it is no harm.
    pub async fn forget(&self, who: &str) -> Result<(), Error> {
        let mut del = redis::cmd("DEL");
        del.arg(self.bucket(who));
        ask_one(PATIENCE, &self.shared, del).await.map(drop)
    }

    async fn call(&self, who: &str, tokens: f64) -> Result<Granted, Error> {
        read(&ask_one(PATIENCE, &self.shared, self.command(who, tokens)).await?)
    }

    /// What takes tokens; below 0: what gives them back.
    pub(crate) fn command(&self, who: &str, tokens: f64) -> Cmd {
        take(self.scope, who, self.rate, tokens)
    }

    /// The key of `who`'s bucket.
    pub(crate) fn bucket(&self, who: &str) -> String {
        bucket(self.scope, who)
    }

    /// How many ms it takes until a token is back, and how many tokens there are.
    pub(crate) fn measure(&self) -> (Arg<'static>, Arg<'static>) {
        measure(self.rate)
    }
}

impl Shared {
    /// Is it time for what one process of all does, once in so long? Then it is this one's turn.
    pub(crate) async fn has_turn(&self, scope: &str, who: &str, every: Duration) -> Result<bool, Error> {
        let once = Rate { count: 1, per: every };
        Ok(read(&ask_one(PATIENCE, self, take(scope, who, once, 1.0)).await?)?.tokens > 0)
    }
}

/// What takes tokens; below 0: what gives them back.
fn take(scope: &str, who: &str, rate: Rate, tokens: f64) -> Cmd {
    let (interval, size) = measure(rate);
    script::Rate { bucket: &bucket(scope, who), tokens: Arg::Real(tokens), interval, size }.call()
}

fn measure(rate: Rate) -> (Arg<'static>, Arg<'static>) {
    (Arg::Real(interval(rate)), u64::from(rate.count).into())
}

/// Milliseconds until a token is back.
fn interval(rate: Rate) -> f64 {
    rate.per.as_secs_f64() * 1_000.0 / f64::from(rate.count)
}

/// The key of a bucket.
pub(crate) fn bucket(scope: &str, who: &str) -> String {
    format!("{{L:{scope}:{who}}}")
}

/// What RATE answers.
pub(crate) fn read(answer: &Value) -> Result<Granted, Error> {
    match value::array(answer) {
        [taken, wait] => Ok(Granted {
            tokens: u32::try_from(value::count(taken)).unwrap_or(u32::MAX),
            empty_for: Duration::from_millis(value::count(wait)),
        }),
        _ => Err(Error::from(unexpected("rate", answer))),
    }
}
