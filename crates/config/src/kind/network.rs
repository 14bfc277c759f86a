//! Addresses, networks and named classes of networks.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};

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

/// Networks, some of them by the name of their class.
pub(crate) struct NetworkClasses;

/// What must not be dialled on a stranger's word, by the registries of RFC 6890.
const CLASSES: [(&str, &[&str]); 4] = [
    ("loopback", &["127.0.0.0/8", "0.0.0.0/8", "::1/128", "::/128"]),
    ("private", &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"]),
    ("link-local", &["169.254.0.0/16", "fe80::/10"]),
    ("multicast", &["224.0.0.0/4", "255.255.255.255/32", "ff00::/8"]),
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
        assert_eq!(
            NetworkClasses::show(&blocked),
            r#"["127.0.0.0/8", "0.0.0.0/8", "::1/128", "::/128", "192.0.2.0/24"]"#
        );
        for (name, networks) in CLASSES {
            assert_eq!(NetworkOrClass::parse(name).map(|n| n.len()), Ok(networks.len()), "{name}");
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
