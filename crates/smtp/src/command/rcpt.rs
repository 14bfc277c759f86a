//! RCPT (RFC 5321 section 4.1.1.3): adds a recipient to the transaction.
//!
//! `RCPT TO:<forward-path> [parameters]`; the parameters belong to the [extensions](crate::extension).

use staffetta_mail::Recipient;

use super::path::{self, PathError};
use super::{Command, Row};
use crate::Reply;
use crate::extension;
use crate::standing::Standing;

/// Its row in the table of verbs.
pub(super) const ROW: Row = Row {
    name: "RCPT",
    parse: |standing, arguments| check(standing, arguments).map(Command::Recipient),
    usage: "RCPT TO:<address> [parameters]",
    ..Row::PLAIN
};

/// The ladder of RCPT.
pub fn check(standing: &Standing<'_>, arguments: &str) -> Result<Recipient, Reply> {
    standing.check_not_chunking("RCPT")?;
    // RFC 5321 section 3.3: no RCPT without MAIL.
    let transaction = standing.transaction.ok_or_else(Reply::need_mail)?;
    let (path, parameters) = path::split(arguments, "TO:").ok_or_else(Reply::rcpt_syntax)?;
    let address = match path::parse(path) {
        Ok(Some(address)) => address,
        Ok(None) | Err(PathError::Malformed) => return Err(Reply::bad_recipient()),
        Err(PathError::NotQualified(local)) => return Err(Reply::recipient_not_qualified(local)),
    };
    // RFC 6531 section 3.5: who writes UTF-8 must say so at MAIL.
    if !transaction.envelope.smtputf8 && !address.as_str().is_ascii() {
        return Err(Reply::non_ascii_recipient(address.as_str()));
    }
    let mut recipient = Recipient::new(address);
    extension::recipient_parameters(standing, parameters, &mut recipient)?;
    // RFC 5321 section 4.5.3.1.10: the client sends the rest in another transaction.
    if transaction.envelope.recipients.len() >= standing.settings.recipient_limit {
        return Err(Reply::too_many_recipients());
    }
    Ok(recipient)
}

#[cfg(test)]
mod tests {
    use staffetta_mail::{Address, ReversePath};

    use super::*;
    use crate::standing::MailParameters;
    use crate::standing::tests::standing;
    use crate::standing::{Settings, Transaction};

    fn transaction() -> Transaction {
        Transaction::new(ReversePath::Null, MailParameters::default())
    }

    #[test]
    fn rfc5321_4_1_1_3_the_recipient_is_kept_byte_for_byte() {
        let (settings, transaction) = (Settings::default(), transaction());
        let mail = Standing { transaction: Some(&transaction), ..standing(&settings) };
        for (arguments, recipient) in [
            ("TO:<Lisa@Example.com>", "Lisa@Example.com"),
            ("to: lisa@example.com", "lisa@example.com"),
            ("TO:<postmaster>", "postmaster"),
            ("TO:<Postmaster>", "Postmaster"),
            ("TO:<@relay.example:lisa@example.com>", "lisa@example.com"),
            ("TO:<lisa@[192.0.2.1]>", "lisa@[192.0.2.1]"),
        ] {
            let checked = check(&mail, arguments).map(|recipient| recipient.address.to_string());
            assert_eq!(checked, Ok(recipient.to_owned()), "{arguments}");
        }
    }

    #[test]
    fn the_ladder() {
        let settings = Settings { recipient_limit: 1, ..Settings::default() };
        let (empty, mut full) = (transaction(), transaction());
        full.envelope.recipients.extend(Address::parse("a@b.c").map(Recipient::new));
        let ready = standing(&settings);
        let mail = Standing { transaction: Some(&empty), ..ready };
        let limit = Standing { transaction: Some(&full), ..ready };
        for (standing, arguments, reply) in [
            (ready, "TO:<a@b>", Reply::need_mail()),
            (mail, "", Reply::rcpt_syntax()),
            (mail, "FROM:<a@b>", Reply::rcpt_syntax()),
            (mail, "TO:<>", Reply::bad_recipient()),
            (mail, "TO:<a@-b>", Reply::bad_recipient()),
            (Standing { chunking: true, ..mail }, "TO:<a@b>", Reply::after_bdat("RCPT")),
            (mail, "TO:<a@b", Reply::bad_recipient()),
            (mail, "TO:<j\u{f6}rg@b>", Reply::non_ascii_recipient("j\u{f6}rg@b")),
            (mail, "TO:<a@b> NOTIFY=NEVER NOTIFY=NEVER", Reply::bad_notify()),
            (mail, "TO:<x>", Reply::recipient_not_qualified("x")),
            (mail, "TO:<a@b> FOO", Reply::unsupported_option("FOO")),
            (mail, "TO:<a@b> SIZE=1", Reply::unsupported_option("SIZE=1")),
            (limit, "TO:<a@b>", Reply::too_many_recipients()),
        ] {
            assert_eq!(check(&standing, arguments), Err(reply), "{arguments}");
        }
    }
}
