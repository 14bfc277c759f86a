//! Addresses, networks and named classes of networks.

use std::fmt::Display;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::{Kind, List, Raw, Wrong, quoted};

/// An address with a port.
pub(crate) struct Socket;

impl Kind for Socket {
    type Value = SocketAddr;
    const NOUN: &'static str = "an address with a port";

    fn allowed() -> String {
        "an IP address and a port, such as \"0.0.0.0:25\" or \"[::]:25\"".into()
    }

    fn parse(text: &str) -> Result<SocketAddr, Wrong> {
        text.parse().map_err(|_| Wrong::not::<Self>(text))
    }

    fn show(value: &SocketAddr) -> String {
        shown(value)
    }
}

/// A DNS server; port 53 may be left out.
pub(crate) struct DnsServer;

impl Kind for DnsServer {
    type Value = SocketAddr;
    const NOUN: &'static str = "the address of a DNS server";

    fn allowed() -> String {
        "an IP address, with a port unless it is 53, such as \"127.0.0.1:5353\"".into()
    }

    fn parse(text: &str) -> Result<SocketAddr, Wrong> {
        let with_port = text.parse().ok();
        let without = || text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53));
        with_port.or_else(without).ok_or_else(|| Wrong::not::<Self>(text))
    }

    fn show(value: &SocketAddr) -> String {
        shown(value)
    }
}

/// An address.
pub(crate) struct Ip;

impl Kind for Ip {
    type Value = IpAddr;
    const NOUN: &'static str = "an IP address";

    fn allowed() -> String {
        "an IP address, such as \"192.0.2.1\" or \"2001:db8::1\"".into()
    }

    fn parse(text: &str) -> Result<IpAddr, Wrong> {
        text.parse().map_err(|_| Wrong::not::<Self>(text))
    }

    fn show(value: &IpAddr) -> String {
        shown(value)
    }
}

/// A network in CIDR form; a bare address is a network of one.
pub(crate) struct Network;

impl Kind for Network {
    type Value = IpNet;
    const NOUN: &'static str = "a network";

    fn allowed() -> String {
        "a network or an address, such as \"192.0.2.0/24\", \"2001:db8::/32\" or \"192.0.2.1\"".into()
    }

    fn parse(text: &str) -> Result<IpNet, Wrong> {
        let network = network(text).ok_or_else(|| Wrong::not::<Self>(text))?;
        if network.trunc() != network {
            let problem =
                format!("has bits set behind its prefix, did you mean {}?", quoted(&network.trunc().to_string()));
            return Err(Wrong::because::<Self>(text, problem));
        }
        Ok(network)
    }

    fn show(value: &IpNet) -> String {
        shown(value)
    }
}

/// These networks, and the same IPv4 networks as NAT64 (RFC 6052) and 6to4 (RFC 3056) write them: a gateway on the way would
/// take a connection to them there.
pub fn with_translated(networks: &[IpNet]) -> Vec<IpNet> {
    let mut all = networks.to_vec();
    for network in networks {
        let IpNet::V4(v4) = network else { continue };
        let bits = u128::from(v4.network().to_bits());
        let nat64 = Ipv6Addr::from_bits((0x0064_ff9b << 96) | bits);
        let six_to_four = Ipv6Addr::from_bits((0x2002 << 112) | (bits << 80));
        let written = [(nat64, 96 + v4.prefix_len()), (six_to_four, 16 + v4.prefix_len())];
        all.extend(written.into_iter().filter_map(|(ip, prefix)| IpNet::new(ip.into(), prefix).ok()));
    }
    all
}

/// Networks, some of them by the name of their class.
pub(crate) struct NetworkClasses;

/// What must not be dialled on a stranger's word, by the registries of RFC 6890.
const CLASSES: [(&str, &[&str]); 4] = [
    // ::/96 was IPv4 within IPv6 once; ::1 is in it.
    ("loopback", &["127.0.0.0/8", "0.0.0.0/8", "::/96"]),
    (
        "private",
        &[
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
            "192.0.0.0/24",
            "198.18.0.0/15",
            "fc00::/7",
            "fec0::/10",
        ],
    ),
    ("link-local", &["169.254.0.0/16", "fe80::/10"]),
    ("multicast", &["224.0.0.0/4", "240.0.0.0/4", "ff00::/8"]),
];

impl Kind for NetworkClasses {
    type Value = Vec<IpNet>;
    const NOUN: &'static str = "a list";

    fn allowed() -> String {
        List::<NetworkOrClass>::allowed()
    }

    fn parse(text: &str) -> Result<Vec<IpNet>, Wrong> {
        List::<NetworkOrClass>::parse(text).map(|lists| lists.concat())
    }

    fn read(raw: Raw<'_>) -> Result<Vec<IpNet>, Vec<Wrong>> {
        List::<NetworkOrClass>::read(raw).map(|lists| lists.concat())
    }

    fn show(value: &Vec<IpNet>) -> String {
        List::<Network>::show(value)
    }

    fn literal(text: &str) -> String {
        List::<NetworkOrClass>::literal(text)
    }
}

struct NetworkOrClass;

impl Kind for NetworkOrClass {
    type Value = Vec<IpNet>;
    const NOUN: &'static str = "a network";

    fn allowed() -> String {
        format!("\"loopback\", \"private\", \"link-local\", \"multicast\", {}", Network::allowed())
    }

    fn parse(text: &str) -> Result<Vec<IpNet>, Wrong> {
        match CLASSES.iter().find(|(name, _)| *name == text) {
            Some((_, networks)) => networks.iter().copied().map(Network::parse).collect(),
            None => match Network::parse(text) {
                Ok(network) => Ok(vec![network]),
                Err(wrong) => Err(Wrong { allowed: Self::allowed(), ..wrong }),
            },
        }
    }

    fn show(value: &Vec<IpNet>) -> String {
        List::<Network>::show(value)
    }
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn shown(value: impl Display) -> String {
    quoted(&value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        for (text, expected) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("::1", "::1/128"),
            ("2001:db8::/32", "2001:db8::/32"),
        ] {
            assert_eq!(Network::parse(text).map(|n| n.to_string()).as_deref(), Ok(expected));
        }
        for text in ["", "192.0.2", "192.0.2.0/33", "example.org", "192.0.2.7/24"] {
            assert!(Network::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn classes_expand() {
        let blocked = NetworkClasses::parse("loopback, 192.0.2.0/24").unwrap_or_default();
        assert_eq!(NetworkClasses::show(&blocked), r#"["127.0.0.0/8", "0.0.0.0/8", "::/96", "192.0.2.0/24"]"#);
        for (name, networks) in CLASSES {
            assert_eq!(NetworkOrClass::parse(name).map(|n| n.len()), Ok(networks.len()), "{name}");
        }
    }

    #[test]
    fn what_must_not_be_dialled_has_many_spellings() {
        let classes = NetworkClasses::parse("loopback, private, link-local, multicast").unwrap_or_default();
        let blocked = with_translated(&classes);
        let is_blocked =
            |text: &str| text.parse::<IpAddr>().is_ok_and(|ip| blocked.iter().any(|network| network.contains(&ip)));
        for text in [
            "127.0.0.1",
            "0.0.0.0",
            "::1",
            "::",
            "::127.0.0.1",
            "::8.8.8.8",
            "64:ff9b::127.0.0.1",
            "64:ff9b::10.1.2.3",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2002:c0a8:101::1",
            "10.0.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "198.19.255.255",
            "169.254.169.254",
            "fc00::1",
            "fec0::1",
            "fe80::1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "ff02::1",
        ] {
            assert!(is_blocked(text), "{text}");
        }
        for text in ["8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1", "2606:4700::1", "172.32.0.1", "198.20.0.1"] {
            assert!(!is_blocked(text), "{text}");
        }
    }

    #[test]
    fn sockets() {
        assert!(Socket::parse("0.0.0.0:25").is_ok() && Socket::parse("[::]:25").is_ok());
        assert!(Socket::parse("25").is_err() && Socket::parse("localhost:25").is_err());
        assert_eq!(DnsServer::parse("::1").map(|a| a.to_string()).as_deref(), Ok("[::1]:53"));
        assert_eq!(DnsServer::parse("127.0.0.1:5353").map(|a| a.port()), Ok(5353));
    }
}
