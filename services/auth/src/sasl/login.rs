//! LOGIN (draft-murchison-sasl-login): prompts for the name, then for the password. Old, and still what some clients
//! use.

use super::{Mechanism, Message, Step, credentials, login};

const USERNAME: &[u8] = b"Username:";
const PASSWORD: &[u8] = b"Password:";

/// Holds the name between the two answers.
#[derive(Debug, Default)]
pub(super) struct Login {
    name: Option<String>,
}

impl Mechanism for Login {
    /// An initial response is the name, as Dovecot and Cyrus take it; an empty one counts as none.
    fn begin(&mut self, initial: Option<Message>) -> Step {
        match initial {
            Some(message) if !message.is_empty() => self.respond(message),
            _ => Step::Challenge(USERNAME.to_vec()),
        }
    }

    fn respond(&mut self, message: Message) -> Step {
        if let Some(name) = self.name.take() {
            return credentials(name, &message);
        }
        match login(&message) {
            Ok(name) => {
                self.name = Some(name);
                Step::Challenge(PASSWORD.to_vec())
            }
            Err(step) => step,
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;
    use zeroize::Zeroizing;

    use super::*;

    fn message(text: &str) -> Message {
        Zeroizing::new(text.as_bytes().to_vec())
    }

    #[test]
    fn name_and_password_are_prompted_for() {
        let mut login = Login::default();
        assert!(matches!(login.begin(None), Step::Challenge(text) if text == b"Username:"));
        assert!(matches!(login.respond(message("john@example.org")), Step::Challenge(text) if text == b"Password:"));
        let Step::Verify(credentials) = login.respond(message("summersun")) else { panic!("no credentials") };
        assert_eq!(
            (credentials.login.as_str(), credentials.password.expose_secret()),
            ("john@example.org", "summersun")
        );
    }

    #[test]
    fn an_initial_response_is_the_name() {
        let mut login = Login::default();
        assert!(matches!(login.begin(Some(message("john"))), Step::Challenge(text) if text == b"Password:"));
        assert!(matches!(Login::default().begin(Some(message(""))), Step::Challenge(text) if text == b"Username:"));
    }

    #[test]
    fn what_cannot_be_a_name_or_a_password_is_malformed() {
        let mut login = Login::default();
        assert!(matches!(login.respond(message("")), Step::Malformed(_)));
        assert!(matches!(login.respond(message("a\0b")), Step::Malformed(_)));
        assert!(matches!(login.respond(message("a")), Step::Challenge(_)));
        assert!(matches!(login.respond(message("a\0b")), Step::Malformed(_)));
    }
}
