//! PIPELINING (RFC 2920): several commands in one write. The row of a verb knows whether it must be last.

use super::{Extension, Offer};

pub(super) const EXTENSION: Extension =
    Extension { keyword: "PIPELINING", offer: |_| Offer::Plain, mail: &[], rcpt: &[] };
