//! NOOP (RFC 5321 section 4.1.1.9): does nothing, whatever its argument.

use super::{Command, Place, Row};
use crate::Reply;

/// Its row in the table of verbs.
pub(super) const ROW: Row = Row {
    name: "NOOP",
    parse: |_, arguments| Ok(Command::Say(reply(arguments))),
    place: Place::Last,
    junk: true,
    in_clear: true,
    usage: "NOOP",
    ..Row::PLAIN
};

/// The reply to NOOP; the argument is ignored.
pub const fn reply(_arguments: &str) -> Reply {
    Reply::ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc5321_4_1_1_9_the_argument_is_ignored() {
        assert_eq!(reply(""), Reply::ok());
        assert_eq!(reply("are you there"), Reply::ok());
    }
}
