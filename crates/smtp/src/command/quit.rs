//! QUIT (RFC 5321 section 4.1.1.10): the last command. An argument is ignored, as in Postfix.

use super::{Command, Place, Row};
use crate::Reply;

/// Its row in the table of verbs.
pub(super) const ROW: Row = Row {
    name: "QUIT",
    parse: |_, arguments| Ok(Command::Close(reply(arguments))),
    place: Place::Anywhere,
    in_clear: true,
    usage: "QUIT",
    ..Row::PLAIN
};

/// The reply to QUIT, after which the server closes the connection.
pub const fn reply(_arguments: &str) -> Reply {
    Reply::bye()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_never_refused() {
        assert_eq!(reply(""), Reply::bye());
        assert_eq!(reply("now"), Reply::bye());
    }
}
