//! HELP (RFC 5321 section 4.1.1.8): names the commands, or the syntax of one of them.

use super::{Command, Place, Row, Verb};
use crate::Reply;

/// Its row in the table of verbs.
pub(super) const ROW: Row = Row {
    name: "HELP",
    parse: |_, arguments| Ok(Command::Say(reply(arguments))),
    place: Place::Last,
    junk: true,
    in_clear: true,
    usage: "HELP [command]",
    ..Row::PLAIN
};

/// The reply to HELP: the row of the command in question, or the words of the table. XCLIENT is for those alone to whom EHLO
/// shows it.
pub fn reply(arguments: &str) -> Reply {
    if let Some(verb) = Verb::ALL.into_iter().find(|verb| verb.name().eq_ignore_ascii_case(arguments)) {
        return Reply::help_with(verb.row().usage);
    }
    let mut names: Vec<_> = Verb::ALL.into_iter().filter(|verb| *verb != Verb::Xclient).map(Verb::name).collect();
    names.sort_unstable();
    Reply::help(&names.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_the_commands() {
        let expected = "214 2.0.0 Commands: AUTH BDAT DATA EHLO ETRN HELO HELP MAIL NOOP QUIT RCPT RSET STARTTLS VRFY";
        assert_eq!(reply("").to_string(), expected);
        assert_eq!(reply("me").to_string(), expected);
    }

    #[test]
    fn every_command_has_its_syntax() {
        for verb in Verb::ALL {
            assert!(verb.row().usage.starts_with(verb.name()), "{verb}");
        }
        assert_eq!(reply("bdat").to_string(), "214 2.0.0 Syntax: BDAT count [LAST]");
    }
}
