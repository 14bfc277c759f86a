//! Drives one SASL exchange: gives the client's messages to the mechanism and asks the directory when the mechanism
//! says so.
//!
//! This is where a back end that speaks SASL itself will stand in for the mechanism.

use std::sync::Arc;

use staffetta_proto::auth::v1::authenticate_response::{Failure, Reason, Step as Reply, Success};
use staffetta_proto::auth::v1::{AuthenticateResponse, Client, authenticate_request::Start};
use zeroize::Zeroizing;

use crate::directory::{Directory, Refusal};
use crate::metrics::{AuthResult, Metrics};
use crate::sasl::{self, Credentials, Mechanism, Message, Step};
use crate::text::Printable;

/// An exchange that waits for the client, or for nothing any more.
pub(crate) struct Exchange {
    mechanism: Box<dyn Mechanism>,
    context: Context,
}

/// Who asks, how, and who answers.
struct Context {
    name: String,
    client: Client,
    directory: Arc<Directory>,
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
    pub(crate) async fn start(start: Start, directory: Arc<Directory>, metrics: Metrics) -> Progress {
        let context = Context { name: start.mechanism, client: start.client.unwrap_or_default(), directory, metrics };
        match sasl::start(&context.name) {
            Some(mut mechanism) => {
                let step = mechanism.begin(start.initial_response.map(|octets| Zeroizing::new(Vec::from(octets))));
                Self { mechanism, context }.perform(step).await
            }
            None => Progress::Closed(context.refused(Reason::Mechanism, "", "unknown mechanism")),
        }
    }

    /// Goes on with the client's answer to the last challenge.
    pub(crate) async fn respond(mut self, message: Message) -> Progress {
        let step = self.mechanism.respond(message);
        self.perform(step).await
    }

    async fn perform(self, step: Step) -> Progress {
        match step {
            Step::Challenge(text) => Progress::Open(self, response(Reply::Challenge(text))),
            Step::Verify(credentials) => Progress::Closed(self.context.verify(&credentials).await),
            Step::Malformed(detail) => Progress::Closed(self.context.refused(Reason::Malformed, "", detail)),
            Step::Refuse { login, detail } => {
                Progress::Closed(self.context.refused(Reason::Credentials, &login, detail))
            }
        }
    }
}

impl Context {
    async fn verify(&self, credentials: &Credentials) -> AuthenticateResponse {
        match self.directory.authenticate(credentials).await {
            Ok(login) => {
                self.metrics.result(&self.name, AuthResult::Success);
                let session = Printable(&self.client.session);
                tracing::debug!(login = %Printable(&login), %session, "authenticated");
                response(Reply::Success(Success { login: login.to_string(), data: Vec::new() }))
            }
            Err(refusal) => self.refused(reason(&refusal), &credentials.login, &refusal.to_string()),
        }
    }

    /// Logs, counts and answers. The password is nowhere near.
    fn refused(&self, reason: Reason, login: &str, detail: &str) -> AuthenticateResponse {
        self.metrics.result(&self.name, result(reason));
        let Client { ip, listener, session, .. } = &self.client;
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
        response(Reply::Failure(Failure { reason: reason.into(), detail: detail.to_owned(), login: login.to_owned() }))
    }
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
