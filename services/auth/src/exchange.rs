//! Drives one SASL exchange: gives the client's messages to who understands them, and makes the answer of what comes
//! out.
//!
//! With accounts in a database that is a mechanism of ours, which says when to ask for passwords or to judge a token. A back
//! end that speaks SASL itself stands in for the mechanism.

use std::sync::Arc;

use staffetta_proto::auth::v1::authenticate_response::{Failure, Reason, Step as Reply, Success};
use staffetta_proto::auth::v1::{AuthenticateResponse, Client, authenticate_request::Start};
use zeroize::Zeroizing;

use crate::bearers::Bearers;
use crate::directory::{Directory, Logins};
use crate::dovecot::{Relay, Told};
use crate::limits::{Admitted, milliseconds};
use crate::metrics::{AuthResult, Metrics};
use crate::passwords::{Known, Passwords, Refusal};
use crate::sasl::{self, Bearer, Credentials, Mechanism, Message, Step};
use crate::text::Printable;

/// An exchange that waits for the client, or for nothing any more.
pub(crate) struct Exchange {
    side: Side,
    context: Context,
}

/// Who understands the client.
enum Side {
    Ours(Ours),
    Dovecot(Box<Relay>),
}

/// A mechanism, and what it asks for.
struct Ours {
    mechanism: Box<dyn Mechanism>,
    passwords: Arc<Passwords>,
    bearers: Option<Arc<Bearers>>,
    /// What is known of the login that the mechanism is about to accept.
    known: Known,
}

/// Who asks, and how.
struct Context {
    name: String,
    client: Box<Client>,
    metrics: Metrics,
}

/// The outcome of one message.
pub(crate) enum Progress {
    /// The response is a challenge: the client's answer goes to [`Exchange::respond`].
    Open(Exchange, AuthenticateResponse),
    /// The response ends the exchange.
    Closed(AuthenticateResponse),
}

impl Exchange {
    /// Begins with the first message of the stream.
    pub(crate) async fn start(start: Start, directory: &Directory, metrics: Metrics) -> Progress {
        let initial = start.initial_response.map(|octets| Zeroizing::new(Vec::from(octets)));
        let context = Context { name: start.mechanism, client: Box::new(start.client.unwrap_or_default()), metrics };
        if let Ok(place) = context.client.revocations.parse() {
            directory.verified().heard_by_others(place);
        }
        match directory.logins() {
            Logins::Dovecot(dovecot, _) => {
                let (name, client) = (context.name.clone(), Client::clone(&context.client));
                let told = dovecot.start(directory.verified().clone(), name, initial, client).await;
                context.told(told)
            }
            Logins::Sql(passwords, bearers, offered) => match sasl::start(&context.name, offered, &context.client) {
                Some(mut mechanism) => {
                    let step = mechanism.begin(initial);
                    let (passwords, bearers) = (Arc::clone(passwords), bearers.clone());
                    context.perform(Ours { mechanism, passwords, bearers, known: Known::default() }, step).await
                }
                None => Progress::Closed(context.refused(Reason::Mechanism, "", "unknown mechanism")),
            },
        }
    }

    /// Goes on with the client's answer to the last challenge.
    pub(crate) async fn respond(self, message: Message) -> Progress {
        let Self { side, context } = self;
        match side {
            Side::Ours(mut ours) => {
                let step = ours.mechanism.respond(message);
                context.perform(ours, step).await
            }
            Side::Dovecot(relay) => {
                let told = relay.respond(message).await;
                context.told(told)
            }
        }
    }
}

impl Context {
    /// What a mechanism of ours wants done.
    async fn perform(self, mut ours: Ours, mut step: Step) -> Progress {
        if let Step::Recall(login) = step {
            step = match ours.passwords.recall(&login).await {
                Ok((recalled, known)) => {
                    ours.known = known;
                    ours.mechanism.recall(recalled)
                }
                Err(refusal) => return Progress::Closed(self.refused(reason(&refusal), &login, &refusal.to_string())),
            };
        }
        if let Step::Redeem(bearer) = step {
            step = match self.redeem(&mut ours, &bearer).await {
                Ok(step) => step,
                Err(detail) => {
                    let login = bearer.login.unwrap_or_default();
                    return Progress::Closed(self.refused(Reason::Temporary, &login, &detail));
                }
            };
        }
        match step {
            Step::Challenge(text) => {
                Progress::Open(Exchange { side: Side::Ours(ours), context: self }, response(Reply::Challenge(text)))
            }
            Step::Verify(credentials) => Progress::Closed(self.verify(&ours.passwords, &credentials).await),
            Step::Accept(login) => {
                if let Some(scheme) = ours.known.scheme {
                    self.metrics.proven(scheme);
                }
                Progress::Closed(self.accepted(&Admitted::new(login, ours.known.limits)))
            }
            Step::Admit(names) => Progress::Closed(self.admit(&ours.passwords, &names).await),
            // It has been given what it asked for.
            Step::Recall(_) | Step::Redeem(_) => Progress::Closed(self.refused(Reason::Temporary, "", "asked twice")),
            Step::Denied { login, detail } => Progress::Closed(failure(Reason::Credentials, &login, detail)),
            Step::Malformed(detail) => Progress::Closed(self.refused(Reason::Malformed, "", detail)),
            Step::Refuse { login, detail } => Progress::Closed(self.refused(Reason::Credentials, &login, detail)),
        }
    }

    /// What comes of a token; an error says why nobody knows. A refusal is noted here: many clients hang up when they are
    /// told of it.
    async fn redeem(&self, ours: &mut Ours, bearer: &Bearer) -> Result<Step, String> {
        let bearers = ours.bearers.as_ref().ok_or("nothing says how a token is checked")?;
        match bearers.redeem(bearer, ours.passwords.store()).await {
            Ok(admitted) => {
                ours.known.limits = admitted.limits;
                Ok(Step::Accept(admitted.login.to_string()))
            }
            Err(refusal) => match bearers.denied(bearer, &refusal) {
                Some(denied) => {
                    self.note(Reason::Credentials, &denied.login, denied.detail);
                    Ok(ours.mechanism.deny(denied))
                }
                None => Err(refusal.to_string()),
            },
        }
    }

    /// What Dovecot said.
    fn told(self, told: Told) -> Progress {
        match told {
            Told::Challenge(relay, text) => {
                let side = Side::Dovecot(relay);
                Progress::Open(Exchange { side, context: self }, response(Reply::Challenge(text)))
            }
            Told::Success(admitted) => Progress::Closed(self.accepted(&admitted)),
            Told::Refused(refused) => Progress::Closed(self.refused(refused.reason, &refused.login, &refused.detail)),
        }
    }

    async fn verify(&self, passwords: &Passwords, credentials: &Credentials) -> AuthenticateResponse {
        match passwords.authenticate(credentials).await {
            Ok(admitted) => self.accepted(&admitted),
            Err(refusal) => self.refused(reason(&refusal), &credentials.login, &refusal.to_string()),
        }
    }

    async fn admit(&self, passwords: &Passwords, names: &[String]) -> AuthenticateResponse {
        match passwords.admit(names).await {
            Ok(admitted) => self.accepted(&admitted),
            Err(refusal) => {
                let claimed = names.first().map(String::as_str).unwrap_or_default();
                self.refused(reason(&refusal), claimed, &refusal.to_string())
            }
        }
    }

    fn accepted(&self, admitted: &Admitted) -> AuthenticateResponse {
        let Admitted { login, limits, good_for } = admitted;
        self.metrics.result(&self.name, AuthResult::Success);
        let session = Printable(&self.client.session);
        tracing::debug!(login = %Printable(login), %session, "authenticated");
        let good_for = milliseconds(*good_for);
        response(Reply::Success(Success {
            login: login.to_string(),
            limits: limits.told(),
            good_for,
            ..Success::default()
        }))
    }

    fn refused(&self, reason: Reason, login: &str, detail: &str) -> AuthenticateResponse {
        self.note(reason, login, detail);
        failure(reason, login, detail)
    }

    /// Logs and counts. The password is nowhere near.
    fn note(&self, reason: Reason, login: &str, detail: &str) {
        self.metrics.result(&self.name, result(reason));
        let Client { ip, listener, session, .. } = &*self.client;
        let label = result(reason).label();
        // One event at two levels: `tracing` wants the level to be constant.
        macro_rules! log {
            ($level:ident) => {
                tracing::$level!(
                    login = %Printable(login),
                    ip = %Printable(ip),
                    listener = %Printable(listener),
                    session = %Printable(session),
                    mechanism = %Printable(&self.name),
                    reason = label,
                    detail,
                    "authentication failed"
                )
            };
        }
        if reason == Reason::Temporary {
            log!(warn);
        } else {
            log!(info);
        }
    }
}

fn failure(reason: Reason, login: &str, detail: &str) -> AuthenticateResponse {
    response(Reply::Failure(Failure { reason: reason.into(), detail: detail.to_owned(), login: login.to_owned() }))
}

fn response(step: Reply) -> AuthenticateResponse {
    AuthenticateResponse { step: Some(step) }
}

fn reason(refusal: &Refusal) -> Reason {
    if refusal.is_temporary() { Reason::Temporary } else { Reason::Credentials }
}

fn result(reason: Reason) -> AuthResult {
    match reason {
        Reason::Credentials => AuthResult::Credentials,
        Reason::Malformed => AuthResult::Malformed,
        Reason::Mechanism => AuthResult::Mechanism,
        Reason::Temporary | Reason::Unspecified => AuthResult::Temporary,
    }
}
