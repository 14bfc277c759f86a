//! DATA (RFC 5321 section 4.1.1.4): the message follows.

use super::{Command, Place, Row};
use crate::Reply;
use crate::standing::Standing;

/// Its row in the table of verbs.
pub(super) const ROW: Row = Row {
    name: "DATA",
    parse: |standing, arguments| check(standing, arguments).map(|()| Command::Data),
    place: Place::Last,
    goes_on: true,
    usage: "DATA",
    ..Row::PLAIN
};

/// The ladder of DATA.
pub fn check(standing: &Standing<'_>, arguments: &str) -> Result<(), Reply> {
    standing.check_not_chunking("DATA")?;
    // RFC 5321 section 3.3: no DATA without MAIL; 554 when every RCPT failed.
    let transaction = standing.transaction.ok_or_else(Reply::need_rcpt)?;
    if transaction.envelope.recipients.is_empty() {
        return Err(Reply::no_valid_recipients());
    }
    if !arguments.is_empty() {
        return Err(Reply::data_syntax());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use staffetta_mail::{Address, Recipient, ReversePath};

    use super::*;
    use crate::standing::MailParameters;
    use crate::standing::tests::standing;
    use crate::standing::{Settings, Transaction};

    #[test]
    fn the_ladder() {
        let settings = Settings::default();
        let ready = standing(&settings);
        let mut transaction = Transaction::new(ReversePath::Null, MailParameters::default());
        assert_eq!(check(&ready, ""), Err(Reply::need_rcpt()));
        let mail = Standing { transaction: Some(&transaction), ..ready };
        assert_eq!(check(&mail, ""), Err(Reply::no_valid_recipients()));
        transaction.envelope.recipients.extend(Address::parse("a@b.c").map(Recipient::new));
        let rcpt = Standing { transaction: Some(&transaction), ..ready };
        assert_eq!(check(&rcpt, "now"), Err(Reply::data_syntax()));
        assert_eq!(check(&rcpt, ""), Ok(()));
    }
}
