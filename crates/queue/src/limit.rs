//! Limits that hold for the whole cluster: a bucket of tokens in Redis for each of those who are limited.
//!
//! A rate of `10/10m` is a bucket of ten tokens, of which one comes back every minute. Buckets live in Redis only while
//! they are not full. A limit is no reason to refuse anybody while Redis is away: callers go on then, and count it.

use std::sync::Arc;
use std::time::Duration;

use staffetta_config::Rate;

use crate::Error;
use crate::error::Fault;
use crate::op::unexpected;
use crate::script::{self, Arg};
use crate::shared::Shared;
use crate::value;

/// Longest wait for an answer; nobody shall wait for a limit that cannot be looked up.
const PATIENCE: Duration = Duration::from_secs(1);

/// The limit of one kind of event.
#[derive(Clone)]
pub struct Limiter {
    shared: Arc<Shared>,
    scope: &'static str,
    rate: Rate,
}

impl Limiter {
    pub(crate) fn new(shared: Arc<Shared>, scope: &'static str, rate: Rate) -> Self {
        Self { shared, scope, rate }
    }

    /// How long `who` has to wait for a token; zero: there is one. Takes none.
    ///
    /// # Errors
    /// Redis is away or does not answer within a second.
    pub async fn wait(&self, who: &str) -> Result<Duration, Error> {
        self.call(who, 0).await
    }

    /// Takes a token, if there is one, and answers like [`Self::wait`] about the next.
    ///
    /// # Errors
    /// As [`Self::wait`]; the token may be taken.
    pub async fn take(&self, who: &str) -> Result<Duration, Error> {
        self.call(who, 1).await
    }

    async fn call(&self, who: &str, tokens: u64) -> Result<Duration, Error> {
        let bucket = format!("{{L:{}:{who}}}", self.scope);
        let interval = self.rate.per.as_secs_f64() * 1_000.0 / f64::from(self.rate.count);
        let call = script::Rate {
            bucket: &bucket,
            tokens: tokens.into(),
            interval: Arg::Real(interval),
            size: u64::from(self.rate.count).into(),
        }
        .call();
        let late = |_| Err(Fault::Unknown("no answer in time".to_owned()));
        let answer = tokio::time::timeout(PATIENCE, self.shared.home().admin.ask(call)).await.unwrap_or_else(late)?;
        let wait = value::integer(&answer).ok_or_else(|| unexpected("rate", &answer))?;
        Ok(Duration::from_millis(u64::try_from(wait).unwrap_or(0)))
    }
}
