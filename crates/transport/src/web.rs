//! One address of a web server, asked with an end of time and size: for those who give tokens, and those who judge them.

use std::io;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use staffetta_config::WebUrl;
use zeroize::Zeroizing;

use crate::connect::TlsClient;
use crate::https::{ADDRESSES, HttpsError, ask};

/// For all of it: the client of a client waits, and gives up after ten seconds.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// For one address.
const CONNECT: Duration = Duration::from_secs(2);
/// Longest answer, in octets.
pub const SIZE: usize = 256 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// No request can ask for it.
    #[error("{0} is no address that can be asked")]
    Address(WebUrl),
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
    /// Not in time.
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Timeout,
}

/// One address.
pub struct Web {
    url: WebUrl,
    target: Uri,
    tls: TlsClient,
}

impl Web {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// [`WebError::Address`].
    pub fn new(url: &WebUrl, tls: TlsClient) -> Result<Self, WebError> {
        let target = url.path.parse().map_err(|_| WebError::Address(url.clone()))?;
        Ok(Self { url: url.clone(), target, tls })
    }

    /// Sends this request to our address: the status, and the content, which wants JSON to be.
    ///
    /// # Errors
    /// There is no answer, or it is too long.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), WebError> {
        let exchange = tokio::time::timeout(DEADLINE, self.exchange(request)).await;
        exchange.map_err(|_| WebError::Timeout).flatten()
    }

    async fn exchange(&self, mut request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), WebError> {
        *request.uri_mut() = self.target.clone();
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        let WebUrl { host, port, .. } = &self.url;
        // As the database is found: by the system, with its search list.
        let found = tokio::net::lookup_host((host.as_str(), *port)).await;
        let found = found.map_err(|error| WebError::Dns { host: host.clone(), error })?;
        // What is not encrypted stays here, wherever a name leads.
        let addresses = found.filter(|address| self.url.encrypted || address.ip().is_loopback()).take(ADDRESSES);
        let tls = self.url.encrypted.then_some(&self.tls);
        let answer = ask(tls, (host, &self.url.authority()), addresses, CONNECT, request).await?;
        Ok((answer.status, answer.body(SIZE).await?))
    }
}

/// A form that is sent (HTML, `application/x-www-form-urlencoded`). What is in it is wiped behind it.
#[derive(Default)]
pub struct Form(Zeroizing<Vec<u8>>);

impl Form {
    /// With one more field, whose name needs no encoding.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        // Room for the worst, in a new place, so that no copy is left behind where it grows.
        let mut form = Zeroizing::new(Vec::with_capacity(self.0.len() + name.len() + 3 * value.len() + 2));
        form.append(&mut self.0);
        if !form.is_empty() {
            form.push(b'&');
        }
        form.extend_from_slice(name.as_bytes());
        form.push(b'=');
        value.bytes().for_each(|octet| encode(octet, &mut form));
        Self(form)
    }

    /// What brings it to a [`Web`].
    pub fn post(self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::from_owner(self.0)));
        *request.method_mut() = Method::POST;
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, kind);
        request
    }
}

/// RFC 3986 section 2.1: what is not unreserved, in hexadecimal.
pub fn encode(octet: u8, text: &mut Vec<u8>) {
    if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
        return text.push(octet);
    }
    let digit = |value: u8| b"0123456789ABCDEF"[usize::from(value & 15)];
    text.extend([b'%', digit(octet >> 4), digit(octet)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_has_its_fields_in_order_and_encoded() {
        let form = Form::default().with("grant_type", "refresh_token").with("scope", "https://mail.google.com/ é&=");
        let text = String::from_utf8_lossy(&form.0).into_owned();
        assert_eq!(text, "grant_type=refresh_token&scope=https%3A%2F%2Fmail.google.com%2F%20%C3%A9%26%3D");
    }
}
