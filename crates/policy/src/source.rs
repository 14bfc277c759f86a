//! Which of our addresses a connection comes from.

use std::net::IpAddr;
use std::sync::Arc;

/// One address of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// Where from.
    pub address: IpAddr,
    /// What we call ourselves there; `None`: as everywhere.
    pub hostname: Option<Arc<str>>,
    /// Its share of the connections, beside those of the others of its family.
    pub weight: u32,
    /// It is new.
    pub warm_up: Option<WarmUp>,
}

/// How the use of a new address grows: a provider that has never heard of it believes a little more each day.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WarmUp {
    /// Its first day, in days since 1970 (UTC).
    pub begins: u32,
    /// Messages of its first day, of its second day, and so on. Afterwards there is no limit.
    pub days: Arc<[u32]>,
}

/// The day in which a time lies, from ms to days since 1970 (UTC).
pub fn day_of(millis: u64) -> u32 {
    u32::try_from(millis / 86_400_000).unwrap_or(u32::MAX)
}

impl WarmUp {
    /// How many messages it may send on a day; `None`: any number.
    pub fn allowed_on(&self, day: u32) -> Option<u32> {
        match day.checked_sub(self.begins) {
            None => Some(0),
            Some(passed) => self.days.get(passed as usize).copied(),
        }
    }
}

/// Addresses that stand for each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pool {
    /// Its name; empty where it has none.
    pub name: Arc<str>,
    /// Its addresses.
    pub sources: Vec<Source>,
}

impl FromIterator<IpAddr> for Pool {
    /// One without a name, of addresses that are all alike.
    fn from_iter<T: IntoIterator<Item = IpAddr>>(addresses: T) -> Self {
        let source = |address| Source { address, hostname: None, weight: 1, warm_up: None };
        Self { name: "".into(), sources: addresses.into_iter().map(source).collect() }
    }
}

impl Pool {
    /// One of those of the family of `peer` that may be used, by their weights; `None`: there is none.
    pub fn choose(&self, peer: IpAddr, random: u64, may: impl Fn(IpAddr) -> bool) -> Option<&Source> {
        let family = peer.to_canonical().is_ipv4();
        let fitting = || self.sources.iter().filter(|source| source.address.is_ipv4() == family && may(source.address));
        let all: u64 = fitting().map(|source| u64::from(source.weight)).sum();
        let mut at = random.checked_rem(all)?;
        fitting().find(|source| {
            let weight = u64::from(source.weight);
            let is_it = at < weight;
            at = at.saturating_sub(weight);
            is_it
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn pool(sources: &[(&str, u32)]) -> Pool {
        let source = |(address, weight): &(&str, u32)| Source {
            address: address.parse().unwrap(),
            hostname: None,
            weight: *weight,
            warm_up: None,
        };
        Pool { name: "p".into(), sources: sources.iter().map(source).collect() }
    }

    #[test]
    fn each_address_has_its_share_of_the_connections_of_its_family() {
        let pool = pool(&[("192.0.2.1", 3), ("2001:db8::1", 1), ("192.0.2.2", 1)]);
        let peer = "203.0.113.1".parse().unwrap();
        let chosen = |random| pool.choose(peer, random, |_| true).unwrap().address.to_string();
        let times = |address: &str| (0..400).filter(|&random| chosen(random) == address).count();
        assert_eq!((times("192.0.2.1"), times("192.0.2.2")), (300, 100));
        let mapped = "::ffff:203.0.113.1".parse().unwrap();
        assert!(pool.choose(mapped, 0, |_| true).unwrap().address.is_ipv4());
        let v6 = "2001:db8:1::1".parse().unwrap();
        assert_eq!(pool.choose(v6, 7, |_| true).unwrap().address.to_string(), "2001:db8::1");
    }

    #[test]
    fn a_new_address_may_do_more_each_day_and_nothing_before_the_first() {
        let warm_up = WarmUp { begins: 20_000, days: [50, 100].into() };
        let allowed = [19_999, 20_000, 20_001, 20_002, u32::MAX].map(|day| warm_up.allowed_on(day));
        assert_eq!(allowed, [Some(0), Some(50), Some(100), None, None]);
    }

    #[test]
    fn the_source_is_of_the_family_of_the_peer() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let sources = ["192.0.2.1", "2001:db8::1", "192.0.2.2"].map(ip);
        let source = |sources: &[IpAddr], peer: &str, random| {
            let pool: Pool = sources.iter().copied().collect();
            pool.choose(ip(peer), random, |_| true).map(|source| source.address)
        };
        for (peer, random, expected) in [
            ("198.51.100.1", 0, Some("192.0.2.1")),
            ("198.51.100.1", 7, Some("192.0.2.2")),
            ("::ffff:198.51.100.1", 1, Some("192.0.2.2")),
            ("2001:db8::9", 5, Some("2001:db8::1")),
        ] {
            assert_eq!(source(&sources, peer, random), expected.map(ip), "{peer} {random}");
        }
        assert_eq!(source(&sources[..1], "2001:db8::9", 1), None);
        assert_eq!(source(&[], "192.0.2.9", 1), None);
    }

    #[test]
    fn an_address_that_must_not_be_used_leaves_its_share_to_the_others() {
        let pool = pool(&[("192.0.2.1", 3), ("192.0.2.2", 1)]);
        let peer = "203.0.113.1".parse().unwrap();
        let but = |not: &str| {
            let not: IpAddr = not.parse().unwrap();
            (0..8)
                .filter_map(|random| pool.choose(peer, random, |address| address != not))
                .map(|s| s.address)
                .collect::<Vec<_>>()
        };
        assert!(but("192.0.2.1").iter().all(|address| address.to_string() == "192.0.2.2"));
        assert_eq!(but("192.0.2.9").len(), 8);
        assert!(pool.choose(peer, 0, |_| false).is_none());
        assert!(pool.choose("2001:db8::2".parse().unwrap(), 0, |_| true).is_none(), "no other family stands in");
    }
}
