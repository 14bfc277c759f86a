//! AUTH: passes the exchange through to the auth service (RFC 4954). Credentials go by; what comes again is known by a seal.

use std::sync::Arc;

use staffetta_policy::seal::Sealed;
use staffetta_proto::auth::v1::authenticate_response::{Limits, Reason};
use staffetta_smtp::server::{Answer, SaslStep, Settings};

use super::Dialog;
use super::refused::{LoginFailure, Refused, login_refused};
use crate::auth::{Admitted, Carried, Progress, Who};
use crate::evidence::binds;
use crate::failures::{Guess, Spent};

impl Dialog<'_> {
    pub(super) async fn sasl(&mut self, step: SaslStep) -> Answer<Refused> {
        let shared = &self.door.shared;
        let auth = &shared.auth;
        if let SaslStep::Start { mechanism, .. } = &step {
            self.attempt = Some(mechanism.clone());
            self.begin_login().await;
        }
        let sealed = self.sealed(&step);
        let carried = self.carried(&step);
        let recalled = sealed.as_ref().filter(|_| self.may_recall(&carried));
        if let Some(admitted) = recalled.and_then(|sealed| auth.repeated().login(sealed)) {
            self.exchange = None;
            shared.metrics.repeated.increment(1);
            return self.admit(admitted);
        }
        let guess = match self.may_guess(carried).await {
            Ok(guess) => guess,
            Err(refused) => return refused,
        };
        let progress = match step {
            SaslStep::Start { mechanism, initial } => auth.start(&mechanism, initial, self.who()).await,
            SaslStep::Response(secret) => match self.exchange.take() {
                Some(exchange) => auth.respond(exchange, secret).await,
                None => Progress::Unavailable,
            },
            SaslStep::Cancel => {
                self.exchange = None;
                return Answer::Proceed;
            }
        };
        if let Some(guess) = guess {
            self.settle(guess, &progress).await;
        }
        if let (Some(sealed), Progress::Success(admitted)) = (sealed, &progress) {
            auth.repeated().note_login(sealed, admitted, self.standing.since);
        }
        self.conclude(progress)
    }

    /// What the credentials are known by that this message completes.
    fn sealed(&self, step: &SaslStep) -> Option<Sealed> {
        let shown = match step {
            SaslStep::Start { mechanism, initial: Some(initial) } if mechanism == "PLAIN" => {
                [b"PLAIN", initial.expose(), b""]
            }
            SaslStep::Response(response) => self.exchange.as_ref()?.shown(response)?,
            SaslStep::Start { .. } | SaslStep::Cancel => return None,
        };
        Some(self.door.shared.auth.repeated().seal(self.peer.address.ip(), self.session.is_encrypted(), shown))
    }

    /// Each step may be the one that carries credentials.
    fn carried(&self, step: &SaslStep) -> Carried {
        match step {
            SaslStep::Start { mechanism, initial } => Carried::at_start(mechanism, initial.as_ref()),
            SaslStep::Response(response) => {
                self.exchange.as_ref().map_or(Carried::Nothing, |exchange| exchange.carried(response))
            }
            SaslStep::Cancel => Carried::Nothing,
        }
    }

    /// May what is remembered be right? Not for whom a guess would be refused: he would learn by it which one is.
    fn may_recall(&self, carried: &Carried) -> bool {
        match carried {
            _ if self.peer.trusted => true,
            Carried::Nothing => false,
            Carried::Credentials(login) => {
                let failures = self.door.shared.failures.load();
                failures.are_left(self.peer.address.ip(), self.peer.nameless, login.as_deref())
            }
        }
    }

    /// Credentials are only looked at with a token: neither the client nor those who claim to be this login have been wrong
    /// too often.
    async fn may_guess(&self, carried: Carried) -> Result<Option<Guess>, Answer<Refused>> {
        let Carried::Credentials(login) = carried else { return Ok(None) };
        if self.peer.trusted {
            return Ok(None);
        }
        let shared = &self.door.shared;
        let tried =
            shared.failures.load_full().guess(self.peer.address.ip(), self.peer.nameless, login.as_deref()).await;
        tried.map(Some).map_err(|spent| match spent {
            Spent::Client => login_refused(LoginFailure::Limited, login, &shared.hostname),
            Spent::Login => login_refused(LoginFailure::LoginLimited, login, &shared.hostname),
            Spent::Unclear => login_refused(LoginFailure::Unavailable, login, &shared.hostname),
        })
    }

    /// What became of the guess.
    async fn settle(&self, guess: Guess, progress: &Progress) {
        match progress {
            Progress::Success(Admitted { login, .. }) if self.bar(login).is_none() => {
                let elsewhere = guess.right().await;
                if elsewhere {
                    self.door.shared.conduct.seen_elsewhere(login);
                }
            }
            progress if !progress.is_wrong_credentials() => guess.forgive().await,
            _ => {}
        }
    }

    fn conclude(&mut self, progress: Progress) -> Answer<Refused> {
        let hostname = &self.door.shared.hostname;
        match progress {
            Progress::Challenge(octets, exchange) => {
                self.exchange = Some(exchange);
                Answer::Challenge(octets)
            }
            Progress::Success(admitted) => self.admit(admitted),
            Progress::Failure { reason, login } => {
                let why = match reason {
                    Reason::Malformed => LoginFailure::Malformed,
                    Reason::Mechanism => LoginFailure::Mechanism,
                    Reason::Temporary => LoginFailure::Undecided,
                    Reason::Credentials | Reason::Unspecified => LoginFailure::Credentials,
                };
                login_refused(why, login, hostname)
            }
            Progress::Unavailable => login_refused(LoginFailure::Unavailable, None, hostname),
        }
    }

    /// The credentials are right.
    fn admit(&mut self, admitted: Admitted) -> Answer<Refused> {
        let Admitted { login, limits, .. } = admitted;
        if let Some(why) = self.bar(&login) {
            return login_refused(why, Some(login), &self.door.shared.hostname);
        }
        self.logged_in(&login);
        self.limit(limits);
        Answer::Success { login }
    }

    /// What holds for this account alone, from here on.
    fn limit(&mut self, told: Option<Limits>) {
        let limits = told.map(|told| self.door.shared.allowance.limits(told));
        let octets = limits.and_then(|limits| limits.size);
        if let Some(octets) = octets.filter(|octets| *octets < self.session.settings().size_limit) {
            let settings = Settings { size_limit: octets, ..self.session.settings().clone() };
            self.session.adopt(Arc::new(settings));
        }
        self.limits = limits.map(Box::new);
    }

    /// Nothing holds that was said of a login before.
    pub(super) fn unlimit(&mut self) {
        self.limits = None;
        let mut settings = self.door.settings();
        // The other end of the channel is who brought the client: no login is bound by it.
        if self.brought && settings.mechanisms.iter().any(|name| binds(name)) {
            let mechanisms = settings.mechanisms.iter().filter(|name| !binds(name)).cloned().collect();
            settings = Arc::new(Settings { mechanisms, ..Settings::clone(&settings) });
        }
        self.session.adopt(settings);
    }

    fn who(&self) -> Who {
        let address = self.peer.address;
        let evidence = self.evidence.as_deref();
        let local_ip = self.local.map(|local| local.ip().to_canonical().to_string());
        Who {
            ip: address.ip().to_string(),
            port: u32::from(address.port()),
            listener: self.door.name().to_owned(),
            helo: self.session.helo().map(|helo| helo.name.clone()).unwrap_or_default(),
            tls: self.session.is_encrypted(),
            session: format!("{}-{}", self.door.name(), address),
            local_ip: local_ip.unwrap_or_default(),
            local_port: self.local.map_or(0, |local| u32::from(local.port())),
            revocations: self.place(),
            tls_exporter: evidence.map(|evidence| evidence.exporter.clone()).unwrap_or_default(),
            tls_server_end_point: evidence.map(|evidence| evidence.end_point.clone()).unwrap_or_default(),
            certified: evidence.map(|evidence| evidence.names.clone()).unwrap_or_default(),
        }
    }
}
