//! What the envelope of a message takes of the memory while it is put together.
//!
//! A thousand recipients with a long ORCPT each are a megabyte. A usual envelope is not worth the count.

use staffetta_mail::Recipient;
use staffetta_queue::{Budget, Charge, Payer};

/// Octets that every connection may have for nothing.
const FREE: u64 = 8 * 1024;
/// Of a recipient, beside its texts.
const RECIPIENT: u64 = 256;
/// An envelope may be as large as a message; and as this, however small messages are.
const LARGE: u64 = 1 << 20;

/// The account of one transaction. Dropped, it gives back what it took.
#[derive(Debug, Default)]
pub(crate) struct Bill {
    octets: u64,
    charge: Option<Box<Charge>>,
}

impl Bill {
    /// Has it taken anything?
    pub(crate) fn is_empty(&self) -> bool {
        self.octets == 0
    }

    /// One recipient more, in messages of at most so many octets; false: there is no memory for it.
    pub(super) fn add(&mut self, recipient: &Recipient, budget: &Budget, payer: Payer, largest: u64) -> bool {
        let texts = 2 * recipient.address.as_str().len() + recipient.orcpt.as_ref().map_or(0, String::len);
        let all = self.octets + RECIPIENT + texts as u64;
        if all > largest.max(LARGE) {
            return false;
        }
        if all > FREE {
            let charge = self.charge.get_or_insert_with(|| Box::new(budget.envelope(payer)));
            let missing = all - charge.octets();
            if !budget.grow(charge, missing) {
                return false;
            }
        }
        self.octets = all;
        true
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const STRANGER: Payer = Payer { listener: 0, client: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))) };

    fn recipients(bill: &mut Bill, budget: &Budget, orcpt: usize) -> usize {
        let mut recipient = Recipient::new("lisa@example.com".parse().unwrap());
        recipient.orcpt = Some("x".repeat(orcpt));
        (0..100_000).take_while(|_| bill.add(&recipient, budget, STRANGER, 0)).count()
    }

    #[test]
    fn a_large_envelope_is_charged_to_its_client_and_given_back() {
        let budget = Budget::new(4 << 20, 0, 1);
        let (mut first, mut second) = (Bill::default(), Bill::default());
        // An eighth of the memory is one client's.
        let many = recipients(&mut first, &budget, 494);
        assert!((600..700).contains(&many), "{many}");
        let few = recipients(&mut second, &budget, 494);
        assert!((5..20).contains(&few), "a second connection is no second client: {few}");
        drop(first);
        assert!(recipients(&mut second, &budget, 494) > 500);
    }

    #[test]
    fn an_envelope_is_not_larger_than_a_message() {
        let budget = Budget::new(1 << 40, 0, 1);
        let many = recipients(&mut Bill::default(), &budget, 494);
        assert!((1_200..1_400).contains(&many), "{many}");
    }
}
