//! Hosts that could not do lately what they offer, and are spoken to without it for a while: TLS at the level `may`, chunks.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a host is remembered.
const MEMORY: Duration = Duration::from_secs(3600);
/// Most hosts remembered; beyond it the oldest half is forgotten.
const CAPACITY: usize = 10_000;

/// The memory of one pod, of hosts by what the failure depends on.
pub struct Fallback<K = IpAddr>(Mutex<HashMap<K, Instant>>);

/// With whom TLS failed, by name and address: another name may be served well there.
pub type BrokenTls = Fallback<(Arc<str>, IpAddr)>;

impl<K> Default for Fallback<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Fallback<K> {
    /// It failed with this host at `now`.
    pub fn remember(&self, host: K, now: Instant) {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= CAPACITY {
            let mut times: Vec<_> = hosts.values().copied().collect();
            times.sort_unstable();
            let middle = times[times.len() / 2];
            hosts.retain(|_, since| *since > middle);
        }
        hosts.insert(host, now);
    }

    /// Should it be left out?
    pub fn applies(&self, host: &K, now: Instant) -> bool {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match hosts.get(host) {
            Some(since) if now.saturating_duration_since(*since) < MEMORY => true,
            Some(_) => {
                hosts.remove(host);
                false
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_remembered_for_an_hour() {
        let (fallback, now) = (Fallback::default(), Instant::now());
        let host = IpAddr::from([192, 0, 2, 1]);
        assert!(!fallback.applies(&host, now));
        fallback.remember(host, now);
        assert!(fallback.applies(&host, now + MEMORY / 2));
        assert!(!fallback.applies(&host, now + MEMORY));
    }

    #[test]
    fn the_memory_is_bounded() {
        let (fallback, now) = (Fallback::default(), Instant::now());
        for i in 0..=CAPACITY as u32 {
            fallback.remember(IpAddr::from(i.to_be_bytes()), now + Duration::from_millis(u64::from(i)));
        }
        let hosts = fallback.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(hosts.len() <= CAPACITY);
    }
}
