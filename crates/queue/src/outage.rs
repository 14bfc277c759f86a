//! What is said of a server that cannot be used: a line when that begins and one when it is over, once a process and server. A
//! dozen connections, the check of each second and the reader of revocations find out the same within milliseconds, each in
//! its own words; where all services are one process, all of theirs do.
//!
//! That nobody answers is one cause, however a connection has ended by it: refused, reset, broken. What a server that answers
//! has against us, or we have against it, is one for each text, and is said as well: an operator has to know.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::address::Address;
use crate::error::Trouble;

/// Causes of one outage that are said; more of them are one that flickers.
const MOST: usize = 16;

static OUTAGES: Outages = Outages(Mutex::new(BTreeMap::new()));

/// One of those who find out: a connection, a check, a reader. When it ends, nothing is said of it any longer.
pub(crate) struct Witness {
    address: Address,
    standing: Standing,
}

/// How things were when a witness looked last.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// The server was there.
    Good,
    /// Nobody knows.
    Unknown,
    /// It could not be used; which one that was.
    Without(String),
}

impl Witness {
    /// Of what goes on at this address.
    pub(crate) fn of(address: &Address) -> Self {
        Self { address: address.clone(), standing: Standing::Unknown }
    }

    /// The server can be used.
    pub(crate) fn found(&mut self) {
        if let Standing::Without(server) = std::mem::replace(&mut self.standing, Standing::Good)
            && OUTAGES.leave(&server)
        {
            tracing::info!(server, "Redis can be used again");
        }
    }

    /// It cannot. The first time after it could, that may be how the connection before came to its end, and a better reason
    /// follows if nobody is there.
    pub(crate) fn lost(&mut self, trouble: &Trouble) {
        if self.standing == Standing::Good && matches!(trouble, Trouble::Away(_)) {
            self.standing = Standing::Unknown;
            return;
        }
        let (server, is_new) = match &self.standing {
            Standing::Without(server) => (server.clone(), false),
            Standing::Good | Standing::Unknown => (self.address.server(), true),
        };
        if OUTAGES.is_news(&server, is_new, trouble) {
            match trouble {
                Trouble::Away(reason) => tracing::warn!(reason, "Redis cannot be used"),
                Trouble::Wrong(reason) => tracing::error!(reason, "Redis cannot be used"),
            }
        }
        self.standing = Standing::Without(server);
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if let Standing::Without(server) = &self.standing {
            OUTAGES.leave(server);
        }
    }
}

/// Those that go on, by server.
struct Outages(Mutex<BTreeMap<String, Outage>>);

#[derive(Default)]
struct Outage {
    /// How many witnesses are without the server.
    witnesses: usize,
    /// It was said that nobody answers.
    is_away: bool,
    /// What else was said.
    told: Vec<String>,
}

impl Outages {
    /// Has nobody said this yet in this outage? Whoever asks says it. `is_new`: the witness was not without the server before.
    fn is_news(&self, server: &str, is_new: bool, trouble: &Trouble) -> bool {
        let mut outages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let outage = outages.entry(server.to_owned()).or_default();
        outage.witnesses += usize::from(is_new);
        match trouble {
            Trouble::Away(_) => !std::mem::replace(&mut outage.is_away, true),
            Trouble::Wrong(reason) if outage.told.len() == MOST || outage.told.contains(reason) => false,
            Trouble::Wrong(reason) => {
                outage.told.push(reason.clone());
                true
            }
        }
    }

    /// A witness has the server again, or is gone. Was it the last one?
    fn leave(&self, server: &str) -> bool {
        let mut outages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(outage) = outages.get_mut(server) else { return false };
        outage.witnesses = outage.witnesses.saturating_sub(1);
        let is_over = outage.witnesses == 0;
        if is_over {
            outages.remove(server);
        }
        is_over
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::Settings;

    fn away(text: &str) -> Trouble {
        Trouble::Away(text.to_owned())
    }

    fn wrong(text: &str) -> Trouble {
        Trouble::Wrong(text.to_owned())
    }

    #[test]
    fn that_nobody_answers_is_news_once_in_an_outage_and_each_other_cause_too() {
        let outages = Outages(Mutex::default());
        let is_news = |is_new, trouble: &Trouble| outages.is_news("a", is_new, trouble);
        assert!(is_news(true, &away("refused")) && !is_news(true, &away("broken pipe")));
        assert!(is_news(false, &wrong("a replica")) && !is_news(false, &wrong("a replica")));
        assert!(is_news(true, &wrong("no file")) && !is_news(false, &away("reset")));
        assert!(outages.is_news("b", true, &away("refused")), "another server");
        assert!(!outages.leave("a") && !outages.leave("a"), "one of three is without it still");
        assert!(!is_news(false, &away("refused")) && !is_news(false, &wrong("no file")), "the same outage");
        assert!(outages.leave("a") && !outages.leave("a"), "it is over once");
        assert!(is_news(true, &away("refused")) && is_news(false, &wrong("no file")), "the next one");
    }

    #[test]
    fn causes_that_change_all_the_time_come_to_an_end() {
        let outages = Outages(Mutex::default());
        let told = (0..3 * MOST).filter(|number| outages.is_news("a", *number == 0, &wrong(&number.to_string())));
        assert_eq!(told.count(), MOST);
    }

    fn is_without(witness: &Witness) -> bool {
        matches!(witness.standing, Standing::Without(_))
    }

    #[test]
    fn one_lost_connection_is_no_outage_and_nobody_at_the_start_is() {
        let address = Address::parse(&Settings::at("redis://127.0.0.1:1/")).unwrap();
        let mut witness = Witness::of(&address);
        witness.lost(&away("refused"));
        assert!(is_without(&witness), "it was never there");
        witness.found();
        witness.lost(&away("broken pipe"));
        assert!(!is_without(&witness), "there may be another at once");
        witness.found();
        witness.lost(&away("broken pipe"));
        witness.lost(&away("refused"));
        assert!(is_without(&witness));
        let mut other = Witness::of(&address);
        other.found();
        other.lost(&wrong("a replica"));
        assert!(is_without(&other), "somebody has answered");
        drop(other);
        assert_eq!(OUTAGES.0.lock().unwrap().get("127.0.0.1:1").unwrap().witnesses, 1);
        witness.found();
        assert!(!OUTAGES.0.lock().unwrap().contains_key("127.0.0.1:1"));
    }
}
