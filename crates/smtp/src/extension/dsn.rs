//! DSN (RFC 3461): which delivery reports the sender wants. RET and ENVID on MAIL, NOTIFY and ORCPT on RCPT; ENVID and
//! ORCPT are kept in xtext, as typed but for what xtext does not allow and people write.

use staffetta_mail::{Notify, Recipient, Return, unitext};

use super::{Extension, Offer, Verdict};
use crate::standing::{MailParameters, Standing};
use crate::{Reply, xtext};

/// Longest values (RFC 3461 sections 4.2 and 4.4).
const MAX_ORCPT: usize = 500;
const MAX_ENVID: usize = 100;

pub(super) const EXTENSION: Extension = Extension {
    keyword: "DSN",
    offer: |_| Offer::Plain,
    mail: &[("RET", ret), ("ENVID", envid)],
    rcpt: &[("NOTIFY", notify), ("ORCPT", orcpt)],
};

/// RFC 3461 section 4.3.
fn ret(_: &Standing<'_>, value: &str, parameters: &mut MailParameters) -> Result<(), Verdict> {
    let ret = match value {
        _ if parameters.ret.is_some() => None,
        _ if value.eq_ignore_ascii_case("FULL") => Some(Return::Full),
        _ if value.eq_ignore_ascii_case("HDRS") => Some(Return::Headers),
        _ => None,
    };
    parameters.ret = Some(ret.ok_or_else(Reply::bad_ret)?);
    Ok(())
}

/// RFC 3461 section 4.4.
fn envid(_: &Standing<'_>, value: &str, parameters: &mut MailParameters) -> Result<(), Verdict> {
    if parameters.envid.is_some() || !(1..=MAX_ENVID).contains(&value.len()) || !xtext::is_printable(value) {
        return Err(Reply::bad_envid().into());
    }
    parameters.envid = Some(xtext::strict(value));
    Ok(())
}

/// RFC 3461 section 4.1: `NEVER`, or a list of the others.
fn notify(_: &Standing<'_>, value: &str, recipient: &mut Recipient) -> Result<(), Verdict> {
    if recipient.notify.is_some() {
        return Err(Reply::bad_notify().into());
    }
    recipient.notify = Some(parse_notify(value).ok_or_else(Reply::bad_notify)?);
    Ok(())
}

fn parse_notify(value: &str) -> Option<Notify> {
    let mut notify = Notify::default();
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(notify);
    }
    for word in value.split(',') {
        let flag = match word {
            _ if word.eq_ignore_ascii_case("SUCCESS") => &mut notify.success,
            _ if word.eq_ignore_ascii_case("FAILURE") => &mut notify.failure,
            _ if word.eq_ignore_ascii_case("DELAY") => &mut notify.delay,
            _ => return None,
        };
        *flag = true;
    }
    Some(notify)
}

/// RFC 3461 section 4.2: `addr-type ";" xtext`. RFC 6533 section 3: an address of type utf-8 may be written in UTF-8 where
/// SMTPUTF8 was said; it is kept in a form that any server understands.
fn orcpt(standing: &Standing<'_>, value: &str, recipient: &mut Recipient) -> Result<(), Verdict> {
    let valid = |(kind, address): (&str, &str)| {
        let atom = kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !kind.is_empty();
        let utf8 = standing.transaction.is_some_and(|transaction| transaction.envelope.smtputf8);
        let address = match utf8 && kind.eq_ignore_ascii_case("utf-8") {
            true => unitext::embedded(address),
            false => address.to_owned(),
        };
        let valid = atom && !address.is_empty() && value.len() <= MAX_ORCPT && xtext::is_printable(&address);
        valid.then(|| format!("{kind};{}", xtext::strict(&address)))
    };
    let orcpt = value.split_once(';').and_then(valid).filter(|_| recipient.orcpt.is_none());
    recipient.orcpt = Some(orcpt.ok_or_else(Reply::bad_orcpt)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use staffetta_mail::{Address, ReversePath};

    use super::super::{mail_parameters, recipient_parameters};
    use super::*;
    use crate::standing::tests::standing;
    use crate::standing::{Settings, Transaction};

    #[test]
    fn rfc3461_4_3_and_4_4_ret_and_envid() {
        let settings = Settings::default();
        let (fits, long) = (format!("ENVID={}", "e".repeat(100)), format!("ENVID={}", "e".repeat(101)));
        for (text, outcome) in [
            ("RET=FULL ENVID=QQ314159", Ok((Some(Return::Full), Some("QQ314159")))),
            ("ret=hdrs", Ok((Some(Return::Headers), None))),
            ("RET=SOME", Err(Reply::bad_ret())),
            ("RET", Err(Reply::bad_ret())),
            ("RET=FULL RET=FULL", Err(Reply::bad_ret())),
            ("ENVID=x=y", Ok((None, Some("x+3Dy")))),
            (&fits, Ok((None, Some(&fits[6..])))),
            (&long, Err(Reply::bad_envid())),
            ("ENVID=a+00", Err(Reply::bad_envid())),
            ("ENVID=", Err(Reply::bad_envid())),
            ("ENVID=a+2", Err(Reply::bad_envid())),
            ("ENVID=a+0Ab", Err(Reply::bad_envid())),
            ("ENVID=a ENVID=a", Err(Reply::bad_envid())),
        ] {
            let taken =
                mail_parameters(&standing(&settings), text).map(|parameters| (parameters.ret, parameters.envid));
            assert_eq!(taken, outcome.map(|(ret, envid)| (ret, envid.map(str::to_owned))), "{text}");
        }
    }

    #[test]
    fn rfc3461_4_1_and_4_2_notify_and_orcpt() {
        let settings = Settings::default();
        let long = format!("ORCPT=rfc822;{}", "o".repeat(494));
        let all = Notify { success: true, failure: true, delay: true };
        for (text, outcome) in [
            ("NOTIFY=NEVER", Ok((Some(Notify::default()), None))),
            ("NOTIFY=success,FAILURE,Delay", Ok((Some(all), None))),
            ("ORCPT=rfc822;Bob+2Bx@b.c", Ok((None, Some("rfc822;Bob+2Bx@b.c")))),
            ("NOTIFY=", Err(Reply::bad_notify())),
            ("NOTIFY=NEVER,DELAY", Err(Reply::bad_notify())),
            ("NOTIFY=DELAY,", Err(Reply::bad_notify())),
            ("NOTIFY=DELAY NOTIFY=DELAY", Err(Reply::bad_notify())),
            ("ORCPT=bob@b.c", Err(Reply::bad_orcpt())),
            ("ORCPT=;bob@b.c", Err(Reply::bad_orcpt())),
            ("ORCPT=rfc822;", Err(Reply::bad_orcpt())),
            ("ORCPT=rfc822;x=y@list.test", Ok((None, Some("rfc822;x+3Dy@list.test")))),
            ("ORCPT=utf-8;x\\x{F6}@b.c", Ok((None, Some("utf-8;x\\x{F6}@b.c")))),
            ("ORCPT=rfc822;a+00", Err(Reply::bad_orcpt())),
            ("ORCPT=utf-8;\u{f6}@b.c", Err(Reply::bad_orcpt())),
            (&long, Err(Reply::bad_orcpt())),
            ("ORCPT=rfc822;a ORCPT=rfc822;a", Err(Reply::bad_orcpt())),
        ] {
            let Ok(address) = Address::parse("b@b.c") else { panic!("not an address") };
            let mut recipient = Recipient::new(address);
            let taken = recipient_parameters(&standing(&settings), text, &mut recipient);
            let taken = taken.map(|()| (recipient.notify, recipient.orcpt));
            assert_eq!(taken, outcome.map(|(notify, orcpt)| (notify, orcpt.map(str::to_owned))), "{text}");
        }
    }

    #[test]
    fn rfc6533_3_an_original_recipient_in_utf_8_is_kept_in_ascii() {
        let settings = Settings::default();
        let parameters = MailParameters { smtputf8: true, ..MailParameters::default() };
        let transaction = Transaction::new(ReversePath::Null, parameters);
        let mail = Standing { transaction: Some(&transaction), ..standing(&settings) };
        let Ok(address) = Address::parse("b@b.c") else { panic!("not an address") };
        for (text, kept) in [
            ("ORCPT=UTF-8;pel\u{e9}+b@b.c", None),
            ("ORCPT=UTF-8;pel\u{e9}=b@b.c", Some("UTF-8;pel\\x{E9}+3Db@b.c")),
            ("ORCPT=rfc822;pel\u{e9}@b.c", None),
        ] {
            let mut recipient = Recipient::new(address.clone());
            let taken = recipient_parameters(&mail, text, &mut recipient);
            assert_eq!(taken.ok().and(recipient.orcpt).as_deref(), kept, "{text}");
        }
    }
}
