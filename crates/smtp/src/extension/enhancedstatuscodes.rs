//! ENHANCEDSTATUSCODES (RFC 2034): replies carry codes of RFC 3463; [`crate::reply`] sees to it.

use super::{Extension, Offer};

pub(super) const EXTENSION: Extension =
    Extension { keyword: "ENHANCEDSTATUSCODES", offer: |_| Offer::Plain, mail: &[], rcpt: &[] };
