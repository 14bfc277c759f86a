//! Who may not send any longer: told once, heard by every pod at once.
//!
//! [`Announcer`] tells it: that a login's credentials have changed, that a login, a client's network or a domain is blocked
//! or no longer is. It is written into a journal in Redis, `{R}log`, and blocks besides into what holds until it is
//! changed, `{R}blocks`. [`Revocations`] follows the journal in every pod that believes something of logins, and answers
//! from memory, so that nobody's message waits for it.
//!
//! A pod that was away reads on where it stopped. Each entry names the one before it, so that a pod notices when it has
//! missed one: it was away for longer than the journal reaches, Redis was emptied, or a failover lost the newest. Then it
//! forgets all that it believed, and every session has to log in again. While Redis is away a pod knows that it may be
//! missing something ([`Revocations::is_current`]), and its service decides what that means.

mod announce;
mod block;
mod follow;
mod known;
mod target;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use announce::Announcer;
pub use block::Block;
pub use known::Position;
pub use target::{Target, TargetError, login_key};

use crate::address::Address;
use crate::{Error, Settings, UnixMillis};
use known::Known;

/// The stream of what happened.
const JOURNAL: &str = "{R}log";
/// Words of the journal about a login.
const REVOKE: &str = "revoke";
const HOLD: &str = "hold";
/// The blocks that hold.
const BLOCKS: &str = "{R}blocks";
/// When those of them end that do.
const ENDS: &str = "{R}ends";

/// A pod hears from Redis every second; after this long without a word it may be missing something.
const SILENCE: Duration = Duration::from_secs(10);

/// How this pod stands with Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hearing {
    /// There is no connection.
    Away,
    /// All was read, at this time.
    Heard(Instant),
    /// Redis answers, but not this question: waiting does not help.
    Barred,
}

/// What a pod knows of revocations and blocks. Cheap to clone; all clones know the same.
#[derive(Clone)]
pub struct Revocations {
    known: Arc<Known>,
    hearing: watch::Receiver<Hearing>,
}

impl Revocations {
    /// Follows the journal in the background until `shutdown`; never waits for Redis. Needs a running tokio runtime.
    /// Of the settings only the URL counts.
    ///
    /// # Errors
    /// [`Error::Settings`] only.
    pub fn follow(settings: &Settings, shutdown: CancellationToken) -> Result<Self, Error> {
        let address = Address::parse(&settings.url)?;
        let known = Arc::new(Known::new(crate::clock::wall()));
        let (tell, hearing) = watch::channel(Hearing::Away);
        let follower = follow::Follower::new(address, Arc::clone(&known), tell);
        tokio::spawn(async move { shutdown.run_until_cancelled(follower.run()).await });
        Ok(Self { known, hearing })
    }

    /// Has nothing been missed, as far as can be known? Not so while Redis is away, until all was read that was written
    /// meanwhile.
    pub fn is_current(&self) -> bool {
        is_current(*self.hearing.borrow())
    }

    /// Waits until nothing is missed, for so long at most.
    pub async fn is_current_within(&self, patience: Duration) -> bool {
        if self.is_current() {
            return true;
        }
        let mut hearing = self.hearing.clone();
        let current = hearing.wait_for(|hearing| is_current(*hearing));
        matches!(tokio::time::timeout(patience, current).await, Ok(Ok(_)))
    }

    /// Changes with everything that is heard. As long as it does not, nothing needs to be asked again.
    pub fn version(&self) -> u64 {
        self.known.version()
    }

    /// Where in the journal it is; `None`: it has not begun to read.
    pub fn place(&self) -> Option<Position> {
        self.known.place()
    }

    /// Is what was found out about this login, by somebody who took the [`Self::version`] before he asked, to be asked again?
    pub fn is_revoked(&self, login: &str, since: u64) -> bool {
        self.known.is_revoked(login, since)
    }

    /// Is this login blocked?
    pub fn is_login_blocked(&self, login: &str) -> bool {
        self.known.is_login_blocked(login)
    }

    /// Is the mail of this login that was claimed at this time, by the clock of Redis, to be held instead of waiting again?
    pub fn is_held(&self, login: &str, claimed: UnixMillis) -> bool {
        self.known.is_held(login, claimed)
    }

    /// Is this client in a network that is blocked?
    pub fn is_client_blocked(&self, client: IpAddr) -> bool {
        self.known.is_client_blocked(client)
    }

    /// Is this domain blocked? In lower case and A-labels.
    pub fn is_domain_blocked(&self, domain: &str) -> bool {
        self.known.is_domain_blocked(domain)
    }

    /// Is any domain? Spares those who would have to find one out.
    pub fn has_blocked_domains(&self) -> bool {
        self.known.has_blocked_domains()
    }
}

fn is_current(hearing: Hearing) -> bool {
    match hearing {
        Hearing::Away => false,
        Hearing::Heard(at) => at.elapsed() < SILENCE,
        Hearing::Barred => true,
    }
}
