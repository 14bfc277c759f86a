//! Who has guesses under way in this pod, so that honest logins at the same time wait for each other's tokens.

use std::collections::VecDeque;
use std::collections::hash_map::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// By the names of buckets. Share it in an `Arc`.
#[derive(Default)]
pub(super) struct Desk {
    parties: Mutex<HashMap<Box<str>, Party>>,
}

/// Those who share a bucket.
#[derive(Default)]
struct Party {
    /// All of them; with the last one it goes.
    present: usize,
    /// Those who have asked for a token and do not know yet whether they have it.
    asking: usize,
    /// Those who have a token and no outcome yet.
    open: usize,
    /// How often a token came back: who was refused one before sees by it that another try is worth it.
    given_back: u64,
    /// Those who wait for a token to come back.
    waiting: VecDeque<oneshot::Sender<()>>,
}

/// Somebody's place at the desk. Dropped with a token: the guess was wrong, or nobody knows.
pub(super) struct Stay {
    desk: Arc<Desk>,
    name: Box<str>,
    /// What had come back when he asked last.
    seen: u64,
    asking: bool,
    open: bool,
}

/// What to do without a token.
enum Hope {
    None,
    Again,
    Wait(oneshot::Receiver<()>),
}

impl Desk {
    /// Comes to those who share the bucket of this name.
    pub(super) fn enter(self: &Arc<Self>, name: &str) -> Stay {
        let mut parties = self.parties();
        let party = parties.entry(name.into()).or_default();
        party.present += 1;
        Stay { desk: Arc::clone(self), name: name.into(), seen: party.given_back, asking: false, open: false }
    }

    /// How many of those who share it may have a token and do not know yet.
    pub(super) fn asking(&self, name: &str) -> usize {
        self.parties().get(name).map_or(0, |party| party.asking)
    }

    fn parties(&self) -> MutexGuard<'_, HashMap<Box<str>, Party>> {
        self.parties.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Party {
    fn hope(&mut self, seen: u64) -> Hope {
        if self.given_back != seen {
            return Hope::Again;
        }
        if self.is_idle() {
            return Hope::None;
        }
        let (call, turn) = oneshot::channel();
        self.waiting.push_back(call);
        Hope::Wait(turn)
    }

    /// One guess is over; `good`: its token is back. When the last one was wrong, those who wait are refused.
    fn end(&mut self, good: bool) {
        self.open -= 1;
        if good {
            self.given_back += 1;
            // One token calls one, unless nobody is left to call the others.
            while let Some(call) = self.waiting.pop_front() {
                if call.send(()).is_ok() && self.open > 0 {
                    break;
                }
            }
        }
        self.dismiss();
    }

    /// Nobody has a token, nor may have one by now.
    fn is_idle(&self) -> bool {
        self.open == 0 && self.asking == 0
    }

    /// When nobody is left whose token could come back, those who wait are refused.
    fn dismiss(&mut self) {
        if self.is_idle() {
            self.waiting.clear();
        }
    }
}

impl Stay {
    /// The name of the bucket.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Has it a token and no outcome yet?
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// A token is asked for.
    pub(super) fn ask(&mut self) {
        self.asking = true;
        self.seen = self.party(|party| {
            party.asking += 1;
            party.given_back
        });
    }

    /// This is the answer.
    pub(super) fn told(&mut self, granted: bool) {
        let asked = std::mem::take(&mut self.asking);
        self.open = granted;
        self.party(|party| {
            party.asking -= usize::from(asked);
            party.open += usize::from(granted);
            party.dismiss();
        });
    }

    /// The token is back.
    pub(super) fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            self.party(|party| party.end(true));
        }
    }

    /// There was no token: is another try worth it? Waits for those who are under way.
    pub(super) async fn hope(&self) -> bool {
        match self.party(|party| party.hope(self.seen)) {
            Hope::None => false,
            Hope::Again => true,
            Hope::Wait(turn) => turn.await.is_ok(),
        }
    }

    fn party<T>(&self, act: impl FnOnce(&mut Party) -> T) -> T {
        act(self.desk.parties().entry(self.name.clone()).or_default())
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut parties = self.desk.parties();
        let Some(party) = parties.get_mut(&self.name) else { return };
        party.asking -= usize::from(self.asking);
        if self.open {
            party.end(false);
        }
        party.dismiss();
        party.present -= 1;
        if party.present == 0 {
            parties.remove(&self.name);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn opened(desk: &Arc<Desk>) -> Stay {
        let mut stay = desk.enter("a");
        stay.ask();
        stay.told(true);
        stay
    }

    fn wait(stay: &Stay) -> oneshot::Receiver<()> {
        match stay.party(|party| party.hope(stay.seen)) {
            Hope::Wait(turn) => turn,
            Hope::None | Hope::Again => panic!("somebody is under way"),
        }
    }

    #[test]
    fn a_token_that_comes_back_calls_one_of_those_who_wait() {
        let desk = Arc::new(Desk::default());
        let (mut good, wrong) = (opened(&desk), opened(&desk));
        let waiting = [desk.enter("a"), desk.enter("a")];
        let [mut first, mut second] = [wait(&waiting[0]), wait(&waiting[1])];
        good.close();
        first.try_recv().unwrap();
        assert_eq!(second.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        drop(wrong);
        assert_eq!(second.try_recv(), Err(oneshot::error::TryRecvError::Closed), "all that is left was wrong");
        drop((good, waiting));
        assert!(desk.parties().is_empty());
    }

    #[test]
    fn who_was_refused_before_a_token_came_back_tries_again() {
        let desk = Arc::new(Desk::default());
        let mut other = opened(&desk);
        let mut refused = desk.enter("a");
        refused.ask();
        refused.told(false);
        let mut elsewhere = desk.enter("b");
        elsewhere.ask();
        elsewhere.told(true);
        elsewhere.close();
        assert!(matches!(refused.party(|party| party.hope(refused.seen)), Hope::Wait(_)), "what is others' is not his");
        other.close();
        assert!(matches!(refused.party(|party| party.hope(refused.seen)), Hope::Again));
        refused.ask();
        refused.told(false);
        assert!(matches!(refused.party(|party| party.hope(refused.seen)), Hope::None), "nobody is under way");
    }

    #[test]
    fn an_answer_that_is_on_its_way_may_be_a_token() {
        let asked = || {
            let desk = Arc::new(Desk::default());
            let [mut refused, mut other] = [desk.enter("a"), desk.enter("a")];
            other.ask();
            refused.ask();
            refused.told(false);
            let turn = wait(&refused);
            (other, refused, turn)
        };
        let (mut other, _refused, mut turn) = asked();
        other.told(true);
        assert_eq!(turn.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        other.close();
        turn.try_recv().unwrap();

        let (mut other, _refused, mut turn) = asked();
        other.told(false);
        assert_eq!(turn.try_recv(), Err(oneshot::error::TryRecvError::Closed), "nobody has one");

        let (other, _refused, mut turn) = asked();
        drop(other);
        assert_eq!(turn.try_recv(), Err(oneshot::error::TryRecvError::Closed), "whoever asked is gone");
    }
}
