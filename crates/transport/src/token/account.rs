//! One login with tokens: whom to ask, what with, and what this pod has of it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use staffetta_config::{self as config, WebUrl};
use staffetta_smtp::client::{Credentials, Secret};

use super::TokenError;
use super::grant::{Grant, Granted};
use super::seal::Seal;

/// A token is not used to its last moment: a minute before, or a quarter of its life.
const MARGIN: Duration = Duration::from_secs(60);
/// And it is renewed that long before, or a quarter of its life.
const AHEAD: Duration = Duration::from_secs(300);
/// How long the first renewal that fails keeps others from trying, and the longest that any does.
const REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_secs(300);
/// A renewal under way is not begun a second time by this pod.
const RENEWAL: Duration = Duration::from_secs(15);
/// A server that refuses tokens does not make us ask for one after the other.
pub(super) const REFUSALS: Duration = Duration::from_secs(60);

/// A login with tokens.
pub struct Account {
    username: String,
    key: Arc<str>,
    pub(super) url: WebUrl,
    pub(super) grant: Grant,
    pub(super) seal: Seal,
    state: Mutex<State>,
    /// Whoever looks for a token; the others of this pod wait for what he finds.
    pub(super) flight: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    rest: Option<(Instant, Rest)>,
    renewal: Option<Instant>,
    refused: Option<Instant>,
}

/// A token, ready to be shown.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) credentials: Arc<Credentials>,
    ends: Instant,
    renew: Instant,
}

/// Which token will do.
pub(super) enum Want {
    /// Any that has not ended.
    Any,
    /// One that need not be renewed yet.
    Fresh,
    /// Another than this, which a server has refused.
    Other(Arc<Credentials>),
}

/// Why the endpoint is not asked for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    /// So many times it gave nothing, one after the other.
    pub(super) failures: u32,
    pub(super) why: String,
}

impl Rest {
    /// How long it is left alone.
    pub(super) fn time(&self) -> Duration {
        REST.saturating_mul(1 << self.failures.saturating_sub(1).min(16)).min(LONGEST_REST)
    }

    /// As it is kept. It is kept for twice its time, so that the next failure knows of this one.
    pub(super) fn text(&self) -> String {
        format!("{} {}", self.failures, self.why)
    }

    /// What was kept, and whether it still holds.
    pub(super) fn read(text: &str, left: Duration) -> Option<(Self, bool)> {
        let (failures, why) = text.split_once(' ')?;
        let rest = Self { failures: failures.parse().ok()?, why: why.to_owned() };
        let holds = left > rest.time();
        Some((rest, holds))
    }
}

impl Account {
    /// Of a route, if it has all that is needed.
    pub fn of(route: &config::Route) -> Option<Self> {
        let (username, url, grant) = (route.username.clone()?, route.token_url.clone()?, Grant::of(route)?);
        let secret = |secret: &Option<SecretString>| secret.as_ref().map_or("", |it| it.expose_secret()).to_owned();
        let secrets = [secret(&grant.client_secret), secret(&grant.refresh_token)].map(zeroize::Zeroizing::new);
        let scope = grant.scope.as_deref().unwrap_or_default();
        let seal = Seal::new(&[&secrets[0], &secrets[1]], &[&url.to_string(), &grant.client_id, scope])?;
        let key = format!("{username} {}", seal.name()).into();
        let (state, flight) = (Mutex::default(), tokio::sync::Mutex::default());
        Some(Self { username, key, url, grant, seal, state, flight })
    }

    /// What stands for it: the same for the same name, secrets and endpoint.
    pub(crate) const fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// Whom the server is told.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Under which name its token is kept.
    pub(super) fn name(&self) -> &str {
        self.seal.name()
    }

    /// What this pod has, if it will do.
    pub(super) fn held(&self, want: &Want, now: Instant) -> Option<Arc<Credentials>> {
        let state = self.state();
        state.held.as_ref().filter(|held| held.is(want, now)).map(|held| held.credentials.clone())
    }

    /// Is it time to renew what this pod has, and is it the one who asks to do it?
    pub(super) fn begins_renewal(&self, now: Instant) -> bool {
        let mut state = self.state();
        let due = state.held.as_ref().is_some_and(|held| held.renew <= now);
        let begins = due && state.renewal.is_none_or(|since| now.duration_since(since) >= RENEWAL);
        if begins {
            state.renewal = Some(now);
        }
        begins
    }

    /// Takes it as ours.
    pub(super) fn hold(&self, held: Held) -> Arc<Credentials> {
        let mut state = self.state();
        (state.rest, state.renewal) = (None, None);
        state.held.insert(held).credentials.clone()
    }

    /// What has just been granted, and how it is kept: sealed, for so long.
    pub(super) fn granted(&self, granted: &Granted, now: Instant) -> (Held, Option<Vec<u8>>, Duration) {
        let usable = granted.life - MARGIN.min(granted.life / 4);
        let life = u64::try_from(usable.as_millis()).unwrap_or(u64::MAX);
        let text = zeroize::Zeroizing::new(json!({ "token": granted.token.expose_secret(), "life": life }).to_string());
        let held = self.holding(granted.token.expose_secret(), usable, usable, now);
        (held, self.seal.seal("token", &text), usable)
    }

    /// What somebody else was granted, as it is kept.
    pub(super) fn kept(&self, sealed: &[u8], left: Duration, now: Instant) -> Option<Held> {
        let text = self.seal.open("token", sealed)?;
        let kept: Value = serde_json::from_str(&text).ok()?;
        let life = Duration::from_millis(kept.get("life")?.as_u64()?);
        Some(self.holding(kept.get("token")?.as_str()?, left, life, now))
    }

    fn holding(&self, token: &str, left: Duration, life: Duration, now: Instant) -> Held {
        let credentials = Credentials { username: self.username.clone(), secret: Secret::Token(token.to_owned()) };
        let ahead = AHEAD.min(life / 4);
        Held { credentials: Arc::new(credentials), ends: now + left, renew: now + left.saturating_sub(ahead) }
    }

    /// The endpoint gave nothing, after what is known of the times before.
    pub(super) fn failed(&self, known: Option<Rest>, why: &TokenError, now: Instant) -> Rest {
        let mut state = self.state();
        let before = known.or_else(|| state.rest.as_ref().map(|(_, rest)| rest.clone()));
        let failures = before.map_or(0, |rest| rest.failures).saturating_add(1);
        let rest = Rest { failures, why: why.to_string() };
        state.rest = Some((now, rest.clone()));
        rest
    }

    /// Nobody asks yet.
    pub(super) fn resting(&self, now: Instant) -> Result<(), TokenError> {
        match &self.state().rest {
            Some((since, rest)) if now.duration_since(*since) < rest.time() => {
                Err(TokenError::Resting(rest.why.clone()))
            }
            _ => Ok(()),
        }
    }

    /// A server has refused this token. False: it did so with the one before, a moment ago.
    pub(super) fn drop_refused(&self, refused: &Credentials, now: Instant) -> bool {
        let mut state = self.state();
        if state.refused.is_some_and(|since| now.duration_since(since) < REFUSALS) {
            return false;
        }
        state.refused = Some(now);
        if state.held.as_ref().is_some_and(|held| *held.credentials == *refused) {
            state.held = None;
        }
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    pub(super) fn is(&self, want: &Want, now: Instant) -> bool {
        now < self.ends
            && match want {
                Want::Any => true,
                Want::Fresh => now < self.renew,
                Want::Other(refused) => self.credentials != *refused,
            }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("username", &self.username).finish_non_exhaustive()
    }
}
