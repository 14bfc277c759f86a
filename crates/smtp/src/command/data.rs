//! DATA (RFC 5321 section 4.1.1.4): the message follows.

use super::Standing;
use crate::Reply;

/// The ladder of DATA.
pub fn check(standing: &Standing<'_>, arguments: &str) -> Result<(), Reply> {
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

    use super::super::tests::standing;
    use super::*;
    use crate::extension::MailParameters;
    use crate::server::{Settings, Transaction};

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
