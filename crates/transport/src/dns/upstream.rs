//! The way to the servers, and what their word is worth.
//!
//! With `dns.dnssec = "trust-ad"` the servers validate. Each question then asks for that (AD and DO bits, RFC 6840 section
//! 5.7), and every record of an answer is marked as secure or not by the AD bit of the message that brought it. The marks
//! stay with the records through cache and alias chains, so one unsigned link still shows at the end.

use std::net::IpAddr;
use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use hickory_resolver::config::ConnectionConfig;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::DnsHandle;
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::op::{DnsRequest, DnsResponse, Query, ResponseCode};
use hickory_resolver::{ConnectionProvider, PoolContext};

const OFF_TOPIC: &str = "the answer is about another question";

/// Connects to name servers.
#[derive(Clone)]
pub(super) struct Upstream {
    pub(super) inner: TokioRuntimeProvider,
    /// Are the servers believed?
    pub(super) trust_ad: bool,
}

/// A connection to one of them.
#[derive(Clone)]
pub(super) struct Line {
    inner: <TokioRuntimeProvider as ConnectionProvider>::Conn,
    trust_ad: bool,
}

impl ConnectionProvider for Upstream {
    type Conn = Line;
    type FutureConn = Pin<Box<dyn Future<Output = Result<Line, NetError>> + Send>>;
    type RuntimeProvider = TokioRuntimeProvider;

    fn new_connection(
        &self,
        ip: IpAddr,
        config: &ConnectionConfig,
        context: &PoolContext,
    ) -> Result<Self::FutureConn, NetError> {
        let connecting = self.inner.new_connection(ip, config, context)?;
        let trust_ad = self.trust_ad;
        Ok(Box::pin(async move { Ok(Line { inner: connecting.await?, trust_ad }) }))
    }

    fn runtime_provider(&self) -> &TokioRuntimeProvider {
        &self.inner
    }
}

impl DnsHandle for Line {
    type Response = Pin<Box<dyn Stream<Item = Result<DnsResponse, NetError>> + Send>>;
    type Runtime = TokioRuntimeProvider;

    fn send(&self, mut request: DnsRequest) -> Self::Response {
        let asked = request.queries.clone();
        let to_the_point = move |response: Result<DnsResponse, NetError>| {
            response.and_then(|response| if answers(&response, &asked) { Ok(response) } else { Err(OFF_TOPIC.into()) })
        };
        if !self.trust_ad {
            return Box::pin(self.inner.send(request).map(to_the_point));
        }
        request.metadata.authentic_data = true;
        if let Some(edns) = &mut request.edns {
            edns.set_dnssec_ok(true);
        }
        Box::pin(self.inner.send(request).map(to_the_point).map(|response| response.map(vouched_for)))
    }
}

/// An answer counts for what was asked only (RFC 5452 section 9.1). The library looks at that over UDP, and not over TCP.
/// Errors need not repeat the question.
fn answers(response: &DnsResponse, asked: &[Query]) -> bool {
    let says = matches!(response.response_code, ResponseCode::NoError | ResponseCode::NXDomain);
    !says || response.queries == asked
}

fn vouched_for(mut response: DnsResponse) -> DnsResponse {
    let proof = if response.authentic_data { Proof::Secure } else { Proof::Insecure };
    let message = &mut *response;
    let records = message.answers.iter_mut().chain(&mut message.authorities).chain(&mut message.additionals);
    records.for_each(|record| record.proof = proof);
    response
}
