//! Who may not send any longer: told once, heard by every pod at once.
//!
//! [`Announcer`] tells it: that a login's credentials have changed, that a login, a client's network or a domain is blocked
//! or no longer is. It is written into a journal in Redis, `{R}log`, and blocks besides into what holds until it is
//! changed, `{R}blocks`. [`Revocations`] follows the journal in every pod that believes something of logins, and answers
//! from memory, so that nobody's message waits for it.
//!
//! A pod that was away reads on where it stopped. Each entry names the one before it, so that a pod notices when it has
//! missed one: it was away for longer than the journal reaches, Redis was emptied, or a failover lost the newest. Then it
//! forgets all that it believed, and every session has to log in again. While Redis is away, or does not allow the question,
//! a pod knows that it may be missing something ([`Revocations::is_current`]), and its service decides what that means. What
//! others could be asked about is only believed if Redis was heard a moment ago ([`Revocations::vouches_for`]): a connection
//! that hangs takes longer to be given up.

mod announce;
mod block;
mod follow;
mod hard_bounce;
mod known;
mod target;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use announce::Announcer;
pub(crate) use announce::{By, Held, block};
pub use block::{Block, Curb, Curbs, Suspension};
pub(crate) use hard_bounce::hard_bounce;
pub use hard_bounce::{HardBounces, Reckoning};
pub use known::Position;
pub use target::{Target, TargetError, login_key};

use crate::address::Address;
use crate::{Error, Settings, UnixMillis};
use follow::Follower;
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
/// After this long it is late.
const LATE: Duration = Duration::from_millis(1_500);

/// How this pod stands with Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hearing {
    /// There is no connection.
    Away,
    /// All was read, at this time.
    Heard(Instant),
    /// Redis answers, but not this question, or is another cluster's: waiting does not help.
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
    /// Of the settings only the URL and the name count.
    ///
    /// # Errors
    /// [`Error::Settings`] only.
    pub fn follow(settings: &Settings, shutdown: CancellationToken) -> Result<Self, Error> {
        let (follower, revocations) = Self::prepare(settings)?;
        tokio::spawn(async move { shutdown.run_until_cancelled(follower.run()).await });
        Ok(revocations)
    }

    /// Could a pod follow the journal? Reads once what it reads: for operators' commands.
    ///
    /// # Errors
    /// Redis is away, does not allow it, or is another cluster's.
    pub async fn try_following(settings: &Settings) -> Result<(), Error> {
        Self::prepare(settings)?.0.try_once().await
    }

    fn prepare(settings: &Settings) -> Result<(Follower, Self), Error> {
        let address = Address::parse(settings)?;
        let known = Arc::new(Known::new(crate::clock::wall()));
        let (tell, hearing) = watch::channel(Hearing::Away);
        let follower = Follower::new(&address, settings.name.clone(), Arc::clone(&known), tell);
        Ok((follower, Self { known, hearing }))
    }

    /// Has nothing been missed, as far as can be known? Not so while Redis is away, until all was read that was written
    /// meanwhile, nor while it does not allow to read.
    pub fn is_current(&self) -> bool {
        is_current(*self.hearing.borrow())
    }

    /// Waits until nothing is missed, for so long at most, and not where waiting does not help.
    pub async fn is_current_within(&self, patience: Duration) -> bool {
        if self.is_current() {
            return true;
        }
        let mut hearing = self.hearing.clone();
        let decided = hearing.wait_for(|hearing| *hearing == Hearing::Barred || is_current(*hearing));
        matches!(tokio::time::timeout(patience, decided).await, Ok(Ok(hearing)) if is_current(*hearing))
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

    /// Need what was found out about this login not be asked again, where it can be? Not revoked, as [`Self::is_revoked`],
    /// and Redis was heard a moment ago. What is revoked now is believed for a second and a half at most, whatever
    /// hangs.
    pub fn vouches_for(&self, login: &str, since: u64) -> bool {
        is_heard_within(*self.hearing.borrow(), LATE) && !self.is_revoked(login, since)
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

    /// Is no mail to be sent to this recipient?
    pub fn is_suppressed(&self, recipient: &staffetta_mail::Address) -> bool {
        self.known.is_suppressed(recipient)
    }

    /// Is any destination suspended? Spares those who would have to find its names.
    pub fn has_suspensions(&self) -> bool {
        self.known.has_suspensions()
    }

    /// Do servers that go by these names, as [`Target::destination`] spells them, get no mail for a while?
    pub fn suspension<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Option<Suspension> {
        self.known.suspension(names)
    }

    /// How little have servers asked for that go by this name, in lower case?
    pub fn curbs(&self, name: &str) -> Curbs {
        self.known.curbs(name)
    }

    /// Are the temporary replies final that the rule with this key is for, of servers that go by this name, in lower case?
    pub fn is_final(&self, servers: &str, rule: &str) -> bool {
        self.known.is_final(servers, rule)
    }

    /// Is this host to get commands one by one?
    pub fn is_unpipelined(&self, host: IpAddr) -> bool {
        self.known.is_unpipelined(host)
    }

    /// Is nothing to be sent from this address of ours?
    pub fn is_source_suspended(&self, source: IpAddr) -> bool {
        self.known.is_source_suspended(source)
    }

    /// Is any domain? Spares those who would have to find one out.
    pub fn has_blocked_domains(&self) -> bool {
        self.known.has_blocked_domains()
    }
}

fn is_current(hearing: Hearing) -> bool {
    is_heard_within(hearing, SILENCE)
}

fn is_heard_within(hearing: Hearing, time: Duration) -> bool {
    match hearing {
        Hearing::Away | Hearing::Barred => false,
        Hearing::Heard(at) => at.elapsed() < time,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_hears_late_vouches_for_nothing_before_it_counts_as_deaf() {
        let known = Arc::new(Known::new(0));
        let (tell, hearing) = watch::channel(Hearing::Away);
        let pod = Revocations { known, hearing };
        let look = async |hearing, after| {
            tell.send_replace(hearing);
            tokio::time::advance(after).await;
            (pod.vouches_for("john", pod.version()), pod.is_current())
        };
        let began = Instant::now();
        assert_eq!(look(Hearing::Away, Duration::ZERO).await, (false, false));
        assert_eq!(look(Hearing::Barred, Duration::ZERO).await, (false, false));
        // A second and a tenth is what Redis takes at most when nothing is wrong.
        assert_eq!(look(Hearing::Heard(began), Duration::from_millis(1_200)).await, (true, true));
        assert_eq!(look(Hearing::Heard(began), Duration::from_millis(300)).await, (false, true));
        assert_eq!(look(Hearing::Heard(began), SILENCE).await, (false, false));
        tell.send_replace(Hearing::Heard(Instant::now()));
        pod.known.apply(Position::default(), known::Change::Revoked("john".to_owned()));
        assert!(!pod.vouches_for("john", 0) && pod.vouches_for("lisa", 0));
    }
}
