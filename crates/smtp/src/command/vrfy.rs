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
    ..Row::PLAIN
};

/// The ladder of VRFY: the address in question.
pub fn check(standing: &Standing<'_>, arguments: &str) -> Result<Address, Reply> {
    if !standing.settings.vrfy {
        return Err(Reply::vrfy_disabled());
    }
    standing.check_login()?;
    if arguments.is_empty() {
        return Err(Reply::vrfy_syntax());
    }
    match path::parse(arguments) {
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
        ] {
            let checked = check(&standing, arguments).map(String::from);
            assert_eq!(checked, outcome.map(str::to_owned), "{arguments}");
        }
    }
}
