//! RSET (RFC 5321 section 4.1.1.5): forgets the transaction. Login and introduction stay.

use super::{Command, Row};
use crate::Reply;

/// Its row in the table of verbs.
pub(super) const ROW: Row = Row {
    name: "RSET",
    parse: |_, arguments| check(arguments).map(|()| Command::Reset(Reply::ok())),
    junk: true,
    usage: "RSET",
    ..Row::PLAIN
};

/// The ladder of RSET.
pub fn check(arguments: &str) -> Result<(), Reply> {
    if arguments.is_empty() { Ok(()) } else { Err(Reply::rset_syntax()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_no_argument() {
        assert_eq!(check(""), Ok(()));
        assert_eq!(check("x"), Err(Reply::rset_syntax()));
    }
}
