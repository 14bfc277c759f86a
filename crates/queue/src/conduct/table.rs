//! What a pod has seen of logins since it told Redis last. Bounded: of a login too many nothing is remembered, nor of a
//! domain too many.

use std::collections::{BTreeSet, HashMap};

use staffetta_mail::Envelope;
use staffetta_policy::conduct::{Counts, Signal};

/// Logins that are remembered at a time.
pub(super) const LOGINS: usize = 8 * 1024;
/// Domains of one login, and of all. One call takes those of a login.
const DOMAINS: usize = 2 * 1024;
const ALL_DOMAINS: usize = 64 * 1024;
/// Longest name of a login, in octets: no longer one can be blocked either.
const NAME: usize = 512;

/// By the names of logins, as sessions spell them.
#[derive(Default)]
pub(super) struct Table {
    logins: HashMap<Box<str>, Seen>,
    domains: usize,
}

/// What was seen of one login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// All but the domains.
    pub(super) amounts: Counts,
    /// Digests.
    pub(super) domains: BTreeSet<u64>,
}

/// What a message adds to the counts of its login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sending {
    recipients: u64,
    /// Digests of their domains, some of them twice.
    domains: Vec<u64>,
}

impl Sending {
    /// Of a message with this envelope.
    pub fn of(envelope: &Envelope) -> Self {
        let mut domains = Vec::with_capacity(1);
        for recipient in &envelope.recipients {
            let digest = digest(recipient.address.domain_str().unwrap_or_default());
            if domains.last() != Some(&digest) {
                domains.push(digest);
            }
        }
        Self { recipients: envelope.recipients.len() as u64, domains }
    }
}

/// Stands for a domain, the same in every pod and in any case: FNV-1a. Whoever finds two domains with one digest has one
/// counted less.
fn digest(domain: &str) -> u64 {
    let step = |hash: u64, octet: u8| (hash ^ u64::from(octet.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3);
    domain.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

impl Table {
    /// False: there was no room.
    pub(super) fn add(&mut self, login: &str, signal: Signal, amount: u64) -> bool {
        let Some(seen) = seen(&mut self.logins, login) else { return false };
        seen.amounts[signal] += amount;
        true
    }

    /// A message of this login was accepted.
    pub(super) fn add_sending(&mut self, login: &str, sending: &Sending) -> bool {
        let Some(seen) = seen(&mut self.logins, login) else { return false };
        seen.amounts[Signal::Messages] += 1;
        seen.amounts[Signal::Recipients] += sending.recipients;
        let domains = sending.domains.iter().copied();
        self.domains += seen.add_domains(domains, ALL_DOMAINS.saturating_sub(self.domains));
        true
    }

    /// Puts back what was taken.
    pub(super) fn put_back(&mut self, login: &str, taken: Seen) -> bool {
        let Some(seen) = seen(&mut self.logins, login) else { return false };
        for (signal, amount) in taken.amounts.each() {
            seen.amounts[signal] += amount;
        }
        self.domains += seen.add_domains(taken.domains, ALL_DOMAINS.saturating_sub(self.domains));
        true
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.logins.is_empty()
    }

    /// All of it.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (Box<str>, Seen)> + use<> {
        std::mem::take(self).logins.into_iter()
    }
}

impl Seen {
    /// Says how many are new.
    fn add_domains(&mut self, domains: impl IntoIterator<Item = u64>, room: usize) -> usize {
        let before = self.domains.len();
        let most = DOMAINS.min(before + room);
        for domain in domains {
            if self.domains.len() >= most {
                break;
            }
            self.domains.insert(domain);
        }
        self.domains.len() - before
    }
}

/// Made if there is room.
fn seen<'a>(logins: &'a mut HashMap<Box<str>, Seen>, login: &str) -> Option<&'a mut Seen> {
    if !logins.contains_key(login) {
        if logins.len() >= LOGINS || login.len() > NAME {
            return None;
        }
        logins.insert(login.into(), Seen::default());
    }
    logins.get_mut(login)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use staffetta_mail::{Address, Recipient, ReversePath};

    use super::*;

    fn sending(recipients: &[&str]) -> Sending {
        let recipients = recipients.iter().map(|text| Recipient::new(Address::parse(text).unwrap())).collect();
        Sending::of(&Envelope::new(ReversePath::Null, recipients))
    }

    #[test]
    fn a_message_counts_its_recipients_and_each_domain_once_in_any_case() {
        let mut table = Table::default();
        for to in [&["a@x.test", "b@X.TEST", "c@y.test"][..], &["a@x.test", "d@z.test", "e@x.test"], &["f@y.test"]] {
            assert!(table.add_sending("john", &sending(to)));
        }
        assert!(table.add("john", Signal::Bounces, 2));
        let (login, seen) = table.take().next().unwrap();
        assert_eq!((&*login, seen.amounts), ("john", Counts::new([3, 7, 0, 2, 0, 0])));
        assert_eq!(seen.domains, BTreeSet::from(["x.test", "y.test", "z.test"].map(digest)));
        assert_eq!(table.take().count(), 0);
    }

    /// Pods of two builds must mean the same.
    #[test]
    fn a_digest_stays_what_it_is() {
        assert_eq!(digest("Example.COM"), 0x5768_4663_4e27_14c6);
    }

    #[test]
    fn a_flood_of_logins_and_of_domains_takes_bounded_memory() {
        let mut table = Table::default();
        for number in 0..LOGINS {
            assert!(table.add(&number.to_string(), Signal::Messages, 1));
        }
        assert!(!table.add("one more", Signal::Messages, 1) && table.add("0", Signal::Messages, 1));
        for login in 0..40 {
            let domains = (0..DOMAINS as u64 + 9).map(|domain| login << 32 | domain).collect();
            assert!(table.add_sending(&login.to_string(), &Sending { recipients: 1, domains }));
        }
        assert_eq!(table.logins["0"].domains.len(), DOMAINS);
        assert!(table.logins["39"].domains.is_empty(), "there is no room for those of all");
        assert_eq!(table.logins.values().map(|seen| seen.domains.len()).sum::<usize>(), ALL_DOMAINS);
        assert!(!Table::default().add(&"x".repeat(NAME + 1), Signal::Messages, 1));
    }

    #[test]
    fn what_is_put_back_counts_with_what_came_meanwhile() {
        let mut table = Table::default();
        table.add_sending("john", &sending(&["a@x.test", "b@y.test"]));
        let (login, taken) = table.take().next().unwrap();
        table.add_sending("john", &sending(&["c@y.test"]));
        assert!(table.put_back(&login, taken));
        let (_, seen) = table.take().next().unwrap();
        assert_eq!((seen.amounts, seen.domains.len()), (Counts::new([2, 3, 0, 0, 0, 0]), 2));
    }
}
