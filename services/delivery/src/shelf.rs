//! Where the policies of domains are kept for the cluster: in Redis. While that is away each pod has its own.

use std::time::Duration;

use staffetta_queue::KeptPolicies;
use staffetta_transport::sts::{Later, Shelf};

/// See [`Shelf`].
pub(crate) struct InRedis(pub(crate) KeptPolicies);

impl Shelf for InRedis {
    fn recall(&self, domain: &str) -> Later<Option<(String, Duration)>> {
        let (policies, domain) = (self.0.clone(), domain.to_owned());
        Box::pin(async move {
            match policies.recall(&domain).await {
                Ok(kept) => kept.map(|kept| (kept.text, kept.left)),
                Err(error) => {
                    tracing::debug!(domain, %error, "failed to recall an MTA-STS policy");
                    None
                }
            }
        })
    }

    fn keep(&self, domain: &str, text: String, life: Duration) -> Later<()> {
        let (policies, domain) = (self.0.clone(), domain.to_owned());
        Box::pin(async move {
            if let Err(error) = policies.keep(&domain, &text, life).await {
                tracing::debug!(domain, %error, "failed to keep an MTA-STS policy");
            }
        })
    }
}
