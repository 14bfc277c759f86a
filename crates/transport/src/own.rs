//! Where this system itself takes mail. Mail that the DNS leads there would come back, again and again.
//!
//! In a cluster the frontends are elsewhere: their pods' addresses are not known here, and a load balancer is no machine of
//! ours. There the name in the greeting and the number of Received fields end a loop.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use staffetta_config::Config;

/// The listeners of the configuration, and what this machine is called in numbers.
pub(crate) struct OwnAddresses {
    listeners: Vec<SocketAddr>,
    /// Addresses that we send from belong to this system, even if a router gives them to us.
    sources: Vec<IpAddr>,
}

/// Those that we send from.
fn sources(config: &Config) -> Vec<IpAddr> {
    let delivery = &config.delivery;
    delivery.source_addresses.iter().copied().chain(delivery.source.iter().map(|source| source.address)).collect()
}

impl OwnAddresses {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            listeners: config.frontend.listener.iter().map(|listener| listener.bind).collect(),
            sources: sources(config),
        }
    }

    /// Does one of our listeners take what is sent there?
    pub(crate) fn include(&self, ip: IpAddr, port: u16) -> bool {
        let ip = ip.to_canonical();
        self.listeners.iter().filter(|listener| listener.port() == port).any(|listener| {
            let bound = listener.ip().to_canonical();
            bound == ip || (bound.is_unspecified() && (self.sources.contains(&ip) || is_of_this_machine(ip)))
        })
    }
}

/// Only to an address of its own can a machine bind a socket.
fn is_of_this_machine(ip: IpAddr) -> bool {
    !ip.is_multicast() && UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_a_listener_takes_is_ours_and_nothing_else_is() {
        let own = OwnAddresses {
            listeners: ["0.0.0.0:25", "192.0.2.1:587", "[::]:26"].map(|text| text.parse().unwrap()).into(),
            sources: vec!["198.51.100.1".parse().unwrap()],
        };
        for (address, port, expected) in [
            ("127.0.0.1", 25, true),
            ("::ffff:127.0.0.1", 25, true),
            ("127.0.0.1", 26, true), // A listener on [::] takes both families.
            ("127.0.0.1", 24, false),
            ("203.0.113.1", 25, false),
            ("198.51.100.1", 25, true),
            ("198.51.100.1", 587, false),
            ("192.0.2.1", 587, true),
            ("192.0.2.1", 25, false),
            ("127.0.0.1", 587, false),
            ("224.0.0.1", 25, false),
        ] {
            assert_eq!(own.include(address.parse().unwrap(), port), expected, "{address} {port}");
        }
    }
}
