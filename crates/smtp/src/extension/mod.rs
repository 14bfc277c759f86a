//! The ESMTP extensions (RFC 5321 section 2.2): one file each, with its keyword, when it is on offer, its parameters
//! of MAIL and RCPT, and its tests.
//!
//! [`EXTENSIONS`] lists them in the order of the EHLO reply, which is built from it. A parameter is taken only while
//! its extension is on offer; to add an extension, write its file and add a row.

mod auth;
mod chunking;
mod dsn;
mod eightbitmime;
mod enhancedstatuscodes;
mod etrn;
mod limits;
mod pipelining;
mod requiretls;
mod size;
mod smtputf8;
mod starttls;
mod vrfy;
mod xclient;

use staffetta_mail::Recipient;

use crate::Reply;
use crate::standing::{MailParameters, Standing};

/// One extension.
pub struct Extension {
    /// The word in the EHLO reply.
    pub keyword: &'static str,
    /// Is it on offer, and with what after the keyword?
    pub offer: fn(&Standing<'_>) -> Offer,
    /// Its parameters of MAIL.
    pub mail: &'static [Parameter<MailParameters>],
    /// Its parameters of RCPT.
    pub rcpt: &'static [Parameter<Recipient>],
}

/// What EHLO says about an extension.
#[derive(Debug, PartialEq, Eq)]
pub enum Offer {
    /// Nothing.
    No,
    /// The keyword.
    Plain,
    /// The keyword and this.
    With(String),
}

/// A parameter: its name in capitals, and what takes its value. [`Verdict::Unsupported`] makes it a 555.
pub type Parameter<T> = (&'static str, fn(&Standing<'_>, &str, &mut T) -> Result<(), Verdict>);

/// Why a parameter is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The value is none that we know: 555 with the parameter as typed.
    Unsupported,
    /// With this reply.
    Refused(Reply),
}

impl From<Reply> for Verdict {
    fn from(reply: Reply) -> Self {
        Self::Refused(reply)
    }
}

/// All extensions, in the order of the EHLO reply.
pub const EXTENSIONS: &[Extension] = &[
    pipelining::EXTENSION,
    size::EXTENSION,
    vrfy::EXTENSION,
    etrn::EXTENSION,
    starttls::EXTENSION,
    auth::EXTENSION,
    xclient::EXTENSION,
    enhancedstatuscodes::EXTENSION,
    eightbitmime::EXTENSION,
    dsn::EXTENSION,
    smtputf8::EXTENSION,
    chunking::EXTENSION,
    requiretls::EXTENSION,
    limits::EXTENSION,
];

/// Reads the parameters of MAIL.
pub(crate) fn mail_parameters(standing: &Standing<'_>, text: &str) -> Result<MailParameters, Reply> {
    let mut parameters = MailParameters::default();
    read(standing, text, &mut parameters, |extension| extension.mail)?;
    Ok(parameters)
}

/// Reads the parameters of RCPT into the recipient.
pub(crate) fn recipient_parameters(standing: &Standing<'_>, text: &str, into: &mut Recipient) -> Result<(), Reply> {
    read(standing, text, into, |extension| extension.rcpt)
}

/// RFC 5321 section 4.1.2: `esmtp-keyword ["=" esmtp-value]`, separated by blanks, none of them twice.
fn read<T>(
    standing: &Standing<'_>,
    text: &str,
    into: &mut T,
    parameters: fn(&Extension) -> &'static [Parameter<T>],
) -> Result<(), Reply> {
    let mut seen: Vec<&'static str> = Vec::new();
    for typed in text.split_ascii_whitespace() {
        let (name, value) = typed.split_once('=').unwrap_or((typed, ""));
        let known = |extension: &'static Extension| {
            let found = parameters(extension).iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
            Some((extension, *found))
        };
        let Some((extension, (known, take))) = EXTENSIONS.iter().find_map(known) else {
            return Err(Reply::unsupported_option(typed));
        };
        if (extension.offer)(standing) == Offer::No {
            return Err(Reply::unsupported_option(typed));
        }
        take(standing, value, into).map_err(|verdict| match verdict {
            Verdict::Unsupported => Reply::unsupported_option(typed),
            Verdict::Refused(reply) => reply,
        })?;
        if seen.contains(&known) {
            return Err(Reply::repeated_parameter(known));
        }
        seen.push(known);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use staffetta_mail::{BodyType, Return};

    use super::*;
    use crate::standing::Settings;
    use crate::standing::tests::standing;

    #[test]
    fn the_order_is_that_of_postfix() {
        let keywords: Vec<_> = EXTENSIONS.iter().map(|extension| extension.keyword).collect();
        assert_eq!(
            keywords,
            [
                "PIPELINING",
                "SIZE",
                "VRFY",
                "ETRN",
                "STARTTLS",
                "AUTH",
                "XCLIENT",
                "ENHANCEDSTATUSCODES",
                "8BITMIME",
                "DSN",
                "SMTPUTF8",
                "CHUNKING",
                "REQUIRETLS",
                "LIMITS"
            ]
        );
    }

    #[test]
    fn parameters_of_several_extensions_in_any_order_and_case() {
        let settings = Settings::default();
        let parameters = mail_parameters(&standing(&settings), "body=8bitmime  SIZE=10 ret=hdrs ENVID=a+2Bb");
        assert_eq!(
            parameters,
            Ok(MailParameters {
                size: Some(10),
                body: BodyType::EightBitMime,
                ret: Some(Return::Headers),
                envid: Some("a+2Bb".into()),
                ..MailParameters::default()
            })
        );
    }

    #[test]
    fn rfc5321_4_1_1_11_unknown_parameters_and_those_not_on_offer_are_refused_as_typed() {
        let settings = Settings::default();
        for text in ["FOO", "FOO=1", "REQUIRETLS", "NOTIFY=NEVER", "=", "AUTH=<>"] {
            let refused = mail_parameters(&standing(&settings), text);
            assert_eq!(refused, Err(Reply::unsupported_option(text)), "{text}");
        }
    }
}
