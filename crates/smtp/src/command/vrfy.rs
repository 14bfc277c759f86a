//! VRFY (RFC 5321 sections 3.5 and 4.1.1.6): would this address be accepted?
//!
//! The answer is 252 with the address as typed, after the same checks as RCPT, so it tells no more than RCPT does.

use staffetta_mail::Address;

use super::path::{self, PathError};
use super::{Command, Place, Row};
use crate::Reply;
use crate::standing::Standing;

/// Its row in the table of verbs.
pub(super) const ROW: Row = Row {
    name: "VRFY",
    parse: |standing, arguments| {
        let address = check(standing, arguments)?;
        Ok(Command::Verify { address, typed: arguments.to_owned() })
    },
    place: Place::Last,
    junk: true,
    usage: "VRFY address [SMTPUTF8]",
    ..Row::PLAIN
};

/// The ladder of VRFY: the address in question.
pub fn check(standing: &Standing<'_>, arguments: &str) -> Result<Address, Reply> {
    if !standing.settings.vrfy {
        return Err(Reply::vrfy_disabled());
    }
    standing.check_login()?;
    standing.check_not_chunking("VRFY")?;
    // RFC 6531 section 3.7.4.1: a second word, and it can only be this one.
    let (typed, utf8) = match arguments.rsplit_once([' ', '\t']) {
        Some((typed, word)) if word.eq_ignore_ascii_case("SMTPUTF8") => (typed.trim_ascii_end(), true),
        _ => (arguments, false),
    };
    if typed.is_empty() {
        return Err(Reply::vrfy_syntax());
    }
    match path::parse(typed) {
        Ok(Some(address)) if !utf8 && !address.as_str().is_ascii() => Err(Reply::non_ascii_recipient(address.as_str())),
        Ok(Some(address)) => Ok(address),
        Ok(None) | Err(PathError::Malformed) => Err(Reply::bad_recipient()),
        Err(PathError::NotQualified(local)) => Err(Reply::recipient_not_qualified(local)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standing::tests::standing;
    use crate::standing::{Kind, Settings};

    #[test]
    fn the_ladder() {
        let (on, off) = (Settings::default(), Settings { vrfy: false, ..Settings::default() });
        let submission = Settings { kind: Kind::Submission, ..Settings::default() };
        let ready = standing(&on);
        for (standing, arguments, outcome) in [
            (standing(&off), "a@b", Err(Reply::vrfy_disabled())),
            (standing(&submission), "a@b", Err(Reply::authentication_required())),
            (ready, "", Err(Reply::vrfy_syntax())),
            (ready, "<>", Err(Reply::bad_recipient())),
            (ready, "John Doe", Err(Reply::bad_recipient())),
            (ready, "john", Err(Reply::recipient_not_qualified("john"))),
            (ready, "john@example.org", Ok("john@example.org")),
            (ready, "<John@example.org>", Ok("John@example.org")),
            (ready, "postmaster", Ok("postmaster")),
            (ready, "j\u{f6}rg@example.org", Err(Reply::non_ascii_recipient("j\u{f6}rg@example.org"))),
            (ready, "j\u{f6}rg@example.org smtputf8", Ok("j\u{f6}rg@example.org")),
            (Standing { chunking: true, ..ready }, "a@b", Err(Reply::after_bdat("VRFY"))),
        ] {
            let checked = check(&standing, arguments).map(String::from);
            assert_eq!(checked, outcome.map(str::to_owned), "{arguments}");
        }
    }
}
