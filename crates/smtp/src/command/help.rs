//! HELP (RFC 5321 section 4.1.1.8): names the commands, whatever the argument.

use super::{Command, Place, Row, Verb};
use crate::Reply;

/// Its row in the table of verbs.
pub(super) const ROW: Row = Row {
    name: "HELP",
    parse: |_, arguments| Ok(Command::Say(reply(arguments))),
    place: Place::Last,
    junk: true,
    in_clear: true,
    ..Row::PLAIN
};

/// The reply to HELP: all words of the table.
pub fn reply(_arguments: &str) -> Reply {
    let mut names = Verb::ALL.map(Verb::name);
    names.sort_unstable();
    Reply::help(&names.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_the_commands() {
        let expected = "214 2.0.0 Commands: AUTH DATA EHLO ETRN HELO HELP MAIL NOOP QUIT RCPT RSET STARTTLS VRFY";
        assert_eq!(reply("MAIL").to_string(), expected);
    }
}
