//! How many connections are open: in all, on each listener, for each client; a place is held by a [`Slot`] and given back
//! with it.
//!
//! Strangers must not be able to take every place. A listener's share leaves a quarter to the others, so that whoever fills
//! port 25 does not close the submission ports; and what all strangers hold together leaves a sixteenth to trusted
//! clients. Small limits are not divided. What one client may have is counted over all pods ([`cluster`]).

mod clients;
mod cluster;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use staffetta_policy::client::network;

use clients::Clients;
pub(crate) use cluster::Cluster;

/// Below it there is nothing to divide.
const DIVISIBLE: u32 = 20;

/// The limits of one pod and what is in use of them. Share it in an `Arc`.
#[derive(Debug)]
pub(crate) struct Limits {
    /// Where a client's connections in other pods are known.
    cluster: Option<Cluster>,
    open: Mutex<Open>,
}

/// How many there may be.
#[derive(Debug, Default)]
struct Caps {
    total: u32,
    /// Of all strangers.
    strangers: u32,
    /// Of the strangers on each listener.
    listeners: Vec<u32>,
    per_client: u32,
}

#[derive(Debug, Default)]
struct Open {
    caps: Caps,
    total: u32,
    strangers: u32,
    listeners: Vec<u32>,
    clients: Clients,
}

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guest {
    /// Stands for many users, such as a webmail; or a load balancer that has not said yet for whom it comes.
    Trusted,
    /// Anybody else.
    Stranger(IpAddr),
    /// Somebody whom the load balancer cannot name.
    Nameless,
}

/// A connection's place; dropped when the connection ends.
#[derive(Debug)]
pub(crate) struct Slot {
    limits: Arc<Limits>,
    listener: usize,
    guest: Guest,
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// `connection_limit`
    Pod,
    /// `connection_limit` of the listener
    Listener,
    /// `connections_per_client`
    Client,
}

impl Limits {
    /// `listeners` are the limits that are set for them, in their order.
    pub(crate) fn new(total: u32, per_client: u32, listeners: &[Option<u32>], cluster: Option<Cluster>) -> Arc<Self> {
        let caps = Caps::new(total, per_client, listeners);
        let open = Open { caps, listeners: vec![0; listeners.len()], ..Open::default() };
        Arc::new(Self { cluster, open: Mutex::new(open) })
    }

    /// Other limits from now on, for the same listeners; whoever has a place keeps it.
    pub(crate) fn change(&self, total: u32, per_client: u32, listeners: &[Option<u32>]) {
        self.open().caps = Caps::new(total, per_client, listeners);
    }

    /// Takes a place for a connection to the listener of this index.
    pub(crate) fn take(self: &Arc<Self>, listener: usize, guest: Guest) -> Result<Slot, Full> {
        let mut open = self.open();
        if open.total >= open.caps.total {
            return Err(Full::Pod);
        }
        open.admit(listener, guest)?;
        open.total += 1;
        Ok(Slot { limits: Arc::clone(self), listener, guest })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Caps {
    fn new(total: u32, per_client: u32, listeners: &[Option<u32>]) -> Self {
        let divisible = total >= DIVISIBLE;
        let share = if divisible && listeners.len() > 1 { total - total / 4 } else { total };
        Self {
            total,
            strangers: if divisible { total - total / 16 } else { total },
            listeners: listeners.iter().map(|limit| limit.unwrap_or(share).min(total)).collect(),
            per_client,
        }
    }
}

impl Open {
    fn admit(&mut self, listener: usize, guest: Guest) -> Result<(), Full> {
        if guest == Guest::Trusted {
            return Ok(());
        }
        if self.strangers >= self.caps.strangers {
            return Err(Full::Pod);
        }
        if self.listeners[listener] >= self.caps.listeners[listener] {
            return Err(Full::Listener);
        }
        if let Guest::Stranger(ip) = guest
            && !self.clients.add(network(ip), self.caps.per_client)
        {
            return Err(Full::Client);
        }
        self.strangers += 1;
        self.listeners[listener] += 1;
        Ok(())
    }
}

impl Slot {
    /// Whoever took the place says for whom it comes.
    pub(crate) fn pass_on(&mut self, guest: Guest) -> Result<(), Full> {
        let mut open = self.limits.open();
        self.release(&mut open);
        let admitted = open.admit(self.listener, guest);
        // Whoever is not let in has no more of a place than one who just came.
        self.guest = if admitted.is_ok() { guest } else { Guest::Trusted };
        admitted
    }

    /// Gives back all but the place itself.
    fn release(&self, open: &mut Open) {
        if self.guest == Guest::Trusted {
            return;
        }
        open.strangers -= 1;
        open.listeners[self.listener] -= 1;
        if let Guest::Stranger(ip) = self.guest {
            open.clients.remove(network(ip));
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.limits.open();
        open.total -= 1;
        self.release(&mut open);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const TRUSTED: Guest = Guest::Trusted;

    fn guest(text: &str) -> Guest {
        Guest::Stranger(text.parse().unwrap())
    }

    /// One of many.
    fn nth(n: u32) -> Guest {
        Guest::Stranger(IpAddr::V4(std::net::Ipv4Addr::from_bits(0xc633_6400 + n)))
    }

    fn limits(total: u32, per_client: u32) -> Arc<Limits> {
        Limits::new(total, per_client, &[None, None], None)
    }

    fn assert_empty(limits: &Limits) {
        let open = limits.open();
        assert_eq!((open.total, open.strangers, open.clients.len()), (0, 0, 0));
        assert!(open.listeners.iter().all(|count| *count == 0));
    }

    #[test]
    fn each_client_has_its_limit_and_gives_places_back() {
        let limits = limits(10, 2);
        let first = limits.take(0, guest("192.0.2.1")).unwrap();
        let _second = limits.take(1, guest("192.0.2.1")).unwrap();
        assert_eq!(limits.take(0, guest("192.0.2.1")).unwrap_err(), Full::Client);
        let _other = limits.take(0, guest("192.0.2.2")).unwrap();
        let _trusted = limits.take(0, TRUSTED).unwrap();
        drop(first);
        let _again = limits.take(0, guest("192.0.2.1")).unwrap();
    }

    #[test]
    fn the_pod_has_a_limit_for_all_and_forgets_clients_that_left() {
        let limits = limits(2, 2);
        let slots = [limits.take(0, TRUSTED).unwrap(), limits.take(0, guest("192.0.2.2")).unwrap()];
        assert_eq!(limits.take(0, TRUSTED).unwrap_err(), Full::Pod);
        drop(slots);
        assert_empty(&limits);
    }

    #[test]
    fn a_refused_client_takes_no_place() {
        let limits = limits(3, 2);
        let mut slots = vec![limits.take(0, guest("192.0.2.1")).unwrap(), limits.take(0, guest("192.0.2.1")).unwrap()];
        for _ in 0..5 {
            assert_eq!(limits.take(0, guest("192.0.2.1")).unwrap_err(), Full::Client);
        }
        slots.push(limits.take(0, guest("192.0.2.2")).unwrap());
        for _ in 0..5 {
            assert_eq!(limits.take(0, guest("192.0.2.2")).unwrap_err(), Full::Pod);
        }
        slots.truncate(1);
        slots.push(limits.take(0, guest("192.0.2.2")).unwrap());
        slots.push(limits.take(0, guest("192.0.2.2")).unwrap());
        drop(slots);
        assert_empty(&limits);
    }

    #[test]
    fn strangers_on_one_listener_leave_room_on_the_others_and_all_of_them_for_trusted_clients() {
        let limits = limits(160, 50);
        let mut slots: Vec<Slot> = (0..120).map(|n| limits.take(0, nth(n)).unwrap()).collect();
        assert_eq!(limits.take(0, nth(200)).unwrap_err(), Full::Listener);
        slots.extend((120..150).map(|n| limits.take(1, nth(n)).unwrap()));
        assert_eq!(limits.take(1, nth(200)).unwrap_err(), Full::Pod);
        slots.extend((0..10).map(|_| limits.take(0, TRUSTED).unwrap()));
        assert_eq!(limits.take(0, TRUSTED).unwrap_err(), Full::Pod);
        drop(slots);
        assert_empty(&limits);
    }

    #[test]
    fn a_listener_may_have_a_limit_of_its_own_and_a_small_pod_is_not_divided() {
        let limits = Limits::new(100, 50, &[Some(1), None], None);
        let _one = limits.take(0, nth(1)).unwrap();
        assert_eq!(limits.take(0, nth(2)).unwrap_err(), Full::Listener);
        let _trusted = limits.take(0, TRUSTED).unwrap();
        let small = Limits::new(6, 50, &[None, None], None);
        let _all: Vec<Slot> = (0..6).map(|n| small.take(0, nth(n)).unwrap()).collect();
    }

    #[test]
    fn other_limits_hold_for_who_comes_next() {
        let limits = limits(100, 1);
        let first = limits.take(0, guest("192.0.2.1")).unwrap();
        assert_eq!(limits.take(0, guest("192.0.2.1")).unwrap_err(), Full::Client);
        limits.change(2, 2, &[None, Some(1)]);
        let second = limits.take(0, guest("192.0.2.1")).unwrap();
        assert_eq!(limits.take(0, TRUSTED).unwrap_err(), Full::Pod);
        limits.change(100, 1, &[None, Some(0)]);
        assert_eq!(limits.take(0, guest("192.0.2.1")).unwrap_err(), Full::Client);
        assert_eq!(limits.take(1, nth(9)).unwrap_err(), Full::Listener);
        drop((first, second));
        assert_empty(&limits);
    }

    #[test]
    fn a_place_that_a_proxy_took_is_counted_for_its_client() {
        let limits = limits(10, 1);
        let [mut first, mut second, mut third] = [0; 3].map(|listener| limits.take(listener, TRUSTED).unwrap());
        first.pass_on(guest("192.0.2.1")).unwrap();
        assert_eq!(second.pass_on(guest("192.0.2.1")).unwrap_err(), Full::Client);
        third.pass_on(Guest::Nameless).unwrap();
        assert_eq!(limits.open().strangers, 2);
        drop((first, second, third));
        assert_empty(&limits);
    }

    #[test]
    fn an_ipv6_client_is_its_64_bit_network() {
        let limits = limits(10, 1);
        let _first = limits.take(0, guest("2001:db8::1")).unwrap();
        assert_eq!(limits.take(0, guest("2001:db8::2")).unwrap_err(), Full::Client);
        let _other = limits.take(0, guest("2001:db8:0:1::1")).unwrap();
    }
}
