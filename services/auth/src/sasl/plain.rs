//! PLAIN (RFC 4616): `[authzid] NUL authcid NUL passwd`, one message.
//!
//! Acting for somebody else is not offered: the authorisation identity must be empty or the login itself.

use super::{Mechanism, Message, Step, credentials, login};

/// Has no state: the one message decides.
#[derive(Debug)]
pub(super) struct Plain;

impl Mechanism for Plain {
    fn begin(&mut self, initial: Option<Message>) -> Step {
        match initial {
            Some(message) => self.respond(message),
            // RFC 4954 §4: without an initial response the server sends an empty challenge.
            None => Step::Challenge(Vec::new()),
        }
    }

    fn respond(&mut self, message: Message) -> Step {
        let mut parts = message.split(|byte| *byte == 0);
        let (Some(authzid), Some(authcid), Some(password), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Step::Malformed("PLAIN wants exactly two NULs");
        };
        let login = match login(authcid) {
            Ok(login) => login,
            Err(step) => return step,
        };
        if !authzid.is_empty() && authzid != authcid {
            return Step::Refuse { login, detail: "asks to act for another identity" };
        }
        credentials(login, password)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;
    use zeroize::Zeroizing;

    use super::*;

    fn step(message: &[u8]) -> Step {
        Plain.begin(Some(Zeroizing::new(message.to_vec())))
    }

    #[test]
    fn rfc4616_2_credentials_are_read() {
        for message in [&b"\0john@example.org\0summersun"[..], b"john@example.org\0john@example.org\0summersun"] {
            let Step::Verify(credentials) = step(message) else { panic!("{message:?}") };
            assert_eq!(
                (credentials.login.as_str(), credentials.password.expose_secret()),
                ("john@example.org", "summersun")
            );
        }
        let Step::Verify(credentials) = step("\0jörg\0pässwörd".as_bytes()) else { panic!("UTF-8") };
        assert_eq!((credentials.login.as_str(), credentials.password.expose_secret()), ("jörg", "pässwörd"));
    }

    #[test]
    fn rfc4616_2_other_forms_are_malformed() {
        let long_login = [&b"\0"[..], &[b'a'; 321], b"\0x"].concat();
        let long_password = [&b"\0a\0"[..], &[b'a'; 1025]].concat();
        let rows: [(&[u8], &str); 10] = [
            (b"", "nothing"),
            (b"john", "no NUL"),
            (b"john\0summersun", "one NUL"),
            (b"\0john\0summersun\0", "three NULs"),
            (b"\0\0summersun", "no login"),
            (b"\0jo\xffhn\0summersun", "login not UTF-8"),
            (b"\0john\0summer\xff", "password not UTF-8"),
            (b"\0jo\r\nhn\0summersun", "line end in the login"),
            (&long_login, "login too long"),
            (&long_password, "password too long"),
        ];
        for (message, why) in rows {
            assert!(matches!(step(message), Step::Malformed(_)), "{why}");
        }
    }

    #[test]
    fn nobody_acts_for_another() {
        assert!(matches!(step(b"admin\0john\0summersun"), Step::Refuse { login, .. } if login == "john"));
    }

    #[test]
    fn an_empty_password_is_a_wrong_one() {
        assert!(matches!(step(b"\0john\0"), Step::Refuse { .. }));
    }

    #[test]
    fn without_an_initial_response_the_challenge_is_empty() {
        assert!(matches!(Plain.begin(None), Step::Challenge(text) if text.is_empty()));
    }
}
