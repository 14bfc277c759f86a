//! One exchange whose messages Dovecot understands. The prompts of PLAIN and LOGIN are put here, so that credentials
//! which were right a moment ago cost no question.

use std::sync::Arc;

use staffetta_proto::auth::v1::Client;
use staffetta_proto::auth::v1::authenticate_response::Reason;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::requests::{Answer, Trouble};
use super::wire::{self, Failure};
use super::{DEADLINE, Dovecot, Login};
use crate::cache::Verified;
use crate::limits::Admitted;
use crate::sasl::Message;

const USERNAME: &[u8] = b"Username:";
const PASSWORD: &[u8] = b"Password:";

/// What an exchange has come to.
pub(crate) enum Told {
    /// To be passed to the client, whose answer goes to the relay.
    Challenge(Box<Relay>, Vec<u8>),
    /// The client is this login.
    Success(Admitted),
    /// It is not, or nobody knows.
    Refused(Refused),
}

/// Why Dovecot's answer was no, or was none.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    /// Whom the client claimed to be, as far as is known.
    pub(crate) login: String,
    /// For the log.
    pub(crate) detail: String,
}

/// An exchange that waits for the client.
pub(crate) struct Relay {
    asker: Asker,
    waits_for: Missing,
}

/// Who asks whom, and what for.
struct Asker {
    dovecot: Dovecot,
    verified: Verified,
    mechanism: String,
    client: Client,
}

/// What the client has still to say.
enum Missing {
    /// PLAIN: everything.
    Credentials,
    /// LOGIN: the name.
    Name,
    /// LOGIN: the password of this name.
    Password(Message),
    /// Dovecot knows. The place is given back with the exchange.
    Answer(Login, OwnedSemaphorePermit),
}

impl Dovecot {
    /// Begins an exchange. Mechanisms that Dovecot does not have are not asked for: it would hang up.
    pub(crate) async fn start(
        &self,
        verified: Verified,
        mechanism: String,
        initial: Option<Message>,
        client: Client,
    ) -> Told {
        let is_offered = self.mechanisms().is_none_or(|offered| offered.contains(&mechanism));
        let asker = Asker { dovecot: self.clone(), verified, mechanism, client };
        match (asker.mechanism.as_str(), initial) {
            _ if !is_offered => refused(Reason::Mechanism, String::new(), "Dovecot does not offer the mechanism"),
            // RFC 4954 section 4: without an initial response the challenge is empty.
            ("PLAIN", None) => Relay { asker, waits_for: Missing::Credentials }.challenge(b""),
            ("PLAIN", Some(message)) => asker.plain(message).await,
            ("LOGIN", Some(name)) if !name.is_empty() => {
                Relay { asker, waits_for: Missing::Password(name) }.challenge(PASSWORD)
            }
            ("LOGIN", _) => Relay { asker, waits_for: Missing::Name }.challenge(USERNAME),
            (_, initial) => asker.begin(initial).await,
        }
    }
}

impl Relay {
    /// Goes on with the client's answer to the last challenge.
    pub(crate) async fn respond(self, message: Message) -> Told {
        let Self { asker, waits_for } = self;
        match waits_for {
            Missing::Credentials => asker.plain(message).await,
            Missing::Name if message.is_empty() => refused(Reason::Malformed, String::new(), "the login is empty"),
            Missing::Name => Self { asker, waits_for: Missing::Password(message) }.challenge(PASSWORD),
            Missing::Password(name) => asker.login(name, message).await,
            Missing::Answer(login, place) => {
                let outcome = login.go_on(&message, Instant::now() + DEADLINE).await;
                asker.conclude(outcome, Some(place))
            }
        }
    }

    fn challenge(self, text: &[u8]) -> Told {
        Told::Challenge(Box::new(self), text.to_vec())
    }
}

impl Asker {
    async fn plain(&self, message: Message) -> Told {
        let mut parts = message.split(|byte| *byte == 0);
        let (Some(_), Some(name), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return refused(Reason::Malformed, String::new(), "PLAIN wants exactly two NULs");
        };
        if name.is_empty() {
            return refused(Reason::Malformed, String::new(), "the login is empty");
        }
        self.verify(name, &[&message], || async {
            let until = Instant::now() + DEADLINE;
            let (_, answer) = self.ask(Some(&message), until).await?;
            Ok(answer)
        })
        .await
    }

    async fn login(&self, name: Message, password: Message) -> Told {
        self.verify(&name, &[&name, &password], || async {
            let until = Instant::now() + DEADLINE;
            match self.ask(Some(&name), until).await? {
                (login, Answer::Challenge(_)) => Ok(login.go_on(&password, until).await?.1),
                (_, answer) => Ok(answer),
            }
        })
        .await
    }

    /// Looks whether these secrets were right a moment ago, else asks. What Dovecot says may depend on where the client
    /// is (`allow_nets`), and so does what is remembered.
    async fn verify<F>(&self, name: &[u8], secrets: &[&[u8]], ask: impl Fn() -> F) -> Told
    where
        F: Future<Output = Result<Answer, Trouble>>,
    {
        let Client { ip, tls, .. } = &self.client;
        let place = [self.mechanism.as_bytes(), ip.as_bytes(), &[u8::from(*tls)]];
        let key = self.verified.key(place.into_iter().chain(secrets.iter().copied()));
        let cached = self.verified.find(key.as_ref()).await;
        self.dovecot.metrics.cache(cached.is_some());
        let outcome = match cached {
            Some(admitted) => Ok(admitted),
            None => self.verified.verify(key, || async { judge(ask().await, name).map(Admitted::plain) }).await,
        };
        match outcome {
            // For how long is not for others to know: they do not see all that Dovecot may have looked at.
            Ok(Admitted { login, limits, .. }) => Told::Success(Admitted::new(login, limits)),
            Err(refused) => Told::Refused(Refused::clone(&refused)),
        }
    }

    /// Any other mechanism: Dovecot says what comes next.
    async fn begin(self, initial: Option<Message>) -> Told {
        let outcome = self.ask(initial.as_deref().map(Vec::as_slice), Instant::now() + DEADLINE).await;
        self.conclude(outcome, None)
    }

    async fn ask(&self, initial: Option<&[u8]>, until: Instant) -> Result<(Login, Answer), Trouble> {
        let request = wire::request(&self.mechanism, &self.client, initial);
        self.dovecot.begin(&self.mechanism, request, until).await
    }

    fn conclude(self, outcome: Result<(Login, Answer), Trouble>, place: Option<OwnedSemaphorePermit>) -> Told {
        match outcome {
            Ok((login, Answer::Challenge(octets))) => {
                let place = place.or_else(|| Arc::clone(&self.dovecot.open).try_acquire_owned().ok());
                match place {
                    Some(place) => {
                        let waits_for = Missing::Answer(login, place);
                        Told::Challenge(Box::new(Relay { asker: self, waits_for }), octets)
                    }
                    None => refused(Reason::Temporary, String::new(), "too many exchanges are open"),
                }
            }
            outcome => match judge(outcome.map(|(_, answer)| answer), b"") {
                Ok(login) => Told::Success(Admitted::plain(login)),
                Err(refused) => Told::Refused(refused),
            },
        }
    }
}

/// What the last answer means. `name` is the login as the client gave it.
fn judge(outcome: Result<Answer, Trouble>, name: &[u8]) -> Result<Arc<str>, Refused> {
    let login = String::from_utf8_lossy(name).into_owned();
    let no = |reason, login, detail: &str| Err(Refused { reason, login, detail: detail.to_owned() });
    match outcome {
        Ok(Answer::Success(Some(user))) if !user.is_empty() => Ok(user.into()),
        Ok(Answer::Success(_)) => no(Reason::Temporary, login, "Dovecot said yes, and not to whom"),
        Ok(Answer::Challenge(_)) => no(Reason::Temporary, login, "Dovecot asks for more than the mechanism has"),
        Ok(Answer::Failure(failure)) => {
            let (reason, detail) = reason(&failure);
            no(reason, failure.user.unwrap_or(login), detail)
        }
        Err(trouble @ Trouble::NoMechanism) => no(Reason::Mechanism, login, &trouble.to_string()),
        Err(trouble @ Trouble::TooLong) => no(Reason::Malformed, login, &trouble.to_string()),
        Err(trouble) => no(Reason::Temporary, login, &trouble.to_string()),
    }
}

/// What a FAIL means. Only what Dovecot itself calls temporary is; a login that is not asked for any more, or that it
/// knows nothing of, is its trouble or ours and never the client's.
fn reason(failure: &Failure) -> (Reason, &'static str) {
    let said = failure.reason.as_deref().unwrap_or_default();
    match failure.code.as_deref() {
        Some("temp_fail") => (Reason::Temporary, "Dovecot cannot say now"),
        _ if failure.temporary => (Reason::Temporary, "Dovecot cannot say now"),
        Some("invalid_base64") => (Reason::Malformed, "Dovecot could not read it"),
        Some("user_disabled") => (Reason::Credentials, "the account is disabled"),
        Some("pass_expired") => (Reason::Credentials, "the password has expired"),
        Some("authz_fail") => (Reason::Credentials, "may not act for that identity"),
        None if said.contains("timed out") || said.contains("Unexpected continuation") => {
            (Reason::Temporary, "Dovecot does not know the exchange any more")
        }
        _ => (Reason::Credentials, "Dovecot refused the credentials"),
    }
}

fn refused(reason: Reason, login: String, detail: &str) -> Told {
    Told::Refused(Refused { reason, login, detail: detail.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fail_says_becomes_a_reason() {
        use Reason::{Credentials, Malformed, Temporary};
        let rows = [
            ("", Credentials, "wrong password, or no such user"),
            ("user=john@example.org", Credentials, "the same with its name"),
            ("code=temp_fail", Temporary, "the passdb is away"),
            ("temp", Temporary, "the same before there were codes"),
            ("temp\tcode=user_disabled", Temporary, "whatever else it says"),
            ("code=user_disabled", Credentials, "disabled"),
            ("user_disabled", Credentials, "the same before there were codes"),
            ("code=pass_expired", Credentials, "expired"),
            ("authz", Credentials, "an identity of somebody else"),
            ("code=authz_fail", Credentials, "the same with a code"),
            ("code=invalid_base64\treason=Invalid base64 data in initial response", Malformed, "not base64"),
            ("code=of_tomorrow", Credentials, "a no is a no"),
            ("reason=Authentication request timed out", Temporary, "it has forgotten the request"),
            ("reason=Unexpected continuation", Temporary, "it took us for somebody else"),
        ];
        for (text, expected, why) in rows {
            let Ok(wire::Line::Failure { failure, .. }) = wire::Line::parse(format!("FAIL\t1\t{text}").as_bytes())
            else {
                panic!("{text}")
            };
            assert_eq!(reason(&failure).0, expected, "{why}");
        }
    }

    #[test]
    fn no_answer_is_never_a_no() {
        for trouble in [Trouble::Away(String::new()), Trouble::Lost, Trouble::Late, Trouble::Busy] {
            assert!(judge(Err(trouble), b"john").is_err_and(|refused| refused.reason == Reason::Temporary));
        }
        for answer in [Answer::Success(None), Answer::Success(Some(String::new())), Answer::Challenge(Vec::new())] {
            assert!(judge(Ok(answer), b"john").is_err_and(|refused| refused.reason == Reason::Temporary));
        }
    }
}
