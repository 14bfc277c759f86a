//! SASL (RFC 4422) on the server's side, without I/O: a mechanism eats the client's messages and says what has to
//! happen next.
//!
//! One file a mechanism, one row each in [`start`]. A mechanism never sees a back end. PLAIN and LOGIN end with
//! [`Step::Verify`]; SCRAM asks for the stored verifier with [`Step::Recall`], OAUTHBEARER and XOAUTH2 have their token
//! judged with [`Step::Redeem`], both of which the driver in `exchange.rs` answers; a back end that speaks SASL itself
//! (Dovecot) replaces the whole exchange there, as it only moves opaque messages.

mod external;
#[cfg(test)]
mod fuzz;
mod login;
mod oauth;
mod plain;
mod scram;

use secrecy::SecretString;
use staffetta_proto::auth::v1::Client;
use zeroize::Zeroizing;

use crate::scheme::Verifier;
use scram::Binding;

/// Longest login: a local part of 64 octets, `@` and a domain of 255.
const MAX_LOGIN: usize = 320;

/// Longest password. RFC 4616 has 255; the cost of SHA-crypt grows with the length, so it needs a bound.
const MAX_PASSWORD: usize = 1024;

/// A message of the client, base64 removed; wiped when dropped.
pub(crate) type Message = Zeroizing<Vec<u8>>;

/// What a client claims.
#[derive(Debug)]
pub(crate) struct Credentials {
    /// As typed.
    pub(crate) login: String,
    /// Never shown by `Debug`, wiped when dropped.
    pub(crate) password: SecretString,
}

/// A token, and whom the client wants to be by it.
#[derive(Debug)]
pub(crate) struct Bearer {
    /// As typed; without one it is whoever the token is for.
    pub(crate) login: Option<String>,
    /// Empty if the client only wants to know where to get one. Never shown by `Debug`, wiped when dropped.
    pub(crate) token: SecretString,
}

/// Why a token opens nothing, for the log and for the client.
#[derive(Debug)]
pub(crate) struct Denied {
    /// Whose it is, or is said to be.
    pub(crate) login: String,
    /// For the log.
    pub(crate) detail: &'static str,
    /// The token is good, and lacks the scope.
    pub(crate) lacks_scope: bool,
    /// What scope a token must have.
    pub(crate) scope: Option<String>,
    /// Where it is said how to get one.
    pub(crate) discovery: Option<String>,
}

/// What a proof of a password is checked by.
pub(crate) struct Recalled {
    /// As the back end spells it.
    pub(crate) login: String,
    pub(crate) verifier: Verifier,
    /// Why no proof will do, for the log: there is no such account, or none with such a verifier.
    pub(crate) refused: Option<&'static str>,
}

/// What happens next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Send this to the client, and give its answer to the mechanism.
    Challenge(Vec<u8>),
    /// The exchange is complete: the result is that of this verification.
    Verify(Credentials),
    /// Give the mechanism what is stored of this login.
    Recall(String),
    /// Judge the token. A good one completes the exchange; of another the mechanism is told.
    Redeem(Bearer),
    /// The exchange is complete: this login has proven itself.
    Accept(String),
    /// The exchange is complete: the client has proven to be each of these, and is the first that is a login.
    Admit(Vec<String>),
    /// Not what the mechanism's grammar allows.
    Malformed(&'static str),
    /// The client has heard that it was denied, and has nothing more to say.
    Denied {
        /// Whom the client claimed to be.
        login: String,
        /// For the frontend's log; ours has it.
        detail: &'static str,
    },
    /// Well-formed, and refused without looking at the password.
    Refuse {
        /// Whom the client claimed to be.
        login: String,
        /// For the log.
        detail: &'static str,
    },
}

/// One exchange.
pub(crate) trait Mechanism: Send {
    /// The client's first message; `None` if AUTH came without an initial response (RFC 4954 §4).
    fn begin(&mut self, initial: Option<Message>) -> Step;

    /// The answer to the last challenge.
    fn respond(&mut self, message: Message) -> Step;

    /// The answer to [`Step::Recall`], for those that ask.
    fn recall(&mut self, _: Recalled) -> Step {
        Step::Malformed("nothing was asked for")
    }

    /// The answer to [`Step::Redeem`], for those that ask, if the token is not good.
    fn deny(&mut self, _: Denied) -> Step {
        Step::Malformed("nothing was asked for")
    }
}

/// Starts an exchange with this client; `None` for a mechanism that is not among those offered. Names compare exactly: the
/// contract has them in upper case.
pub(crate) fn start(mechanism: &str, offered: &[&str], client: &Client) -> Option<Box<dyn Mechanism>> {
    if !offered.contains(&mechanism) {
        return None;
    }
    match mechanism {
        "PLAIN" => Some(Box::new(plain::Plain)),
        "LOGIN" => Some(Box::<login::Login>::default()),
        "SCRAM-SHA-256" => {
            Some(Box::new(scram::Scram::new(Binding::without(offered.contains(&"SCRAM-SHA-256-PLUS"), client))))
        }
        "SCRAM-SHA-256-PLUS" => Some(Box::new(scram::Scram::new(Binding::of(client)))),
        "EXTERNAL" => Some(Box::new(external::External::new(&client.certified))),
        "OAUTHBEARER" => Some(Box::new(oauth::OAuth::bearer())),
        "XOAUTH2" => Some(Box::new(oauth::OAuth::x())),
        _ => None,
    }
}

/// A login as text, or what is wrong with it.
fn login(bytes: &[u8]) -> Result<String, Step> {
    let text = std::str::from_utf8(bytes).map_err(|_| Step::Malformed("the login is not UTF-8"))?;
    match text {
        "" => Err(Step::Malformed("the login is empty")),
        _ if text.len() > MAX_LOGIN => Err(Step::Malformed("the login is too long")),
        _ if text.chars().any(char::is_control) => Err(Step::Malformed("the login has control characters")),
        _ => Ok(text.to_owned()),
    }
}

/// Can it be the login of an account?
pub(crate) fn is_login(text: &str) -> bool {
    login(text.as_bytes()).is_ok()
}

/// A login as SCRAM and OAUTHBEARER write it (`saslname`, RFC 5801 section 4).
fn escaped_login(name: &str) -> Result<String, Step> {
    let name = Some(name).filter(|name| name.len() <= 3 * MAX_LOGIN).and_then(unescaped);
    login(name.ok_or(Step::Malformed("a name has = as =3D and a comma as =2C"))?.as_bytes())
}

fn unescaped(name: &str) -> Option<String> {
    let mut parts = name.split('=');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        text.push(match code {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        text.push_str(rest);
    }
    Some(text)
}

/// A login with a password, checked for what no account can have.
fn credentials(login: String, password: &[u8]) -> Step {
    if password.len() > MAX_PASSWORD {
        return Step::Malformed("the password is too long");
    }
    match std::str::from_utf8(password) {
        Err(_) => Step::Malformed("the password is not UTF-8"),
        Ok("") => Step::Refuse { login, detail: "empty password" },
        Ok(text) if text.contains('\0') => Step::Malformed("the password has a NUL"),
        Ok(text) => Step::Verify(Credentials { login, password: text.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_mechanism_and_no_other_has() {
        let (all, client) = (staffetta_config::Mechanism::NAMES, Client::default());
        assert!(all.iter().all(|name| start(name, &all, &client).is_some()));
        for name in ["", "plain", "CRAM-MD5", "ANONYMOUS", "PLAIN "] {
            assert!(start(name, &all, &client).is_none(), "{name}");
        }
        assert!(start("EXTERNAL", &["PLAIN"], &client).is_none(), "it is not offered");
    }

    #[test]
    fn debug_output_hides_the_password() {
        let step = credentials("john".to_owned(), b"summersun");
        assert!(!format!("{step:?}").contains("summersun"));
    }
}
