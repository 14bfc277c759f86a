//! The policy file of a domain, over HTTPS (RFC 8461 section 3.3): nothing but `200`, `text/plain` and a certificate for
//! the name counts; no redirects, no caches, and both time and size have an end.

use std::time::Duration;

use http_body_util::Full;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, StatusCode, Uri};
use ipnet::IpNet;
use staffetta_mail::tls_report::Flaw;
use staffetta_policy::sts::{BadPolicy, Policy};

use crate::connect::TlsClient;
use crate::dns::{DnsError, Resolver};
use crate::https::{HttpsError, ask, web_server};

/// For all of it; mail of the domain waits meanwhile.
const DEADLINE: Duration = Duration::from_secs(15);
/// For one address.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest file, in octets (section 3.2).
const SIZE: usize = 64 * 1024;

/// Why there is no policy. Completes "failed to fetch the policy: …".
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The web server's name.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// No address that may be dialled, no connection, no good certificate, no HTTP.
    #[error(transparent)]
    Https(#[from] HttpsError),
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

impl FetchError {
    /// What the domain is told of it (RFC 8460 section 4.3.2.2).
    pub fn flaw(&self) -> Flaw {
        match self {
            Self::Policy(_) | Self::Type(_) => Flaw::StsPolicyInvalid,
            Self::Https(HttpsError::Tls(_)) => Flaw::StsWebpkiInvalid,
            Self::Dns(_) | Self::Https(_) | Self::Status(_) | Self::Body(_) | Self::Timeout => {
                Flaw::StsPolicyFetchError
            }
        }
    }
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
        let addresses = web_server(&self.resolver, &self.blocked, host, self.port).await?;
        let mut request = Request::new(Full::default());
        *request.uri_mut() = Uri::from_static("/.well-known/mta-sts.txt");
        let answer = ask(Some(&self.tls), (host, host), addresses, CONNECT, request).await?;
        if answer.status != StatusCode::OK {
            return Err(FetchError::Status(answer.status));
        }
        let kind = answer.headers.get(CONTENT_TYPE).map(|kind| String::from_utf8_lossy(kind.as_bytes()).into_owned());
        let kind = kind.unwrap_or_default();
        if !is_plain_text(&kind) {
            return Err(FetchError::Type(kind));
        }
        let body = answer.body(SIZE).await.map_err(|error| FetchError::Body(error.to_string()))?;
        String::from_utf8(body.to_vec()).map_err(|error| FetchError::Body(error.to_string()))
    }
}

/// Parameters, such as a character set, do not matter.
fn is_plain_text(kind: &str) -> bool {
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/plain"))
}
