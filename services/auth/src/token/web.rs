//! The web server of an identity provider: one address, asked with an end of time and size.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use staffetta_config::HttpsUrl;
use staffetta_transport::connect::TlsClient;
use staffetta_transport::https::{HttpsError, ask};

use super::jwks::BadKeys;
use crate::metrics::Metrics;

/// For all of it: the client of a client waits, and gives up after ten seconds.
const DEADLINE: Duration = Duration::from_secs(5);
/// For one address.
const CONNECT: Duration = Duration::from_secs(2);
/// Most addresses that are tried.
const ADDRESSES: usize = 4;
/// Longest answer, and longest file of keys, in octets.
pub(super) const SIZE: usize = 256 * 1024;

/// Why nobody could say whether a token is good.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProviderError {
    /// The file of the keys.
    #[error("{} cannot be read: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file, or what the provider gives.
    #[error("the keys cannot be used: {0}")]
    Keys(#[from] BadKeys),
    /// No request can ask for it.
    #[error("{0} is no address that can be asked")]
    Address(HttpsUrl),
    /// Its name is not known, or the name service does not answer.
    #[error("look up {host}: {error}")]
    Dns {
        /// Whom.
        host: String,
        /// Why.
        error: io::Error,
    },
    /// No connection, no certificate that is good, no HTTP.
    #[error(transparent)]
    Https(#[from] HttpsError),
    /// Not `200`: it does not know us, or has its own troubles.
    #[error("the web server says {0}")]
    Status(StatusCode),
    /// Not what RFC 7662 section 2.2 says.
    #[error("what it says of a token is no JSON object with `active`")]
    Answer,
    /// Not in time.
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Timeout,
    /// It was asked a moment ago.
    #[error("it is not asked again yet after: {0}")]
    Resting(String),
}

/// One address of a provider.
pub(super) struct Web {
    url: HttpsUrl,
    target: Uri,
    tls: TlsClient,
    metrics: Metrics,
}

impl Web {
    pub(super) fn new(url: &HttpsUrl, tls: TlsClient, metrics: Metrics) -> Result<Self, ProviderError> {
        let target = url.path.parse().map_err(|_| ProviderError::Address(url.clone()))?;
        Ok(Self { url: url.clone(), target, tls, metrics })
    }

    /// What is there now.
    pub(super) async fn get(&self) -> Result<Bytes, ProviderError> {
        self.send(Request::new(Full::default())).await
    }

    /// The content of a `200` to this request, which is sent to our address.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Bytes, ProviderError> {
        let exchange = tokio::time::timeout(DEADLINE, self.exchange(request)).await;
        let result = exchange.map_err(|_| ProviderError::Timeout).flatten();
        self.metrics.provider(result.is_ok());
        result
    }

    async fn exchange(&self, mut request: Request<Full<Bytes>>) -> Result<Bytes, ProviderError> {
        *request.uri_mut() = self.target.clone();
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        let HttpsUrl { host, port, .. } = &self.url;
        // As the database is found: by the system, with its search list.
        let found = tokio::net::lookup_host((host.as_str(), *port)).await;
        let addresses = found.map_err(|error| ProviderError::Dns { host: host.clone(), error })?.take(ADDRESSES);
        let answer = ask(&self.tls, (host, &self.url.authority()), addresses, CONNECT, request).await?;
        match answer.status {
            StatusCode::OK => Ok(answer.body(SIZE).await?),
            status => Err(ProviderError::Status(status)),
        }
    }
}
