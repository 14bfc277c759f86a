//! What the frontend asks the auth service. Every call has a deadline; "nobody could say" is an answer of its own and
//! never a no.

mod login;
mod pool;
mod recipient;
mod repeated;
mod sasl;
mod tls;
mod traced;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use staffetta_config::Config;
use staffetta_policy::relay::Finding;
use staffetta_proto::auth::v1::{CheckSenderRequest, CheckSenderResponse, LookupDomainRequest, LookupRecipientRequest};
use staffetta_queue::Revocations;
use staffetta_transport::tls::RpcFiles;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

pub(crate) use pool::TargetError;
use pool::{Pool, Target};
pub(crate) use recipient::Located;
pub(crate) use repeated::{Admitted, Repeated};
pub(crate) use sasl::{Carried, Exchange, Progress, Who};
use tls::ClientTls;
use traced::{carry, traced};
use turns::Turns;

use crate::metrics::Rpc;

/// Longest wait for an answer to a look-up.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(5);

/// The client of the auth service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Auth {
    pool: Arc<Pool>,
    turns: Arc<Turns>,
    calls: Arc<Rpc>,
    repeated: Arc<Repeated>,
}

impl Auth {
    /// Reads the certificates of `[rpc]`; connects later, in the background.
    pub(crate) fn new(config: &Config, revocations: Revocations) -> Result<Self, TargetError> {
        let tls = RpcFiles::new(&config.rpc)?.map(ClientTls::load).transpose()?;
        let pool = Pool::new(Target::parse(&config.frontend.auth)?, tls)?;
        let repeated = Arc::new(Repeated::new(rand::random(), revocations));
        Ok(Self { pool: Arc::new(pool), turns: Arc::default(), calls: Arc::new(Rpc::new()), repeated })
    }

    /// Keeps the pool in order until `shutdown`.
    pub(crate) async fn maintain(self, shutdown: CancellationToken) {
        self.pool.maintain(shutdown).await;
    }

    /// True while the service answers its health check somewhere.
    pub(crate) fn is_reachable(&self) -> bool {
        self.pool.is_reachable()
    }

    /// What AUTH offers: what every pod of the service can do, as it was last heard of.
    pub(crate) fn mechanisms(&self) -> Arc<Vec<String>> {
        self.pool.mechanisms()
    }

    /// What need not be asked.
    pub(crate) fn repeated(&self) -> &Repeated {
        &self.repeated
    }

    /// May `login` send as `sender`?
    pub(crate) async fn owns_sender(&self, login: &str, sender: &str) -> Finding {
        if self.repeated.owns(login, sender) {
            return Finding::Yes;
        }
        let since = self.repeated.version();
        let message = CheckSenderRequest { login: login.to_owned(), sender: sender.to_owned() };
        let call = self.pool.call(|mut client| {
            let request = timed(message.clone());
            async move { client.check_sender(request).await }
        });
        let note = |response: CheckSenderResponse| {
            if response.owned {
                self.repeated.note_sender(login, sender, since, Duration::from_millis(response.good_for));
            }
            response.owned
        };
        self.answer("CheckSender", call, note).await
    }

    /// Does anybody own `sender`? A service that does not say so yet knows of nobody.
    pub(crate) async fn has_owner(&self, sender: &str) -> Finding {
        let message = CheckSenderRequest { login: String::new(), sender: sender.to_owned() };
        let call = self.pool.call(|mut client| {
            let request = timed(message.clone());
            async move { client.check_sender(request).await }
        });
        self.answer("CheckSender", call, |response| response.known).await
    }

    /// Is `domain` one of ours?
    pub(crate) async fn knows_domain(&self, domain: &str) -> Finding {
        let message = LookupDomainRequest { domain: domain.to_owned() };
        let call = self.pool.call(|mut client| {
            let request = timed(message.clone());
            async move { client.lookup_domain(request).await }
        });
        self.answer("LookupDomain", call, |response| response.known).await
    }

    /// Does `recipient` exist in one of our domains, and where does its mail go? `None`: nobody could say.
    pub(crate) async fn locate(&self, recipient: &str) -> Option<Located> {
        let message = LookupRecipientRequest { recipient: recipient.to_owned() };
        let call = self.pool.call(|mut client| {
            let request = timed(message.clone());
            async move { client.lookup_recipient(request).await }
        });
        let response = self.response("LookupRecipient", call).await?;
        Some(Located::read(recipient, response))
    }

    async fn answer<T>(
        &self,
        method: &'static str,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
        yes: impl FnOnce(T) -> bool,
    ) -> Finding {
        match self.response(method, call).await.map(yes) {
            Some(true) => Finding::Yes,
            Some(false) => Finding::No,
            None => Finding::Unknown,
        }
    }

    /// What comes back in time.
    async fn response<T>(
        &self,
        method: &'static str,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Option<T> {
        let late = |_| Err(Status::deadline_exceeded("no answer in time"));
        let call = async { tokio::time::timeout(LOOKUP_DEADLINE, call).await.unwrap_or_else(late) };
        let result = traced(method, call).await;
        self.calls.count(method, result.as_ref().err());
        result
            .inspect_err(|status| tracing::warn!(method, error = %status, "the auth service could not say"))
            .map(tonic::Response::into_inner)
            .ok()
    }
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(LOOKUP_DEADLINE);
    carry(request)
}
