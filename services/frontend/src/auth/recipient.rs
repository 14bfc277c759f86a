//! What the auth service says of a recipient: is there such a one, and where does its mail go?

use std::sync::Arc;

use staffetta_mail::Address;
use staffetta_policy::relay::Finding;
use staffetta_proto::auth::v1::LookupRecipientResponse;

/// See the module. "Nobody could say" is not among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Located {
    /// There is none.
    Nowhere,
    /// Its mail goes to the address as it is named.
    AsNamed,
    /// It is an alias: its mail goes to these.
    Alias(Arc<[Address]>),
    /// It is an alias, and where it leads cannot be found out, or is no address.
    Unusable,
}

impl Located {
    /// What this says of the recipient. A service that knows of no aliases names no destinations.
    pub(super) fn read(recipient: &str, response: LookupRecipientResponse) -> Self {
        let LookupRecipientResponse { known, destinations, unending } = response;
        if !known {
            return Self::Nowhere;
        }
        if unending {
            return Self::Unusable;
        }
        let read: Result<Arc<[Address]>, _> =
            destinations.iter().map(|to| Address::parse(to).map_err(|_| to)).collect();
        match read {
            Ok(destinations) if destinations.is_empty() => Self::AsNamed,
            Ok(destinations) => Self::Alias(destinations),
            Err(text) => {
                tracing::warn!(alias = recipient, destination = ?text, "an alias leads to something that is no address");
                Self::Unusable
            }
        }
    }

    /// Does it exist?
    pub(crate) fn exists(&self) -> Finding {
        if *self == Self::Nowhere { Finding::No } else { Finding::Yes }
    }

    /// Where it leads, if it is an alias.
    pub(crate) fn alias(&self) -> Option<Arc<[Address]>> {
        if let Self::Alias(destinations) = self { Some(Arc::clone(destinations)) } else { None }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn an_alias_with_a_destination_that_is_no_address_is_not_used_in_part() {
        let read = |known, destinations: &[&str], unending| {
            let destinations = destinations.iter().map(|to| (*to).to_owned()).collect();
            Located::read("info@x", LookupRecipientResponse { known, destinations, unending })
        };
        let john: Address = "john@example.org".parse().unwrap();
        assert_eq!(read(false, &[], false), Located::Nowhere);
        assert_eq!(read(true, &[], false), Located::AsNamed);
        assert_eq!(read(true, &["john@example.org"], false), Located::Alias([john].into()));
        assert_eq!(read(true, &["john@example.org", "|/bin/cat"], false), Located::Unusable);
        assert_eq!(read(true, &[], true), Located::Unusable);
    }
}
