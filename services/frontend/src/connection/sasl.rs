//! AUTH: passes the exchange through to the auth service (RFC 4954). Credentials go by; nothing keeps them.

use staffetta_proto::auth::v1::authenticate_response::Reason;
use staffetta_smtp::Reply;
use staffetta_smtp::server::{Answer, SaslStep};

use super::{Attempt, Dialog};
use crate::auth::{Outcome, Who};

impl Dialog<'_> {
    pub(super) async fn sasl(&mut self, step: SaslStep) -> Answer {
        let shared = &self.door.shared;
        let auth = &shared.auth;
        let outcome = match step {
            SaslStep::Start { mechanism, initial } => {
                self.attempt = Some(Attempt { mechanism: mechanism.clone(), login: None });
                if !self.peer.trusted && !shared.failures.may_try(self.peer.address.ip()).await {
                    return self.refuse("auth_failures", Reply::too_many_auth_failures(&shared.hostname));
                }
                let initial = initial.map(|secret| secret.expose().to_vec());
                auth.start(&mechanism, initial, self.who()).await
            }
            SaslStep::Response(secret) => match self.exchange.take() {
                Some(exchange) => auth.respond(exchange, secret.expose().to_vec()).await,
                None => Outcome::Away,
            },
            SaslStep::Cancel => {
                self.exchange = None;
                return Answer::Proceed;
            }
        };
        if outcome.is_wrong_credentials() && !self.peer.trusted {
            shared.failures.count(self.peer.address.ip()).await;
        }
        self.conclude(outcome)
    }

    fn conclude(&mut self, outcome: Outcome) -> Answer {
        match outcome {
            Outcome::Challenge(octets, exchange) => {
                self.exchange = Some(exchange);
                Answer::Challenge(octets)
            }
            Outcome::Success(login) => {
                self.logged_in(&login);
                Answer::Success { login }
            }
            Outcome::Failure { reason, login } => {
                if let Some(attempt) = &mut self.attempt {
                    attempt.login = login;
                }
                match reason {
                    Reason::Malformed => self.refuse("malformed", Reply::malformed_credentials()),
                    Reason::Mechanism => self.refuse("mechanism", Reply::unknown_mechanism()),
                    Reason::Temporary => self.refuse("auth_unavailable", Reply::authentication_unavailable()),
                    Reason::Credentials | Reason::Unspecified => {
                        self.refuse("credentials", Reply::authentication_failed())
                    }
                }
            }
            Outcome::Away => self.refuse("auth_unavailable", Reply::authentication_unavailable()),
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
