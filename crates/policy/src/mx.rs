//! Which hosts take the mail of a domain, in which order, at which addresses, and from which of ours (RFC 5321
//! section 5).
//!
//! The shell looks names up and hands the answers in; chance comes in as numbers. [`mail_domain`] says what MX records
//! mean, [`order`] puts hosts in line and finds mail loops, [`Search`] collects the addresses that an attempt may try,
//! [`source`] picks our end.
//!
//! Answers carry what DNSSEC says of them ([`Proof`]): DANE needs a secure chain from the domain to the host. An answer
//! that is bogus is none; the shell reports it as a look-up that failed.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::classify::{Action, Endpoint, Failure, Peer, classify};
use crate::tls::Sts;

/// Most addresses that one attempt tries (Postfix `smtp_mx_address_limit`).
const ADDRESSES: usize = 5;
/// Places among them that each address family keeps, if it has so many: one family that leads nowhere never hides the
/// other.
const PLACES: usize = ADDRESSES / 2;
/// Most hosts that are looked up for one attempt, when some of them have addresses.
const HOSTS: usize = 10;
/// Most hosts when none has: names that lead nowhere do not hide the one that takes the mail.
const EMPTY_HOSTS: usize = 100;

/// What DNSSEC says of an answer (RFC 4035 section 4.3), the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proof {
    /// Nobody vouches for it: not signed, or not checked.
    Insecure,
    /// Signed from a trust anchor down.
    Secure,
}

impl Proof {
    /// A chain is as good as its weakest link.
    pub fn and(self, other: Self) -> Self {
        self.min(other)
    }
}

/// An answer of the DNS, and what it is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// What it says; "there is none" is an answer too.
    pub data: T,
    /// Of the answer, aliases on the way included.
    pub proof: Proof,
}

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
pub enum Order {
    /// In this order.
    Hosts(Vec<MxHost>),
    /// Every usable host is this one: the mail would come back (RFC 5321 section 5.1).
    Loop,
}

/// What MX records mean. `None`: no record is usable, as if there were none.
///
/// RFC 7505 section 3: the null MX stands alone. A "." beside real hosts is a mistake and is skipped.
pub fn mail_domain(records: impl Iterator<Item = MxHost>) -> Option<MailDomain> {
    let mut hosts: Vec<MxHost> = records.collect();
    let any = !hosts.is_empty();
    hosts.retain(|host| !host.name.is_empty());
    if hosts.is_empty() {
        return any.then_some(MailDomain::NullMx);
    }
    hosts.sort_by_key(|host| host.preference);
    Some(MailDomain::Hosts(hosts))
}

/// Puts mail hosts into the order of attempts: by preference, equal ones by chance (RFC 5321 section 5.1); `random` is
/// asked once for each host.
///
/// If `own` (this host's name) is among them, only hosts of strictly better preference remain, so mail for a domain
/// whose backup we are moves towards its primary and never in circles.
pub fn order(hosts: &[MxHost], own: &str, mut random: impl FnMut() -> u64) -> Order {
    let ours = hosts.iter().filter(|host| host.name.eq_ignore_ascii_case(own)).map(|host| host.preference).min();
    let usable = hosts.iter().filter(|host| ours.is_none_or(|limit| host.preference < limit));
    let mut drawn: Vec<_> = usable.map(|host| (host.preference, random(), host)).collect();
    drawn.sort_by_key(|&(preference, lot, _)| (preference, lot));
    if drawn.is_empty() {
        return Order::Loop;
    }
    Order::Hosts(drawn.into_iter().map(|(_, _, host)| host.clone()).collect())
}

/// One of each family in turn, IPv6 first.
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

/// Must this address never be dialled on the word of the DNS? An IPv4 address inside of IPv6 is what it stands for.
pub fn is_blocked(blocked: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_unspecified() || blocked.iter().any(|network| network.contains(&ip))
}

/// A server to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name, for TLS and the log.
    pub host: Arc<str>,
    /// Where it is; an IPv4 address is never inside of IPv6.
    pub endpoint: Endpoint,
    /// Of what named the host: the way from the recipient's domain to it.
    pub proof: Proof,
    /// What the policy of the domain whose mail host it is says of it.
    pub sts: Sts,
    /// Which of the ways of a route led there, from 0.
    pub way: usize,
}

impl Candidate {
    /// For the classification of failures.
    pub fn peer(&self) -> Peer {
        Peer { host: self.host.to_string(), endpoint: self.endpoint.clone() }
    }
}

/// Collects the addresses of hosts that are looked up one after the other.
#[derive(Debug)]
pub struct Search<'a> {
    port: u16,
    /// Never dialled.
    blocked: &'a [IpNet],
    /// Of what led to the hosts.
    proof: Proof,
    hosts: usize,
    /// What the domain's policy says of the next host.
    sts: Sts,
    /// What was there before the hosts of this preference.
    group: Group,
    /// A host was this one.
    looped: bool,
    found: Vec<Candidate>,
    /// Addresses to which this machine has no route: only worth a try, and a clear error, if there are no others.
    unreachable: Vec<Candidate>,
    trouble: Option<Failure>,
}

/// Where the addresses of one preference begin.
#[derive(Debug, Default)]
struct Group {
    preference: u16,
    found: usize,
    unreachable: usize,
}

impl<'a> Search<'a> {
    /// For hosts that an answer with this proof has named.
    pub fn new(port: u16, blocked: &'a [IpNet], proof: Proof) -> Self {
        Self {
            port,
            blocked,
            proof,
            sts: Sts::Off,
            hosts: 0,
            group: Group::default(),
            looped: false,
            found: Vec::new(),
            unreachable: Vec::new(),
            trouble: None,
        }
    }

    /// Would the addresses of another host change what is tried?
    pub fn wants_more(&self) -> bool {
        let v4 = self.found.iter().filter(|candidate| is_v4(candidate)).count();
        let v6 = self.found.len() - v4;
        let waits = matches!(self.trouble, Some(Failure::Dns { .. }));
        let hosts = if self.found.is_empty() && !waits { EMPTY_HOSTS } else { HOSTS };
        !self.looped && self.hosts < hosts && (self.found.len() < ADDRESSES || v4.min(v6) < PLACES)
    }

    /// The hosts that follow have this preference. Left out where there are no preferences.
    pub fn prefer(&mut self, preference: u16) {
        if preference != self.group.preference {
            let (found, unreachable) = (self.found.len(), self.unreachable.len());
            self.group = Group { preference, found, unreachable };
        }
    }

    /// The policy of the domain says this of the hosts that follow. Left out where there is none.
    pub fn published(&mut self, sts: Sts) {
        self.sts = sts;
    }

    /// The next host is not to be used, and need not be looked up.
    pub fn skip(&mut self, why: Failure) {
        // A look-up that may still succeed outweighs it, a host that does not exist does not.
        if !matches!(self.trouble, Some(Failure::Dns { .. })) {
            self.trouble = Some(why);
        }
    }

    /// The next host turned out to be this one, by its addresses: it, its equals and what is worse would only send the mail
    /// back (RFC 5321 section 5.1).
    pub fn comes_back(&mut self) {
        self.looped = true;
        self.found.truncate(self.group.found);
        self.unreachable.truncate(self.group.unreachable);
        if !matches!(self.trouble, Some(Failure::Dns { .. })) {
            self.trouble = Some(Failure::Loop);
        }
    }

    /// The look-up of one host came to this. A look-up that failed does not hide the next host.
    pub fn add(
        &mut self,
        host: &Arc<str>,
        result: Result<Answer<Vec<IpAddr>>, Failure>,
        has_route: impl Fn(IpAddr) -> bool,
    ) {
        self.hosts += 1;
        let answer = match result {
            Ok(answer) => answer,
            // A look-up that may still succeed outweighs what is certain about another host.
            Err(failure) => return self.trouble = Some(failure),
        };
        if self.hosts == EMPTY_HOSTS && self.found.is_empty() {
            // Nobody has looked at the others: that is not a reason to give the mail up.
            self.trouble = Some(Failure::Dns { detail: format!("none of {EMPTY_HOSTS} mail hosts has an address") });
        }
        let (blocked, usable): (Vec<IpAddr>, _) = answer.data.into_iter().partition(|&ip| is_blocked(self.blocked, ip));
        let certain = if blocked.is_empty() { not_found(host, "A") } else { Failure::Blocked };
        self.trouble.get_or_insert(certain);
        for ip in usable {
            let ip = ip.to_canonical();
            let candidate = Candidate {
                host: host.clone(),
                endpoint: Endpoint::Tcp(SocketAddr::new(ip, self.port)),
                proof: self.proof,
                sts: self.sts,
                way: 0,
            };
            if has_route(ip) { self.found.push(candidate) } else { self.unreachable.push(candidate) }
        }
    }

    /// What may be tried, in this order; never empty. Else why not.
    pub fn finish(mut self) -> Result<Vec<Candidate>, Failure> {
        if self.found.is_empty() {
            self.found = self.unreachable;
        }
        if self.found.is_empty() {
            return Err(self.trouble.unwrap_or_else(|| Failure::Local { reason: "no host to look up".to_owned() }));
        }
        Ok(first_few(self.found))
    }
}

/// The first [`ADDRESSES`]; those of a family that comes late keep their [`PLACES`].
fn first_few(found: Vec<Candidate>) -> Vec<Candidate> {
    let all = |v4: bool| found.iter().filter(|candidate| is_v4(candidate) == v4).count();
    let most = [true, false].map(|v4| ADDRESSES - all(!v4).min(PLACES));
    let mut taken = [0, 0];
    let mut take = |candidate: &Candidate| {
        let family = usize::from(!is_v4(candidate));
        taken[family] += 1;
        taken[family] <= most[family]
    };
    found.into_iter().filter(|candidate| take(candidate)).take(ADDRESSES).collect()
}

fn is_v4(candidate: &Candidate) -> bool {
    candidate.endpoint.ip().is_some_and(|ip| ip.is_ipv4())
}

/// What several ways to a next hop come to, in their order. Where none leads anywhere: why; a reason that may be gone later
/// outweighs one that is final.
pub fn one_after_the_other(
    ways: impl IntoIterator<Item = Result<Vec<Candidate>, Failure>>,
) -> Result<Vec<Candidate>, Failure> {
    let (mut found, mut trouble) = (Vec::new(), None);
    let is_final = |failure: &Failure| classify(failure, "").finally() == Action::Bounce;
    for (way, candidates) in ways.into_iter().enumerate() {
        match candidates {
            Ok(candidates) => found.extend(candidates.into_iter().map(|candidate| Candidate { way, ..candidate })),
            Err(failure) if trouble.as_ref().is_none_or(|known| is_final(known) && !is_final(&failure)) => {
                trouble = Some(failure);
            }
            Err(_) => {}
        }
    }
    match trouble {
        Some(failure) if found.is_empty() => Err(failure),
        _ => Ok(found),
    }
}

/// DNS knows no such name, or nothing of this kind about it.
pub fn not_found(name: &str, kind: &str) -> Failure {
    Failure::NotFound { detail: format!("for name={name} type={kind}: Host not found") }
}

#[cfg(test)]
mod tests;
