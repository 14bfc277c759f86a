//! MAIL (RFC 5321 section 4.1.1.2): begins a transaction.
//!
//! `MAIL FROM:<reverse-path> [parameters]`; the parameters belong to the [extensions](crate::extension).

use staffetta_mail::ReversePath;

use super::path::{self, PathError};
use super::{Command, Row};
use crate::Reply;
use crate::extension;
use crate::standing::{MailParameters, Standing};

/// Its row in the table of verbs.
pub(super) const ROW: Row = Row {
    name: "MAIL",
    parse: |standing, arguments| Mail::check(standing, arguments).map(Command::Mail),
    usage: "MAIL FROM:<address> [parameters]",
    ..Row::PLAIN
};

/// A MAIL command that the protocol has nothing against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Where reports go.
    pub sender: ReversePath,
    /// What the extensions' parameters said.
    pub parameters: MailParameters,
}

impl Mail {
    /// The ladder of MAIL.
    pub fn check(standing: &Standing<'_>, arguments: &str) -> Result<Self, Reply> {
        standing.check_introduced()?;
        standing.check_not_chunking("MAIL")?;
        // RFC 5321 section 4.1.4: MAIL must not come within a transaction.
        if standing.transaction.is_some() {
            return Err(Reply::nested_mail());
        }
        standing.check_login()?;
        let (path, parameters) = path::split(arguments, "FROM:").ok_or_else(Reply::mail_syntax)?;
        let sender = match path::parse(path) {
            Ok(Some(address)) => ReversePath::Address(address),
            Ok(None) => ReversePath::Null,
            Err(PathError::Malformed) => return Err(Reply::bad_sender()),
            Err(PathError::NotQualified(local)) => return Err(Reply::sender_not_qualified(local)),
        };
        let parameters = extension::mail_parameters(standing, parameters)?;
        // RFC 6531 section 3.5: who writes UTF-8 must say so.
        if !parameters.smtputf8 && !sender.as_str().is_ascii() {
            return Err(Reply::non_ascii_sender(sender.as_str()));
        }
        Ok(Self { sender, parameters })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standing::tests::standing;
    use crate::standing::{Helo, Kind, Settings, Transaction};

    #[test]
    fn rfc5321_4_1_1_2_the_sender_is_kept_byte_for_byte() {
        let settings = Settings::default();
        let helo = Helo { name: "x".into(), extended: true };
        let ready = Standing { helo: Some(&helo), ..standing(&settings) };
        for (arguments, sender) in [
            ("FROM:<John@Example.org>", "John@Example.org"),
            ("from: <john@example.org>", "john@example.org"),
            ("FROM:john@example.org", "john@example.org"),
            ("FROM:<@a.b,@c.d:john@example.org>", "john@example.org"),
            ("FROM:<>", ""),
            ("FROM:<\"a b\"@example.org> SIZE=3", "\"a b\"@example.org"),
            ("FROM:<j\u{f6}rg@b\u{fc}ro.example> SMTPUTF8", "j\u{f6}rg@b\u{fc}ro.example"),
        ] {
            let mail = Mail::check(&ready, arguments);
            assert_eq!(mail.map(|mail| mail.sender.to_string()), Ok(sender.to_owned()), "{arguments}");
        }
    }

    #[test]
    fn the_ladder() {
        let settings = Settings::default();
        let submission = Settings { kind: Kind::Submission, ..Settings::default() };
        let helo = Helo { name: "x".into(), extended: true };
        let transaction = Transaction::new(ReversePath::Null, MailParameters::default());
        let stranger = standing(&settings);
        let ready = Standing { helo: Some(&helo), ..stranger };
        let nested = Standing { transaction: Some(&transaction), ..ready };
        let anonymous = Standing { settings: &submission, encrypted: true, ..ready };
        for (standing, arguments, reply) in [
            (stranger, "FROM:<a@b>", Reply::helo_first()),
            (nested, "FROM:<a@b>", Reply::nested_mail()),
            (anonymous, "FROM:<a@b>", Reply::authentication_required()),
            (ready, "", Reply::mail_syntax()),
            (ready, "TO:<a@b>", Reply::mail_syntax()),
            (ready, "FROM:", Reply::mail_syntax()),
            (ready, "FROM:<a@b@c>", Reply::bad_sender()),
            (ready, "FROM:<john>", Reply::sender_not_qualified("john")),
            (ready, "FROM:<a@b> FOO=1", Reply::unsupported_option("FOO=1")),
            (ready, "FROM:<a@b>SIZE=1 FOO", Reply::bad_sender()),
            (Standing { chunking: true, ..nested }, "FROM:<a@b>", Reply::after_bdat("MAIL")),
            (ready, "FROM:<a@b", Reply::bad_sender()),
            (ready, "FROM:<j\u{f6}rg@b>", Reply::non_ascii_sender("j\u{f6}rg@b")),
            (ready, "FROM:<a@b\u{f6}.test> BODY=8BITMIME", Reply::non_ascii_sender("a@b\u{f6}.test")),
            (ready, "FROM:<a@b> SIZE=1 SIZE=1", Reply::repeated_parameter("SIZE")),
            (ready, "FROM:<a@b> SMTPUTF8=yes", Reply::unsupported_option("SMTPUTF8=yes")),
            (ready, "FROM:<a@b> REQUIRETLS", Reply::unsupported_option("REQUIRETLS")),
            (ready, "FROM:<a@b> BODY=BINARYMIME", Reply::unsupported_option("BODY=BINARYMIME")),
        ] {
            assert_eq!(Mail::check(&standing, arguments), Err(reply), "{arguments}");
        }
    }
}
