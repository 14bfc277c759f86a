//! Envelopes and jobs for tests.

use staffetta_mail::{Address, Envelope, Recipient, ReversePath};
use staffetta_policy::verp::Signer;

use crate::Handle;

/// From `sender` (`""`: the null path) to so many recipients.
pub(crate) fn envelope(sender: &str, recipients: usize) -> Envelope {
    let address = |text: &str| Address::parse(text).unwrap();
    Envelope::new(
        if sender.is_empty() { ReversePath::Null } else { ReversePath::Address(address(sender)) },
        (0..recipients).map(|i| Recipient::new(address(&format!("r{i}@x.test")))).collect(),
    )
}

/// A job with a number, and perhaps with a sender for each recipient. From 100 on, those of one hundred are of one message.
#[derive(Debug)]
pub(crate) struct Job(pub(crate) u32, pub(crate) Envelope, pub(crate) Option<Signer>);

impl Handle for Job {
    fn envelope(&self) -> &Envelope {
        &self.1
    }

    fn size(&self) -> u64 {
        100
    }

    fn destination(&self) -> &'static str {
        "x.test"
    }

    fn verp(&self) -> Option<&Signer> {
        self.2.as_ref()
    }

    fn travels_with(&self, other: &Self) -> bool {
        self.0 >= 100 && self.0 / 100 == other.0 / 100
    }
}
