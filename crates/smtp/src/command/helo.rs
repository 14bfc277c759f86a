//! HELO (RFC 5321 section 4.1.1.1): introduces a client that knows no extensions.

use super::{Command, Place, Row};
use crate::Reply;
use crate::standing::Helo;

/// Its row in the table of verbs.
pub(super) const ROW: Row = Row {
    name: "HELO",
    parse: |_, arguments| check(arguments).map(Command::Introduce),
    place: Place::Last,
    junk: true,
    in_clear: true,
    usage: "HELO hostname",
    ..Row::PLAIN
};

/// The ladder of HELO: the name, as typed. Further words are part of it, as in Postfix.
pub fn check(arguments: &str) -> Result<Helo, Reply> {
    if arguments.is_empty() {
        return Err(Reply::helo_syntax());
    }
    Ok(Helo { name: arguments.to_owned(), extended: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_needed_and_kept_as_typed() {
        assert_eq!(check(""), Err(Reply::helo_syntax()));
        assert_eq!(check("Client.Example").map(|helo| helo.name), Ok("Client.Example".to_owned()));
    }
}
