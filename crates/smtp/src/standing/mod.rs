//! Where a session stands when a command comes: all that the ladders of [`crate::command`] and the offers of
//! [`crate::extension`] may look at. The session owns these facts; nothing here changes them.

mod settings;
mod transaction;

use crate::Reply;

pub use settings::{BareLf, Kind, Settings};
pub use transaction::{Helo, MailParameters, Transaction};

/// The mechanism by which a client says: I am who my certificate says.
const EXTERNAL: &str = "EXTERNAL";

/// What a ladder may look at.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// How this listener is set up.
    pub settings: &'a Settings,
    /// Is the connection under TLS?
    pub encrypted: bool,
    /// Has the client shown a certificate that says who it is?
    pub certified: bool,
    /// May the client say for whom it comes?
    pub xclient: bool,
    /// What HELO or EHLO said.
    pub helo: Option<&'a Helo>,
    /// Who logged in.
    pub login: Option<&'a str>,
    /// The transaction between MAIL and the end of data.
    pub transaction: Option<&'a Transaction>,
    /// Has it begun to come in chunks? Then only the last of them, or a reset, leads on (RFC 3030 section 2).
    pub chunking: bool,
}

impl Standing<'_> {
    /// RFC 5321 section 4.1.4: a transaction needs an introduction.
    pub(crate) fn check_introduced(&self) -> Result<(), Reply> {
        if self.helo.is_none() && self.settings.helo_required { Err(Reply::helo_first()) } else { Ok(()) }
    }

    /// RFC 3030 section 2: between chunks nothing else of a transaction may come.
    pub(crate) fn check_not_chunking(&self, verb: &str) -> Result<(), Reply> {
        if self.chunking { Err(Reply::after_bdat(verb)) } else { Ok(()) }
    }

    /// What AUTH can be asked for. EXTERNAL needs somebody who is known by other means (RFC 4422 appendix A).
    pub(crate) fn mechanisms(&self) -> impl Iterator<Item = &str> {
        let usable = |name: &&str| *name != EXTERNAL || self.certified;
        self.settings.mechanisms.iter().map(String::as_str).filter(usable)
    }

    /// RFC 4954 section 6: submission needs a login.
    pub(crate) fn check_login(&self) -> Result<(), Reply> {
        if self.login.is_none() && self.settings.kind == Kind::Submission {
            return Err(Reply::authentication_required());
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A standing in one line, for the tests of verbs and extensions.
    pub(crate) fn standing(settings: &Settings) -> Standing<'_> {
        Standing {
            settings,
            encrypted: false,
            certified: false,
            xclient: false,
            helo: None,
            login: None,
            transaction: None,
            chunking: false,
        }
    }
}
