//! Access tokens for servers that want one instead of a password (RFC 6749, RFC 6750): one for the whole cluster.
//!
//! ```text
//! this pod has one ─▶ the cluster has one ─▶ somebody is asking: wait ─▶ the endpoint was asked in vain a moment ago
//!   │ soon over: renewed beside the mail                                        ─▶ take the lease, ask, keep it for all
//! ```
//!
//! [`Tokens::credentials`] gives what to log in with; [`Tokens::instead_of`] something else after a server has refused that,
//! at most once a minute. Where nobody can say what the cluster has, a pod asks for itself. Whoever gives up waiting does not
//! end the asking: an answer may hold a refresh token of which the old one is no use any more.
//!
//! Two may come to ask at the same time, if one was stopped for longer than its lease: that costs a question, nothing else.

mod account;
mod grant;
mod seal;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use metrics::Counter;
use secrecy::{ExposeSecret, SecretString};
use staffetta_smtp::client::Credentials;

pub use account::Account;
use account::{REFUSALS, Rest, Want};
use grant::Granted;

use crate::connect::TlsClient;
use crate::tally::tally;
use crate::web::{DEADLINE, Web, WebError};

/// How long a lease to ask holds: room for two questions, the second after a refresh token that is over.
const LEASE: Duration = Duration::from_secs(2 * DEADLINE.as_secs() + 2);
/// Longest wait for a token; a lease of somebody who has died is over by then.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks whether somebody else has it.
const LOOK: Duration = Duration::from_millis(200);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The endpoint cannot be asked.
    #[error(transparent)]
    Web(#[from] WebError),
    /// It gives none, and says why (RFC 6749 section 5.2).
    #[error("refused: {0}")]
    Refused(String),
    /// It gives none.
    #[error("the web server says {0}")]
    Status(StatusCode),
    /// It gives something else.
    #[error("the answer has no bearer token")]
    Answer,
    /// It was asked a moment ago.
    #[error("not asked for again yet after: {0}")]
    Resting(String),
    /// The server refuses every token.
    #[error("the server refuses what it was shown, which was renewed a moment ago")]
    Unwanted,
    /// Somebody else asks, and does not come to an end.
    #[error("another worker has asked for it, and has none yet")]
    Elsewhere,
}

/// What a [`Shelf`] promises. `None`: nobody can say.
pub type Later<T> = Pin<Box<dyn Future<Output = Option<T>> + Send>>;

/// What the cluster keeps for an account. What was sealed is nothing to anybody else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// A token, and how long it is good.
    pub token: Option<(Vec<u8>, Duration)>,
    /// The refresh token that counts instead of the configured one.
    pub refresh: Option<Vec<u8>>,
    /// Why the endpoint gave nothing, and how long that is remembered.
    pub rest: Option<(String, Duration)>,
}

/// Where the cluster keeps tokens, each under the name of its account.
pub trait Shelf: Send + Sync + 'static {
    /// All that is kept.
    fn look(&self, name: &str) -> Later<Kept>;
    /// May the caller ask? One of all may, for so long, or until something is kept or let go.
    fn lease(&self, name: &str, life: Duration) -> Later<bool>;
    /// Gives the lease back.
    fn let_go(&self, name: &str) -> Later<()>;
    /// Keeps a token for so long, if there is one, and the refresh token that counts from now on; the lease is given back.
    fn keep(&self, name: &str, token: Option<(Vec<u8>, Duration)>, refresh: Option<Vec<u8>>) -> Later<()>;
    /// Remembers for so long that nothing was given; the lease is given back.
    fn rest(&self, name: &str, text: String, life: Duration) -> Later<()>;
    /// Forgets the token, unless that was done within this time.
    fn refuse(&self, name: &str, every: Duration) -> Later<bool>;
}

/// Finds tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    tls: TlsClient,
    shelf: Box<dyn Shelf>,
    granted: Counter,
    failed: Counter,
}

/// The family of questions: those that brought a token, and those that did not.
pub fn declare_metrics() -> [Counter; 2] {
    const REQUESTS: &str = "staffetta_token_requests_total";
    tally(REQUESTS, "Requests for a token to log in with at a next hop.", ["granted", "failed"])
}

impl Tokens {
    /// With what it asks by, and where the cluster keeps what comes of it.
    pub fn new(tls: TlsClient, shelf: Box<dyn Shelf>) -> Self {
        let [granted, failed] = declare_metrics();
        Self(Arc::new(Inner { tls, shelf, granted, failed }))
    }

    /// What to log in with now.
    ///
    /// # Errors
    /// There is no token, and why.
    pub async fn credentials(&self, account: &Arc<Account>) -> Result<Arc<Credentials>, TokenError> {
        let now = Instant::now();
        let Some(held) = account.held(&Want::Any, now) else { return self.find(account, Want::Any).await };
        if account.begins_renewal(now) {
            let (tokens, account) = (self.clone(), account.clone());
            tokio::spawn(async move { tokens.obtain(&account, &Want::Fresh).await.map(drop) });
        }
        Ok(held)
    }

    /// Something else, after a server has refused this.
    ///
    /// # Errors
    /// There is nothing else, and why.
    pub async fn instead_of(
        &self,
        account: &Arc<Account>,
        refused: Arc<Credentials>,
    ) -> Result<Arc<Credentials>, TokenError> {
        self.find(account, Want::Other(refused)).await
    }

    /// Asks the endpoint now, whatever there is: how long what it gives is good. That is kept, as ever.
    ///
    /// # Errors
    /// It gives nothing, and why.
    pub async fn try_now(&self, account: &Account) -> Result<Duration, TokenError> {
        let kept = self.0.shelf.look(account.name()).await.unwrap_or_default();
        let (granted, refresh) = self.request(account, kept.refresh.as_deref()).await?;
        let life = granted.life;
        self.keep(account, &granted, refresh).await;
        Ok(life)
    }

    /// Goes on when the caller does not.
    async fn find(&self, account: &Arc<Account>, want: Want) -> Result<Arc<Credentials>, TokenError> {
        let (tokens, account) = (self.clone(), account.clone());
        let found = tokio::spawn(async move { tokens.obtain(&account, &want).await });
        found.await.unwrap_or(Err(TokenError::Elsewhere))
    }

    async fn obtain(&self, account: &Account, want: &Want) -> Result<Arc<Credentials>, TokenError> {
        let shelf = &self.0.shelf;
        let end = Instant::now() + PATIENCE;
        let flight = tokio::time::timeout(PATIENCE, account.flight.lock()).await;
        let _flight = flight.map_err(|_| TokenError::Elsewhere)?;
        let mut leased = false;
        loop {
            if let Some(held) = account.held(want, Instant::now()) {
                return Ok(held);
            }
            let Some(kept) = shelf.look(account.name()).await else {
                account.resting(Instant::now())?;
                return self.ask(account, want, Kept::default()).await;
            };
            if let Some(held) = take(account, &kept, want) {
                if leased {
                    shelf.let_go(account.name()).await;
                }
                return Ok(held);
            }
            if let Some((rest, true)) = remembered(&kept) {
                return Err(TokenError::Resting(rest.why));
            }
            if leased {
                return self.ask(account, want, kept).await;
            }
            // What was kept is looked at once more: it may have come before the lease.
            leased = shelf.lease(account.name(), LEASE).await.unwrap_or(true);
            if !leased {
                if Instant::now() > end {
                    return Err(TokenError::Elsewhere);
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    /// Asks, as the one who may, and tells all.
    async fn ask(&self, account: &Account, want: &Want, kept: Kept) -> Result<Arc<Credentials>, TokenError> {
        let shelf = &self.0.shelf;
        if let Want::Other(refused) = want {
            let first_here = account.drop_refused(refused, Instant::now());
            let first = first_here && shelf.refuse(account.name(), REFUSALS).await.unwrap_or(true);
            if !first {
                shelf.let_go(account.name()).await;
                return Err(TokenError::Unwanted);
            }
        }
        match self.request(account, kept.refresh.as_deref()).await {
            Ok((granted, refresh)) => Ok(self.keep(account, &granted, refresh).await),
            Err(error) => {
                let rest = account.failed(remembered(&kept).map(|(rest, _)| rest), &error, Instant::now());
                let (again_in, url) = (rest.time(), &account.url);
                tracing::warn!(
                    %error, token_url = %url, username = account.username(), again_in_s = again_in.as_secs(),
                    "no token to log in with at a next hop: its mail waits"
                );
                shelf.rest(account.name(), rest.text(), again_in * 2).await;
                Err(error)
            }
        }
    }

    /// One token, with the refresh token that was good for it and is not the configured one.
    async fn request(
        &self,
        account: &Account,
        refresh: Option<&[u8]>,
    ) -> Result<(Granted, Option<SecretString>), TokenError> {
        let configured = account.grant.refresh_token.as_ref();
        let newer = refresh.and_then(|sealed| account.seal.open("refresh", sealed)).map(|it| it.as_str().into());
        let mut used = newer.filter(|_| configured.is_some());
        let mut result = self.post(account, used.as_ref().or(configured)).await;
        if let (Err(TokenError::Refused(_)), Some(_)) = (&result, &used) {
            // The operator may have been given another since.
            used = None;
            result = self.post(account, configured).await;
        }
        let counter = if result.is_ok() { &self.0.granted } else { &self.0.failed };
        counter.increment(1);
        result.map(|granted| (granted, used))
    }

    async fn post(&self, account: &Account, refresh: Option<&SecretString>) -> Result<Granted, TokenError> {
        let web = Web::new(&account.url, self.0.tls.clone())?;
        let (status, content) = web.send(account.grant.request(refresh)).await?;
        account.grant.read(refresh, status, &content)
    }

    /// What was granted is ours, and everybody's.
    async fn keep(&self, account: &Account, granted: &Granted, used: Option<SecretString>) -> Arc<Credentials> {
        let (held, sealed, life) = account.granted(granted, Instant::now());
        let refresh = granted.refresh.as_ref().or(used.as_ref()).filter(|_| account.grant.refresh_token.is_some());
        let refresh = refresh.and_then(|token| account.seal.seal("refresh", token.expose_secret()));
        let (url, username) = (&account.url, account.username());
        tracing::info!(token_url = %url, username, life_s = granted.life.as_secs(), "a token to log in with was granted");
        self.0.shelf.keep(account.name(), sealed.map(|sealed| (sealed, life)), refresh).await;
        account.hold(held)
    }
}

/// What the cluster has, if it will do, is ours.
fn take(account: &Account, kept: &Kept, want: &Want) -> Option<Arc<Credentials>> {
    let (sealed, left) = kept.token.as_ref()?;
    let held = account.kept(sealed, *left, Instant::now())?;
    held.is(want, Instant::now()).then(|| account.hold(held))
}

/// The last time that nothing was given, and whether it still keeps everybody from asking.
fn remembered(kept: &Kept) -> Option<(Rest, bool)> {
    let (text, left) = kept.rest.as_ref()?;
    Rest::read(text, *left)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
