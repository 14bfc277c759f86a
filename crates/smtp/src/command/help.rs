//! HELP (RFC 5321 section 4.1.1.8): names the commands, whatever the argument.

use crate::Reply;

/// The reply to HELP.
pub const fn reply(_arguments: &str) -> Reply {
    Reply::help()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_the_commands() {
        assert!(reply("MAIL").text().starts_with("Commands: AUTH DATA EHLO"));
    }
}
