//! How many connections are open, in all and for each client; a place is held by a [`Slot`] and given back with it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The limits of one pod and what is in use of them. Share it in an `Arc`.
#[derive(Debug)]
pub(crate) struct Limits {
    total: u32,
    per_client: u32,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: u32,
    by_client: HashMap<IpAddr, u32>,
}

/// A connection's place; dropped when the connection ends.
#[derive(Debug)]
pub(crate) struct Slot {
    limits: Arc<Limits>,
    /// `None`: the client is exempt from its limit.
    client: Option<IpAddr>,
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// `connection_limit`
    Pod,
    /// `connections_per_client`
    Client,
}

impl Limits {
    pub(crate) fn new(total: u32, per_client: u32) -> Arc<Self> {
        Arc::new(Self { total, per_client, open: Mutex::default() })
    }

    /// Takes a place for a connection of `ip`. `exempt` clients have no limit of their own: a webmail or a gateway in a
    /// trusted network stands for many users.
    pub(crate) fn take(self: &Arc<Self>, ip: IpAddr, exempt: bool) -> Result<Slot, Full> {
        let client = (!exempt).then(|| network(ip));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.total {
            return Err(Full::Pod);
        }
        if let Some(client) = client {
            self.add(&mut open, client)?;
        }
        open.total += 1;
        Ok(Slot { limits: Arc::clone(self), client })
    }

    fn add(&self, open: &mut Open, client: IpAddr) -> Result<(), Full> {
        let count = open.by_client.entry(client).or_insert(0);
        if *count >= self.per_client {
            return Err(Full::Client);
        }
        *count += 1;
        Ok(())
    }
}

impl Slot {
    /// A proxy said for whom the place is; it was taken for the proxy, who has no limit of its own.
    pub(crate) fn pass_on(&mut self, ip: IpAddr, exempt: bool) -> Result<(), Full> {
        debug_assert!(self.client.is_none());
        if !exempt {
            let client = network(ip);
            let mut open = self.limits.open.lock().unwrap_or_else(PoisonError::into_inner);
            self.limits.add(&mut open, client)?;
            self.client = Some(client);
        }
        Ok(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.limits.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        let Some(client) = self.client else { return };
        if let Entry::Occupied(mut count) = open.by_client.entry(client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Who is counted as one client. An IPv6 client owns a /64; counting single addresses would not limit it.
pub(crate) fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_client_has_its_limit_and_gives_places_back() {
        let limits = Limits::new(10, 2);
        let first = limits.take(ip("192.0.2.1"), false).unwrap();
        let _second = limits.take(ip("192.0.2.1"), false).unwrap();
        assert_eq!(limits.take(ip("192.0.2.1"), false).unwrap_err(), Full::Client);
        let _other = limits.take(ip("192.0.2.2"), false).unwrap();
        let _exempt = limits.take(ip("192.0.2.1"), true).unwrap();
        drop(first);
        let _again = limits.take(ip("192.0.2.1"), false).unwrap();
    }

    #[test]
    fn the_pod_has_a_limit_for_all_and_forgets_clients_that_left() {
        let limits = Limits::new(2, 2);
        let slots = [limits.take(ip("192.0.2.1"), true).unwrap(), limits.take(ip("192.0.2.2"), false).unwrap()];
        assert_eq!(limits.take(ip("192.0.2.3"), true).unwrap_err(), Full::Pod);
        drop(slots);
        let open = limits.open.lock().unwrap();
        assert_eq!((open.total, open.by_client.len()), (0, 0));
    }

    #[test]
    fn a_refused_client_takes_no_place() {
        let limits = Limits::new(3, 2);
        let mut slots =
            vec![limits.take(ip("192.0.2.1"), false).unwrap(), limits.take(ip("192.0.2.1"), false).unwrap()];
        for _ in 0..5 {
            assert_eq!(limits.take(ip("192.0.2.1"), false).unwrap_err(), Full::Client);
        }
        slots.push(limits.take(ip("192.0.2.2"), false).unwrap());
        for _ in 0..5 {
            assert_eq!(limits.take(ip("192.0.2.2"), false).unwrap_err(), Full::Pod);
        }
        slots.truncate(1);
        slots.push(limits.take(ip("192.0.2.2"), false).unwrap());
        slots.push(limits.take(ip("192.0.2.2"), false).unwrap());
        drop(slots);
        let open = limits.open.lock().unwrap();
        assert_eq!((open.total, open.by_client.len()), (0, 0));
    }

    #[test]
    fn a_place_that_a_proxy_took_is_counted_for_its_client() {
        let limits = Limits::new(10, 1);
        let mut first = limits.take(ip("198.51.100.1"), true).unwrap();
        let mut second = limits.take(ip("198.51.100.1"), true).unwrap();
        first.pass_on(ip("192.0.2.1"), false).unwrap();
        assert_eq!(second.pass_on(ip("192.0.2.1"), false).unwrap_err(), Full::Client);
        drop((first, second));
        let open = limits.open.lock().unwrap();
        assert_eq!((open.total, open.by_client.len()), (0, 0));
    }

    #[test]
    fn an_ipv6_client_is_its_64_bit_network() {
        let limits = Limits::new(10, 1);
        let _first = limits.take(ip("2001:db8::1"), false).unwrap();
        assert_eq!(limits.take(ip("2001:db8::2"), false).unwrap_err(), Full::Client);
        let _other = limits.take(ip("2001:db8:0:1::1"), false).unwrap();
    }
}
