//! OAUTHBEARER (RFC 7628) and XOAUTH2, its older form at Google and Microsoft: the client shows a token.
//!
//! One message has it. A token that is not good is answered by a challenge that says so in JSON, to which the client
//! answers with nothing of interest; only then the exchange fails (RFC 7628 section 3.2.3).

use secrecy::SecretString;
use serde_json::{Map, Value};

use super::{Bearer, Denied, Mechanism, Message, Step, escaped_login, login};

/// Ends a field, and the message.
const SEPARATOR: char = '\x01';

/// One exchange.
pub(super) struct OAuth {
    form: Form,
    /// What is left to say once the client has heard why.
    denied: Option<(String, &'static str)>,
}

/// How a message is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `n,a=user,^Ahost=…^Aport=…^Aauth=Bearer token^A^A`
    Bearer,
    /// `user=user^Aauth=Bearer token^A^A`
    X,
}

impl OAuth {
    /// OAUTHBEARER
    pub(super) fn bearer() -> Self {
        Self { form: Form::Bearer, denied: None }
    }

    /// XOAUTH2
    pub(super) fn x() -> Self {
        Self { form: Form::X, denied: None }
    }
}

impl Mechanism for OAuth {
    fn begin(&mut self, initial: Option<Message>) -> Step {
        match initial {
            Some(message) => self.respond(message),
            None => Step::Challenge(Vec::new()),
        }
    }

    fn respond(&mut self, message: Message) -> Step {
        if let Some((login, detail)) = self.denied.take() {
            return Step::Denied { login, detail };
        }
        match parse(self.form, &message) {
            Ok(bearer) => Step::Redeem(bearer),
            Err(step) => step,
        }
    }

    fn deny(&mut self, denied: Denied) -> Step {
        let challenge = explained(self.form, &denied);
        self.denied = Some((denied.login, denied.detail));
        Step::Challenge(challenge.into_bytes())
    }
}

/// RFC 7628 section 3.1, and the same without its first part.
fn parse(form: Form, message: &[u8]) -> Result<Bearer, Step> {
    let malformed = Step::Malformed;
    let text = std::str::from_utf8(message).map_err(|_| malformed("the message is not UTF-8"))?;
    let (named, fields) = match form {
        Form::Bearer => {
            let (header, fields) = text.split_once(SEPARATOR).ok_or(malformed("OAUTHBEARER has fields behind ^A"))?;
            (identity(header)?, fields)
        }
        Form::X => (None, text),
    };
    let fields = fields.strip_suffix(SEPARATOR).ok_or(malformed("the message does not end in ^A^A"))?;
    let fields = Fields::parse(fields)?;
    let named = match (form, fields.user) {
        (Form::X, user) => Some(login(user.ok_or(malformed("XOAUTH2 wants a user"))?.as_bytes())?),
        (Form::Bearer, _) => named,
    };
    let token = token(fields.auth.ok_or(malformed("there is no field auth"))?)?;
    Ok(Bearer { login: named, token })
}

/// `gs2-header` (RFC 5801 section 4): whom the client wants to be.
fn identity(header: &str) -> Result<Option<String>, Step> {
    let mut parts = header.split(',');
    let (Some("n" | "y"), Some(identity), Some(""), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Step::Malformed("OAUTHBEARER begins with n, and whom to act for"));
    };
    if identity.is_empty() {
        return Ok(None);
    }
    escaped_login(identity.strip_prefix("a=").ok_or(Step::Malformed("whom to act for begins with a="))?).map(Some)
}

/// The fields that matter here; all others are passed over, as section 3.1 wants it.
#[derive(Default)]
struct Fields<'a> {
    user: Option<&'a str>,
    auth: Option<&'a str>,
}

impl<'a> Fields<'a> {
    /// `*kvpair`: each ends in a separator.
    fn parse(text: &'a str) -> Result<Self, Step> {
        let mut fields = Self::default();
        if !text.is_empty() && !text.ends_with(SEPARATOR) {
            return Err(Step::Malformed("a field does not end in ^A"));
        }
        for field in text.split_terminator(SEPARATOR) {
            let (key, value) = field.split_once('=').ok_or(Step::Malformed("a field is name=value"))?;
            let is_value = |c: char| !c.is_control() || matches!(c, '\t' | '\r' | '\n');
            if key.is_empty() || !key.bytes().all(|octet| octet.is_ascii_alphabetic()) || !value.chars().all(is_value) {
                return Err(Step::Malformed("a field is letters=text"));
            }
            let place = match key {
                "user" => &mut fields.user,
                "auth" => &mut fields.auth,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(Step::Malformed("a field comes twice"));
            }
        }
        Ok(fields)
    }
}

/// `Bearer` and a token (RFC 6750 section 2.1). Nothing at all asks how to get one (RFC 7628 section 4.3).
fn token(auth: &str) -> Result<SecretString, Step> {
    if auth.is_empty() {
        return Ok(SecretString::default());
    }
    let (scheme, token) = auth.split_once(' ').unwrap_or((auth, ""));
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(Step::Malformed("the token is not one for Bearer"));
    }
    let token = token.trim_matches(' ');
    let is_token = |octet: u8| octet.is_ascii_alphanumeric() || b"-._~+/".contains(&octet);
    if !token.trim_end_matches('=').bytes().all(is_token) {
        return Err(Step::Malformed("the token has characters that none may have"));
    }
    Ok(token.into())
}

/// What the client is told (RFC 7628 section 3.2.2; XOAUTH2 has the status of HTTP).
fn explained(form: Form, denied: &Denied) -> String {
    let status = match (form, denied.lacks_scope) {
        (Form::X, false) => "401",
        (Form::X, true) => "403",
        (Form::Bearer, false) => "invalid_token",
        (Form::Bearer, true) => "insufficient_scope",
    };
    let mut object = Map::new();
    let mut say = |key: &str, value: &str| object.insert(key.to_owned(), Value::from(value));
    say("status", status);
    if form == Form::X {
        say("schemes", "bearer");
    }
    if let Some(scope) = &denied.scope {
        say("scope", scope);
    }
    if let Some(url) = denied.discovery.as_ref().filter(|_| form == Form::Bearer) {
        say("openid-configuration", url);
    }
    Value::Object(object).to_string()
}

#[cfg(test)]
#[path = "oauth_tests.rs"]
mod tests;
