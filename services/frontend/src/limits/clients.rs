//! How many connections each client has in this pod, and what the others have been told of it.
//!
//! A client's first connection is nobody's business. From the second on the pod has places for it in the cluster's count;
//! they are given up when they have not been needed for a while, so that a client that comes and goes is asked for once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::time::Instant;

use staffetta_queue::{Headcount, Heads};

/// Connections of a client of which the other pods hear nothing.
const UNTOLD: u32 = 1;

/// All clients.
#[derive(Debug, Default)]
pub(super) struct Clients {
    all: HashMap<IpAddr, Client>,
    version: u64,
}

#[derive(Debug, Default)]
struct Client {
    count: u32,
    /// The most there were lately.
    peak: u32,
    /// The places that this pod has in the cluster's count, as it was told last.
    told: u32,
    told_at: Option<Instant>,
    /// Of what was said last, if it has arrived or not.
    version: u64,
    /// The cluster had no place a moment ago.
    refused: bool,
}

/// Whether another connection fits into what the cluster has granted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Granted,
    Refused,
    /// To be asked.
    Wanted(Heads),
}

impl Clients {
    /// One connection more, if there are not as many as allowed.
    pub(super) fn add(&mut self, ip: IpAddr, limit: u32) -> bool {
        let client = self.all.entry(ip).or_default();
        if client.count >= limit {
            return false;
        }
        client.count += 1;
        client.peak = client.peak.max(client.count);
        true
    }

    pub(super) fn remove(&mut self, ip: IpAddr) {
        if let Entry::Occupied(mut entry) = self.all.entry(ip) {
            let client = entry.get_mut();
            client.count -= 1;
            if client.is_over() {
                entry.remove();
            }
        }
    }

    /// May the connection that was added last stay?
    pub(super) fn standing(&mut self, ip: IpAddr) -> Standing {
        let Some(client) = self.all.get_mut(&ip) else { return Standing::Granted };
        if client.count <= UNTOLD.max(client.told) {
            return Standing::Granted;
        }
        if client.refused {
            return Standing::Refused;
        }
        self.version += 1;
        client.version = self.version;
        Standing::Wanted(Heads { client: ip.to_string(), count: client.count, version: client.version })
    }

    /// The cluster has granted so many of the places that were wanted: is there one for who asked?
    pub(super) fn granted(&mut self, ip: IpAddr, wanted: &Heads, granted: u32, now: Instant) -> bool {
        let Some(client) = self.all.get_mut(&ip) else { return true };
        if client.version == wanted.version {
            (client.told, client.told_at) = (granted, Some(now));
        }
        client.refused |= granted < wanted.count;
        granted >= wanted.count || client.count <= granted.max(UNTOLD)
    }

    /// What the others are to be told: places that are not needed, and what would be forgotten.
    pub(super) fn news(&mut self, now: Instant) -> Vec<(IpAddr, Heads)> {
        let mut news = Vec::new();
        for (ip, client) in &mut self.all {
            client.refused = false;
            let needed = if client.peak > UNTOLD { client.peak } else { 0 };
            client.peak = client.count;
            let stale = client.told_at.is_some_and(|at| now >= at + Headcount::RENEWAL);
            if client.told != 0 && (needed < client.told || stale) {
                self.version += 1;
                client.version = self.version;
                news.push((*ip, Heads { client: ip.to_string(), count: needed, version: client.version }));
            }
        }
        news
    }

    /// They have heard it.
    pub(super) fn heard(&mut self, news: Vec<(IpAddr, Heads)>, now: Instant) {
        for (ip, heads) in news {
            let Entry::Occupied(mut entry) = self.all.entry(ip) else { continue };
            let client = entry.get_mut();
            if client.version == heads.version {
                (client.told, client.told_at) = (heads.count, Some(now));
            }
            if client.is_over() {
                entry.remove();
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}

impl Client {
    fn is_over(&self) -> bool {
        self.count == 0 && self.told == 0
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn add(clients: &mut Clients, count: u32) {
        for _ in 0..count {
            assert!(clients.add(IP, 100));
        }
    }

    fn wanted(clients: &mut Clients) -> Heads {
        match clients.standing(IP) {
            Standing::Wanted(heads) => heads,
            other => panic!("{other:?}"),
        }
    }

    fn news(clients: &mut Clients, now: Instant) -> Vec<u32> {
        let news = clients.news(now);
        let counts = news.iter().map(|(_, heads)| heads.count).collect();
        clients.heard(news, now);
        counts
    }

    #[test]
    fn one_connection_at_a_time_is_never_asked_for() {
        let (mut clients, now) = (Clients::default(), Instant::now());
        for _ in 0..3 {
            add(&mut clients, 1);
            assert_eq!(clients.standing(IP), Standing::Granted);
            assert_eq!(news(&mut clients, now), Vec::<u32>::new());
            clients.remove(IP);
        }
        assert_eq!(clients.len(), 0);
    }

    #[test]
    fn a_client_that_comes_and_goes_is_asked_for_once_and_forgotten_when_it_stays_away() {
        let (mut clients, now) = (Clients::default(), Instant::now());
        add(&mut clients, 3);
        let heads = wanted(&mut clients);
        assert_eq!(heads.count, 3);
        assert!(clients.granted(IP, &heads, 3, now));
        for _ in 0..5 {
            clients.remove(IP);
            add(&mut clients, 1);
            assert_eq!(clients.standing(IP), Standing::Granted);
            assert_eq!(news(&mut clients, now), Vec::<u32>::new());
        }
        assert_eq!(news(&mut clients, now + Headcount::RENEWAL), [3], "or it would be forgotten");
        for _ in 0..3 {
            clients.remove(IP);
        }
        assert_eq!(news(&mut clients, now + Headcount::RENEWAL), Vec::<u32>::new(), "it may come again at once");
        assert_eq!(news(&mut clients, now + Headcount::RENEWAL), [0]);
        assert_eq!(clients.len(), 0);
    }

    #[test]
    fn of_two_who_want_the_last_place_one_gets_it() {
        let (mut clients, now) = (Clients::default(), Instant::now());
        add(&mut clients, 3);
        let first = wanted(&mut clients);
        let second = wanted(&mut clients);
        assert!(!clients.granted(IP, &first, 2, now), "three want two places");
        clients.remove(IP);
        assert!(clients.granted(IP, &second, 2, now));
        add(&mut clients, 1);
        assert_eq!(clients.standing(IP), Standing::Refused, "nobody is asked again at once");
        clients.news(now);
        wanted(&mut clients);
    }

    #[test]
    fn what_was_said_before_a_later_wish_is_not_taken_for_its_answer() {
        let (mut clients, now) = (Clients::default(), Instant::now());
        add(&mut clients, 3);
        let heads = wanted(&mut clients);
        assert!(clients.granted(IP, &heads, 3, now));
        clients.remove(IP);
        clients.news(now);
        let news = clients.news(now);
        assert_eq!(news[0].1.count, 2);
        add(&mut clients, 2);
        let more = wanted(&mut clients);
        assert!(clients.granted(IP, &more, 4, now + Duration::from_millis(1)));
        clients.heard(news, now);
        assert_eq!(clients.all[&IP].told, 4);
    }
}
