//! Guesses at passwords, limited for each client over all pods: `frontend.auth_failures_per_client`.
//!
//! A token is taken before credentials are looked at and given back if they were right, so that fifty connections at once
//! have no more guesses than one. Many honest logins at once may find no token for a moment: they wait for those that are
//! under way in this pod, and are refused when these were all wrong. Trusted networks are not counted: a webmail
//! stands for many users.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use staffetta_policy::client::network;
use staffetta_queue::{Queue, Rate};
use tokio::sync::oneshot;

use crate::quota::Quota;

/// Longest wait for the outcome of others.
const PATIENCE: Duration = Duration::from_secs(10);

/// The limit. Share it in an `Arc`.
pub(crate) struct Failures {
    quota: Option<Quota>,
    desk: Mutex<Desk>,
}

/// Who has guesses under way in this pod.
#[derive(Default)]
struct Desk {
    clients: HashMap<IpAddr, Client>,
    /// Tokens that were ever given back: who was refused one before sees by it that another try is worth it.
    given_back: u64,
}

#[derive(Default)]
struct Client {
    open: usize,
    /// Those who wait for a token to come back.
    waiting: VecDeque<oneshot::Sender<()>>,
}

/// The right to have credentials looked at, once. Dropped: they were wrong, or nobody knows.
pub(crate) struct Guess {
    failures: Arc<Failures>,
    client: IpAddr,
    settled: bool,
}

/// What to do without a token.
enum Hope {
    None,
    Again,
    Wait(oneshot::Receiver<()>),
}

impl Failures {
    /// Without a rate there is no limit.
    pub(crate) fn new(queue: &Queue, rate: Option<Rate>) -> Arc<Self> {
        let quota = rate.map(|rate| Quota::new(queue, "auth", rate));
        Arc::new(Self { quota, desk: Mutex::default() })
    }

    /// May this client try credentials?
    pub(crate) async fn guess(self: &Arc<Self>, ip: IpAddr) -> Option<Guess> {
        let client = network(ip);
        if let Some(quota) = &self.quota {
            let tried = tokio::time::timeout(PATIENCE, self.obtain(quota, client)).await;
            if !tried.unwrap_or(false) {
                quota.refused();
                return None;
            }
        }
        Some(Guess { failures: Arc::clone(self), client, settled: self.quota.is_none() })
    }

    async fn obtain(&self, quota: &Quota, client: IpAddr) -> bool {
        let name = client.to_string();
        loop {
            let seen = self.desk().given_back;
            if quota.acquire(&name).await {
                self.desk().clients.entry(client).or_default().open += 1;
                return true;
            }
            let hope = self.desk().hope(client, seen);
            let again = match hope {
                Hope::None => false,
                Hope::Again => true,
                Hope::Wait(turn) => turn.await.is_ok(),
            };
            if !again {
                return false;
            }
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desk {
    fn hope(&mut self, client: IpAddr, seen: u64) -> Hope {
        if self.given_back != seen {
            return Hope::Again;
        }
        let Some(client) = self.clients.get_mut(&client) else { return Hope::None };
        let (call, turn) = oneshot::channel();
        client.waiting.push_back(call);
        Hope::Wait(turn)
    }

    /// One guess is over; `good`: its token is back. When the last one was wrong, those who wait are refused.
    fn end(&mut self, client: IpAddr, good: bool) {
        let Entry::Occupied(mut entry) = self.clients.entry(client) else { return };
        let Client { open, waiting } = entry.get_mut();
        *open -= 1;
        if good {
            self.given_back += 1;
            // One token calls one, unless nobody is left to call the others.
            while let Some(call) = waiting.pop_front() {
                if call.send(()).is_ok() && *open > 0 {
                    break;
                }
            }
        }
        if *open == 0 {
            entry.remove();
        }
    }
}

impl Guess {
    /// It does not count: the credentials were right, or were not looked at.
    pub(crate) async fn forgive(mut self) {
        let Some(quota) = &self.failures.quota else { return };
        quota.give_back(&self.client.to_string()).await;
        self.settled = true;
        self.failures.desk().end(self.client, true);
    }
}

impl Drop for Guess {
    fn drop(&mut self) {
        if !self.settled {
            self.failures.desk().end(self.client, false);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn open(desk: &mut Desk, guesses: usize) {
        desk.clients.entry(CLIENT).or_default().open += guesses;
    }

    fn waiting(desk: &mut Desk) -> oneshot::Receiver<()> {
        let seen = desk.given_back;
        match desk.hope(CLIENT, seen) {
            Hope::Wait(turn) => turn,
            Hope::None | Hope::Again => panic!("somebody is under way"),
        }
    }

    #[test]
    fn a_token_that_comes_back_calls_one_of_those_who_wait() {
        let mut desk = Desk::default();
        open(&mut desk, 2);
        let (mut first, mut second) = (waiting(&mut desk), waiting(&mut desk));
        desk.end(CLIENT, true);
        first.try_recv().unwrap();
        assert_eq!(second.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        desk.end(CLIENT, false);
        assert_eq!(second.try_recv(), Err(oneshot::error::TryRecvError::Closed), "all that is left was wrong");
        assert!(desk.clients.is_empty());
    }

    #[test]
    fn who_was_refused_before_a_token_came_back_tries_again() {
        let mut desk = Desk::default();
        open(&mut desk, 1);
        let seen = desk.given_back;
        desk.end(CLIENT, true);
        assert!(matches!(desk.hope(CLIENT, seen), Hope::Again));
        let seen = desk.given_back;
        assert!(matches!(desk.hope(CLIENT, seen), Hope::None), "nobody is under way");
    }
}
