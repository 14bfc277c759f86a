//! Next hops that share places: all domains behind one set of mail hosts, all routes to one server.
//!
//! A carrier joins the group of its lane before it connects. Where all places are taken its lane waits; each place that is
//! given up wakes one lane, the one that has waited longest.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// What the shell keeps for a group; its carriers share it.
pub trait Company: Clone + Default {
    /// So many lanes wait for a place, about: some of them may no longer.
    fn awaited(&self, lanes: usize);
}

impl Company for () {
    fn awaited(&self, _: usize) {}
}

/// All groups of this pod that have a carrier, or a lane that waits.
#[derive(Debug)]
pub(crate) struct Groups<K, S>(HashMap<Arc<str>, Group<K, S>>);

#[derive(Debug)]
struct Group<K, S> {
    shell: S,
    /// With those for whom a place is kept.
    carriers: u32,
    /// Most of them; fewer than there could be, after other pods had the rest.
    limit: u32,
    /// Lanes without a place. Some no longer wait.
    waiting: VecDeque<K>,
}

impl<K, S> Default for Groups<K, S> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K, S: Company> Groups<K, S> {
    /// One carrier more, of so many at most; `None`: there are that many.
    pub(crate) fn join(&mut self, name: &Arc<str>, limit: u32) -> Option<S> {
        let new = || Group { shell: S::default(), carriers: 0, limit, waiting: VecDeque::new() };
        let group = self.0.entry(name.clone()).or_insert_with(new);
        group.limit = limit.max(1);
        if group.carriers >= group.limit {
            return None;
        }
        group.carriers += 1;
        Some(group.shell.clone())
    }

    /// A lane waits for a place.
    pub(crate) fn wait(&mut self, name: &Arc<str>, lane: K) {
        if let Some(group) = self.0.get_mut(name) {
            group.waiting.push_back(lane);
            group.shell.awaited(group.waiting.len());
        }
    }

    /// A carrier that has joined finds that other pods have all places but those of the others here. False: it is alone.
    pub(crate) fn crowded(&mut self, name: &Arc<str>) -> bool {
        let Some(group) = self.0.get_mut(name).filter(|group| group.carriers > 1) else { return false };
        group.limit = group.carriers - 1;
        true
    }

    /// A place is kept for a carrier that is to come.
    pub(crate) fn keep(&mut self, name: &Arc<str>) {
        if let Some(group) = self.0.get_mut(name) {
            group.carriers += 1;
        }
    }

    /// A carrier that had joined ends, or a place is kept no longer.
    pub(crate) fn part(&mut self, name: &Arc<str>) {
        let Some(group) = self.0.get_mut(name) else { return };
        group.carriers = group.carriers.saturating_sub(1);
    }

    /// The lane that has waited longest, while there is a place for it.
    pub(crate) fn next(&mut self, name: &Arc<str>) -> Option<K> {
        let group = self.0.get_mut(name).filter(|group| group.carriers < group.limit)?;
        let next = group.waiting.pop_front();
        group.shell.awaited(group.waiting.len());
        if next.is_none() {
            self.tidy(name);
        }
        next
    }

    fn tidy(&mut self, name: &Arc<str>) {
        if self.0.get(name).is_some_and(|group| group.carriers == 0 && group.waiting.is_empty()) {
            self.0.remove(name);
        }
    }
}
