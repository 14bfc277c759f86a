//! ETRN (RFC 1985) is listed when it is enabled; who may use it is decided at the command.

use super::{Extension, Offer};

pub(super) const EXTENSION: Extension = Extension {
    keyword: "ETRN",
    offer: |standing| if standing.settings.etrn { Offer::Plain } else { Offer::No },
    mail: &[],
    rcpt: &[],
};
