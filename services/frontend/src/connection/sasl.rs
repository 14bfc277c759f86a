//! AUTH: passes the exchange through to the auth service (RFC 4954). Credentials go by; nothing keeps them.

use staffetta_proto::auth::v1::authenticate_response::Reason;
use staffetta_smtp::server::{Answer, SaslStep};

use super::Dialog;
use super::refused::{LoginFailure, Refused, login_refused};
use crate::auth::{Progress, Who};
use crate::failures::Guess;

impl Dialog<'_> {
    pub(super) async fn sasl(&mut self, step: SaslStep) -> Answer<Refused> {
        let shared = &self.door.shared;
        let auth = &shared.auth;
        if let SaslStep::Start { mechanism, .. } = &step {
            self.attempt = Some(mechanism.clone());
        }
        let guess = match self.may_guess(&step).await {
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
        if let Some(guess) = guess
            && !progress.is_wrong_credentials()
        {
            guess.forgive().await;
        }
        self.conclude(progress)
    }

    /// Credentials are only looked at with a token: the client has not been wrong too often. Each step may be the one
    /// that carries them.
    async fn may_guess(&self, step: &SaslStep) -> Result<Option<Guess>, Answer<Refused>> {
        let carries = match step {
            SaslStep::Start { initial, .. } => initial.is_some(),
            SaslStep::Response(_) => true,
            SaslStep::Cancel => false,
        };
        if !carries || self.peer.trusted {
            return Ok(None);
        }
        let shared = &self.door.shared;
        match shared.failures.guess(self.peer.address.ip()).await {
            Some(guess) => Ok(Some(guess)),
            None => Err(login_refused(LoginFailure::Limited, None, &shared.hostname)),
        }
    }

    fn conclude(&mut self, progress: Progress) -> Answer<Refused> {
        let hostname = &self.door.shared.hostname;
        match progress {
            Progress::Challenge(octets, exchange) => {
                self.exchange = Some(exchange);
                Answer::Challenge(octets)
            }
            Progress::Success(login) => {
                self.logged_in(&login);
                Answer::Success { login }
            }
            Progress::Failure { reason, login } => {
                let why = match reason {
                    Reason::Malformed => LoginFailure::Malformed,
                    Reason::Mechanism => LoginFailure::Mechanism,
                    Reason::Temporary => LoginFailure::Unavailable,
                    Reason::Credentials | Reason::Unspecified => LoginFailure::Credentials,
                };
                login_refused(why, login, hostname)
            }
            Progress::Unavailable => login_refused(LoginFailure::Unavailable, None, hostname),
        }
    }

    fn who(&self) -> Who {
        let address = self.peer.address;
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
        }
    }
}
