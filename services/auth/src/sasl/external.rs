//! EXTERNAL (RFC 4422 appendix A): the client is known already, by its certificate; it may say as which of its identities it
//! comes, or leave the choice to us.

use super::{Mechanism, Message, Step, login};

/// One exchange.
pub(super) struct External {
    /// Whom the certificate names.
    certified: Vec<String>,
}

impl External {
    pub(super) fn new(certified: &[String]) -> Self {
        Self { certified: certified.to_vec() }
    }
}

impl Mechanism for External {
    fn begin(&mut self, initial: Option<Message>) -> Step {
        match initial {
            Some(message) => self.respond(message),
            None => Step::Challenge(Vec::new()),
        }
    }

    fn respond(&mut self, message: Message) -> Step {
        let certified = std::mem::take(&mut self.certified);
        if certified.is_empty() {
            return Step::Malformed("the client has shown no certificate of ours");
        }
        if message.is_empty() {
            return Step::Admit(certified);
        }
        match login(&message) {
            Err(step) => step,
            Ok(asked) => match certified.into_iter().find(|name| name.eq_ignore_ascii_case(&asked)) {
                Some(name) => Step::Admit(vec![name]),
                None => Step::Refuse { login: asked, detail: "not one of the names in the certificate" },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn external() -> External {
        External::new(&["john@example.org".to_owned(), "web1.example.org".to_owned()])
    }

    fn message(text: &str) -> Message {
        Zeroizing::new(text.as_bytes().to_vec())
    }

    #[test]
    fn rfc4422_a_who_says_nothing_may_be_anybody_in_the_certificate() {
        let mut exchange = external();
        assert!(matches!(exchange.begin(None), Step::Challenge(text) if text.is_empty()));
        let step = exchange.respond(message(""));
        assert!(matches!(step, Step::Admit(names) if names == ["john@example.org", "web1.example.org"]));
        assert!(matches!(exchange.respond(message("")), Step::Malformed(_)), "once");
    }

    #[test]
    fn rfc4422_a_who_says_a_name_must_have_it_in_the_certificate() {
        let step = external().begin(Some(message("Web1.example.org")));
        assert!(matches!(step, Step::Admit(names) if names == ["web1.example.org"]));
        let step = external().begin(Some(message("lisa@example.org")));
        assert!(matches!(step, Step::Refuse { login, .. } if login == "lisa@example.org"));
        assert!(matches!(external().begin(Some(message("john\0"))), Step::Malformed(_)));
        assert!(matches!(External::new(&[]).begin(Some(message(""))), Step::Malformed(_)));
    }
}
