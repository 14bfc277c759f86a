//! Paths as clients write them (RFC 5321 section 4.1.2), read as leniently as Postfix reads them.
//!
//! Forgiven: blanks after the colon and inside the brackets, and both brackets missing. Source routes are accepted
//! and stripped (RFC 5321 section 3.3 and appendix C). The address itself is kept byte for byte.

use staffetta_mail::{Address, AddressError};

/// Why a path is no path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PathError<'a> {
    /// It makes no sense.
    Malformed,
    /// A local part without a domain.
    NotQualified(&'a str),
}

/// Splits `FROM:<path> parameters` after the keyword; `None` if it does not start so.
pub(super) fn split<'a>(arguments: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let head = arguments.get(..keyword.len())?;
    let rest = arguments[keyword.len()..].trim_ascii_start();
    if !head.eq_ignore_ascii_case(keyword) || rest.is_empty() {
        return None;
    }
    let end = path_end(rest.as_bytes());
    Some((&rest[..end], rest[end..].trim_ascii_start()))
}

/// Parses what [`split`] found; `None` is the null path.
pub(super) fn parse(path: &str) -> Result<Option<Address>, PathError<'_>> {
    // One bracket alone: something is missing, and it may be a part of the address.
    if path.starts_with('<') != path.ends_with('>') {
        return Err(PathError::Malformed);
    }
    let inner = path.strip_prefix('<').and_then(|path| path.strip_suffix('>')).unwrap_or(path).trim_ascii();
    if inner.is_empty() {
        return if path.starts_with('<') { Ok(None) } else { Err(PathError::Malformed) };
    }
    let mailbox = strip_source_route(inner).ok_or(PathError::Malformed)?;
    match Address::parse(mailbox) {
        Ok(address) => Ok(Some(address)),
        Err(AddressError::NoDomain) => Err(PathError::NotQualified(mailbox)),
        Err(_) => Err(PathError::Malformed),
    }
}

/// Where the path ends: at its closing bracket, or at a blank; quoted strings are passed over.
fn path_end(bytes: &[u8]) -> usize {
    let bracket = bytes.first() == Some(&b'<');
    let closes = bracket && has_bracket(bytes);
    let (mut quoted, mut i) = (false, 0);
    while let Some(&b) = bytes.get(i) {
        match b {
            b'\\' if quoted => i += 1,
            b'"' => quoted = !quoted,
            // What touches the bracket is part of the path, and spoils it: a parameter begins behind a blank.
            b'>' if !quoted && bytes.get(i + 1).is_none_or(|b| b" \t".contains(b)) => return i + 1,
            b' ' | b'\t' if !quoted && !closes => return i,
            _ => {}
        }
        i += 1;
    }
    bytes.len()
}

/// Is there a closing bracket outside of quotes?
fn has_bracket(bytes: &[u8]) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    bytes.iter().any(|&b| {
        let found = b == b'>' && !quoted;
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        found
    })
}

/// `@one,@two:user@three` is `user@three`; `None` if the route is not closed by a colon.
fn strip_source_route(path: &str) -> Option<&str> {
    match path.strip_prefix('@') {
        Some(route) => route.split_once(':').map(|(_, mailbox)| mailbox),
        None => Some(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postfix_leniency_and_parameters() {
        for (arguments, path, parameters) in [
            ("FROM:<a@b>", "<a@b>", ""),
            ("from: <a@b> SIZE=1 BODY=7BIT", "<a@b>", "SIZE=1 BODY=7BIT"),
            ("FROM:<>", "<>", ""),
            ("FROM:a@b SIZE=1", "a@b", "SIZE=1"),
            ("FROM:<a@b SIZE=1", "<a@b", "SIZE=1"),
            ("FROM:a@b>", "a@b>", ""),
            ("FROM:< a@b > X", "< a@b >", "X"),
            ("FROM:<\"a> b\"@c> X", "<\"a> b\"@c>", "X"),
            ("FROM:<\"a\\\"> b\"@c> X", "<\"a\\\"> b\"@c>", "X"),
            ("FROM:<a@b>X Y", "<a@b>X Y", ""),
        ] {
            assert_eq!(split(arguments, "FROM:"), Some((path, parameters)), "{arguments:?}");
        }
        for arguments in ["", "FROM", "FROM:", "FROM: ", "TO:<a@b>", "FROM :<a@b>", "<a@b>", "\u{e9}\u{e9}\u{e9}"] {
            assert_eq!(split(arguments, "FROM:"), None, "{arguments:?}");
        }
    }

    #[test]
    fn rfc5321_4_1_2_addresses_are_kept_and_routes_go() {
        for (path, address) in [
            ("<a@b>", Some("a@b")),
            ("a@b", Some("a@b")),
            ("< A@B.c >", Some("A@B.c")),
            ("<@one,@two:a@b>", Some("a@b")),
            ("<\"a b\"@c.d>", Some("\"a b\"@c.d")),
            ("<PostMaster>", Some("PostMaster")),
            ("<>", None),
            ("< >", None),
        ] {
            let parsed = parse(path).map(|address| address.map(String::from));
            assert_eq!(parsed, Ok(address.map(str::to_owned)), "{path:?}");
        }
    }

    #[test]
    fn nonsense_is_told_apart_from_a_missing_domain() {
        for (path, error) in [
            ("<john>", PathError::NotQualified("john")),
            ("john", PathError::NotQualified("john")),
            ("<a@>", PathError::Malformed),
            ("<@a>", PathError::Malformed),
            ("<@a:>", PathError::Malformed),
            ("<<a@b>>", PathError::Malformed),
            ("<a@b@c>", PathError::Malformed),
            (">", PathError::Malformed),
            ("a@b>", PathError::Malformed),
            ("<a@b", PathError::Malformed),
            ("<", PathError::Malformed),
        ] {
            assert_eq!(parse(path), Err(error), "{path:?}");
        }
    }
}
