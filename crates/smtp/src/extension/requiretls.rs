//! REQUIRETLS (RFC 8689): the message must travel under TLS all the way, or come back. Who did not bring it under TLS cannot
//! ask for that, so it is on offer only there.

use super::{Extension, Offer, Verdict};
use crate::standing::{MailParameters, Standing};

pub(super) const EXTENSION: Extension = Extension {
    keyword: "REQUIRETLS",
    offer: |standing| if standing.encrypted { Offer::Plain } else { Offer::No },
    mail: &[("REQUIRETLS", require_tls)],
    rcpt: &[],
};

/// RFC 8689 section 2: it has no value.
fn require_tls(_: &Standing<'_>, value: &str, parameters: &mut MailParameters) -> Result<(), Verdict> {
    parameters.require_tls = true;
    if value.is_empty() { Ok(()) } else { Err(Verdict::Unsupported) }
}

#[cfg(test)]
mod tests {
    use super::super::mail_parameters;
    use super::*;
    use crate::Reply;
    use crate::standing::Settings;
    use crate::standing::tests::standing;

    #[test]
    fn rfc8689_2_only_under_tls() {
        let settings = Settings::default();
        let clear = standing(&settings);
        let encrypted = Standing { encrypted: true, ..clear };
        for (standing, text, outcome) in [
            (clear, "REQUIRETLS", Err(Reply::unsupported_option("REQUIRETLS"))),
            (encrypted, "requiretls", Ok(true)),
            (encrypted, "", Ok(false)),
            (encrypted, "REQUIRETLS=1", Err(Reply::unsupported_option("REQUIRETLS=1"))),
            (encrypted, "REQUIRETLS REQUIRETLS", Err(Reply::repeated_parameter("REQUIRETLS"))),
        ] {
            let taken = mail_parameters(&standing, text).map(|parameters| parameters.require_tls);
            assert_eq!(taken, outcome, "{text}");
        }
    }
}
