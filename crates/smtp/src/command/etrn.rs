//! ETRN (RFC 1985): asks to send what waits for a domain. Its replies carry no enhanced status codes.

use super::{Command, Row, is_host_name};
use crate::Reply;
use crate::standing::Standing;

/// Its row in the table of verbs.
pub(super) const ROW: Row = Row {
    name: "ETRN",
    parse: |standing, arguments| check(standing, arguments).map(|domain| Command::Etrn(domain.to_owned())),
    junk: true,
    usage: "ETRN domain",
    ..Row::PLAIN
};

/// The ladder of ETRN: the domain in question, without a leading `@` (subdomains too) or `#` (queue name).
pub fn check<'a>(standing: &Standing<'_>, arguments: &'a str) -> Result<&'a str, Reply> {
    if !standing.settings.etrn {
        return Err(Reply::not_implemented());
    }
    if standing.check_introduced().is_err() {
        return Err(Reply::etrn_helo_first());
    }
    // RFC 1985 section 5.2: not within a transaction.
    if standing.transaction.is_some() {
        return Err(Reply::etrn_in_transaction());
    }
    if arguments.is_empty() || arguments.contains([' ', '\t']) {
        return Err(Reply::etrn_syntax());
    }
    let domain = arguments.strip_prefix(['@', '#']).unwrap_or(arguments);
    if is_host_name(domain) { Ok(domain) } else { Err(Reply::etrn_bad_domain()) }
}

#[cfg(test)]
mod tests {
    use staffetta_mail::ReversePath;

    use super::*;
    use crate::standing::MailParameters;
    use crate::standing::tests::standing;
    use crate::standing::{Helo, Settings, Transaction};

    #[test]
    fn rfc1985_5_the_ladder() {
        let (on, off) = (Settings::default(), Settings { etrn: false, ..Settings::default() });
        let helo = Helo { name: "x".into(), extended: true };
        let transaction = Transaction::new(ReversePath::Null, MailParameters::default());
        let ready = Standing { helo: Some(&helo), ..standing(&on) };
        let mail = Standing { transaction: Some(&transaction), ..ready };
        for (standing, arguments, outcome) in [
            (standing(&off), "a.b", Err(Reply::not_implemented())),
            (standing(&on), "a.b", Err(Reply::etrn_helo_first())),
            (mail, "a.b", Err(Reply::etrn_in_transaction())),
            (ready, "", Err(Reply::etrn_syntax())),
            (ready, "a b", Err(Reply::etrn_syntax())),
            (ready, "a..b", Err(Reply::etrn_bad_domain())),
            (ready, "-a.b", Err(Reply::etrn_bad_domain())),
            (ready, "Example.org", Ok("Example.org")),
            (ready, "@example.org", Ok("example.org")),
            (ready, "#queue", Ok("queue")),
        ] {
            assert_eq!(check(&standing, arguments), outcome, "{arguments}");
        }
    }
}
