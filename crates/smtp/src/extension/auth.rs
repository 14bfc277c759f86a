//! AUTH (RFC 4954) is listed, with its mechanisms, only under TLS. `AUTH=` on MAIL (section 5) is checked and kept,
//! and no one relies on it.

use super::{Extension, Offer, Verdict};
use crate::standing::{MailParameters, Standing};
use crate::{Reply, xtext};

pub(super) const EXTENSION: Extension = Extension { keyword: "AUTH", offer, mail: &[("AUTH", auth)], rcpt: &[] };

fn offer(standing: &Standing<'_>) -> Offer {
    let mechanisms: Vec<&str> = standing.mechanisms().collect();
    if standing.encrypted && !mechanisms.is_empty() { Offer::With(mechanisms.join(" ")) } else { Offer::No }
}

fn auth(_: &Standing<'_>, value: &str, parameters: &mut MailParameters) -> Result<(), Verdict> {
    if parameters.auth.is_some() {
        return Err(Reply::multiple_auth_parameters().into());
    }
    if value.is_empty() || !xtext::is_printable(value) {
        return Err(Reply::bad_auth_parameter().into());
    }
    parameters.auth = Some(value.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::mail_parameters;
    use super::*;
    use crate::standing::Settings;
    use crate::standing::tests::standing;

    #[test]
    fn rfc4422_a_external_is_for_who_has_shown_a_certificate() {
        let settings = Settings { mechanisms: vec!["EXTERNAL".into(), "PLAIN".into()], ..Settings::default() };
        let stranger = Standing { encrypted: true, ..standing(&settings) };
        let certified = Standing { certified: true, ..stranger };
        assert_eq!(offer(&stranger), Offer::With("PLAIN".into()));
        assert_eq!(offer(&certified), Offer::With("EXTERNAL PLAIN".into()));
        let alone = Settings { mechanisms: vec!["EXTERNAL".into()], ..Settings::default() };
        assert_eq!(offer(&Standing { settings: &alone, ..stranger }), Offer::No);
    }

    #[test]
    fn rfc4954_5_the_parameter() {
        let settings = Settings { mechanisms: vec!["PLAIN".into()], ..Settings::default() };
        let encrypted = Standing { encrypted: true, ..standing(&settings) };
        for (text, outcome) in [
            ("AUTH=<>", Ok("<>")),
            ("AUTH=e+3Dmc2@example.com", Ok("e+3Dmc2@example.com")),
            ("AUTH=", Err(Reply::bad_auth_parameter())),
            ("AUTH=a=b", Ok("a=b")),
            ("AUTH=a+00", Err(Reply::bad_auth_parameter())),
            ("AUTH=<> AUTH=<>", Err(Reply::multiple_auth_parameters())),
        ] {
            let taken = mail_parameters(&encrypted, text).map(|parameters| parameters.auth.unwrap_or_default());
            assert_eq!(taken, outcome.map(str::to_owned), "{text}");
        }
    }
}
