//! How many logins of one client are verified at a time.
//!
//! A verification costs the auth service a core for a while. A client that opens all its connections and sends
//! credentials on each waits for itself, and not everybody else for it. A trusted network is a client like others here: it
//! is slowed down, never refused.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use staffetta_policy::client::network;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Verifications at a time for one client.
const PER_CLIENT: usize = 8;
/// Clients after which those who are gone are looked for.
const SWEEP: usize = 1_024;

/// Whose turn it is. Holds the clients that verify or wait, and some that did a moment ago.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<String, Arc<Semaphore>>>);

impl Turns {
    /// Waits for a turn of this client; `None` cannot happen, as no semaphore is closed.
    pub(super) async fn take(&self, client: &str) -> Option<OwnedSemaphorePermit> {
        self.of(client).acquire_owned().await.ok()
    }

    fn of(&self, client: &str) -> Arc<Semaphore> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= SWEEP {
            clients.retain(|_, turns| Arc::strong_count(turns) > 1);
        }
        let client = client.parse().map_or_else(|_| client.to_owned(), |ip| network(ip).to_string());
        let turns = clients.entry(client);
        Arc::clone(turns.or_insert_with(|| Arc::new(Semaphore::new(PER_CLIENT))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_waits_for_itself_only_and_is_forgotten() {
        let turns = Turns::default();
        let mut held = Vec::new();
        for _ in 0..PER_CLIENT {
            held.push(turns.take("192.0.2.1").await);
        }
        let next = tokio::time::timeout(std::time::Duration::from_millis(20), turns.take("192.0.2.1"));
        assert!(next.await.is_err(), "no turn is left");
        assert!(turns.take("192.0.2.2").await.is_some());
        held.pop();
        assert!(Arc::ptr_eq(&turns.of("2001:db8::1"), &turns.of("2001:db8::2")), "one /64, one client");
        assert!(turns.take("192.0.2.1").await.is_some());
        drop(held);
        for number in 0..3 * SWEEP {
            turns.take(&number.to_string()).await;
        }
        assert!(turns.0.lock().is_ok_and(|clients| clients.len() <= SWEEP));
    }
}
