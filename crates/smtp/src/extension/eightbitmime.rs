//! 8BITMIME (RFC 6152): `BODY=7BIT` or `BODY=8BITMIME` on MAIL. Bodies are never converted.

use staffetta_mail::BodyType;

use super::{Extension, Offer, Verdict};
use crate::standing::{MailParameters, Standing};

pub(super) const EXTENSION: Extension =
    Extension { keyword: "8BITMIME", offer: |_| Offer::Plain, mail: &[("BODY", body)], rcpt: &[] };

fn body(_: &Standing<'_>, value: &str, parameters: &mut MailParameters) -> Result<(), Verdict> {
    parameters.body = match value {
        _ if value.eq_ignore_ascii_case("7BIT") => BodyType::SevenBit,
        _ if value.eq_ignore_ascii_case("8BITMIME") => BodyType::EightBitMime,
        _ => return Err(Verdict::Unsupported),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::mail_parameters;
    use super::*;
    use crate::Reply;
    use crate::standing::Settings;
    use crate::standing::tests::standing;

    #[test]
    fn rfc6152_2_the_parameter() {
        let settings = Settings::default();
        for (text, outcome) in [
            ("", Ok(BodyType::SevenBit)),
            ("BODY=7bit", Ok(BodyType::SevenBit)),
            ("BODY=8BITMIME", Ok(BodyType::EightBitMime)),
            ("BODY=X", Err(Reply::unsupported_option("BODY=X"))),
            ("BODY", Err(Reply::unsupported_option("BODY"))),
        ] {
            let taken = mail_parameters(&standing(&settings), text).map(|parameters| parameters.body);
            assert_eq!(taken, outcome, "{text}");
        }
    }
}
