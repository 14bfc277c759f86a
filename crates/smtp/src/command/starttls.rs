//! STARTTLS (RFC 3207): goes under TLS, after which the session starts from scratch.

use super::Standing;
use crate::Reply;

/// The ladder of STARTTLS.
pub fn check(standing: &Standing<'_>, arguments: &str) -> Result<(), Reply> {
    // RFC 3207 section 4: no parameters.
    if !arguments.is_empty() {
        return Err(Reply::starttls_syntax());
    }
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
    use super::super::tests::standing;
    use super::*;
    use crate::server::Settings;

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
