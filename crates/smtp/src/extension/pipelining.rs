//! PIPELINING (RFC 2920): several commands in one write. [`crate::command::Verb::ends_group`] knows which must be last.

use super::{Extension, Offer};

pub(super) const EXTENSION: Extension =
    Extension { keyword: "PIPELINING", offer: |_| Offer::Plain, mail: &[], rcpt: &[] };
