//! Writes MAIL and RCPT with the parameters that the server understands.

use bytes::{BufMut, BytesMut};
use staffetta_mail::{BodyType, Notify, Recipient, Return};

use super::{Capabilities, Transfer};
use crate::xtext;

/// `MAIL FROM:<…>` with SIZE, BODY, RET and ENVID as far as they are offered.
pub(super) fn mail(transaction: &Transfer, server: &Capabilities, output: &mut BytesMut) {
    put(output, &["MAIL FROM:<", transaction.sender.as_str(), ">"]);
    if server.size.is_some() {
        put(output, &[" SIZE=", &transaction.size.to_string()]);
    }
    if server.eight_bit_mime && transaction.body == BodyType::EightBitMime {
        put(output, &[" BODY=8BITMIME"]);
    }
    if server.dsn {
        mail_dsn(transaction, output);
    }
    if transaction.smtputf8 {
        put(output, &[" SMTPUTF8"]);
    }
    if transaction.require_tls {
        put(output, &[" REQUIRETLS"]);
    }
    put(output, &["\r\n"]);
}

/// RFC 3461 sections 4.3 and 4.4.
fn mail_dsn(transaction: &Transfer, output: &mut BytesMut) {
    match transaction.ret {
        Some(Return::Full) => put(output, &[" RET=FULL"]),
        Some(Return::Headers) => put(output, &[" RET=HDRS"]),
        None => {}
    }
    if let Some(envid) = transaction.envid.as_deref().filter(|envid| is_parameter(envid)) {
        put(output, &[" ENVID=", envid]);
    }
}

/// `RCPT TO:<…>` with NOTIFY and ORCPT if DSN is offered and used for this recipient.
pub(super) fn rcpt(recipient: &Recipient, server: &Capabilities, output: &mut BytesMut) {
    put(output, &["RCPT TO:<", recipient.address.as_str(), ">"]);
    if server.dsn {
        rcpt_dsn(recipient, output);
    }
    put(output, &["\r\n"]);
}

/// RFC 3461 sections 4.1, 4.2 and 5.2.1: ORCPT is added where the client gave none, so that the report names the
/// address as it was here; one with UTF-8 in the form that any server takes (RFC 6533 section 3).
fn rcpt_dsn(recipient: &Recipient, output: &mut BytesMut) {
    if let Some(notify) = recipient.notify {
        put(output, &[" NOTIFY="]);
        put_notify(notify, output);
    }
    match recipient.orcpt.as_deref().filter(|orcpt| is_parameter(orcpt)) {
        Some(orcpt) => put(output, &[" ORCPT=", orcpt]),
        None if recipient.notify.is_some() => put(output, &[" ORCPT=", &xtext::orcpt(&recipient.address)]),
        None => {}
    }
}

fn put_notify(notify: Notify, output: &mut BytesMut) {
    let events = [(notify.success, "SUCCESS"), (notify.failure, "FAILURE"), (notify.delay, "DELAY")];
    let mut names = events.iter().filter(|(wanted, _)| *wanted).map(|(_, name)| *name);
    put(output, &[names.next().unwrap_or("NEVER")]);
    for name in names {
        put(output, &[",", name]);
    }
}

/// A value that came from outside goes into a command only if it cannot end the parameter.
fn is_parameter(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

fn put(output: &mut BytesMut, parts: &[&str]) {
    for part in parts {
        output.put_slice(part.as_bytes());
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use staffetta_mail::{Address, ReversePath};

    use super::*;

    fn everything() -> Capabilities {
        Capabilities { size: Some(0), eight_bit_mime: true, dsn: true, ..Capabilities::default() }
    }

    fn transaction() -> Transfer {
        Transfer {
            sender: ReversePath::Address(Address::parse("a@b.c").unwrap()),
            recipients: Vec::new(),
            size: 42,
            body: BodyType::EightBitMime,
            ret: Some(Return::Headers),
            envid: Some("x+20y".to_owned()),
            smtputf8: false,
            require_tls: false,
        }
    }

    fn text(write: impl Fn(&mut BytesMut)) -> String {
        let mut output = BytesMut::new();
        write(&mut output);
        String::from_utf8(output.to_vec()).unwrap()
    }

    #[test]
    fn mail_carries_what_is_offered_and_nothing_else() {
        let full = "MAIL FROM:<a@b.c> SIZE=42 BODY=8BITMIME RET=HDRS ENVID=x+20y\r\n";
        assert_eq!(text(|o| mail(&transaction(), &everything(), o)), full);
        assert_eq!(text(|o| mail(&transaction(), &Capabilities::default(), o)), "MAIL FROM:<a@b.c>\r\n");
        let demanding = Transfer { smtputf8: true, require_tls: true, ..transaction() };
        let demands = " SMTPUTF8 REQUIRETLS\r\n";
        assert_eq!(text(|o| mail(&demanding, &everything(), o)), full.replace("\r\n", demands));
        let bounce = Transfer {
            sender: ReversePath::Null,
            body: BodyType::SevenBit,
            ret: None,
            envid: Some("a b\r\nRSET".to_owned()),
            ..transaction()
        };
        assert_eq!(text(|o| mail(&bounce, &everything(), o)), "MAIL FROM:<> SIZE=42\r\n");
    }

    #[test]
    fn rfc3461_5_2_1_rcpt_passes_notify_and_orcpt_on() {
        let never = Notify::default();
        let all = Notify { success: true, failure: true, delay: true };
        for (notify, orcpt, parameters) in [
            (None, None, ""),
            (None, Some("rfc822;x@y.z"), " ORCPT=rfc822;x@y.z"),
            (Some(never), None, " NOTIFY=NEVER ORCPT=rfc822;u+2Bt+3D@e.org"),
            (Some(all), Some("rfc822;x"), " NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;x"),
            (Some(Notify { delay: true, ..never }), Some("a b"), " NOTIFY=DELAY ORCPT=rfc822;u+2Bt+3D@e.org"),
        ] {
            let address = Address::parse("u+t=@e.org").unwrap();
            let recipient = Recipient { notify, orcpt: orcpt.map(str::to_owned), ..Recipient::new(address) };
            let expected = format!("RCPT TO:<u+t=@e.org>{parameters}\r\n");
            assert_eq!(text(|o| rcpt(&recipient, &everything(), o)), expected);
            assert_eq!(text(|o| rcpt(&recipient, &Capabilities::default(), o)), "RCPT TO:<u+t=@e.org>\r\n");
        }
    }
}
