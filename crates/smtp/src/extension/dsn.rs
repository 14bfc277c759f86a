//! DSN (RFC 3461): which delivery reports the sender wants. RET and ENVID on MAIL, NOTIFY and ORCPT on RCPT; ENVID and
//! ORCPT are kept as typed, in xtext.

use staffetta_mail::{Notify, Recipient, Return};

use super::{Extension, Offer, Verdict};
use crate::standing::{MailParameters, Standing};
use crate::{Reply, xtext};

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
    if parameters.envid.is_some() || value.is_empty() || !xtext::is_printable(value) {
        return Err(Reply::bad_envid().into());
    }
    parameters.envid = Some(value.to_owned());
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

/// RFC 3461 section 4.2: `addr-type ";" xtext`.
fn orcpt(_: &Standing<'_>, value: &str, recipient: &mut Recipient) -> Result<(), Verdict> {
    let valid = |(kind, address): (&str, &str)| {
        let atom = kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        atom && !kind.is_empty() && !address.is_empty() && xtext::is_printable(address)
    };
    if recipient.orcpt.is_some() || !value.split_once(';').is_some_and(valid) {
        return Err(Reply::bad_orcpt().into());
    }
    recipient.orcpt = Some(value.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use staffetta_mail::Address;

    use super::super::{mail_parameters, recipient_parameters};
    use super::*;
    use crate::standing::Settings;
    use crate::standing::tests::standing;

    #[test]
    fn rfc3461_4_3_and_4_4_ret_and_envid() {
        let settings = Settings::default();
        for (text, outcome) in [
            ("RET=FULL ENVID=QQ314159", Ok((Some(Return::Full), Some("QQ314159")))),
            ("ret=hdrs", Ok((Some(Return::Headers), None))),
            ("RET=SOME", Err(Reply::bad_ret())),
            ("RET", Err(Reply::bad_ret())),
            ("RET=FULL RET=FULL", Err(Reply::bad_ret())),
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
            ("ORCPT=rfc822;a=b", Err(Reply::bad_orcpt())),
            ("ORCPT=rfc822;a ORCPT=rfc822;a", Err(Reply::bad_orcpt())),
        ] {
            let Ok(address) = Address::parse("b@b.c") else { panic!("not an address") };
            let mut recipient = Recipient::new(address);
            let taken = recipient_parameters(&standing(&settings), text, &mut recipient);
            let taken = taken.map(|()| (recipient.notify, recipient.orcpt));
            assert_eq!(taken, outcome.map(|(notify, orcpt)| (notify, orcpt.map(str::to_owned))), "{text}");
        }
    }
}
