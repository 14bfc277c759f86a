//! What is said to a token endpoint, and what it answers (RFC 6749): a refresh token, or only the client's own credentials,
//! for an access token.
//!
//! The client names and proves itself in the form, as Google and Microsoft describe it, and not in a header.

use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use staffetta_config as config;

use super::TokenError;
use crate::web::{Form, encode};

/// How long a token is good whose giver does not say it (RFC 6749 section 5.1 wants it said).
const UNSAID: Duration = Duration::from_secs(300);
/// No token is believed for longer.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
/// Longest token, in octets.
const TOKEN: usize = 16 * 1024;
/// What is shown of an endpoint's words.
const WORDS: usize = 200;

/// What the operator has been given.
pub(super) struct Grant {
    pub(super) client_id: String,
    pub(super) client_secret: Option<SecretString>,
    pub(super) refresh_token: Option<SecretString>,
    pub(super) scope: Option<String>,
}

/// What comes of it.
pub(super) struct Granted {
    pub(super) token: SecretString,
    pub(super) life: Duration,
    /// Counts from now on, in the place of the one before.
    pub(super) refresh: Option<SecretString>,
}

impl Grant {
    /// Of a route, if it has one. Frontends may not have its secrets.
    pub(super) fn of(route: &config::Route) -> Option<Self> {
        let (client_secret, refresh_token) = (route.client_secret.clone(), route.refresh_token.clone());
        let has_secret = client_secret.is_some() || refresh_token.is_some();
        let client_id = route.client_id.clone().filter(|_| has_secret)?;
        Some(Self { client_id, client_secret, refresh_token, scope: route.scope.clone() })
    }

    /// Sections 5.1 and 5.2: the answer to a request with this refresh token.
    pub(super) fn read(
        &self,
        refresh: Option<&SecretString>,
        status: StatusCode,
        content: &[u8],
    ) -> Result<Granted, TokenError> {
        let secrets: Vec<_> = self.client_secret.iter().chain(refresh).map(ExposeSecret::expose_secret).collect();
        read(status, content, &secrets)
    }

    /// Section 6, or section 4.4 where there is no refresh token.
    pub(super) fn request(&self, refresh: Option<&SecretString>) -> Request<Full<Bytes>> {
        let form = match refresh {
            Some(token) => {
                Form::default().with("grant_type", "refresh_token").with("refresh_token", token.expose_secret())
            }
            None => Form::default().with("grant_type", "client_credentials"),
        };
        let secret = self.client_secret.as_ref().map(|secret| ("client_secret", secret.expose_secret()));
        let scope = self.scope.as_deref().map(|scope| ("scope", scope));
        let others = secret.into_iter().chain(scope);
        let form = others.fold(form.with("client_id", &self.client_id), |form, (name, value)| form.with(name, value));
        form.post()
    }
}

fn read(status: StatusCode, content: &[u8], secrets: &[&str]) -> Result<Granted, TokenError> {
    let answer: Value = serde_json::from_slice(content).unwrap_or_default();
    if status != StatusCode::OK {
        return Err(refusal(&answer, secrets).map_or(TokenError::Status(status), TokenError::Refused));
    }
    let text = |name: &str| answer.get(name).and_then(Value::as_str);
    let is_bearer = text("token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
    // What goes between ^A and ^A has none in it.
    let is_token = |token: &&str| token.len() <= TOKEN && token.bytes().all(|octet| octet.is_ascii_graphic());
    let token = text("access_token").filter(|token| is_bearer && !token.is_empty()).filter(is_token);
    let refresh = text("refresh_token").filter(|token| !token.is_empty() && token.len() <= TOKEN).map(Into::into);
    Ok(Granted { token: token.ok_or(TokenError::Answer)?.into(), life: life(answer.get("expires_in")), refresh })
}

/// Seconds, which some write as a text.
fn life(said: Option<&Value>) -> Duration {
    let seconds = said.and_then(|said| said.as_u64().or_else(|| said.as_str()?.parse().ok()));
    seconds.map_or(UNSAID, Duration::from_secs).clamp(Duration::from_secs(1), LONGEST)
}

/// An endpoint's own words, for the log: one line, and not for ever. One that repeats what it was asked with is not quoted.
fn refusal(answer: &Value, secrets: &[&str]) -> Option<String> {
    let tells = |text: &&str| !secrets.iter().any(|secret| text.contains(secret) || text.contains(&escaped(secret)));
    let code = Some(answer.get("error")?.as_str()?).filter(tells).unwrap_or("in words with a secret");
    let words = answer.get("error_description").and_then(Value::as_str).filter(tells).unwrap_or_default();
    let text = if words.is_empty() { code.to_owned() } else { format!("{code}: {words}") };
    let line: String = text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    Some(line[..line.floor_char_boundary(WORDS)].trim_end().to_owned())
}

/// As it was sent.
fn escaped(secret: &str) -> String {
    let mut text = Vec::new();
    secret.bytes().for_each(|octet| encode(octet, &mut text));
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn form(grant: &Grant, refresh: Option<&str>) -> String {
        let refresh = refresh.map(SecretString::from);
        let body = grant.request(refresh.as_ref()).into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn rfc6749_6_and_4_4_what_is_asked_with() {
        let grant = |secret: Option<&str>, scope: Option<&str>| Grant {
            client_id: "id".to_owned(),
            client_secret: secret.map(Into::into),
            refresh_token: None,
            scope: scope.map(str::to_owned),
        };
        let with_all = form(&grant(Some("s&t"), Some("https://x/.default")), Some("1//r")).await;
        assert_eq!(
            with_all,
            "grant_type=refresh_token&refresh_token=1%2F%2Fr&client_id=id&client_secret=s%26t&scope=https%3A%2F%2Fx%2F.default"
        );
        assert_eq!(form(&grant(None, None), Some("r")).await, "grant_type=refresh_token&refresh_token=r&client_id=id");
        assert_eq!(
            form(&grant(Some("s"), None), None).await,
            "grant_type=client_credentials&client_id=id&client_secret=s"
        );
    }

    fn granted(answer: &str) -> Result<(String, u64, Option<String>), String> {
        let shown = |secret: &SecretString| secret.expose_secret().to_owned();
        match read(StatusCode::OK, answer.as_bytes(), &[]) {
            Ok(granted) => Ok((shown(&granted.token), granted.life.as_secs(), granted.refresh.as_ref().map(shown))),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn rfc6749_5_1_an_answer_has_a_bearer_token_and_its_life() {
        let ok = |token: &str, life, refresh: Option<&str>| Ok((token.to_owned(), life, refresh.map(str::to_owned)));
        for (answer, expected) in [
            (r#"{"access_token":"a.b","token_type":"Bearer","expires_in":3599}"#, ok("a.b", 3599, None)),
            (r#"{"access_token":"a","token_type":"bearer","expires_in":"60"}"#, ok("a", 60, None)),
            (r#"{"access_token":"a","token_type":"bearer","refresh_token":"r"}"#, ok("a", 300, Some("r"))),
            (r#"{"access_token":"a","token_type":"bearer","expires_in":0}"#, ok("a", 1, None)),
            (r#"{"access_token":"a","token_type":"bearer","expires_in":99999999999}"#, ok("a", 604_800, None)),
        ] {
            assert_eq!(granted(answer), expected, "{answer}");
        }
        let long = format!(r#"{{"access_token":"{}","token_type":"bearer"}}"#, "a".repeat(TOKEN + 1));
        for answer in [
            "",
            "[]",
            "{}",
            r#"{"access_token":"a"}"#,
            r#"{"access_token":"","token_type":"bearer"}"#,
            r#"{"access_token":"a","token_type":"mac"}"#,
            r#"{"access_token":"a\u0001b","token_type":"bearer"}"#,
            r#"{"access_token":"a\r\nQUIT","token_type":"bearer"}"#,
            r#"{"access_token":["a"],"token_type":"bearer"}"#,
            &long,
        ] {
            assert!(granted(answer).is_err(), "{answer}");
        }
    }

    #[test]
    fn rfc6749_5_2_a_refusal_is_told_in_one_line() {
        let refused = |status, answer: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            read(status, answer.as_bytes(), &["s3cret/"]).err().map(|error| error.to_string()).unwrap_or_default()
        };
        let long = format!(r#"{{"error":"invalid_client","error_description":"a\r\nb {}"}}"#, "é".repeat(300));
        assert!(refused(401, &long).starts_with("refused: invalid_client: a  b é"));
        assert!(refused(401, &long).len() < 220);
        assert_eq!(refused(400, r#"{"error":"invalid_grant"}"#), "refused: invalid_grant");
        for repeated in ["client_secret=s3cret/", "client_secret=s3cret%2F&scope=x"] {
            let answer = format!(r#"{{"error":"invalid_request","error_description":"{repeated}"}}"#);
            assert_eq!(refused(400, &answer), "refused: invalid_request");
            assert_eq!(refused(400, &format!(r#"{{"error":"{repeated}"}}"#)), "refused: in words with a secret");
        }
        assert_eq!(refused(503, "<html>"), "the web server says 503 Service Unavailable");
    }
}
