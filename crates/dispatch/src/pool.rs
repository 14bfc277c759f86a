//! Lanes: for each next hop the work that is due and the carriers (connections) that do it, and who may have the next
//! connection of the pod.
//!
//! ```text
//!            first greeting                    greeting: window + 1
//! unproven ─────────────────▶ proven ──────────────────────────────────┐
//!  window 1 ◀──────────────── window 5 … limit ◀───────────────────────┘
//!            refused, and no connection lives     refused while one lives: window = those that live
//! ```
//!
//! **Window.** A next hop that has not greeted gets one connection; then as many as Postfix starts with, and one more
//! with each that could be set up, or when those that it has have carried much. A refusal at set-up never stops a next hop that works: while one of its connections
//! lives, it is the server's limit, and the window shrinks to it.
//!
//! **Turns.** Connections of the pod go to lanes that have none, in the order in which they came to want one. More than
//! one is only for lanes while a reserve is free, and next hops that have not greeted cannot hold all of them. A carrier
//! whose turn is over ends while others [starve](Pool::is_starving).
//!
//! **Patience.** A server that does not greet holds its connection only while nobody else wants it: a set-up that takes
//! seconds is [given up](Pool::give_up) for a lane that has none. That counts against no message. The lane comes up
//! again, among those that were given up before, with twice the time: a server that greets late gets its mail, and many
//! that never do cannot keep out one that was not asked yet.
//!
//! **Groups.** Lanes whose servers are the same share the places there: a carrier [joins](Pool::join) the group before it connects,
//! and a lane that finds all of them taken waits until one is given up.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use crate::group::{Company, Groups};
use crate::ring::{Ring, Work};

/// Carriers of a lane whose server has greeted once (Postfix `initial_destination_concurrency`).
const INITIAL: u32 = 5;
/// Pieces of work for servers that greet at which the pool is full.
const ENOUGH: usize = 1000;
/// Pieces of work at which it is full whoever they are for.
const TOO_MUCH: usize = 10 * ENOUGH;
/// Lanes looked at for the next connection.
const SCAN: usize = 64;
/// A set-up that takes longer is given up if another lane has no connection; doubled with each that was.
const PATIENCE: Duration = Duration::from_secs(2);
/// Messages for each of its connections after which a lane whose window is full may have one more; doubled with each
/// that the server refused.
const WORTH: u32 = 20;
/// Most doublings of that.
const CAUTION: u32 = 6;
/// Most doublings: longer than the time of a greeting (RFC 5321 section 4.5.3.2.1).
const DOUBLINGS: u32 = 8;

/// All lanes of this pod. `K` is what destinations share to share connections, `D` a destination, `L` and `S` what the shell
/// keeps for a lane and for a group.
#[derive(Debug)]
pub struct Pool<K, D, L, S = ()> {
    lanes: HashMap<K, Lane<D, L>>,
    groups: Groups<K, S>,
    /// Lanes that want a connection and have none, longest first.
    without: VecDeque<K>,
    /// The same, of lanes whose last set-up was given up.
    again: VecDeque<K>,
    /// Whose turn it is.
    again_first: bool,
    /// Lanes that want one more.
    more: VecDeque<K>,
    /// Most connections.
    limit: usize,
    /// Connections, also those that are being set up.
    open: usize,
    /// Those of lanes that have not greeted.
    unproven: usize,
    /// And of these, those of lanes whose last set-up was given up.
    slow: usize,
    /// Pieces of work in all lanes, and in those that have greeted.
    waiting: usize,
    waiting_proven: usize,
}

#[derive(Debug)]
struct Lane<D, L> {
    shell: L,
    ready: Ring<D>,
    carriers: u32,
    /// Carriers that have not taken their first work.
    coming: u32,
    /// Carriers that wait for work with an open connection.
    idle: u32,
    /// Connections that greeted and have not ended.
    live: u32,
    /// Most carriers now, and ever.
    window: u32,
    limit: u32,
    /// Messages that its full window has carried, and how careful it has become.
    credit: u32,
    caution: u32,
    /// It has greeted since it was last found dead.
    proven: bool,
    /// Set-ups in a row that were given up; none of a lane that is proven.
    given_up: u32,
    /// Where it stands; a key in another list is stale.
    listed: Listed,
    /// Where it waits for a place, or has been promised one.
    group: Option<Arc<str>>,
    /// A place was given up for it.
    promised: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    Nowhere,
    Without,
    Again,
    More,
    /// It has no place beside others of its group.
    Group,
}

/// What a refused set-up means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The server's limit: give the jobs back, unattempted; others carry them.
    Enough,
    /// Nobody gets through: the next hop rests.
    Dead,
}

impl<D: Clone + Eq + Hash, L> Lane<D, L> {
    fn new(shell: L, limit: u32) -> Self {
        let ready = Ring::default();
        Self {
            shell,
            ready,
            carriers: 0,
            coming: 0,
            idle: 0,
            live: 0,
            window: 1,
            limit: limit.max(1),
            credit: 0,
            caution: 0,
            proven: false,
            given_up: 0,
            listed: Listed::Nowhere,
            group: None,
            promised: false,
        }
    }

    /// The server takes no more than those that live.
    fn narrow(&mut self) {
        (self.window, self.credit, self.caution) = (self.live, 0, (self.caution + 1).min(CAUTION));
    }

    /// How long a set-up may take while others wait.
    fn patience(&self) -> Duration {
        PATIENCE * (1 << self.given_up.min(DOUBLINGS))
    }

    fn wants(&self) -> bool {
        self.ready.len() > self.coming as usize && self.idle == 0 && self.carriers < self.window
    }
}

impl<K: Clone + Eq + Hash, D: Clone + Eq + Hash, L: Clone, S: Company> Pool<K, D, L, S> {
    /// With at most so many connections.
    pub fn new(limit: usize) -> Self {
        Self {
            lanes: HashMap::new(),
            groups: Groups::default(),
            without: VecDeque::new(),
            again: VecDeque::new(),
            again_first: false,
            more: VecDeque::new(),
            limit: limit.max(1),
            open: 0,
            unproven: 0,
            slow: 0,
            waiting: 0,
            waiting_proven: 0,
        }
    }

    /// Gives work to its lane; a `new` one comes with the most connections that it may have. `Some`: wake an idle
    /// carrier of this lane. Ask [`Pool::admit`] next.
    pub fn put(&mut self, key: &K, work: &Work<D>, new: impl FnOnce() -> (L, u32)) -> Option<L> {
        let lane = self.lanes.entry(key.clone()).or_insert_with(|| {
            let (shell, limit) = new();
            Lane::new(shell, limit)
        });
        if lane.ready.add(work) {
            self.waiting += 1;
            self.waiting_proven += usize::from(lane.proven);
        }
        let woken = (lane.idle > 0).then(|| lane.shell.clone());
        let group = lane.group.clone();
        self.enlist(key);
        if let Some(group) = group {
            self.call(&group);
        }
        woken
    }

    /// A carrier that was admitted for this lane takes one of `limit` places in the group of its servers, and
    /// [parts](Self::part) when it ends. `None`: all are taken; the lane waits for one, and the carrier must
    /// [resign](Self::resign).
    pub fn join(&mut self, key: &K, group: &Arc<str>, limit: u32) -> Option<S> {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.limit = limit.max(1);
            lane.window = lane.window.min(lane.limit);
        }
        if let Some(other) = self.keep_promise(key).filter(|kept| kept != group) {
            self.call(&other);
        }
        let joined = self.groups.join(group, limit);
        if joined.is_none() {
            self.wait_in(key, group);
        }
        joined
    }

    /// A carrier that had joined ends: the lane that has waited longest has its place.
    pub fn part(&mut self, group: &Arc<str>) {
        self.groups.part(group);
        self.call(group);
    }

    /// A place that was kept for this lane is free, for its carrier, or for whoever comes if there is none.
    fn keep_promise(&mut self, key: &K) -> Option<Arc<str>> {
        let lane = self.lanes.get_mut(key).filter(|lane| lane.promised)?;
        lane.promised = false;
        let group = lane.group.take()?;
        self.groups.part(&group);
        Some(group)
    }

    fn wait_in(&mut self, key: &K, group: &Arc<str>) {
        self.keep_promise(key);
        let Some(lane) = self.lanes.get_mut(key).filter(|lane| lane.listed != Listed::Group) else { return };
        (lane.listed, lane.group) = (Listed::Group, Some(group.clone()));
        self.groups.wait(group, key.clone());
    }

    /// Places of the group that are free are for the lanes that wait, in their order. Until their carriers come they are kept.
    fn call(&mut self, group: &Arc<str>) {
        while let Some(key) = self.groups.next(group) {
            let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.listed == Listed::Group) else { continue };
            (lane.listed, lane.group) = (Listed::Nowhere, None);
            if lane.wants() {
                (lane.promised, lane.group) = (true, Some(group.clone()));
                self.groups.keep(group);
                self.enlist(&key);
            }
        }
    }

    /// Who gets the next connection, if anybody may. It is counted from now on, until its carrier leaves or resigns.
    pub fn admit(&mut self) -> Option<L> {
        if self.open >= self.limit {
            return None;
        }
        self.admit_first().or_else(|| self.admit_more())
    }

    /// A connection for a lane that has none: in turn to those whose last set-up was given up, and to the others.
    fn admit_first(&mut self) -> Option<L> {
        let places = [Listed::Without, Listed::Again];
        for place in if self.again_first { [places[1], places[0]] } else { places } {
            if let Some(granted) = self.admit_from(place) {
                self.again_first = place == Listed::Without && !self.again.is_empty();
                return Some(granted);
            }
        }
        None
    }

    fn admit_from(&mut self, place: Listed) -> Option<L> {
        for _ in 0..self.list(place).len().min(SCAN) {
            let key = self.list(place).pop_front()?;
            let Some(lane) = self.lanes.get(&key).filter(|lane| lane.listed == place) else { continue };
            let (wants, may) = (lane.wants(), self.has_place(lane, (0, 0)));
            if wants && may {
                return self.grant(&key);
            } else if wants {
                self.list(place).push_back(key);
            } else if let Some(lane) = self.lanes.get_mut(&key) {
                lane.listed = Listed::Nowhere;
            }
        }
        None
    }

    /// Might this lane have a connection if there was one, and so many unproven and slow ones fewer?
    fn has_place(&self, lane: &Lane<D, L>, (unproven, slow): (usize, usize)) -> bool {
        let greets_perhaps = self.unproven - unproven < self.most_unproven();
        lane.proven || (greets_perhaps && (lane.given_up == 0 || self.slow - slow < self.most_slow()))
    }

    /// One more, while the reserve stays.
    fn admit_more(&mut self) -> Option<L> {
        while self.limit - self.open > self.reserve() {
            let key = self.more.pop_front()?;
            let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.listed == Listed::More) else { continue };
            if lane.wants() {
                return self.grant(&key);
            }
            lane.listed = Listed::Nowhere;
        }
        None
    }

    fn grant(&mut self, key: &K) -> Option<L> {
        let lane = self.lanes.get_mut(key)?;
        lane.listed = Listed::Nowhere;
        lane.carriers += 1;
        lane.coming += 1;
        self.open += 1;
        self.unproven += usize::from(!lane.proven);
        self.slow += usize::from(lane.given_up > 0);
        let shell = lane.shell.clone();
        self.enlist(key);
        Some(shell)
    }

    /// The next piece of work of a lane, for how many jobs. A lane with more carriers than its window gives none.
    pub fn take(&mut self, key: &K, quantum: usize) -> Option<(Work<D>, usize)> {
        let lane = self.lanes.get_mut(key).filter(|lane| lane.carriers <= lane.window)?;
        let next = lane.ready.next(quantum)?;
        lane.coming = lane.coming.saturating_sub(1);
        self.waiting -= 1;
        self.waiting_proven -= usize::from(lane.proven);
        Some(next)
    }

    /// A turn of a destination left so many jobs unused.
    pub fn refund(&mut self, key: &K, destination: &D, jobs: usize) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.ready.refund(destination, jobs);
        }
    }

    /// A connection of the lane could be set up.
    pub fn greeted(&mut self, key: &K) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        lane.live += 1;
        lane.caution = if lane.live >= lane.window { lane.caution.saturating_sub(1) } else { lane.caution };
        lane.window = if lane.proven { lane.window + 1 } else { INITIAL }.min(lane.limit);
        if !lane.proven {
            lane.proven = true;
            self.unproven -= lane.carriers as usize;
            self.slow -= if std::mem::take(&mut lane.given_up) > 0 { lane.carriers as usize } else { 0 };
            self.waiting_proven += lane.ready.len();
        }
        self.enlist(key);
    }

    /// The connections of the lane have carried so many messages. A window that was narrowed grows again by that too: the
    /// connections that it left may live for long.
    pub fn served(&mut self, key: &K, messages: u32) {
        let Some(lane) = self.lanes.get_mut(key).filter(|lane| lane.live >= lane.window && lane.window < lane.limit)
        else {
            return;
        };
        lane.credit = lane.credit.saturating_add(messages);
        if lane.credit >= (WORTH * lane.window) << lane.caution {
            (lane.window, lane.credit) = (lane.window + 1, 0);
            self.enlist(key);
        }
    }

    /// A connection that had greeted has ended.
    pub fn hung_up(&mut self, key: &K) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.live = lane.live.saturating_sub(1);
        }
    }

    /// No address of the next hop could be used.
    pub fn refused(&mut self, key: &K) -> Refused {
        let Some(lane) = self.lanes.get_mut(key) else { return Refused::Dead };
        if lane.live > 0 {
            lane.narrow();
            return Refused::Enough;
        }
        self.doubt(key, 0);
        Refused::Dead
    }

    /// Beside the connections of other pods there is no room for one more in this group: the carrier that has joined it for
    /// this lane will [resign](Self::resign) and part. Other carriers of the lane go on, and without one it waits for those of
    /// other lanes. Where nobody here has a place, what waits is given back, for whoever has one.
    pub fn crowded(&mut self, key: &K, group: &Arc<str>) -> Vec<Work<D>> {
        let Some(lane) = self.lanes.get_mut(key) else { return Vec::new() };
        if lane.carriers > 1 {
            (lane.window, lane.credit) = (lane.carriers - 1, 0);
            return Vec::new();
        }
        if self.groups.crowded(group) {
            self.wait_in(key, group);
            return Vec::new();
        }
        self.waiting -= lane.ready.len();
        self.waiting_proven -= if lane.proven { lane.ready.len() } else { 0 };
        lane.ready.drain()
    }

    /// Is this set-up, which has taken so long, to be [given up](Self::give_up) for the sake of a lane without a
    /// connection?
    pub fn must_yield(&self, key: &K, spent: Duration) -> bool {
        let Some(lane) = self.lanes.get(key).filter(|lane| spent >= lane.patience()) else { return false };
        let held = (usize::from(!lane.proven), usize::from(lane.given_up > 0));
        let gains = |other: &&K| {
            *other != key
                && self.waits(other).is_some_and(|other| {
                    self.has_place(other, held) && (self.open >= self.limit || !self.has_place(other, (0, 0)))
                })
        };
        self.without.iter().take(SCAN).any(|other| gains(&other))
            || self.again.iter().take(SCAN).any(|other| gains(&other))
    }

    /// The carrier ends its set-up, which is slow, and will [resign](Self::resign); its jobs go back, unattempted. The lane gets
    /// another connection in its turn, with more patience. While one of its connections lives, that is the server's limit.
    pub fn give_up(&mut self, key: &K, work: impl IntoIterator<Item = Work<D>>) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        for work in work {
            if lane.ready.add(&work) {
                self.waiting += 1;
                self.waiting_proven += usize::from(lane.proven);
            }
        }
        if lane.live > 0 {
            lane.narrow();
        } else {
            // Of several that were set up at the same time the last one counts.
            let given_up = (lane.given_up + u32::from(lane.carriers == 1)).max(1);
            self.doubt(key, given_up);
        }
    }

    /// Nobody greets there at present.
    fn doubt(&mut self, key: &K, given_up: u32) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let carriers = lane.carriers as usize;
        if lane.proven {
            self.unproven += carriers;
            self.waiting_proven -= lane.ready.len();
        }
        self.slow -= if lane.given_up > 0 { carriers } else { 0 };
        self.slow += if given_up > 0 { carriers } else { 0 };
        (lane.window, lane.proven, lane.given_up) = (1, false, given_up);
    }

    /// A carrier begins (`true`) or ends to wait for work.
    pub fn idle(&mut self, key: &K, begins: bool) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.idle = if begins { lane.idle + 1 } else { lane.idle.saturating_sub(1) };
        }
        self.enlist(key);
    }

    /// A carrier has nothing to do. True: it has left and must end; false: there is work again, stay.
    pub fn leave(&mut self, key: &K) -> bool {
        let stays = |lane: &Lane<D, L>| !lane.ready.is_empty() && lane.carriers <= lane.window;
        if self.lanes.get(key).is_some_and(stays) {
            return false;
        }
        self.resign(key);
        true
    }

    /// A carrier ends without asking; the work of its lane stays and waits for another one.
    pub fn resign(&mut self, key: &K) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        lane.carriers = lane.carriers.saturating_sub(1);
        lane.coming = lane.coming.min(lane.carriers);
        self.open = self.open.saturating_sub(1);
        self.unproven -= usize::from(!lane.proven);
        self.slow -= usize::from(lane.given_up > 0);
        if lane.carriers == 0 && lane.ready.is_empty() {
            let kept = self.keep_promise(key);
            self.lanes.remove(key);
            if let Some(group) = kept {
                self.call(&group);
            }
        } else {
            self.enlist(key);
        }
    }

    /// Does a lane without a connection wait for one that somebody else has?
    pub fn is_starving(&self) -> bool {
        let may = |key: &K| self.waits(key).is_some_and(|lane| self.has_place(lane, (0, 0)));
        self.open >= self.limit && (self.without.iter().take(SCAN).any(may) || self.again.iter().take(SCAN).any(may))
    }

    /// A lane that wants a connection and has none.
    fn waits(&self, key: &K) -> Option<&Lane<D, L>> {
        self.lanes.get(key).filter(|lane| lane.carriers == 0 && lane.wants())
    }

    /// Is there more work at hand than carriers can begin soon? Then nobody should look for more. Work for servers that
    /// do not greet says nothing about the others.
    pub const fn is_full(&self) -> bool {
        self.waiting_proven >= ENOUGH || self.waiting >= TOO_MUCH
    }

    /// Connections, also those that are being set up.
    pub const fn open(&self) -> usize {
        self.open
    }

    fn enlist(&mut self, key: &K) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let place = match (lane.carriers, lane.given_up) {
            (0, 0) => Listed::Without,
            (0, _) => Listed::Again,
            _ => Listed::More,
        };
        // One that has lost its last carrier comes before those that want one more.
        if lane.wants() && matches!(lane.listed, Listed::Nowhere | Listed::More) && lane.listed != place {
            lane.listed = place;
            self.list(place).push_back(key.clone());
        }
    }

    fn list(&mut self, place: Listed) -> &mut VecDeque<K> {
        match place {
            Listed::Without => &mut self.without,
            Listed::Again => &mut self.again,
            Listed::More | Listed::Nowhere | Listed::Group => &mut self.more,
        }
    }

    const fn reserve(&self) -> usize {
        self.limit / 10
    }

    const fn most_unproven(&self) -> usize {
        self.limit - self.limit / 4
    }

    const fn most_slow(&self) -> usize {
        self.most_unproven().div_ceil(2)
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
