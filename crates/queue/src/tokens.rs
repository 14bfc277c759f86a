//! Tokens that servers want to be shown, kept for the whole cluster: one for each account, a lease for whoever asks for the
//! next, and why the last question was in vain.
//!
//! Here a token is octets that whoever keeps them has sealed. All of it ends by the time of Redis.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, Value};

use crate::Error;
use crate::inquiry::{PATIENCE, ask, ask_one, next};
use crate::shared::Shared;
use crate::value;

/// How long a refresh token is kept that nobody uses: Microsoft's are good for 90 days.
const REFRESH: Duration = Duration::from_secs(180 * 86_400);

/// The memory of one cluster. Cheap to clone.
#[derive(Clone)]
pub struct KeptTokens {
    shared: Arc<Shared>,
}

/// What is kept of one account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptToken {
    /// A token, and how long it still holds.
    pub token: Option<(Bytes, Duration)>,
    /// The refresh token that counts.
    pub refresh: Option<Bytes>,
    /// Why none was given, and how long that is remembered.
    pub rest: Option<(String, Duration)>,
}

impl KeptTokens {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// All that is kept of an account.
    ///
    /// # Errors
    /// Redis is away or does not answer within a second.
    pub async fn look(&self, account: &str) -> Result<KeptToken, Error> {
        let (token, refresh, rest) = (key(account, ""), key(account, "refresh"), key(account, "rest"));
        let get = |key: &str| command("GET", key);
        let questions = [get(&token), command("PTTL", &token), get(&refresh), get(&rest), command("PTTL", &rest)];
        let mut answers = ask(&self.shared, questions).await?.into_iter();
        let (token, token_left) = (next(&mut answers)?, next(&mut answers)?);
        let refresh = value::into_bytes(next(&mut answers)?);
        let (rest, rest_left) = (next(&mut answers)?, next(&mut answers)?);
        Ok(KeptToken {
            token: value::into_bytes(token).zip(left(&token_left)),
            refresh,
            rest: value::str(&rest).map(str::to_owned).zip(left(&rest_left)),
        })
    }

    /// Takes the lease to ask for a token. False: somebody has it.
    ///
    /// # Errors
    /// As [`Self::look`], or Redis is full.
    pub async fn lease(&self, account: &str, life: Duration) -> Result<bool, Error> {
        self.first(&key(account, "lease"), life).await
    }

    /// Gives the lease back.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub async fn let_go(&self, account: &str) -> Result<(), Error> {
        ask_one(PATIENCE, &self.shared, command("DEL", &key(account, "lease"))).await.map(drop)
    }

    /// Keeps a token for so long, if there is one, and the refresh token that counts from now on; the lease is given back.
    ///
    /// # Errors
    /// As [`Self::lease`]: some of it may be kept.
    pub async fn keep(
        &self,
        account: &str,
        token: Option<(&[u8], Duration)>,
        refresh: Option<&[u8]>,
    ) -> Result<(), Error> {
        let (place, refreshes) = (key(account, ""), key(account, "refresh"));
        let keep = token.map(|(token, life)| set(&place, token, life));
        let refresh = refresh.map_or_else(|| command("DEL", &refreshes), |token| set(&refreshes, token, REFRESH));
        let mut over = command("DEL", &key(account, "lease"));
        over.arg(key(account, "rest"));
        self.tell(keep.into_iter().chain([refresh, over])).await
    }

    /// Remembers for so long why none was given; the lease is given back.
    ///
    /// # Errors
    /// As [`Self::lease`]: it may be remembered or not.
    pub async fn rest(&self, account: &str, why: &str, life: Duration) -> Result<(), Error> {
        let rest = set(&key(account, "rest"), why.as_bytes(), life);
        self.tell([rest, command("DEL", &key(account, "lease"))]).await
    }

    /// Forgets the token, which a server has refused. False: that happened less than `every` ago, and nothing is forgotten.
    ///
    /// # Errors
    /// As [`Self::lease`].
    pub async fn refuse(&self, account: &str, every: Duration) -> Result<bool, Error> {
        let first = self.first(&key(account, "refused"), every).await?;
        if first {
            self.tell([command("DEL", &key(account, ""))]).await?;
        }
        Ok(first)
    }

    /// Is this the first of all within that time?
    async fn first(&self, key: &str, life: Duration) -> Result<bool, Error> {
        let mut command = set(key, b"1", life);
        command.arg("NX");
        Ok(value::str(&ask_one(PATIENCE, &self.shared, command).await?).is_some())
    }

    async fn tell(&self, commands: impl IntoIterator<Item = Cmd>) -> Result<(), Error> {
        for answer in ask(&self.shared, commands).await? {
            answer?;
        }
        Ok(())
    }
}

/// All that belongs to an account has one slot.
fn key(account: &str, what: &str) -> String {
    format!("{{O:{account}}}{what}")
}

fn command(name: &str, key: &str) -> Cmd {
    let mut command = Cmd::new();
    command.arg(name).arg(key);
    command
}

fn set(key: &str, value: &[u8], life: Duration) -> Cmd {
    let mut set = command("SET", key);
    set.arg(value).arg("PX").arg(u64::try_from(life.as_millis()).unwrap_or(u64::MAX).max(1));
    set
}

/// What PTTL says; `None` if there is no end, or nothing.
fn left(said: &Value) -> Option<Duration> {
    let left = value::count(said);
    (left > 0).then(|| Duration::from_millis(left))
}
