//! Who counts as one client, and who is a stranger.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Who is counted as one client. An IPv6 client owns a /64; counting single addresses would not limit it.
pub fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

/// Where somebody is at home: addresses of one line change, within the same 256 of IPv4 most of the time.
pub fn neighbourhood(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & !0xff)),
        IpAddr::V6(_) => network(ip),
    }
}

/// The client, if it neither logged in nor is in a trusted network: whoever it names as sender may never have heard of
/// the message. What has no client was made here.
pub fn stranger(client: Option<IpAddr>, login: Option<&str>, trusted: &[IpNet]) -> Option<IpAddr> {
    let client = client.filter(|_| login.is_none())?;
    (!trusted.iter().any(|network| network.contains(&client))).then_some(client)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_client_is_its_64_bit_network() {
        for (one, other, same) in [
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("192.0.2.1", "192.0.2.2", false),
        ] {
            assert_eq!(network(one.parse().unwrap()) == network(other.parse().unwrap()), same, "{one} {other}");
        }
    }

    #[test]
    fn a_neighbourhood_begins_with_its_first_address() {
        for (one, first) in [("192.0.2.77", "192.0.2.0"), ("192.0.3.0", "192.0.3.0"), ("2001:db8::77:1", "2001:db8::")]
        {
            assert_eq!(neighbourhood(one.parse().unwrap()).to_string(), first);
        }
    }

    #[test]
    fn a_stranger_neither_logged_in_nor_is_trusted() {
        let trusted = ["192.0.2.0/24".parse().unwrap()];
        let (ours, theirs) = (Some("192.0.2.9".parse().unwrap()), Some("198.51.100.9".parse().unwrap()));
        assert_eq!(stranger(theirs, None, &trusted), theirs);
        for (client, login) in [(ours, None), (theirs, Some("john")), (None, None)] {
            assert_eq!(stranger(client, login, &trusted), None, "{client:?} {login:?}");
        }
    }
}
