//! The policy file of a domain, over HTTPS (RFC 8461 section 3.3): nothing but `200`, `text/plain` and a certificate for
//! the name counts; no redirects, no caches, and both time and size have an end.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use staffetta_policy::mx;
use staffetta_policy::sts::{BadPolicy, Policy};
use staffetta_policy::tls::Trust;
use tokio::task::JoinSet;

use crate::connect::{ConnectError, TlsClient, TlsError, dial};
use crate::dns::{DnsError, Resolver};

/// For all of it; mail of the domain waits meanwhile.
const DEADLINE: Duration = Duration::from_secs(15);
/// For one address.
const CONNECT: Duration = Duration::from_secs(5);
/// Most addresses that are tried.
const ADDRESSES: usize = 4;
/// Longest file, in octets (section 3.2).
const SIZE: usize = 64 * 1024;
/// Longest head of an answer.
const HEAD: usize = 16 * 1024;

/// Why there is no policy. Completes "failed to fetch the policy: …".
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The web server's name.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// It has none, or only such as must not be dialled.
    #[error("{0} has no address that may be used")]
    NoAddress(String),
    /// No connection.
    #[error("connect to {address}: {reason}")]
    Connect {
        /// The last address.
        address: SocketAddr,
        /// Why.
        reason: ConnectError,
    },
    /// The certificate is not good for the name, or the handshake failed.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It does not speak HTTP.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// Not `200`: a redirect is none either.
    #[error("the web server says {0}")]
    Status(StatusCode),
    /// Not `text/plain`.
    #[error("the web server says that it is {0:?}, which is not text/plain")]
    Type(String),
    /// Too long, or broken off.
    #[error("the file cannot be read: {0}")]
    Body(String),
    /// Not a policy.
    #[error("the policy {0}")]
    Policy(#[from] BadPolicy),
    /// Not in time.
    #[error("no answer in time")]
    Timeout,
}

/// Fetches policies.
pub(super) struct Fetcher {
    pub(super) resolver: Resolver,
    pub(super) tls: TlsClient,
    /// 443.
    pub(super) port: u16,
    /// Never dialled: the name comes from a stranger's domain.
    pub(super) blocked: Vec<IpNet>,
}

impl Fetcher {
    /// The policy of a domain, as its web server gives it now.
    pub(super) async fn fetch(&self, domain: &str) -> Result<Policy, FetchError> {
        let host = format!("mta-sts.{domain}");
        let text = tokio::time::timeout(DEADLINE, self.read(&host)).await.map_err(|_| FetchError::Timeout)??;
        Ok(Policy::parse(&text)?)
    }

    async fn read(&self, host: &str) -> Result<String, FetchError> {
        let tcp = self.connect(host).await?;
        let trust = Trust::WebPki { name: host.into() };
        let (stream, _) = self.tls.handshake(&trust, host, tcp, DEADLINE).await?;
        let mut builder = hyper::client::conn::http1::Builder::new();
        builder.max_buf_size(HEAD);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        // Ends with this call, however that ends.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let response = sender.send_request(request(host)).await?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let kind =
            response.headers().get(CONTENT_TYPE).map(|kind| String::from_utf8_lossy(kind.as_bytes()).into_owned());
        let kind = kind.unwrap_or_default();
        if !is_plain_text(&kind) {
            return Err(FetchError::Type(kind));
        }
        let body = Limited::new(response.into_body(), SIZE).collect().await;
        let body = body.map_err(|error| FetchError::Body(error.to_string()))?.to_bytes();
        String::from_utf8(body.to_vec()).map_err(|error| FetchError::Body(error.to_string()))
    }

    async fn connect(&self, host: &str) -> Result<tokio::net::TcpStream, FetchError> {
        let addresses = self.resolver.addresses(host).await?.data;
        let usable = addresses.into_iter().filter(|&ip: &IpAddr| !mx::is_blocked(&self.blocked, ip)).take(ADDRESSES);
        let mut last = FetchError::NoAddress(host.to_owned());
        for ip in usable {
            let address = SocketAddr::new(ip.to_canonical(), self.port);
            match dial(address, None, CONNECT).await {
                Ok(tcp) => return Ok(tcp),
                Err(reason) => last = FetchError::Connect { address, reason },
            }
        }
        Err(last)
    }
}

fn request(host: &str) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = hyper::Uri::from_static("/.well-known/mta-sts.txt");
    let headers = request.headers_mut();
    // A name that is no header value is no host name, and its certificate was not good either.
    if let Ok(host) = host.parse() {
        headers.insert(HOST, host);
    }
    headers.insert(USER_AGENT, hyper::header::HeaderValue::from_static("staffetta"));
    request
}

/// Parameters, such as a character set, do not matter.
fn is_plain_text(kind: &str) -> bool {
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/plain"))
}
