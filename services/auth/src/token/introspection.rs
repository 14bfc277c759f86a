//! Asks the identity provider about a token (RFC 7662).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};
use staffetta_transport::web::{Form, encode};
use zeroize::Zeroizing;

use super::TokenError;
use super::claims::Flaw;
use super::web::{ProviderError, Web};

/// Where to ask, and who we are.
pub(super) struct Introspection {
    web: Web,
    /// What the field `Authorization` says.
    authorization: Option<SecretString>,
}

impl Introspection {
    /// Asks under this name, if there is one.
    pub(super) fn new(web: Web, client_id: Option<&str>, secret: Option<&SecretString>) -> Self {
        let authorization = client_id.zip(secret).map(|(id, secret)| basic(id, secret));
        Self { web, authorization }
    }

    /// What the provider says of the token, if it is active.
    pub(super) async fn ask(&self, token: &str) -> Result<Map<String, Value>, TokenError> {
        let answer = self.web.send(self.request(token)).await?;
        let Ok(Value::Object(claims)) = serde_json::from_slice(&answer) else {
            return Err(ProviderError::Answer.into());
        };
        match claims.get("active") {
            Some(Value::Bool(true)) => Ok(claims),
            Some(Value::Bool(false)) => Err(Flaw::Inactive.into()),
            _ => Err(ProviderError::Answer.into()),
        }
    }

    /// RFC 7662 section 2.1.
    fn request(&self, token: &str) -> Request<Full<Bytes>> {
        let mut request = Form::default().with("token_type_hint", "access_token").with("token", token).post();
        // Base64 is always a value.
        let value = self.authorization.as_ref().and_then(|text| HeaderValue::from_str(text.expose_secret()).ok());
        if let Some(mut value) = value {
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        request
    }
}

/// RFC 6749 section 2.3.1: both are encoded as in a form before they are put together.
fn basic(id: &str, secret: &SecretString) -> SecretString {
    let mut pair = Zeroizing::new(Vec::with_capacity(3 * (id.len() + secret.expose_secret().len()) + 1));
    id.bytes().for_each(|octet| encode(octet, &mut pair));
    pair.push(b':');
    secret.expose_secret().bytes().for_each(|octet| encode(octet, &mut pair));
    let encoded = Zeroizing::new(STANDARD.encode(&*pair));
    format!("Basic {}", *encoded).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6749_2_3_1_names_and_secrets_are_encoded_before_they_are_put_together() {
        let basic = |id: &str, secret: &str| basic(id, &secret.into()).expose_secret().to_owned();
        assert_eq!(basic("s6BhdRkqt3", "gX1fBat3bV"), "Basic czZCaGRSa3F0MzpnWDFmQmF0M2JW");
        assert_eq!(basic("a:b", "c+d/é"), format!("Basic {}", STANDARD.encode("a%3Ab:c%2Bd%2F%C3%A9")));
    }
}
