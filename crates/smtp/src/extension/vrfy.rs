//! VRFY (RFC 5321 section 4.1.1.6) is listed when it is enabled.

use super::{Extension, Offer};

pub(super) const EXTENSION: Extension = Extension {
    keyword: "VRFY",
    offer: |standing| if standing.settings.vrfy { Offer::Plain } else { Offer::No },
    mail: &[],
    rcpt: &[],
};
