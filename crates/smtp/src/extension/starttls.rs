//! STARTTLS (RFC 3207) is listed until TLS is up.

use super::{Extension, Offer};
use crate::standing::Standing;

pub(super) const EXTENSION: Extension = Extension { keyword: "STARTTLS", offer, mail: &[], rcpt: &[] };

fn offer(standing: &Standing<'_>) -> Offer {
    if standing.settings.starttls && !standing.encrypted { Offer::Plain } else { Offer::No }
}
