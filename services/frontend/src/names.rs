//! What clients are called, as the DNS says it and confirms it. For the log and the trace field only: nobody is let in or
//! kept out for a name.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use staffetta_transport::dns::Resolver;

use crate::asked::Asked;

/// How long a greeting may wait for a name.
const DEADLINE: Duration = Duration::from_secs(1);

/// Looks names up. What the DNS says is kept by the resolver, as long as the DNS says; that it said nothing, here.
pub(crate) struct Names {
    resolver: Resolver,
    asked: Asked<Option<Arc<str>>>,
}

impl Names {
    pub(crate) fn new(resolver: Resolver) -> Self {
        Self { resolver, asked: Asked::new(DEADLINE) }
    }

    /// The verified name of a client; `None`: it has none, or nobody could say in time.
    pub(crate) async fn of(&self, ip: IpAddr) -> Option<Arc<str>> {
        let key = ip.to_string();
        let answer = self.asked.answer(&key, || {
            let resolver = self.resolver.clone();
            async move { resolver.verified_name(ip).await.ok().map(|name| name.map(Arc::from)) }
        });
        answer.await.ok().flatten()
    }
}
