//! Guesses at passwords, limited for each client and for each login over all pods: `frontend.auth_failures_per_client`,
//! `frontend.auth_failures_per_login`.
//!
//! Tokens are taken before credentials are looked at and given back if they were right, so that fifty connections at once
//! have no more guesses than one. Many honest logins at once may find no token for a moment: they wait for those that are
//! under way in this pod, are refused when these were all wrong, and told to come again when that takes too long. Trusted networks are not counted: a webmail
//! stands for many users. A login's limit does not hold where it was used lately, or whoever has many addresses could
//! lock its owner out.
//!
//! What this pod remembers to be right is let in without a token ([`crate::auth::Repeated`]), as long as [`Failures::are_left`]
//! says that a wrong guess would have one: else whoever has none left would see the right password by its answer.

mod desk;
mod known;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::metrics::Counter;
use moka::sync::Cache;
use staffetta_policy::client::{neighbourhood, network};
use staffetta_queue::{Guesses, Permit, Queue, Rate, Taken, Usage};

use crate::metrics;
use crate::quota::Buckets;
use desk::{Desk, Stay};
use known::Known;

/// Longest wait for the outcome of others.
const PATIENCE: Duration = Duration::from_secs(10);

/// Clients, and logins, of which a pod remembers that they had no guess left.
const SPENT: u64 = 16 * 1024;
/// For how long at most.
const SPENT_FOR: Duration = Duration::from_secs(86_400);

/// Both limits. Share it in an `Arc`.
pub(crate) struct Failures {
    guesses: Guesses,
    clients: Option<Own>,
    logins: Option<Own>,
    known: Mutex<Known>,
    desk: Arc<Desk>,
    /// Networks from which logins are used are noted although no login is limited.
    notes_networks: bool,
}

/// What this pod counts of a limit, to decide while Redis is away, and to know without a question who has guesses left.
struct Own {
    rate: Rate,
    buckets: Mutex<Buckets>,
    /// Who was refused within the time in which the limit is full again: other pods may have used up what comes in meanwhile.
    spent: Cache<Box<str>, ()>,
    limited: Counter,
    unavailable: Counter,
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spent {
    Client,
    Login,
    /// None, as far as anybody knows: others have the tokens, and nobody says what became of them.
    Unclear,
}

/// The right to have credentials looked at, once. Dropped: they were wrong, or nobody knows.
pub(crate) struct Guess {
    failures: Arc<Failures>,
    /// With a token each, if they are limited.
    client: Option<Stay>,
    login: Option<Stay>,
    usage: Option<Usage>,
}

impl Failures {
    /// Without a rate there is no limit. `notes_networks`: somebody wants to know when a network is new.
    pub(crate) fn new(
        queue: &Queue,
        per_client: Option<Rate>,
        per_login: Option<Rate>,
        notes_networks: bool,
    ) -> Arc<Self> {
        let own = |scope, rate: Option<Rate>| rate.map(|rate| Own::new(scope, rate));
        Arc::new(Self {
            guesses: queue.guesses(per_client, per_login),
            clients: own("auth", per_client),
            logins: own("login", per_login),
            known: Mutex::default(),
            desk: Arc::default(),
            notes_networks,
        })
    }

    /// Are these the limits?
    pub(crate) fn are(&self, per_client: Option<Rate>, per_login: Option<Rate>) -> bool {
        let rate = |own: &Option<Own>| own.as_ref().map(|own| own.rate);
        (rate(&self.clients), rate(&self.logins)) == (per_client, per_login)
    }

    /// May this client try credentials of this login, as far as it can be seen? `nameless`: it is somebody behind this
    /// address.
    pub(crate) async fn guess(
        self: &Arc<Self>,
        ip: IpAddr,
        nameless: bool,
        login: Option<&str>,
    ) -> Result<Guess, Spent> {
        let client = self.clients.as_ref().map(|_| self.desk.enter(&network(ip).to_string()));
        let home = (!nameless).then(|| neighbourhood(ip));
        let noted = login.filter(|_| self.logins.is_some() || self.notes_networks);
        let usage = noted.map(|login| Usage::new(login, home));
        let login = self.logins.as_ref().zip(usage.as_ref()).map(|(_, usage)| self.desk.enter(usage.login()));
        let mut guess = Guess { failures: Arc::clone(self), client, login, usage };
        let obtained = tokio::time::timeout(PATIENCE, guess.obtain()).await.unwrap_or(Err(Spent::Unclear));
        let (own, stay) = match obtained {
            Ok(()) => return Ok(guess),
            Err(Spent::Client) => (&self.clients, &guess.client),
            Err(Spent::Login) => (&self.logins, &guess.login),
            Err(Spent::Unclear) => (&None, &None),
        };
        if let Some((own, stay)) = own.as_ref().zip(stay.as_ref()) {
            own.limited.increment(1);
            own.spent.insert(stay.name().into(), ());
        }
        obtained.map(|()| guess)
    }

    /// Would this client have a guess at this login, as far as this pod knows? It asks nobody.
    pub(crate) fn are_left(&self, ip: IpAddr, nameless: bool, login: Option<&str>) -> bool {
        let client = self.clients.as_ref().is_none_or(|own| self.has(own, &network(ip).to_string()));
        let logins = self.logins.as_ref().zip(login);
        client
            && logins.is_none_or(|(own, login)| {
                let usage = Usage::new(login, (!nameless).then(|| neighbourhood(ip)));
                self.known().holds(&usage) || self.has(own, usage.login())
            })
    }

    /// Those who have asked and know nothing yet may all be wrong.
    fn has(&self, own: &Own, who: &str) -> bool {
        !own.spent.contains_key(who) && own.left(who) > self.desk.asking(who)
    }

    async fn take(&self, client: Option<&str>, usage: Option<&Usage>) -> Taken {
        let clients = self.clients.as_ref().zip(client);
        let logins = self.logins.as_ref().zip(usage);
        if clients.is_none() && logins.is_none() {
            return Taken { client: true, login: Permit::Free };
        }
        let taken = self.guesses.take(client, usage).await;
        let away = taken.as_ref().err();
        if let Some(error) = away {
            tracing::debug!(%error, "guesses are counted by this pod alone now");
        }
        let client = clients.is_none_or(|(own, who)| own.take(who, taken.as_ref().ok().map(|taken| taken.client)));
        let permit = taken.as_ref().ok().map(|taken| taken.login);
        let login = logins.map_or(Permit::Free, |(own, usage)| self.permit(own, usage, permit));
        Taken { client, login }
    }

    /// What Redis says of a login; without it, what this pod knows.
    fn permit(&self, own: &Own, usage: &Usage, said: Option<Permit>) -> Permit {
        let known = said == Some(Permit::Free) || said.is_none() && self.known().holds(usage);
        if known {
            self.known().note(usage, Instant::now());
            return Permit::Free;
        }
        let granted = said.map(|permit| permit == Permit::Token);
        if own.take(usage.login(), granted) { Permit::Token } else { Permit::No }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Own {
    fn new(scope: &'static str, rate: Rate) -> Self {
        Self {
            rate,
            buckets: Mutex::default(),
            spent: Cache::builder().max_capacity(SPENT).time_to_live(rate.per.min(SPENT_FOR)).build(),
            limited: metrics::rate_limited(scope),
            unavailable: metrics::rate_limit_unavailable(scope),
        }
    }

    /// Counts along with what Redis has granted, and decides without it.
    fn take(&self, who: &str, granted: Option<bool>) -> bool {
        match granted {
            Some(false) => false,
            Some(true) => {
                self.buckets().take(who, self.rate, 1, Instant::now());
                true
            }
            None => {
                self.unavailable.increment(1);
                self.buckets().take(who, self.rate, 1, Instant::now()) > 0
            }
        }
    }

    fn left(&self, who: &str) -> usize {
        self.buckets().left(who, self.rate, Instant::now()) as usize
    }

    fn give_back(&self, who: &str) {
        self.buckets().give_back(who, self.rate, 1, Instant::now());
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guess {
    /// Takes its tokens.
    async fn obtain(&mut self) -> Result<(), Spent> {
        loop {
            for stay in self.client.iter_mut().chain(&mut self.login) {
                stay.ask();
            }
            let client = self.client.as_ref().map(Stay::name);
            let taken = self.failures.take(client, self.usage.as_ref()).await;
            for (stay, granted) in [(&mut self.client, taken.client), (&mut self.login, taken.login == Permit::Token)] {
                stay.iter_mut().for_each(|stay| stay.told(granted));
            }
            let spent = match (taken.client, taken.login) {
                (true, Permit::Free | Permit::Token) => return Ok(()),
                (false, _) => Spent::Client,
                (true, Permit::No) => Spent::Login,
            };
            // Half a right is none: whoever has no guess left must not use up those of a login.
            self.give_back(None).await;
            let stay = if spent == Spent::Client { &self.client } else { &self.login };
            let Some(stay) = stay else { return Err(spent) };
            if !stay.hope().await {
                return Err(spent);
            }
        }
    }

    /// It does not count: the credentials were not looked at, or there is more to say.
    pub(crate) async fn forgive(mut self) {
        self.give_back(None).await;
    }

    /// They were right. True: and came from a network from which the login was not used lately.
    pub(crate) async fn right(mut self) -> bool {
        let usage = self.usage.take();
        if let Some(usage) = &usage {
            self.failures.known().note(usage, Instant::now());
        }
        self.give_back(usage.as_ref()).await
    }

    async fn give_back(&mut self, used: Option<&Usage>) -> bool {
        let failures = &self.failures;
        let open = |stay: &Option<Stay>| stay.as_ref().filter(|stay| stay.is_open()).map(|stay| stay.name().to_owned());
        let (client, login) = (open(&self.client), open(&self.login));
        for (own, who) in [(&failures.clients, &client), (&failures.logins, &login)] {
            if let Some((own, who)) = own.as_ref().zip(who.as_ref()) {
                own.give_back(who);
            }
        }
        let settled = failures.guesses.settle(client.as_deref(), login.as_deref(), used).await;
        for stay in self.client.iter_mut().chain(&mut self.login) {
            stay.close();
        }
        settled.unwrap_or_else(|error| {
            tracing::debug!(%error, "a token could not be put back");
            false
        })
    }
}
