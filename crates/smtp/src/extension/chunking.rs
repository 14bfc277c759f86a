//! CHUNKING (RFC 3030): BDAT beside DATA. BINARYMIME is not on offer: what has no lines cannot be passed on to servers that
//! know only DATA.

use super::{Extension, Offer};

pub(super) const EXTENSION: Extension =
    Extension { keyword: "CHUNKING", offer: |_| Offer::Plain, mail: &[], rcpt: &[] };
