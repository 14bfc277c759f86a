//! AUTH: passes the exchange through to the auth service (RFC 4954). Credentials go by; nothing keeps them.

use staffetta_proto::auth::v1::authenticate_response::Reason;
use staffetta_smtp::server::{Answer, SaslStep};

use super::Dialog;
use super::refused::{LoginFailure, Refused, login_refused};
use crate::auth::{Progress, Who};

impl Dialog<'_> {
    pub(super) async fn sasl(&mut self, step: SaslStep) -> Answer<Refused> {
        let shared = &self.door.shared;
        let auth = &shared.auth;
        let progress = match step {
            SaslStep::Start { mechanism, initial } => {
                self.attempt = Some(mechanism.clone());
                if !self.peer.trusted && !shared.failures.may_try(self.peer.address.ip()).await {
                    return login_refused(LoginFailure::Limited, None, &shared.hostname);
                }
                auth.start(&mechanism, initial, self.who()).await
            }
            SaslStep::Response(secret) => match self.exchange.take() {
                Some(exchange) => auth.respond(exchange, secret).await,
                None => Progress::Unavailable,
            },
            SaslStep::Cancel => {
                self.exchange = None;
                return Answer::Proceed;
            }
        };
        if progress.is_wrong_credentials() && !self.peer.trusted {
            shared.failures.count(self.peer.address.ip()).await;
        }
        self.conclude(progress)
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
        Who {
            ip: address.ip().to_string(),
            port: u32::from(address.port()),
            listener: self.door.name().to_owned(),
            helo: self.session.helo().map(|helo| helo.name.clone()).unwrap_or_default(),
            tls: self.session.is_encrypted(),
            session: format!("{}-{}", self.door.name(), address),
        }
    }
}
