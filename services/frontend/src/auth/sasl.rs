//! One SASL exchange (RFC 4422): a stream of messages in both directions, moved but not understood here.

use std::time::Duration;

use bytes::Bytes;
use staffetta_proto::auth::v1::auth_service_client::AuthServiceClient;
use staffetta_proto::auth::v1::authenticate_request::{Start, Step as Ask};
use staffetta_proto::auth::v1::authenticate_response::{Reason, Step};
use staffetta_proto::auth::v1::{AuthenticateRequest, AuthenticateResponse, Client};
use staffetta_smtp::server::Secret;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use super::Auth;

/// Longest wait for the service's next message.
const STEP_DEADLINE: Duration = Duration::from_secs(10);
/// Longest exchange, the client's own thinking included.
const EXCHANGE_DEADLINE: Duration = Duration::from_secs(600);

const METHOD: &str = "Authenticate";

/// Who is asking; for the service's log and limits.
pub(crate) type Who = Client;

/// An exchange that waits for the client's answer to a challenge. Dropped: aborted.
pub(crate) struct Exchange {
    requests: mpsc::Sender<AuthenticateRequest>,
    responses: Streaming<AuthenticateResponse>,
}

/// What became of one step.
pub(crate) enum Progress {
    /// To be passed to the client; the exchange goes on.
    Challenge(Vec<u8>, Box<Exchange>),
    /// The client is this login.
    Success(String),
    /// It is not, or its message made no sense.
    Failure {
        /// Which of both.
        reason: Reason,
        /// The login that was tried, if the exchange came that far.
        login: Option<String>,
    },
    /// Nobody could say: `454 4.7.0`.
    Unavailable,
}

impl Progress {
    /// Did the client have the wrong name or secret? Not so if its message made no sense, or nobody could say.
    pub(crate) fn is_wrong_credentials(&self) -> bool {
        matches!(self, Self::Failure { reason: Reason::Credentials | Reason::Unspecified, .. })
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

impl Auth {
    /// Begins an exchange. `initial` is the decoded initial response, if the client sent one.
    pub(crate) async fn start(&self, mechanism: &str, initial: Option<Secret>, who: Who) -> Progress {
        let initial_response = initial.map(Wiped::lend);
        let start = Start { mechanism: mechanism.to_owned(), initial_response, client: Some(who) };
        let result = in_time(self.pool.call(|client| open(client, start.clone()))).await;
        self.calls.count(METHOD, result.as_ref().err());
        match result {
            Ok((step, exchange)) => progress(step, Box::new(exchange)),
            Err(status) => away(&status),
        }
    }

    /// Passes the client's decoded answer on.
    pub(crate) async fn respond(&self, mut exchange: Box<Exchange>, response: Secret) -> Progress {
        let step = async {
            let request = AuthenticateRequest { step: Some(Ask::Response(Wiped::lend(response))) };
            let gone = |_| Status::unavailable("the auth service ended the exchange");
            exchange.requests.send(request).await.map_err(gone)?;
            next(&mut exchange.responses).await
        };
        let result = in_time(step).await;
        self.calls.count(METHOD, result.as_ref().err());
        match result {
            Ok(step) => progress(step, exchange),
            Err(status) => away(&status),
        }
    }
}

async fn open(mut client: AuthServiceClient<Channel>, start: Start) -> Result<(Step, Exchange), Status> {
    let (requests, queue) = mpsc::channel(1);
    // There is room: the channel is new.
    let _ = requests.try_send(AuthenticateRequest { step: Some(Ask::Start(start)) });
    let mut request = Request::new(ReceiverStream::new(queue));
    request.set_timeout(EXCHANGE_DEADLINE);
    let mut responses = client.authenticate(request).await?.into_inner();
    let first = next(&mut responses).await?;
    Ok((first, Exchange { requests, responses }))
}

async fn in_time<T>(step: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = |_| Err(Status::deadline_exceeded("no answer in time"));
    tokio::time::timeout(STEP_DEADLINE, step).await.unwrap_or_else(late)
}

async fn next(responses: &mut Streaming<AuthenticateResponse>) -> Result<Step, Status> {
    let response = responses.message().await?;
    response.and_then(|response| response.step).ok_or_else(|| Status::internal("the exchange ended without a result"))
}

fn progress(step: Step, exchange: Box<Exchange>) -> Progress {
    match step {
        Step::Challenge(challenge) => Progress::Challenge(challenge, exchange),
        Step::Success(success) => Progress::Success(success.login),
        Step::Failure(failure) => {
            let reason = failure.reason();
            if reason == Reason::Temporary {
                tracing::warn!(detail = failure.detail, "the auth service cannot verify credentials now");
                return Progress::Unavailable;
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
