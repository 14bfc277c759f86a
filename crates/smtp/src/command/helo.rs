//! HELO (RFC 5321 section 4.1.1.1): introduces a client that knows no extensions.

use crate::Reply;

/// The ladder of HELO: the name, as typed. Further words are part of it, as in Postfix.
pub fn check(arguments: &str) -> Result<&str, Reply> {
    if arguments.is_empty() { Err(Reply::helo_syntax()) } else { Ok(arguments) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_needed_and_kept_as_typed() {
        assert_eq!(check(""), Err(Reply::helo_syntax()));
        assert_eq!(check("Client.Example"), Ok("Client.Example"));
    }
}
