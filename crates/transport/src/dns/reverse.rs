//! The name of an address. Whoever owns an address can claim any name for it; one is believed when its owner says the same:
//! when the address is among those of the name (RFC 8601 section 3: "iprev").

use std::net::IpAddr;

use hickory_resolver::proto::rr::{Name, RData};

use super::{DnsError, Found, Kind, Resolver, host_name};

/// Names of one address that are looked at; somebody who claims more has no need to be believed.
const CLAIMS: usize = 3;

impl Resolver {
    /// The name of `ip` whose addresses include `ip`, in lower case without the trailing dot; `None` if there is none.
    ///
    /// # Errors
    /// When the DNS could not say. A claim that nobody could confirm does not count.
    pub async fn verified_name(&self, ip: IpAddr) -> Result<Option<String>, DnsError> {
        let Found::Records(lookup) = self.ask(&Name::from(ip).to_ascii(), Kind::Ptr).await?.data else {
            return Ok(None);
        };
        let kind = if ip.is_ipv4() { Kind::A } else { Kind::Aaaa };
        let claimed = lookup.answers().iter().filter_map(|record| match &record.data {
            RData::PTR(pointer) => Some(host_name(pointer)),
            _ => None,
        });
        for name in claimed.filter(|name| is_host_name(name)).take(CLAIMS) {
            if self.family(&name, kind).await.is_ok_and(|addresses| addresses.data.contains(&ip)) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
}

/// What may stand in logs and trace fields as the name of a host: letters, digits, hyphens, underscores, and not a number,
/// which could pass for an address.
fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        inner && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let number = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    name.len() <= 253 && !number && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_is_no_host_name_is_not_looked_at() {
        let long = format!("{}.test", "a".repeat(64));
        for (name, expected) in [
            ("mail.example.org", true),
            ("a_b-c.test", true),
            ("localhost", true),
            ("", false),
            ("192.0.2.1", false),
            ("1234", false),
            ("a..b", false),
            ("-a.test", false),
            ("a-.test", false),
            ("a b.test", false),
            ("a\\032b.test", false),
            ("a[192.0.2.1].test", false),
            (&long, false),
        ] {
            assert_eq!(is_host_name(name), expected, "{name}");
        }
    }
}
