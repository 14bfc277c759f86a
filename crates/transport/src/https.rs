//! One request to a web server over HTTPS (RFC 9110, RFC 9112), for what mail needs of the web: policies of domains, keys and
//! tokens of identity providers.
//!
//! [`post`] sends something there; [`ask`] dials, checks the certificate for the name, and gives the head of the answer; [`Answer::body`] reads the rest, up
//! to a bound. No redirects, no cookies, no proxies, one connection a request. The whole has no end of its own: put a
//! time-out around it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use staffetta_config::WebUrl;
use staffetta_policy::mx;
use staffetta_policy::tls::Trust;
use tokio::task::JoinSet;

use crate::connect::{ConnectError, Stream, TlsClient, TlsError, dial};
use crate::dns::{DnsError, Resolver};

/// Longest head of an answer.
const HEAD: usize = 16 * 1024;

/// Most addresses of a server that are tried.
pub(crate) const ADDRESSES: usize = 4;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// There is nothing to dial.
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
    /// Too long, or broken off.
    #[error("{0}")]
    Body(String),
}

/// An answer of which the head is known.
pub struct Answer {
    /// What the server says of the request.
    pub status: StatusCode,
    /// The fields of the head.
    pub headers: HeaderMap,
    body: Incoming,
    /// Ends with the answer, however that ends.
    _connection: JoinSet<Result<(), hyper::Error>>,
}

impl Answer {
    /// The content, if it has no more octets than `limit`.
    ///
    /// # Errors
    /// [`HttpsError::Body`].
    pub async fn body(self, limit: usize) -> Result<Bytes, HttpsError> {
        let body = Limited::new(self.body, limit).collect().await;
        Ok(body.map_err(|error| HttpsError::Body(error.to_string()))?.to_bytes())
    }
}

/// Sends the request to the first of `addresses` that takes the connection within `patience`; its certificate must be for
/// `host`. Without `tls` it goes in the clear, which is for this machine only. `authority` is `host`, with the port where
/// that does not go without saying.
///
/// # Errors
/// No address, no connection, no TLS, no HTTP.
pub async fn ask(
    tls: Option<&TlsClient>,
    (host, authority): (&str, &str),
    addresses: impl IntoIterator<Item = SocketAddr>,
    patience: Duration,
    mut request: Request<Full<Bytes>>,
) -> Result<Answer, HttpsError> {
    let tcp = connect(host, addresses, patience).await?;
    let stream = match tls {
        Some(tls) => {
            let (stream, ..) = tls.handshake(&Trust::WebPki { name: host.into() }, host, tcp, patience).await?;
            Stream::Tls(Box::new(stream))
        }
        None => Stream::Plain(tcp),
    };
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_buf_size(HEAD);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let headers = request.headers_mut();
    // A name that is no header value is no host name, and its certificate was not good either.
    if let Ok(authority) = authority.parse() {
        headers.insert(HOST, authority);
    }
    headers.insert(USER_AGENT, HeaderValue::from_static("staffetta"));
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok(Answer { status: head.status, headers: head.headers, body, _connection: driver })
}

/// Sends content of this type to one address, whose server must be among `addresses`: what it says.
///
/// # Errors
/// As [`ask`]; the address cannot be asked.
pub async fn post(
    tls: &TlsClient,
    url: &WebUrl,
    addresses: Vec<SocketAddr>,
    patience: Duration,
    (kind, content): (&'static str, Vec<u8>),
) -> Result<StatusCode, HttpsError> {
    let mut request = Request::new(Full::new(Bytes::from(content)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.path.parse().map_err(|_| HttpsError::NoAddress(url.to_string()))?;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(ask(Some(tls), (&url.host, &url.authority()), addresses, patience, request).await?.status)
}

/// The addresses of a web server that a stranger named: none of those that nobody may aim us at.
///
/// # Errors
/// No answer now.
pub async fn web_server(
    resolver: &Resolver,
    blocked: &[IpNet],
    host: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, DnsError> {
    let addresses = match host.parse::<IpAddr>() {
        Ok(ip) => vec![ip],
        Err(_) => resolver.addresses(host).await?.data,
    };
    let usable = addresses.into_iter().filter(|&ip| !mx::is_blocked(blocked, ip)).take(ADDRESSES);
    Ok(usable.map(|ip| SocketAddr::new(ip.to_canonical(), port)).collect())
}

async fn connect(
    host: &str,
    addresses: impl IntoIterator<Item = SocketAddr>,
    patience: Duration,
) -> Result<tokio::net::TcpStream, HttpsError> {
    let mut last = HttpsError::NoAddress(host.to_owned());
    for address in addresses {
        match dial(address, None, patience).await {
            Ok(tcp) => return Ok(tcp),
            Err(reason) => last = HttpsError::Connect { address, reason },
        }
    }
    Err(last)
}
