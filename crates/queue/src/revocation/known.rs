//! What a pod knows, in memory. No I/O: the follower tells it, the service asks it.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use ipnet::IpNet;
use staffetta_mail::Address;

use super::block::{Block, Curb, Curbs, Suspension};
use super::target::{Target, login_key, recipient_key};
use crate::UnixMillis;
use crate::clock::Clock;

/// Revoked logins that are remembered by name. Beyond it all logins count as revoked, and the list begins anew.
const REVOKED: usize = 50_000;
/// Logins of which mail is to be held. Beyond it the list begins anew: what was under way waits again, as if nothing was said.
const HELD: usize = 10_000;

/// Where in the journal somebody is: an id of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    millis: u64,
    number: u64,
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (millis, number) = text.split_once('-').ok_or(())?;
        Ok(Self { millis: millis.parse().map_err(|_| ())?, number: number.parse().map_err(|_| ())? })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.number)
    }
}

/// One thing that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Ask again about this login, by its key.
    Revoked(String),
    /// Somebody is blocked.
    Blocked(Target, Block),
    /// He no longer is.
    Unblocked(Target),
    /// What is under way of this login, by its key, is to be held.
    Held(String),
    /// Only a newer program knows.
    Unknown,
}

/// The memory. See the module.
pub(super) struct Known {
    state: RwLock<State>,
    /// That of the state, for those who only want to see whether it has changed.
    version: AtomicU64,
    /// Is any domain blocked?
    has_domains: AtomicBool,
    /// Is any recipient suppressed?
    has_recipients: AtomicBool,
    /// Is any destination suspended?
    has_destinations: AtomicBool,
    /// Has any destination asked for less?
    has_curbs: AtomicBool,
    /// Is there a host that gets commands one by one?
    has_unpipelined: AtomicBool,
    clock: Clock,
}

#[derive(Default)]
struct State {
    version: u64,
    place: Option<Position>,
    /// By key: at which version.
    revoked: HashMap<Box<str>, u64>,
    /// All logins were revoked at this version.
    floor: u64,
    /// By key: mail that was claimed up to then is to be held.
    held: HashMap<Box<str>, UnixMillis>,
    blocks: Blocks,
}

/// The blocks that hold, and some that are over.
#[derive(Default)]
pub(super) struct Blocks {
    logins: Listed<Box<str>>,
    domains: Listed<Box<str>>,
    recipients: Listed<Box<str>>,
    destinations: Listed<Box<str>>,
    slow: Listed<Box<str>>,
    fewer: Listed<Box<str>>,
    /// By servers and rule.
    bounces: Listed<(Box<str>, Box<str>)>,
    unpipelined: Listed<IpAddr>,
    sources: Listed<IpAddr>,
    clients: Listed<IpNet>,
    /// How many networks of clients have a prefix of this length, by whether they are IPv4.
    lengths: BTreeMap<(bool, u8), usize>,
    /// When the next of them is over.
    next_end: Option<UnixMillis>,
}

/// Those of a kind, by name.
struct Listed<K> {
    all: HashMap<K, Block>,
    /// How many of them programs have said.
    by_programs: usize,
}

impl Known {
    /// Knows nothing. `wall`: what time it is, until Redis says it.
    pub(super) fn new(wall: UnixMillis) -> Self {
        Self {
            state: RwLock::default(),
            version: AtomicU64::new(0),
            has_domains: AtomicBool::new(false),
            has_recipients: AtomicBool::new(false),
            has_destinations: AtomicBool::new(false),
            has_curbs: AtomicBool::new(false),
            has_unpipelined: AtomicBool::new(false),
            clock: Clock::new(wall),
        }
    }

    /// Begins, or begins anew: whatever was believed before must be asked again.
    pub(super) fn begin(&self, place: Position, blocks: Blocks) {
        let mut state = self.write();
        state.version += 1;
        state.floor = state.version;
        state.revoked.clear();
        state.held.clear();
        state.blocks = blocks;
        state.place = Some(place);
        self.publish(&state);
    }

    /// One thing more has happened.
    pub(super) fn apply(&self, place: Position, change: Change) {
        let mut state = self.write();
        state.version += 1;
        state.place = Some(place);
        let version = state.version;
        match change {
            Change::Revoked(login) => {
                if state.revoked.len() >= REVOKED && !state.revoked.contains_key(login.as_str()) {
                    state.floor = version;
                    state.revoked.clear();
                } else {
                    state.revoked.insert(login.into(), version);
                }
            }
            Change::Blocked(target, block) => state.blocks.put(target, block),
            Change::Unblocked(target) => {
                if let Target::Login(login) = &target {
                    state.held.remove(login.as_str());
                }
                state.blocks.remove(&target);
            }
            Change::Held(login) => {
                if state.held.len() >= HELD {
                    state.held.clear();
                }
                state.held.insert(login.into(), place.millis);
            }
            Change::Unknown => {}
        }
        self.publish(&state);
    }

    /// What Redis says that the time is. Blocks that are over are forgotten.
    pub(super) fn tick(&self, now: UnixMillis) {
        self.clock.adjust(now);
        if self.read().blocks.next_end.is_some_and(|end| end <= now) {
            let mut state = self.write();
            state.blocks.forget_over(now);
            self.publish(&state);
        }
    }

    fn publish(&self, state: &State) {
        self.has_domains.store(!state.blocks.domains.is_empty(), Ordering::Release);
        self.has_recipients.store(!state.blocks.recipients.is_empty(), Ordering::Release);
        self.has_destinations.store(!state.blocks.destinations.is_empty(), Ordering::Release);
        self.has_curbs.store(!state.blocks.slow.is_empty() || !state.blocks.fewer.is_empty(), Ordering::Release);
        self.has_unpipelined.store(!state.blocks.unpipelined.is_empty(), Ordering::Release);
        self.version.store(state.version, Ordering::Release);
    }

    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(super) fn place(&self) -> Option<Position> {
        self.read().place
    }

    pub(super) fn is_revoked(&self, login: &str, since: u64) -> bool {
        if since == self.version() {
            return false;
        }
        let state = self.read();
        since < state.floor
            || (!state.revoked.is_empty()
                && state.revoked.get(login_key(login).as_str()).is_some_and(|version| *version > since))
    }

    pub(super) fn is_login_blocked(&self, login: &str) -> bool {
        let blocks = &self.read().blocks;
        !blocks.logins.is_empty() && self.holds(blocks.logins.get(login_key(login).as_str()))
    }

    pub(super) fn is_held(&self, login: &str, claimed: UnixMillis) -> bool {
        let held = &self.read().held;
        !held.is_empty() && held.get(login_key(login).as_str()).is_some_and(|until| claimed <= *until)
    }

    pub(super) fn is_domain_blocked(&self, domain: &str) -> bool {
        self.has_blocked_domains() && self.holds(self.read().blocks.domains.get(domain))
    }

    pub(super) fn has_blocked_domains(&self) -> bool {
        self.has_domains.load(Ordering::Acquire)
    }

    pub(super) fn is_suppressed(&self, recipient: &Address) -> bool {
        if !self.has_recipients.load(Ordering::Acquire) {
            return false;
        }
        let Some(key) = recipient_key(recipient) else { return false };
        let recipients = &self.read().blocks.recipients;
        let domain = key.rfind('@').map_or("", |at| &key[at..]);
        self.holds(recipients.get(&*key)) || self.holds(recipients.get(domain))
    }

    pub(super) fn is_source_suspended(&self, source: IpAddr) -> bool {
        self.holds(self.read().blocks.sources.get(&source.to_canonical()))
    }

    pub(super) fn has_suspensions(&self) -> bool {
        self.has_destinations.load(Ordering::Acquire)
    }

    /// The suspension that ends last, of those under one of these names, and how long it holds yet.
    pub(super) fn suspension<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Option<Suspension> {
        let (state, now) = (self.read(), self.clock.now());
        let all = names.into_iter().filter_map(|name| state.blocks.destinations.get(name));
        let last = all.filter(|block| block.holds(now)).max_by_key(|block| block.until.unwrap_or(UnixMillis::MAX))?;
        let left = last.until.map(|until| Duration::from_millis(until.saturating_sub(now)));
        Some(Suspension { left, reason: last.reason.clone() })
    }

    /// What servers have asked for that go by this name.
    pub(super) fn curbs(&self, name: &str) -> Curbs {
        if !self.has_curbs.load(Ordering::Acquire) {
            return Curbs::default();
        }
        let blocks = &self.read().blocks;
        let of = |blocks: &Listed<Box<str>>| blocks.get(name).filter(|block| self.holds(Some(block)))?.curb;
        Curbs {
            rate: match of(&blocks.slow) {
                Some(Curb::Rate(rate)) => Some(rate),
                _ => None,
            },
            connections: match of(&blocks.fewer) {
                Some(Curb::Connections(count)) => Some(count),
                _ => None,
            },
        }
    }

    /// Are the replies final that a rule is for, at servers that go by this name?
    pub(super) fn is_final(&self, servers: &str, rule: &str) -> bool {
        let blocks = &self.read().blocks;
        !blocks.bounces.is_empty() && self.holds(blocks.bounces.get(&(servers.into(), rule.into())))
    }

    pub(super) fn is_unpipelined(&self, host: IpAddr) -> bool {
        self.has_unpipelined.load(Ordering::Acquire)
            && self.holds(self.read().blocks.unpipelined.get(&host.to_canonical()))
    }

    pub(super) fn is_client_blocked(&self, client: IpAddr) -> bool {
        let blocks = &self.read().blocks;
        let client = client.to_canonical();
        let lengths = blocks.lengths.keys().filter(|(v4, _)| *v4 == client.is_ipv4());
        let mut networks = lengths.filter_map(|&(_, length)| IpNet::new(client, length).ok());
        networks.any(|network| self.holds(blocks.clients.get(&network.trunc())))
    }

    /// How many blocks of each kind there are: of operators, of programs.
    pub(super) fn counts(&self) -> [(&'static str, [usize; 2]); 10] {
        let blocks = &self.read().blocks;
        let Blocks { logins, clients, domains, recipients, destinations, slow, fewer, bounces, .. } = blocks;
        let Blocks { unpipelined, sources, .. } = blocks;
        [
            ("login", logins.counts()),
            ("client", clients.counts()),
            ("domain", domains.counts()),
            ("recipient", recipients.counts()),
            ("destination", destinations.counts()),
            ("slow", slow.counts()),
            ("fewer", fewer.counts()),
            ("bounce", bounces.counts()),
            ("unpipelined", unpipelined.counts()),
            ("source", sources.counts()),
        ]
    }

    fn holds(&self, block: Option<&Block>) -> bool {
        block.is_some_and(|block| block.holds(self.clock.now()))
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Blocks {
    pub(super) fn put(&mut self, target: Target, block: Block) {
        self.next_end = [self.next_end, block.until].into_iter().flatten().min();
        match target {
            Target::Login(login) => drop(self.logins.insert(login.into(), block)),
            Target::Domain(domain) => drop(self.domains.insert(domain.into(), block)),
            Target::Recipient(recipient) => drop(self.recipients.insert(recipient.into(), block)),
            Target::Destination(name) => drop(self.destinations.insert(name.into(), block)),
            Target::Slow(name) => drop(self.slow.insert(name.into(), block)),
            Target::Fewer(name) => drop(self.fewer.insert(name.into(), block)),
            Target::Bounce { servers, rule } => drop(self.bounces.insert((servers.into(), rule.into()), block)),
            Target::Unpipelined(address) => drop(self.unpipelined.insert(address, block)),
            Target::Source(address) => drop(self.sources.insert(address, block)),
            Target::Client(network) => {
                if self.clients.insert(network, block).is_none() {
                    *self.lengths.entry(length(&network)).or_default() += 1;
                }
            }
        }
    }

    fn remove(&mut self, target: &Target) {
        match target {
            Target::Login(login) => drop(self.logins.remove(login.as_str())),
            Target::Domain(domain) => drop(self.domains.remove(domain.as_str())),
            Target::Recipient(recipient) => drop(self.recipients.remove(recipient.as_str())),
            Target::Destination(name) => drop(self.destinations.remove(name.as_str())),
            Target::Slow(name) => drop(self.slow.remove(name.as_str())),
            Target::Fewer(name) => drop(self.fewer.remove(name.as_str())),
            Target::Bounce { servers, rule } => {
                drop(self.bounces.remove(&(servers.as_str().into(), rule.as_str().into())));
            }
            Target::Unpipelined(address) => drop(self.unpipelined.remove(address)),
            Target::Source(address) => drop(self.sources.remove(address)),
            Target::Client(network) => {
                if self.clients.remove(network).is_some() {
                    self.count_lengths();
                }
            }
        }
    }

    fn forget_over(&mut self, now: UnixMillis) {
        let ends = [
            self.logins.forget_over(now),
            self.domains.forget_over(now),
            self.recipients.forget_over(now),
            self.destinations.forget_over(now),
            self.slow.forget_over(now),
            self.fewer.forget_over(now),
            self.bounces.forget_over(now),
            self.unpipelined.forget_over(now),
            self.sources.forget_over(now),
            self.clients.forget_over(now),
        ];
        self.next_end = ends.into_iter().flatten().min();
        self.count_lengths();
    }

    fn count_lengths(&mut self) {
        self.lengths.clear();
        for network in self.clients.keys() {
            *self.lengths.entry(length(network)).or_default() += 1;
        }
    }
}

impl<K: Eq + Hash> Listed<K> {
    /// What was said before.
    fn insert(&mut self, name: K, block: Block) -> Option<Block> {
        self.by_programs += usize::from(block.by_program);
        let before = self.all.insert(name, block);
        self.by_programs -= usize::from(before.as_ref().is_some_and(|block| block.by_program));
        before
    }

    fn remove<Q: Eq + Hash + ?Sized>(&mut self, name: &Q) -> Option<Block>
    where
        K: Borrow<Q>,
    {
        let block = self.all.remove(name)?;
        self.by_programs -= usize::from(block.by_program);
        Some(block)
    }

    /// When the next of those that are left is over.
    fn forget_over(&mut self, now: UnixMillis) -> Option<UnixMillis> {
        self.all.retain(|_, block| block.holds(now));
        self.by_programs = self.all.values().filter(|block| block.by_program).count();
        self.all.values().filter_map(|block| block.until).min()
    }

    fn counts(&self) -> [usize; 2] {
        [self.all.len() - self.by_programs, self.by_programs]
    }
}

impl<K> Default for Listed<K> {
    fn default() -> Self {
        Self { all: HashMap::new(), by_programs: 0 }
    }
}

impl<K> Deref for Listed<K> {
    type Target = HashMap<K, Block>;

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

fn length(network: &IpNet) -> (bool, u8) {
    (matches!(network, IpNet::V4(_)), network.prefix_len())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use staffetta_config::Rate;

    use super::*;

    fn begun() -> Known {
        let known = Known::new(1_000);
        known.tick(1_000);
        known.begin(Position::default(), Blocks::default());
        known
    }

    fn at(number: u64) -> Position {
        Position { millis: 1, number }
    }

    fn block(target: Target, until: u64) -> Change {
        Change::Blocked(
            target,
            Block {
                since: 0,
                until: (until > 0).then_some(until),
                curb: None,
                by_program: false,
                reason: String::new(),
            },
        )
    }

    #[test]
    fn servers_get_as_little_as_they_have_asked_for_until_that_is_over() {
        let known = begun();
        let minute = Rate { count: 10, per: Duration::from_secs(60) };
        let curb = |curb: Curb, until| {
            let block =
                Block { since: 1_000, until: Some(until), curb: Some(curb), by_program: true, reason: String::new() };
            known.apply(Position::default(), Change::Blocked(Target::curbed("mx.a.test", curb).unwrap(), block));
        };
        assert_eq!(known.curbs("mx.a.test"), Curbs::default());
        curb(Curb::Connections(2), 9_000);
        curb(Curb::Rate(minute), 5_000);
        assert_eq!(known.curbs("mx.a.test"), Curbs { rate: Some(minute), connections: Some(2) });
        assert_eq!(known.curbs("mx.b.test"), Curbs::default());
        assert!(!known.has_suspensions(), "it gets mail");
        known.tick(5_000);
        assert_eq!(known.curbs("mx.a.test"), Curbs { rate: None, connections: Some(2) });
        for target in Target::destination("mx.a.test").unwrap().with_others() {
            known.apply(Position::default(), Change::Unblocked(target));
        }
        assert_eq!(known.curbs("mx.a.test"), Curbs::default());
    }

    #[test]
    fn a_host_is_spoken_to_in_lock_step_until_that_is_over_or_ended() {
        let known = begun();
        let [host, other]: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        known.apply(at(1), block(Target::Unpipelined(host), 5_000));
        known.apply(at(2), block(Target::Unpipelined(other), 9_000));
        assert!(known.is_unpipelined(host) && known.is_unpipelined(mapped) && known.is_unpipelined(other));
        known.tick(5_000);
        assert!(!known.is_unpipelined(host) && known.is_unpipelined(other));
        for target in Target::destination("2001:db8::1").unwrap().with_others() {
            known.apply(at(3), Change::Unblocked(target));
        }
        assert!(!known.is_unpipelined(other));
    }

    #[test]
    fn those_of_programs_are_counted_apart_from_those_of_operators() {
        let known = begun();
        let destination = |name: &str| Target::destination(name).unwrap();
        let say = |name: &str, by_program, until| {
            let block = Block { since: 0, until, curb: None, by_program, reason: String::new() };
            known.apply(at(1), Change::Blocked(destination(name), block));
        };
        let counts = || known.counts().into_iter().find(|(kind, _)| *kind == "destination").unwrap().1;
        say("a.test", true, Some(5_000));
        say("b.test", true, Some(9_000));
        say("c.test", false, None);
        assert_eq!(counts(), [1, 2]);
        say("b.test", false, Some(9_000));
        assert_eq!(counts(), [2, 1], "an operator's word is in its place");
        say("c.test", true, Some(9_000));
        known.apply(at(2), Change::Unblocked(destination("c.test")));
        known.apply(at(3), Change::Unblocked(destination("c.test")));
        assert_eq!(counts(), [1, 1]);
        known.tick(5_000);
        assert_eq!(counts(), [1, 0]);
    }

    #[test]
    fn a_destination_is_suspended_under_any_of_its_names_for_as_long_as_was_said() {
        let known = begun();
        // The clock goes on while this runs.
        let rounded = |left: Duration| Duration::from_secs_f64(left.as_secs_f64().ceil());
        let says = |names: &[&str]| {
            known.suspension(names.iter().copied()).map(|found| (found.left.map(rounded), found.reason))
        };
        let suspend = |name: &str, until, reason: &str| {
            let block = Block { since: 1_000, until, curb: None, by_program: false, reason: reason.to_owned() };
            known.apply(Position::default(), Change::Blocked(Target::destination(name).unwrap(), block));
        };
        assert!(!known.has_suspensions());
        suspend("*.Big.test", Some(5_000), "busy");
        suspend("a.test", Some(9_000), "asked to wait");
        assert!(known.has_suspensions());
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(says(&["mx.big.test", "*.big.test"]), Some((seconds(4), "busy".to_owned())));
        assert_eq!(says(&["*.big.test", "a.test"]), Some((seconds(8), "asked to wait".to_owned())), "the longer one");
        assert_eq!(says(&["big.test"]), None);
        known.tick(5_000);
        assert_eq!(says(&["*.big.test"]), None);
        suspend("a.test", None, "until I say so");
        assert_eq!(says(&["a.test"]), Some((None, "until I say so".to_owned())));
        known.apply(Position::default(), Change::Unblocked(Target::destination("a.test").unwrap()));
        assert!(!known.has_suspensions() && says(&["a.test"]).is_none());
    }

    #[test]
    fn replies_are_final_where_and_by_which_rule_it_was_said_until_that_is_over() {
        let known = begun();
        let target = |rule| Target::bounce("MX.a.test", rule).unwrap();
        known.apply(at(1), block(target("1f3a9c2e"), 9_000));
        known.apply(at(2), block(target("00c0ffee"), 0));
        assert!(known.is_final("mx.a.test", "1f3a9c2e") && known.is_final("mx.a.test", "00c0ffee"));
        assert!(!known.is_final("mx.a.test", "deadbeef") && !known.is_final("mx.b.test", "1f3a9c2e"));
        assert!(known.curbs("mx.a.test") == Curbs::default() && !known.has_suspensions());
        known.tick(9_000);
        assert!(!known.is_final("mx.a.test", "1f3a9c2e") && known.is_final("mx.a.test", "00c0ffee"));
        known.apply(at(3), Change::Unblocked(target("00c0ffee")));
        assert!(!known.is_final("mx.a.test", "00c0ffee"));
    }

    #[test]
    fn a_recipient_is_suppressed_by_its_address_or_its_domain_for_as_long_as_was_said() {
        let known = begun();
        let is = |text: &str| known.is_suppressed(&Address::parse(text).unwrap());
        assert!(!is("john@example.com"));
        known.apply(at(1), block(Target::recipient("John@Example.com").unwrap(), 2_000));
        known.apply(at(2), block(Target::recipient("gone.example").unwrap(), 0));
        assert!(is("john@example.COM") && is("JOHN@example.com") && is("any@gone.example"));
        assert!(!is("lisa@example.com") && !is("any@not.gone.example"));
        known.tick(2_000);
        assert!(!is("john@example.com") && is("any@gone.example"));
        known.apply(at(3), Change::Unblocked(Target::recipient("@gone.example").unwrap()));
        assert!(!is("any@gone.example") && !known.has_recipients.load(Ordering::Acquire));
    }

    #[test]
    fn what_was_believed_before_is_revoked_and_what_is_found_out_later_is_not() {
        let known = begun();
        let before = known.version();
        known.apply(at(1), Change::Revoked("john@example.org".into()));
        let after = known.version();
        assert_eq!(known.place(), Some(at(1)));
        for login in ["john@example.org", "JOHN@Example.org"] {
            assert!(known.is_revoked(login, before), "{login}");
            assert!(!known.is_revoked(login, after), "{login}");
        }
        assert!(!known.is_revoked("lisa@example.org", before));
        known.apply(at(2), Change::Revoked("lisa@example.org".into()));
        assert!(!known.is_revoked("john@example.org", after), "somebody else's");
    }

    #[test]
    fn to_begin_anew_revokes_all() {
        let known = begun();
        let before = known.version();
        known.begin(at(7), Blocks::default());
        assert!(known.is_revoked("john", before) && !known.is_revoked("john", known.version()));
    }

    #[test]
    fn a_flood_of_revocations_takes_bounded_memory_and_loses_none() {
        let known = begun();
        let before = known.version();
        known.apply(at(1), Change::Revoked("john".into()));
        for number in 0..REVOKED as u64 {
            known.apply(at(number + 2), Change::Revoked(format!("login{number}")));
        }
        assert!(known.read().revoked.len() <= REVOKED);
        assert!(known.is_revoked("john", before), "his place was needed, and all count as revoked");
        assert!(known.is_revoked(&format!("login{}", REVOKED - 1), before));
    }

    #[test]
    fn blocks_hold_until_they_end_or_are_taken_back() {
        let known = begun();
        let john = Target::login("john").unwrap();
        known.apply(at(1), block(john.clone(), 100_000));
        known.apply(at(2), block(Target::domain("Example.com").unwrap(), 0));
        assert!(known.is_login_blocked("JOHN") && !known.is_login_blocked("lisa"));
        assert!(known.has_blocked_domains() && known.is_domain_blocked("example.com"));
        assert!(!known.is_domain_blocked("a.example.com"));
        known.tick(100_000);
        assert!(!known.is_login_blocked("john") && known.read().blocks.logins.is_empty());
        known.apply(at(3), block(john.clone(), 0));
        assert!(known.is_login_blocked("john"));
        known.apply(at(4), Change::Unblocked(john));
        known.apply(at(5), Change::Unblocked(Target::domain("example.com").unwrap()));
        assert!(!known.is_login_blocked("john") && !known.has_blocked_domains());
    }

    #[test]
    fn mail_is_held_that_was_claimed_before_it_was_said_and_until_the_login_is_unblocked() {
        let known = begun();
        let said = |millis| Position { millis, number: 0 };
        known.apply(said(5_000), Change::Held("john".into()));
        assert!(known.is_held("JOHN", 5_000) && !known.is_held("john", 5_001) && !known.is_held("lisa", 1));
        known.apply(said(6_000), Change::Held("john".into()));
        assert!(known.is_held("john", 6_000));
        known.apply(said(6_001), Change::Unblocked(Target::login("john").unwrap()));
        assert!(!known.is_held("john", 1));
        for number in 0..2 * HELD as u64 {
            known.apply(said(7_000), Change::Held(number.to_string()));
        }
        assert!(known.read().held.len() <= HELD && known.is_held(&(2 * HELD - 1).to_string(), 1));
    }

    #[test]
    fn a_client_is_blocked_by_any_network_that_it_is_in() {
        let known = begun();
        for (number, network) in ["192.0.2.0/24", "198.51.100.7", "2001:db8:5::/48"].into_iter().enumerate() {
            known.apply(at(number as u64), block(Target::client(network).unwrap(), 0));
        }
        for (client, blocked) in [
            ("192.0.2.9", true),
            ("::ffff:192.0.2.9", true),
            ("192.0.3.1", false),
            ("198.51.100.7", true),
            ("198.51.100.8", false),
            ("2001:db8:5:1::1", true),
            ("2001:db8:6::1", false),
            ("::", false),
        ] {
            assert_eq!(known.is_client_blocked(client.parse().unwrap()), blocked, "{client}");
        }
        known.apply(at(9), Change::Unblocked(Target::client("192.0.2.0/24").unwrap()));
        assert!(!known.is_client_blocked("192.0.2.9".parse().unwrap()));
        assert!(known.is_client_blocked("198.51.100.7".parse().unwrap()));
    }

    #[test]
    fn places_are_in_the_order_of_the_journal() {
        let place = |text: &str| text.parse::<Position>().unwrap();
        assert!(place("9-0") < place("10-0") && place("10-9") < place("10-10"));
        assert_eq!(place("1795903000123-4").to_string(), "1795903000123-4");
        for nonsense in ["", "5", "a-1", "1-", "-1"] {
            assert!(nonsense.parse::<Position>().is_err(), "{nonsense:?}");
        }
    }
}
