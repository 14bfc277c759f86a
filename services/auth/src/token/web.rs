//! The web server of an identity provider, as far as somebody who judges tokens is concerned.

use std::io;
use std::path::PathBuf;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use staffetta_config::WebUrl;
use staffetta_transport::connect::TlsClient;
use staffetta_transport::web::{self, WebError};

use super::jwks::BadKeys;
use crate::metrics::Metrics;

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
    /// Nothing comes from its address.
    #[error(transparent)]
    Web(#[from] WebError),
    /// Not `200`: it does not know us, or has its own troubles.
    #[error("the web server says {0}")]
    Status(StatusCode),
    /// Not what RFC 7662 section 2.2 says.
    #[error("what it says of a token is no JSON object with `active`")]
    Answer,
    /// It was asked a moment ago.
    #[error("it is not asked again yet after: {0}")]
    Resting(String),
}

/// One address of a provider, whose answers are counted.
pub(super) struct Web {
    web: web::Web,
    metrics: Metrics,
}

impl Web {
    pub(super) fn new(url: &WebUrl, tls: TlsClient, metrics: Metrics) -> Result<Self, ProviderError> {
        Ok(Self { web: web::Web::new(url, tls)?, metrics })
    }

    /// What is there now.
    pub(super) async fn get(&self) -> Result<Bytes, ProviderError> {
        self.send(Request::new(Full::default())).await
    }

    /// The content of a `200` to this request, which is sent to our address.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Bytes, ProviderError> {
        let result = match self.web.send(request).await {
            Ok((StatusCode::OK, content)) => Ok(content),
            Ok((status, _)) => Err(ProviderError::Status(status)),
            Err(error) => Err(error.into()),
        };
        self.metrics.provider(result.is_ok());
        result
    }
}
