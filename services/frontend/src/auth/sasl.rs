//! One SASL exchange (RFC 4422). The prompts of PLAIN and LOGIN are put here; what the client answers is moved, and only
//! looked at for the name of a login that limits count by. Of all other mechanisms, the prompts come from the auth service.

use std::time::Duration;

use bytes::Bytes;
use staffetta_proto::auth::v1::auth_service_client::AuthServiceClient;
use staffetta_proto::auth::v1::authenticate_request::{Start, Step as Ask};
use staffetta_proto::auth::v1::authenticate_response::{Reason, Step, Success};
use staffetta_proto::auth::v1::{AuthenticateRequest, AuthenticateResponse, Client};
use staffetta_smtp::server::Secret;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use super::Auth;
use super::login::named;
use super::repeated::{Admitted, Shown};
use super::traced::{carry, traced};

/// Longest wait for the service's next message.
const STEP_DEADLINE: Duration = Duration::from_secs(10);
/// The prompts of LOGIN (draft-murchison-sasl-login).
const USERNAME: &[u8] = b"Username:";
const PASSWORD: &[u8] = b"Password:";

const METHOD: &str = "Authenticate";

/// Who is asking; for the service's log and limits.
pub(crate) type Who = Client;

/// An exchange that waits for the client's answer to a challenge. Dropped: aborted. The prompts of PLAIN and LOGIN are
/// ours, and the auth service hears of them when the credentials are complete: clients that begin and fall silent hold
/// nothing there. Other mechanisms hold a stream.
pub(crate) struct Exchange {
    who: Who,
    waits_for: Missing,
}

/// What the client has still to say.
enum Missing {
    /// PLAIN: everything.
    Plain,
    /// LOGIN: the name.
    Name,
    /// LOGIN: the password of this name.
    Password(Secret),
    /// What the service has asked for.
    Answer(Box<Open>),
}

/// An exchange of which the service knows.
struct Open {
    subject: Subject,
    asks: Asks,
    answers: Answers,
}

/// Both ways of a stream.
type Asks = mpsc::Sender<AuthenticateRequest>;
type Answers = Streaming<AuthenticateResponse>;

/// Whom an exchange is about.
struct Subject {
    mechanism: Box<str>,
    /// Once the client has said it where it can be seen.
    login: Option<Box<str>>,
    /// It has said something.
    has_spoken: bool,
}

/// What a message of the client holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    /// Nothing that anybody could be wrong about.
    Nothing,
    /// What may be credentials, of this login if that can be seen.
    Credentials(Option<String>),
}

/// What became of one step.
pub(crate) enum Progress {
    /// To be passed to the client; the exchange goes on.
    Challenge(Vec<u8>, Box<Exchange>),
    /// The client is this login.
    Success(Admitted),
    /// It is not, or its message made no sense.
    Failure {
        /// Which of both.
        reason: Reason,
        /// The login that was tried, if the exchange came that far.
        login: Option<String>,
    },
    /// Nobody could be asked: `454 4.7.0`.
    Unavailable,
}

impl Progress {
    /// Did the client have the wrong name or secret? Not so if its message made no sense, or nobody could say.
    pub(crate) fn is_wrong_credentials(&self) -> bool {
        match self {
            Self::Failure { reason, .. } => matches!(reason, Reason::Credentials | Reason::Unspecified),
            // Many clients hang up then, and say nothing to what they were told.
            Self::Challenge(_, exchange) => exchange.is_denial(),
            Self::Success(_) | Self::Unavailable => false,
        }
    }
}

/// A secret on its way into a call: requests that repeat it share its octets, and the last one to go wipes them.
struct Wiped(Secret);

impl Wiped {
    fn lend(secret: Secret) -> Bytes {
        Bytes::from_owner(Self(secret))
    }
}

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

impl Carried {
    /// An initial response.
    pub(crate) fn at_start(mechanism: &str, initial: Option<&Secret>) -> Self {
        match (mechanism, initial) {
            (_, None) | ("LOGIN", _) => Self::Nothing,
            (_, Some(initial)) => Self::Credentials(named(mechanism, initial.expose())),
        }
    }
}

impl Exchange {
    /// What this answer holds.
    pub(crate) fn carried(&self, response: &Secret) -> Carried {
        match &self.waits_for {
            Missing::Name => Carried::Nothing,
            Missing::Plain => Carried::Credentials(named("PLAIN", response.expose())),
            Missing::Password(name) => Carried::Credentials(Some(String::from_utf8_lossy(name.expose()).into_owned())),
            Missing::Answer(_) if self.is_denial() => Carried::Nothing,
            Missing::Answer(open) => Carried::Credentials(open.subject.login(response)),
        }
    }

    /// The credentials that this answer completes, if the same ones may be shown again.
    pub(crate) fn shown<'a>(&'a self, response: &'a Secret) -> Option<Shown<'a>> {
        match &self.waits_for {
            Missing::Plain => Some([b"PLAIN", response.expose(), b""]),
            Missing::Password(name) => Some([b"LOGIN", name.expose(), response.expose()]),
            Missing::Name | Missing::Answer(_) => None,
        }
    }

    /// Is the challenge that is out a no? To a token it is always (RFC 7628 section 3.2.3).
    fn is_denial(&self) -> bool {
        matches!(&self.waits_for, Missing::Answer(open) if open.subject.has_spoken && open.subject.shows_token())
    }
}

impl Subject {
    fn new(mechanism: &str, initial: Option<&Secret>) -> Self {
        let login = initial.and_then(|initial| named(mechanism, initial.expose()));
        Self { mechanism: mechanism.into(), login: login.map(Into::into), has_spoken: initial.is_some() }
    }

    /// Is there one message, with a token in it?
    fn shows_token(&self) -> bool {
        matches!(&*self.mechanism, "OAUTHBEARER" | "XOAUTH2")
    }

    /// As it was said, or is said now.
    fn login(&self, response: &Secret) -> Option<String> {
        match &self.login {
            Some(login) => Some(login.to_string()),
            None => named(&self.mechanism, response.expose()),
        }
    }
}

impl Auth {
    /// Begins an exchange. `initial` is the decoded initial response, if the client sent one.
    pub(crate) async fn start(&self, mechanism: &str, initial: Option<Secret>, who: Who) -> Progress {
        match (mechanism, initial) {
            // RFC 4954 section 4: without an initial response the challenge is empty.
            ("PLAIN", None) => challenge(b"", who, Missing::Plain),
            ("PLAIN", Some(credentials)) => self.ask("PLAIN", credentials, None, who).await,
            // An initial response is the name, as Dovecot and Cyrus take it; an empty one counts as none.
            ("LOGIN", Some(name)) if !name.expose().is_empty() => challenge(PASSWORD, who, Missing::Password(name)),
            ("LOGIN", _) => challenge(USERNAME, who, Missing::Name),
            (_, initial) => self.open(mechanism, initial, who).await,
        }
    }

    /// Goes on with the client's decoded answer.
    pub(crate) async fn respond(&self, exchange: Box<Exchange>, response: Secret) -> Progress {
        let Exchange { who, waits_for } = *exchange;
        match waits_for {
            Missing::Plain => self.ask("PLAIN", response, None, who).await,
            Missing::Name if response.expose().is_empty() => {
                Progress::Failure { reason: Reason::Malformed, login: None }
            }
            Missing::Name => challenge(PASSWORD, who, Missing::Password(response)),
            Missing::Password(name) => self.ask("LOGIN", name, Some(response), who).await,
            Missing::Answer(open) => self.go_on(*open, response, who).await,
        }
    }

    /// The first message of a mechanism that only the service knows.
    async fn open(&self, mechanism: &str, initial: Option<Secret>, who: Who) -> Progress {
        let subject = Subject::new(mechanism, initial.as_ref());
        let initial_response = initial.map(Wiped::lend);
        let start = Start { mechanism: mechanism.to_owned(), initial_response, client: Some(who.clone()) };
        let result = in_time(async {
            let _turn = self.turns.take(&who.ip).await;
            self.pool.log_in(|client| begin(client, start.clone())).await
        });
        let result = traced(METHOD, result).await.map(|(step, asks, answers)| (step, Open { subject, asks, answers }));
        self.relay(result, who)
    }

    /// A later one. It goes to the same pod.
    async fn go_on(&self, mut open: Open, response: Secret, who: Who) -> Progress {
        open.subject.login = open.subject.login(&response).map(Into::into);
        open.subject.has_spoken = true;
        let result = in_time(async {
            let _turn = self.turns.take(&who.ip).await;
            let request = AuthenticateRequest { step: Some(Ask::Response(Wiped::lend(response))) };
            let gone = |_| Status::unavailable("the exchange was ended");
            open.asks.send(request).await.map_err(gone)?;
            Ok((next(&mut open.answers).await?, open))
        });
        let result = result.await;
        self.relay(result, who)
    }

    fn relay(&self, result: Result<(Step, Open), Status>, who: Who) -> Progress {
        match result {
            Ok((Step::Challenge(text), open)) => challenge(&text, who, Missing::Answer(Box::new(open))),
            Ok((end, _)) => {
                self.calls.count(METHOD, None);
                progress(end)
            }
            Err(status) => {
                self.calls.count(METHOD, Some(&status));
                away(&status)
            }
        }
    }

    /// One call: everything there is to say goes with it.
    async fn ask(&self, mechanism: &str, initial: Secret, response: Option<Secret>, who: Who) -> Progress {
        let client = who.ip.clone();
        let start =
            Start { mechanism: mechanism.to_owned(), initial_response: Some(Wiped::lend(initial)), client: Some(who) };
        let steps = [Some(Ask::Start(start)), response.map(|secret| Ask::Response(Wiped::lend(secret)))];
        let steps: Vec<Ask> = steps.into_iter().flatten().collect();
        let result = in_time(async {
            let _turn = self.turns.take(&client).await;
            self.pool.log_in(|client| complete(client, steps.clone())).await
        });
        let result = traced(METHOD, result).await;
        self.calls.count(METHOD, result.as_ref().err());
        match result {
            Ok(step) => progress(step),
            Err(status) => away(&status),
        }
    }
}

fn challenge(text: &[u8], who: Who, waits_for: Missing) -> Progress {
    Progress::Challenge(text.to_vec(), Box::new(Exchange { who, waits_for }))
}

/// Says everything, and reads what comes of it.
async fn complete(mut client: AuthServiceClient<Channel>, steps: Vec<Ask>) -> Result<Step, Status> {
    let said = steps.len();
    let requests = steps.into_iter().map(|step| AuthenticateRequest { step: Some(step) });
    let mut request = Request::new(tokio_stream::iter(requests.collect::<Vec<_>>()));
    request.set_timeout(STEP_DEADLINE);
    let mut responses = client.authenticate(carry(request)).await?.into_inner();
    for _ in 1..said {
        match next(&mut responses).await? {
            // It was answered already.
            Step::Challenge(_) => {}
            end => return Ok(end),
        }
    }
    next(&mut responses).await
}

/// Says the first thing of an exchange that goes on, and reads what comes of it.
async fn begin(mut client: AuthServiceClient<Channel>, start: Start) -> Result<(Step, Asks, Answers), Status> {
    let (asks, asked) = mpsc::channel(1);
    let request = AuthenticateRequest { step: Some(Ask::Start(start)) };
    asks.try_send(request).map_err(|_| Status::internal("no room for a message"))?;
    let request = Request::new(ReceiverStream::new(asked));
    let mut answers = client.authenticate(carry(request)).await?.into_inner();
    Ok((next(&mut answers).await?, asks, answers))
}

async fn in_time<T>(step: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = |_| Err(Status::deadline_exceeded("no answer in time"));
    tokio::time::timeout(STEP_DEADLINE, step).await.unwrap_or_else(late)
}

async fn next(responses: &mut Streaming<AuthenticateResponse>) -> Result<Step, Status> {
    let response = responses.message().await?;
    response.and_then(|response| response.step).ok_or_else(|| Status::internal("the exchange ended without a result"))
}

fn progress(step: Step) -> Progress {
    match step {
        Step::Challenge(_) => away(&Status::internal("a challenge after everything was said")),
        Step::Success(Success { login, limits, good_for, .. }) => {
            Progress::Success(Admitted { login, limits, good_for: Duration::from_millis(good_for) })
        }
        Step::Failure(failure) => {
            let reason = failure.reason();
            if reason == Reason::Temporary {
                tracing::warn!(detail = failure.detail, "the auth service cannot verify credentials now");
            }
            Progress::Failure { reason, login: Some(failure.login).filter(|login| !login.is_empty()) }
        }
    }
}

fn away(status: &Status) -> Progress {
    tracing::warn!(method = METHOD, error = %status, "the auth service could not say");
    Progress::Unavailable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec())
    }

    #[test]
    fn a_login_is_known_when_its_credentials_come() {
        let john = || Carried::Credentials(Some("john".to_owned()));
        let exchange = |waits_for| Exchange { who: Who::default(), waits_for };
        assert_eq!(Carried::at_start("PLAIN", Some(&secret("\0john\0x"))), john());
        assert_eq!(exchange(Missing::Plain).carried(&secret("\0john\0x")), john());
        assert_eq!(Carried::at_start("LOGIN", Some(&secret("john"))), Carried::Nothing, "a name is no guess");
        assert_eq!(exchange(Missing::Name).carried(&secret("john")), Carried::Nothing);
        assert_eq!(exchange(Missing::Password(secret("john"))).carried(&secret("x")), john());
        assert_eq!(Carried::at_start("GSSAPI", Some(&secret("x"))), Carried::Credentials(None));
        // SCRAM says the name first and proves it later.
        let mut subject = Subject::new("SCRAM-SHA-256", None);
        subject.login = subject.login(&secret("n,,n=john,r=a")).map(Into::into);
        assert_eq!(subject.login(&secret("c=biws,r=ab,p=x")).as_deref(), Some("john"));
    }

    #[test]
    fn a_secret_is_lent_to_all_tries_of_a_call_and_copied_by_none() {
        let secret = Secret::new(b"\0john\0summersun".to_vec());
        let address = secret.expose().as_ptr();
        let lent = Wiped::lend(secret);
        let start = Start { mechanism: "PLAIN".to_owned(), initial_response: Some(lent), client: None };
        let again = start.clone();
        for start in [start, again] {
            assert_eq!(start.initial_response.map(|octets| octets.as_ptr()), Some(address));
        }
    }
}
