//! What MX records mean: null MX, order of preference, mail loops. Pure; randomness comes in as an argument.

use std::net::IpAddr;

use rand::seq::SliceRandom;

/// What DNS says about the mail of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailDomain {
    /// The hosts, best preference first; never empty.
    Hosts(Vec<MxHost>),
    /// RFC 7505: the domain takes no mail.
    NullMx,
    /// No such domain, or neither MX nor address.
    NotFound,
}

/// One mail exchanger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MxHost {
    /// Lower is better.
    pub preference: u16,
    /// In lower case, without the trailing dot.
    pub name: String,
}

/// The hosts that a delivery may try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// In this order.
    Hosts(Vec<String>),
    /// Every usable host is this one: the mail would come back (RFC 5321 section 5.1).
    Loop,
}

/// `None`: no record is usable, as if there were none.
///
/// RFC 7505 section 3: the null MX stands alone. A "." beside real hosts is a mistake and is skipped.
pub(super) fn from_records(records: impl Iterator<Item = MxHost>) -> Option<MailDomain> {
    let mut hosts: Vec<MxHost> = records.collect();
    let any = !hosts.is_empty();
    hosts.retain(|host| !host.name.is_empty());
    if hosts.is_empty() {
        return any.then_some(MailDomain::NullMx);
    }
    hosts.sort_by_key(|host| host.preference);
    Some(MailDomain::Hosts(hosts))
}

/// Puts mail hosts into the order of attempts: by preference, equal ones shuffled (RFC 5321 section 5.1).
///
/// If `own` (this host's name) is among them, only hosts of strictly better preference remain, so mail for a domain
/// whose backup we are moves towards its primary and never in circles.
pub fn route(hosts: &[MxHost], own: &str, rng: &mut impl rand::Rng) -> Route {
    let ours = hosts.iter().filter(|host| host.name.eq_ignore_ascii_case(own)).map(|host| host.preference).min();
    let mut usable: Vec<&MxHost> =
        hosts.iter().filter(|host| ours.is_none_or(|limit| host.preference < limit)).collect();
    if usable.is_empty() {
        return Route::Loop;
    }
    usable.shuffle(rng);
    usable.sort_by_key(|host| host.preference);
    Route::Hosts(usable.into_iter().map(|host| host.name.clone()).collect())
}

/// One of each family in turn, IPv6 first, so that a limit on addresses never hides a family.
pub fn interleave(v6: Vec<IpAddr>, v4: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut mixed = Vec::with_capacity(v6.len() + v4.len());
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    loop {
        match (v6.next(), v4.next()) {
            (None, None) => return mixed,
            (a, b) => mixed.extend(a.into_iter().chain(b)),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn mx(preference: u16, name: &str) -> MxHost {
        MxHost { preference, name: name.to_owned() }
    }

    #[test]
    fn rfc7505_a_single_dot_takes_no_mail() {
        assert_eq!(from_records([mx(0, "")].into_iter()), Some(MailDomain::NullMx));
        assert_eq!(from_records(std::iter::empty()), None);
        let mixed = from_records([mx(0, ""), mx(20, "b"), mx(10, "a")].into_iter());
        assert_eq!(mixed, Some(MailDomain::Hosts(vec![mx(10, "a"), mx(20, "b")])));
    }

    #[test]
    fn rfc5321_5_1_preference_orders_and_chance_breaks_ties() {
        let hosts = [mx(20, "c"), mx(10, "a"), mx(10, "b")];
        let mut first = std::collections::BTreeSet::new();
        for seed in 0..32 {
            let Route::Hosts(order) = route(&hosts, "me", &mut SmallRng::seed_from_u64(seed)) else { unreachable!() };
            assert_eq!(order.last().unwrap(), "c");
            first.insert(order[0].clone());
        }
        assert_eq!(first.len(), 2, "both equal hosts come first at times");
    }

    #[test]
    fn rfc5321_5_1_a_backup_sends_only_towards_better_hosts() {
        let rng = &mut SmallRng::seed_from_u64(1);
        let hosts = [mx(10, "primary"), mx(20, "me"), mx(20, "peer"), mx(30, "worse")];
        assert_eq!(route(&hosts, "Me", rng), Route::Hosts(vec!["primary".to_owned()]));
        assert_eq!(route(&[mx(10, "me"), mx(20, "other")], "me", rng), Route::Loop);
    }

    #[test]
    fn families_take_turns() {
        let v6: Vec<IpAddr> = vec!["::1".parse().unwrap(), "::2".parse().unwrap(), "::3".parse().unwrap()];
        let v4: Vec<IpAddr> = vec!["192.0.2.1".parse().unwrap()];
        let mixed = interleave(v6.clone(), v4.clone());
        assert_eq!(mixed, [v6[0], v4[0], v6[1], v6[2]]);
    }
}
