//! XCLIENT (Postfix' XCLIENT_README) is listed for those who may say it.

use super::{Extension, Offer};
use crate::command::xclient::ATTRIBUTES;

pub(super) const EXTENSION: Extension = Extension {
    keyword: "XCLIENT",
    offer: |standing| if standing.xclient { Offer::With(ATTRIBUTES.to_owned()) } else { Offer::No },
    mail: &[],
    rcpt: &[],
};
