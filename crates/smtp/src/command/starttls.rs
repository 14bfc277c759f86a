//! STARTTLS (RFC 3207): goes under TLS, after which the session starts from scratch.

use super::{Command, Place, Row};
use crate::Reply;
use crate::standing::Standing;

/// Its row in the table of verbs.
pub(super) const ROW: Row = Row {
    name: "STARTTLS",
    parse: |standing, arguments| check(standing, arguments).map(|()| Command::StartTls(Reply::ready_to_start_tls())),
    place: Place::Last,
    in_clear: true,
    usage: "STARTTLS",
    ..Row::PLAIN
};

/// The ladder of STARTTLS.
pub fn check(standing: &Standing<'_>, arguments: &str) -> Result<(), Reply> {
    // RFC 3207 section 4: no parameters.
    if !arguments.is_empty() {
        return Err(Reply::starttls_syntax());
    }
    standing.check_not_chunking("STARTTLS")?;
    if standing.encrypted {
        return Err(Reply::tls_already_active());
    }
    if !standing.settings.starttls {
        return Err(Reply::not_implemented());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standing::Settings;
    use crate::standing::tests::standing;

    #[test]
    fn the_ladder() {
        let (on, off) = (Settings::default(), Settings { starttls: false, ..Settings::default() });
        assert_eq!(check(&standing(&on), ""), Ok(()));
        assert_eq!(check(&standing(&on), "now"), Err(Reply::starttls_syntax()));
        assert_eq!(check(&standing(&off), ""), Err(Reply::not_implemented()));
        let encrypted = Standing { encrypted: true, ..standing(&on) };
        assert_eq!(check(&encrypted, ""), Err(Reply::tls_already_active()));
    }
}
