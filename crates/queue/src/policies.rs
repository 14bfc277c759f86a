//! What domains have published about the TLS of their mail (MTA-STS, RFC 8461), kept for the whole cluster: once a policy was
//! seen, nobody who hides it later makes us forget it before its time.
//!
//! Here a policy is a text. A domain's newest replaces the one before; it ends by the time of Redis.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};

use crate::Error;
use crate::inquiry::{PATIENCE, ask, ask_one, next};
use crate::op::unexpected;
use crate::shared::Shared;
use crate::value;

/// Longest text that is kept, in octets: room for the longest that is fetched (64 KiB), as it is written here. What is not
/// kept is forgotten when its server is silent, so nothing that is obeyed may be too long.
const TEXT: usize = 96 * 1024;

/// The memory of one cluster. Cheap to clone.
#[derive(Clone)]
pub struct KeptPolicies {
    shared: Arc<Shared>,
}

/// What is kept of one domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptPolicy {
    /// As it was given.
    pub text: String,
    /// How long it still holds.
    pub left: Duration,
}

impl KeptPolicies {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// What is kept of a domain.
    ///
    /// # Errors
    /// Redis is away or does not answer within a second.
    pub async fn recall(&self, domain: &str) -> Result<Option<KeptPolicy>, Error> {
        let key = key(domain);
        let (mut read, mut left) = (Cmd::new(), Cmd::new());
        read.arg("GET").arg(&key);
        left.arg("PTTL").arg(&key);
        let mut answers = ask(&self.shared, [read, left]).await?.into_iter();
        let (text, left) = (next(&mut answers)?, next(&mut answers)?);
        let left = match left {
            Value::Int(left) => u64::try_from(left).unwrap_or_default(),
            other => return Err(unexpected("pttl", &other).into()),
        };
        Ok(value::str(&text)
            .filter(|_| left > 0)
            .map(|text| KeptPolicy { text: text.to_owned(), left: Duration::from_millis(left) }))
    }

    /// Keeps it for so long.
    ///
    /// # Errors
    /// As [`Self::recall`], or Redis is full: it may be kept or not.
    pub async fn keep(&self, domain: &str, text: &str, life: Duration) -> Result<(), Error> {
        if text.len() > TEXT || life.is_zero() {
            return Ok(());
        }
        let mut command = Cmd::new();
        command.arg("SET").arg(key(domain)).arg(text).arg("PX").arg(life.as_millis().max(1) as u64);
        ask_one(PATIENCE, &self.shared, command).await.map(drop)
    }
}

fn key(domain: &str) -> String {
    format!("{{T:{domain}}}")
}
