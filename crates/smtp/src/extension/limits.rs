//! LIMITS (RFC 9422): what a client need not find out by being refused. Only RCPTMAX is true of us: a session may bring as
//! many messages as it likes.

use super::{Extension, Offer};

pub(super) const EXTENSION: Extension = Extension {
    keyword: "LIMITS",
    offer: |standing| Offer::With(format!("RCPTMAX={}", standing.settings.recipient_limit)),
    mail: &[],
    rcpt: &[],
};
