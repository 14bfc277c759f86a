//! From where logins were used lately, as this pod has seen it. Redis knows it for all pods; this decides while it is away.

use std::collections::HashMap;
use std::time::Instant;

use staffetta_queue::Usage;

/// Usages that a pod keeps at most; beyond it the half goes that was seen longest ago.
const ROOM: usize = 16 * 1024;

/// The memory.
#[derive(Default)]
pub(super) struct Known {
    seen: HashMap<Usage, Instant>,
}

impl Known {
    pub(super) fn note(&mut self, usage: &Usage, now: Instant) {
        if !usage.has_network() {
            return;
        }
        if self.seen.len() >= ROOM && !self.seen.contains_key(usage) {
            let mut times: Vec<Instant> = self.seen.values().copied().collect();
            let (_, median, _) = times.select_nth_unstable(ROOM / 2);
            let median = *median;
            self.seen.retain(|_, seen| *seen > median);
        }
        self.seen.insert(usage.clone(), now);
    }

    pub(super) fn holds(&self, usage: &Usage) -> bool {
        self.seen.contains_key(usage)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use super::*;

    #[test]
    fn those_who_were_seen_last_are_kept_and_a_network_of_nobody_is_not() {
        let usage = |n: usize| Usage::new(&n.to_string(), Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 0))));
        let (mut known, start) = (Known::default(), Instant::now());
        for n in 0..3 * ROOM {
            known.note(&usage(n), start + Duration::from_secs(n as u64));
        }
        assert!(known.seen.len() <= ROOM);
        assert!(known.holds(&usage(3 * ROOM - 1)) && !known.holds(&usage(0)));
        known.note(&Usage::new("john", None), start);
        assert!(!known.holds(&Usage::new("john", None)));
    }
}
