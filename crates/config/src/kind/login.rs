//! User and password in a URL. What means something else in a URL ends them early there, and the rest would be read as a
//! port or a database: the library that opens it blames those.

use super::redis_url::is_place;

/// What to say of a login that is not written as a URL wants it (RFC 3986, 3.2.1). Never shows any of it.
pub(super) fn problem(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (path, parameters) = tail.split_once('?').unwrap_or((tail, ""));
    let login = authority.rsplit_once('@').map(|(login, _)| login);
    let is_cut = path.contains('@') || parameters.contains('@') && login.is_none() && !is_place(authority);
    if !is_cut && login.is_none_or(is_encoded) {
        return None;
    }
    let cure = "/ as %2F, @ as %40, : as %3A, ? as %3F, # as %23, % as %25 and a blank as %20";
    Some(format!("has a user or a password that a URL reads otherwise: write {cure}"))
}

/// Each % begins an octet, and what ends a login or begins a password does so once.
fn is_encoded(login: &str) -> bool {
    let is_octet = |rest: &str| rest.as_bytes().get(..2).is_some_and(|it| it.iter().all(u8::is_ascii_hexdigit));
    !login.contains(['@', ' ']) && login.split('%').skip(1).all(is_octet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_reads_otherwise_is_named_and_not_shown() {
        for url in [
            "redis://:Zm9v/YmFy+bA=@127.0.0.1:7380",
            "redis://:a@b@127.0.0.1",
            "redis://:a@b/c@127.0.0.1",
            "redis://:a?b@127.0.0.1",
            "redis://:a#b@127.0.0.1",
            "redis://:a b@127.0.0.1",
            "redis://:100%@127.0.0.1",
            "redis://:%zz@127.0.0.1",
            "redis-sentinel://:a/b@127.0.0.1:26379/name",
            "postgres://mail:12/b@127.0.0.1/mail",
            "mysql://mail:Zm9v/YmFy@127.0.0.1/mail?ssl-mode=disabled",
        ] {
            let said = problem(url);
            assert!(
                said.as_ref().is_some_and(|said| said.contains("%2F") && !said.contains("Zm9v")),
                "{url}: {said:?}"
            );
        }
    }

    #[test]
    fn what_is_written_well_is_left_alone() {
        for url in [
            "redis://127.0.0.1:6379/0",
            "redis://:Zm9v%2FYmFy+bA=@127.0.0.1:7380",
            "redis://u:p:w!$&'()*+,;=@[::1]:6379/1?protocol=resp3",
            "redis-sentinel://mail:s%2Fcret@a:26379,b/name/2",
            "postgres://mail:%40%25@db/mail?options=-c%20x",
            "postgres://db:5432/mail?user=mail@server",
            "postgres://u:p@%2Frun%2Fpostgresql/mail?user=a@b",
            "sqlite::memory:",
        ] {
            assert_eq!(problem(url), None, "{url}");
        }
    }
}
