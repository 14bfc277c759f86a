//! What a token claims (RFC 7519 section 4, RFC 7662 section 2.2), and what is asked of it. Pure.

use serde_json::{Map, Value};
use staffetta_config::OAuth;

use crate::sasl::is_login;

/// Seconds by which clocks may differ.
const LEEWAY: u64 = 60;

/// The claim that may say that it is not to be believed.
const EMAIL: &str = "email";

/// Why a token is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// A client asks how to get one (RFC 7628 section 3.2.3), or has lost it.
    Missing,
    /// Not three parts with JSON in them, or of a kind that is not for this.
    Form,
    /// Not one of those that are allowed.
    Algorithm,
    /// The provider does not have it (any more).
    UnknownKey,
    /// Somebody else made it, or changed it.
    Signature,
    /// The provider says so.
    Inactive,
    /// `iss`
    Issuer,
    /// `aud`
    Audience,
    /// `exp`
    Expired,
    /// `nbf`
    Early,
    /// It has no end, or a time that is none.
    Times,
    /// `scope`
    Scope,
    /// There is no such claim, or what it says cannot be a login.
    Login,
    /// `email_verified`
    Unverified,
}

impl Flaw {
    /// For the log.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Missing => "there is no token",
            Self::Form => "the token is not a JWT for access",
            Self::Algorithm => "the token is signed in a way that auth.oauth.algorithms does not allow",
            Self::UnknownKey => "the token is signed by a key that the identity provider does not have",
            Self::Signature => "the signature of the token is wrong",
            Self::Inactive => "the identity provider says that the token is not active",
            Self::Issuer => "the token is of another issuer than auth.oauth.issuer",
            Self::Audience => "the token is for none of auth.oauth.audience",
            Self::Expired => "the token has expired",
            Self::Early => "the token is not valid yet",
            Self::Times => "the token does not say until when it is valid",
            Self::Scope => "the token lacks the scope of auth.oauth.scope",
            Self::Login => "the token has no login in the claim of auth.oauth.login_claim",
            Self::Unverified => "the token says that its e-mail address is not verified",
        }
    }
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

/// What a good token opens.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// As the provider spells it.
    pub(crate) login: String,
    /// Seconds for which the token still is valid; nothing if nobody says.
    pub(crate) left: Option<u64>,
}

/// What a token says.
pub(super) struct Claims {
    values: Map<String, Value>,
    /// The provider has said so in its answer, and need not say everything.
    reported: bool,
}

impl Claims {
    /// Of a token whose signature is right.
    pub(super) fn signed(values: Map<String, Value>) -> Self {
        Self { values, reported: false }
    }

    /// In an answer of the provider.
    pub(super) fn reported(values: Map<String, Value>) -> Self {
        Self { values, reported: true }
    }

    /// Absent and `null` are the same.
    fn find(&self, name: &str) -> Option<&Value> {
        self.values.get(name).filter(|value| !value.is_null())
    }

    /// A time, in whole seconds. It may have a fraction (RFC 7519 section 2).
    fn time(&self, name: &str) -> Result<Option<u64>, Flaw> {
        let Some(value) = self.find(name) else { return Ok(None) };
        let seconds = value.as_f64().filter(|seconds| seconds.is_finite()).ok_or(Flaw::Times)?;
        // Below zero and above all numbers are the nearest of them.
        Ok(Some(seconds as u64))
    }

    /// The words of a claim that is one text, divided by blanks, or a list.
    fn words(&self, name: &str) -> Vec<&str> {
        match self.find(name) {
            Some(Value::String(text)) => text.split(' ').collect(),
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    fn is_for(&self, audience: &[String]) -> bool {
        let listed = |text: &str| audience.iter().any(|ours| ours == text);
        match self.find("aud") {
            Some(Value::String(text)) => listed(text),
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).any(listed),
            Some(_) => false,
            None => self.reported,
        }
    }

    fn is_by(&self, issuer: &str) -> bool {
        self.find("iss").map_or(self.reported, |value| value.as_str() == Some(issuer))
    }
}

/// What is asked of a token.
pub(super) struct Demands {
    issuer: Option<String>,
    audience: Vec<String>,
    login_claim: String,
    scope: Option<String>,
}

impl Demands {
    pub(super) fn new(oauth: &OAuth) -> Self {
        Self {
            issuer: oauth.issuer.clone(),
            audience: oauth.audience.clone(),
            login_claim: oauth.login_claim.clone(),
            scope: oauth.scope.clone(),
        }
    }

    pub(super) fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    /// Where clients read how to get a token (RFC 8414 section 3, as OpenID Connect has it).
    pub(super) fn discovery(&self) -> Option<String> {
        let issuer = self.issuer.as_deref().filter(|issuer| issuer.starts_with("https://"))?;
        Some(format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')))
    }

    /// Whom the token is for, `now` seconds after 1970.
    pub(super) fn judge(&self, claims: &Claims, now: u64) -> Result<Grant, Flaw> {
        if self.issuer.as_deref().is_some_and(|issuer| !claims.is_by(issuer)) {
            return Err(Flaw::Issuer);
        }
        if !self.audience.is_empty() && !claims.is_for(&self.audience) {
            return Err(Flaw::Audience);
        }
        let left = lifetime(claims, now)?;
        if self
            .scope
            .as_deref()
            .is_some_and(|scope| !["scope", "scp"].iter().any(|it| claims.words(it).contains(&scope)))
        {
            return Err(Flaw::Scope);
        }
        Ok(Grant { login: self.login(claims)?, left })
    }

    fn login(&self, claims: &Claims) -> Result<String, Flaw> {
        let login = claims.find(&self.login_claim).and_then(Value::as_str).filter(|login| is_login(login));
        let login = login.ok_or(Flaw::Login)?;
        let verified = claims.find("email_verified").filter(|_| self.login_claim == EMAIL);
        match verified {
            None | Some(Value::Bool(true)) => Ok(login.to_owned()),
            Some(Value::String(text)) if text == "true" => Ok(login.to_owned()),
            Some(_) => Err(Flaw::Unverified),
        }
    }
}

/// Seconds until `exp`; none are left while only the leeway is.
fn lifetime(claims: &Claims, now: u64) -> Result<Option<u64>, Flaw> {
    let (end, start) = (claims.time("exp")?, claims.time("nbf")?);
    if end.is_none() && !claims.reported {
        return Err(Flaw::Times);
    }
    if end.is_some_and(|end| now >= end.saturating_add(LEEWAY)) {
        return Err(Flaw::Expired);
    }
    if start.is_some_and(|start| now.saturating_add(LEEWAY) < start) {
        return Err(Flaw::Early);
    }
    Ok(end.map(|end| end.saturating_sub(now)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn demands() -> Demands {
        Demands {
            issuer: Some("https://id.example.org/".to_owned()),
            audience: vec!["smtp".to_owned(), "mail".to_owned()],
            login_claim: "email".to_owned(),
            scope: Some("mail.send".to_owned()),
        }
    }

    /// A good token, with some claims in the place of others; `null` takes one away.
    fn claims(changes: &Value) -> Map<String, Value> {
        let mut claims = json!({
            "iss": "https://id.example.org/", "aud": "smtp", "exp": NOW + 100, "nbf": NOW - 100,
            "scope": "openid mail.send", "email": "john@example.org",
        });
        let values = claims.as_object_mut().unwrap();
        values.extend(changes.as_object().unwrap().clone());
        values.clone()
    }

    #[test]
    fn each_claim_is_asked_for() {
        let login = || Ok("john@example.org".to_owned());
        let table = [
            (json!({}), login(), login()),
            // RFC 7519 section 4.1.1, letter by letter; section 4.1.3.
            (json!({"iss": "https://id.example.org"}), Err(Flaw::Issuer), Err(Flaw::Issuer)),
            (json!({"iss": "HTTPS://id.example.org/"}), Err(Flaw::Issuer), Err(Flaw::Issuer)),
            (json!({"iss": ["https://id.example.org/"]}), Err(Flaw::Issuer), Err(Flaw::Issuer)),
            (json!({"iss": null}), Err(Flaw::Issuer), login()),
            (json!({"aud": ["other", "mail"]}), login(), login()),
            (json!({"aud": "other"}), Err(Flaw::Audience), Err(Flaw::Audience)),
            (json!({"aud": "smtp mail"}), Err(Flaw::Audience), Err(Flaw::Audience)),
            (json!({"aud": []}), Err(Flaw::Audience), Err(Flaw::Audience)),
            (json!({"aud": {"smtp": true}}), Err(Flaw::Audience), Err(Flaw::Audience)),
            (json!({"aud": null}), Err(Flaw::Audience), login()),
            // Sections 4.1.4 and 4.1.5, with a minute of leeway.
            (json!({"exp": NOW - 59}), login(), login()),
            (json!({"exp": NOW - 60}), Err(Flaw::Expired), Err(Flaw::Expired)),
            (json!({"exp": -1}), Err(Flaw::Expired), Err(Flaw::Expired)),
            (json!({"exp": 0}), Err(Flaw::Expired), Err(Flaw::Expired)),
            (json!({"exp": NOW as f64 + 0.5}), login(), login()),
            (json!({"exp": 1e300}), login(), login()),
            (json!({"exp": (NOW + 100).to_string()}), Err(Flaw::Times), Err(Flaw::Times)),
            (json!({"exp": null}), Err(Flaw::Times), login()),
            (json!({"nbf": NOW + 60}), login(), login()),
            (json!({"nbf": NOW + 61}), Err(Flaw::Early), Err(Flaw::Early)),
            (json!({"nbf": "soon"}), Err(Flaw::Times), Err(Flaw::Times)),
            (json!({"nbf": null}), login(), login()),
            // RFC 8693 section 4.2; Microsoft and Okta say "scp".
            (json!({"scope": "mail.send"}), login(), login()),
            (json!({"scope": "mail.sender"}), Err(Flaw::Scope), Err(Flaw::Scope)),
            (json!({"scope": null}), Err(Flaw::Scope), Err(Flaw::Scope)),
            (json!({"scope": ["openid", "mail.send"]}), login(), login()),
            (json!({"scope": null, "scp": "mail.send"}), login(), login()),
            (json!({"scope": null, "scp": ["mail.send"]}), login(), login()),
            (
                json!({"email": "Jörg@example.org"}),
                Ok("Jörg@example.org".to_owned()),
                Ok("Jörg@example.org".to_owned()),
            ),
            (json!({"email": null}), Err(Flaw::Login), Err(Flaw::Login)),
            (json!({"email": ""}), Err(Flaw::Login), Err(Flaw::Login)),
            (json!({"email": ["john@example.org"]}), Err(Flaw::Login), Err(Flaw::Login)),
            (json!({"email": "john@example.org\r\n"}), Err(Flaw::Login), Err(Flaw::Login)),
            (json!({"email": "x".repeat(321)}), Err(Flaw::Login), Err(Flaw::Login)),
            (json!({"email_verified": true}), login(), login()),
            (json!({"email_verified": "true"}), login(), login()),
            (json!({"email_verified": false}), Err(Flaw::Unverified), Err(Flaw::Unverified)),
            (json!({"email_verified": "false"}), Err(Flaw::Unverified), Err(Flaw::Unverified)),
        ];
        for (changes, signed, reported) in table {
            let judge = |claims| demands().judge(&claims, NOW).map(|grant| grant.login);
            assert_eq!(judge(Claims::signed(claims(&changes))), signed, "signed: {changes}");
            assert_eq!(judge(Claims::reported(claims(&changes))), reported, "reported: {changes}");
        }
    }

    #[test]
    fn what_is_not_asked_for_is_not_looked_at() {
        let demands =
            Demands { issuer: None, audience: Vec::new(), login_claim: "preferred_username".to_owned(), scope: None };
        let claims = claims(&json!({
            "iss": 1, "aud": 1, "scope": null, "preferred_username": "john", "email_verified": false,
        }));
        let grant = demands.judge(&Claims::signed(claims), NOW);
        assert_eq!(grant, Ok(Grant { login: "john".to_owned(), left: Some(100) }));
    }

    #[test]
    fn a_token_is_good_for_as_long_as_it_says() {
        for (exp, left) in [(json!(NOW + 100), Some(100)), (json!(NOW - 59), Some(0)), (json!(null), None)] {
            let claims = Claims::reported(claims(&json!({ "exp": exp })));
            assert_eq!(demands().judge(&claims, NOW).unwrap().left, left, "{exp}");
        }
    }

    #[test]
    fn a_client_is_told_where_the_issuer_is_described() {
        let discovery = |issuer: &str| Demands { issuer: Some(issuer.to_owned()), ..demands() }.discovery();
        let expected = Some("https://id.example.org/realm/.well-known/openid-configuration".to_owned());
        assert_eq!(discovery("https://id.example.org/realm"), expected);
        assert_eq!(discovery("https://id.example.org/realm/"), expected);
        assert_eq!(discovery("accounts.example.org"), None);
    }
}
