//! The gRPC face: messages in, the directory's answers out, statuses counted.
//!
//! A refused login is an answer, not an error. `UNAVAILABLE` means that nobody knows; what the cause is stays in our
//! log.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use staffetta_mail::SpanContext;
use staffetta_proto::auth::v1::auth_service_server::{AuthService, SERVICE_NAME};
use staffetta_proto::auth::v1::authenticate_request::Step;
use staffetta_proto::auth::v1::{
    AuthenticateRequest, AuthenticateResponse, CheckSenderRequest, CheckSenderResponse, GetMechanismsRequest,
    GetMechanismsResponse, LookupDomainRequest, LookupDomainResponse, LookupRecipientRequest, LookupRecipientResponse,
};
use staffetta_telemetry::spans::{Kind, Span, Tracer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};
use zeroize::Zeroizing;

use crate::aliases::Located;
use crate::directory::{Directory, LookUpError, Owner};
use crate::exchange::{Exchange, Progress};
use crate::limits::milliseconds;
use crate::metrics::Metrics;
use crate::text::Printable;

const TRACER: Tracer = Tracer::of("auth");

/// Exchanges, open challenges included, and as many look-ups, under way in this process.
const MAX_CALLS: usize = 8192;

/// The longest wait for the client behind the frontend to answer a challenge; frontends give up before (RFC 5321
/// §4.5.3.2: 5 min).
const CLIENT_PATIENCE: Duration = Duration::from_secs(330);

/// Longest address or domain asked about.
const MAX_ADDRESS: usize = 1024;

/// The service; cheap to clone.
#[derive(Clone)]
pub(crate) struct Service {
    directory: Arc<Directory>,
    exchanges: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
    metrics: Metrics,
    ending: CancellationToken,
}

impl Service {
    /// Answers from this directory; from `ending` on waits for no client any longer.
    pub(crate) fn new(directory: Arc<Directory>, metrics: Metrics, ending: CancellationToken) -> Self {
        let places = || Arc::new(Semaphore::new(MAX_CALLS));
        Self { directory, exchanges: places(), lookups: places(), metrics, ending }
    }

    /// Admits, answers and counts one look-up.
    async fn look_up<T>(
        &self,
        mut handled: Handled,
        asked: &str,
        answer: impl Future<Output = Result<T, LookUpError>>,
    ) -> Result<T, Status> {
        let method = handled.method;
        let result = match admit(&self.lookups) {
            Err(status) => Err(status),
            Ok(_) if asked.is_empty() || asked.len() > MAX_ADDRESS => {
                Err(Status::invalid_argument("empty or too long"))
            }
            Ok(_permit) => answer.await.map_err(|error| unavailable(method, asked, &error)),
        };
        handled.code = result.as_ref().map_or_else(Status::code, |_| Code::Ok);
        result
    }
}

fn admit(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Status> {
    Arc::clone(places).try_acquire_owned().map_err(|_| Status::unavailable("too many calls are under way"))
}

fn unavailable(method: &'static str, asked: &str, error: &LookUpError) -> Status {
    tracing::warn!(method, asked = %Printable(asked), %error, "the back end gave no answer");
    Status::unavailable("the back end cannot say")
}

#[tonic::async_trait]
impl AuthService for Service {
    type AuthenticateStream = Pin<Box<dyn Stream<Item = Result<AuthenticateResponse, Status>> + Send>>;

    async fn authenticate(
        &self,
        request: Request<Streaming<AuthenticateRequest>>,
    ) -> Result<Response<Self::AuthenticateStream>, Status> {
        let handled = Handled::new(&self.metrics, "Authenticate", &request);
        let permit = match admit(&self.exchanges) {
            Ok(permit) => permit,
            Err(status) => return Err(handled.fail(status)),
        };
        let conversation = Conversation {
            requests: request.into_inner(),
            state: State::Fresh,
            directory: Arc::clone(&self.directory),
            metrics: self.metrics.clone(),
            ending: self.ending.clone(),
            handled,
            _permit: permit,
        };
        // No task of its own: when the frontend goes away the stream is dropped, and all work for it with it.
        Ok(Response::new(Box::pin(stream::unfold(conversation, Conversation::next))))
    }

    async fn get_mechanisms(
        &self,
        request: Request<GetMechanismsRequest>,
    ) -> Result<Response<GetMechanismsResponse>, Status> {
        let mut handled = Handled::new(&self.metrics, "GetMechanisms", &request);
        match self.directory.mechanisms() {
            Some(mechanisms) => {
                handled.code = Code::Ok;
                Ok(Response::new(GetMechanismsResponse { mechanisms }))
            }
            None => Err(handled.fail(Status::unavailable("the back end was not there yet"))),
        }
    }

    async fn check_sender(
        &self,
        request: Request<CheckSenderRequest>,
    ) -> Result<Response<CheckSenderResponse>, Status> {
        let handled = Handled::new(&self.metrics, "CheckSender", &request);
        let CheckSenderRequest { login, sender } = request.into_inner();
        let owner = self.look_up(handled, &sender, self.directory.owner(&login, &sender)).await?;
        let good_for = match owner {
            Owner::Login(good_for) => Some(good_for),
            Owner::Somebody | Owner::Nobody => None,
        };
        Ok(Response::new(CheckSenderResponse {
            owned: good_for.is_some(),
            known: owner != Owner::Nobody,
            good_for: good_for.map_or(0, milliseconds),
        }))
    }

    async fn lookup_domain(
        &self,
        request: Request<LookupDomainRequest>,
    ) -> Result<Response<LookupDomainResponse>, Status> {
        let handled = Handled::new(&self.metrics, "LookupDomain", &request);
        let LookupDomainRequest { domain } = request.into_inner();
        let known = self.look_up(handled, &domain, self.directory.has_domain(&domain)).await?;
        Ok(Response::new(LookupDomainResponse { known }))
    }

    async fn lookup_recipient(
        &self,
        request: Request<LookupRecipientRequest>,
    ) -> Result<Response<LookupRecipientResponse>, Status> {
        let handled = Handled::new(&self.metrics, "LookupRecipient", &request);
        let LookupRecipientRequest { recipient } = request.into_inner();
        let located = self.look_up(handled, &recipient, self.directory.locate(&recipient)).await?;
        Ok(Response::new(match located {
            Located::Nowhere => LookupRecipientResponse::default(),
            Located::AsNamed => LookupRecipientResponse { known: true, ..Default::default() },
            Located::Alias(destinations) => LookupRecipientResponse { known: true, destinations, unending: false },
            Located::Unending => LookupRecipientResponse { known: true, unending: true, ..Default::default() },
        }))
    }
}

/// One Authenticate stream.
struct Conversation {
    requests: Streaming<AuthenticateRequest>,
    state: State,
    directory: Arc<Directory>,
    metrics: Metrics,
    ending: CancellationToken,
    handled: Handled,
    _permit: OwnedSemaphorePermit,
}

enum State {
    Fresh,
    Open(Exchange),
    Closed,
}

impl Conversation {
    /// Reads one message and gives the response to it; ends after the last.
    async fn next(mut self) -> Option<(Result<AuthenticateResponse, Status>, Self)> {
        let state = std::mem::replace(&mut self.state, State::Closed);
        if matches!(state, State::Closed) {
            return None;
        }
        let step = match self.receive().await {
            Ok(Some(step)) => step,
            // The frontend gave up, for example because the client sent "*".
            Ok(None) => return None,
            Err(status) => return Some(self.broken(status)),
        };
        let progress = match (state, step) {
            (State::Fresh, Step::Start(start)) => Exchange::start(start, &self.directory, self.metrics.clone()).await,
            (State::Open(exchange), Step::Response(message)) => {
                exchange.respond(Zeroizing::new(Vec::from(message))).await
            }
            _ => return Some(self.broken(Status::invalid_argument("Start comes first, and once"))),
        };
        match progress {
            Progress::Open(exchange, response) => {
                self.state = State::Open(exchange);
                Some((Ok(response), self))
            }
            Progress::Closed(response) => {
                self.handled.code = Code::Ok;
                Some((Ok(response), self))
            }
        }
    }

    async fn receive(&mut self) -> Result<Option<Step>, Status> {
        let request = tokio::time::timeout(CLIENT_PATIENCE, self.requests.message());
        let request = tokio::select! {
            biased;
            request = request => request.map_err(|_| Status::deadline_exceeded("the client did not answer"))?,
            () = self.ending.cancelled() => return Err(Status::unavailable("the service ends")),
        };
        match request? {
            None => Ok(None),
            Some(AuthenticateRequest { step: Some(step) }) => Ok(Some(step)),
            Some(AuthenticateRequest { step: None }) => Err(Status::invalid_argument("a message without a step")),
        }
    }

    fn broken(mut self, status: Status) -> (Result<AuthenticateResponse, Status>, Self) {
        self.handled.code = status.code();
        (Err(status), self)
    }
}

/// Counts a call when it ends, also when it is dropped half-way. A part of the caller's trace.
struct Handled {
    metrics: Metrics,
    method: &'static str,
    code: Code,
    span: Span,
}

impl Handled {
    fn new<T>(metrics: &Metrics, method: &'static str, request: &Request<T>) -> Self {
        let parent = request.metadata().get("traceparent").and_then(|value| value.to_str().ok());
        let mut span = TRACER.part_of(parent.and_then(SpanContext::parse), method, Kind::Server);
        span.note("rpc.system", || "grpc");
        span.note("rpc.service", || SERVICE_NAME);
        span.note("rpc.method", || method);
        Self { metrics: metrics.clone(), method, code: Code::Cancelled, span }
    }

    fn fail(mut self, status: Status) -> Status {
        self.code = status.code();
        status
    }
}

impl Drop for Handled {
    fn drop(&mut self) {
        self.metrics.handled(self.method, self.code);
        let code = self.code;
        self.span.note("rpc.grpc.status_code", || code as i32);
        if code != Code::Ok {
            self.span.fail(code.description());
        }
    }
}
