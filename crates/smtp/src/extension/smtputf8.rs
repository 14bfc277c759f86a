//! SMTPUTF8 (RFC 6531): UTF-8 in addresses and header fields of a message that says so at MAIL. The addresses are kept as they
//! were written; who compares or looks up their domains uses A-labels.

use super::{Extension, Offer, Verdict};
use crate::standing::{MailParameters, Standing};

pub(super) const EXTENSION: Extension =
    Extension { keyword: "SMTPUTF8", offer: |_| Offer::Plain, mail: &[("SMTPUTF8", smtputf8)], rcpt: &[] };

/// RFC 6531 section 3.4: it has no value.
fn smtputf8(_: &Standing<'_>, value: &str, parameters: &mut MailParameters) -> Result<(), Verdict> {
    parameters.smtputf8 = true;
    if value.is_empty() { Ok(()) } else { Err(Verdict::Unsupported) }
}

#[cfg(test)]
mod tests {
    use super::super::mail_parameters;
    use crate::Reply;
    use crate::standing::Settings;
    use crate::standing::tests::standing;

    #[test]
    fn rfc6531_3_4_the_parameter_has_no_value() {
        let settings = Settings::default();
        for (text, outcome) in [
            ("", Ok(false)),
            ("smtputf8", Ok(true)),
            ("BODY=8BITMIME SMTPUTF8", Ok(true)),
            ("SMTPUTF8=yes", Err(Reply::unsupported_option("SMTPUTF8=yes"))),
            ("SMTPUTF8 SMTPUTF8", Err(Reply::repeated_parameter("SMTPUTF8"))),
        ] {
            let taken = mail_parameters(&standing(&settings), text).map(|parameters| parameters.smtputf8);
            assert_eq!(taken, outcome, "{text}");
        }
    }
}
