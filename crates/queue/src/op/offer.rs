//! OFFER: which destinations have work now.

use std::time::{Duration, Instant};

use crate::script;
use crate::shared::{Requests, Shared};
use crate::value;
use crate::{Destination, Error, Offer};

/// How long an offered destination is not offered to others.
const VISIT: Duration = Duration::from_millis(200);

impl Shared {
    /// Ends visits early. Nothing is changed of a destination for which nothing waits, or that would be offered sooner.
    pub(crate) async fn offer_again(&self, work: &[(u16, Destination)], after: Duration) -> Result<(), Error> {
        let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        let mut requests = Requests::new(self);
        for (partition, destination) in work {
            let at = self.node(*partition).clock.now().saturating_add(after);
            let command = requests.to(*partition).cmd("ZADD").arg(&self.partition(*partition).due);
            command.arg("XX").arg("LT").arg(at).arg(destination.as_str());
        }
        self.ask_all(&requests).await.map(drop)
    }

    pub(crate) async fn offer(&self, partition: u16, limit: usize) -> Result<Offer, Error> {
        let node = self.node(partition);
        self.home().announce_reader().await?;
        let keys = self.partition(partition);
        // The script's answer must fit Lua's stack.
        let limit = limit.clamp(1, 1_000) as u64;
        let call = script::Offer { due: &keys.due, limit: limit.into(), visit: VISIT.into() }.call();
        let answer = node.claims.ask(call).await?;
        node.pulse().answered(Instant::now());
        let mut values = value::array(&answer).iter();
        let next = values.next().and_then(value::integer).and_then(|ms| u64::try_from(ms).ok());
        Ok(Offer {
            destinations: values.filter_map(value::str).map(Destination::new).collect(),
            next: next.map(Duration::from_millis),
        })
    }
}
