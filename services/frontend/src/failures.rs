//! Logins that failed, counted for each client over all pods: `frontend.auth_failures_per_client`.
//!
//! Trusted networks are not counted: a webmail stands for many users. While Redis cannot be asked nobody is refused.

use std::net::IpAddr;
use std::time::Duration;

use ::metrics::Counter;
use staffetta_queue::{Error, Limiter, Queue, Rate};

use crate::limits::network;
use crate::metrics;

const SCOPE: &str = "auth";

/// The limit, and what is counted of it.
pub(crate) struct Failures {
    limiter: Option<Limiter>,
    limited: Counter,
    unavailable: Counter,
}

impl Failures {
    /// Without a rate there is no limit.
    pub(crate) fn new(queue: &Queue, rate: Option<Rate>) -> Self {
        Self {
            limiter: rate.map(|rate| queue.limiter(SCOPE, rate)),
            limited: metrics::rate_limited(SCOPE),
            unavailable: metrics::rate_limit_unavailable(SCOPE),
        }
    }

    /// May this client try to log in?
    pub(crate) async fn may_try(&self, ip: IpAddr) -> bool {
        let Some(limiter) = &self.limiter else { return true };
        let wait = self.or_none(limiter.wait(&network(ip).to_string()).await);
        if !wait.is_zero() {
            self.limited.increment(1);
        }
        wait.is_zero()
    }

    /// This client had wrong credentials.
    pub(crate) async fn count(&self, ip: IpAddr) {
        if let Some(limiter) = &self.limiter {
            self.or_none(limiter.take(&network(ip).to_string()).await);
        }
    }

    fn or_none(&self, wait: Result<Duration, Error>) -> Duration {
        wait.unwrap_or_else(|error| {
            self.unavailable.increment(1);
            tracing::debug!(%error, "failed logins are not counted now");
            Duration::ZERO
        })
    }
}
