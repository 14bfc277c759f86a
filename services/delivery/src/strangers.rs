//! What a stranger sent never makes us send anything to anybody but its recipient's own server.
//!
//! The sender of such a message is whoever the stranger named. A report to that address is short, carries nothing that
//! the stranger wrote, and comes seldom: so many an address, and so many for all that one client sent, over all workers.
//! Without these rules every recipient that fails later would make a relay of us (backscatter).

use std::net::IpAddr;
use std::time::Duration;

use staffetta_mail::Address;
use staffetta_policy::client;
use staffetta_queue::{Limiter, Origin, Queue, Rate};

use crate::terms::Current;

/// Reports to one address about mail that it may not have sent.
const PER_ADDRESS: Rate = Rate { count: 5, per: Duration::from_secs(3_600) };
/// Reports about mail of one client, whoever it names as sender.
const PER_CLIENT: Rate = Rate { count: 100, per: Duration::from_secs(3_600) };

/// Tells strangers from others, and limits what is reported of their mail.
pub(crate) struct Strangers {
    terms: Current,
    per_address: Limiter,
    per_client: Limiter,
}

impl Strangers {
    pub(crate) fn new(queue: &Queue, terms: Current) -> Self {
        Self {
            terms,
            per_address: queue.limiter("report", PER_ADDRESS),
            per_client: queue.limiter("reported", PER_CLIENT),
        }
    }

    /// The client, if the message came from somebody who neither logged in nor is in a trusted network.
    pub(crate) fn client(&self, origin: &Origin) -> Option<IpAddr> {
        self.terms.load().stranger(origin)
    }

    /// May a report go to `sender` now? Not while Redis cannot be asked: it would be one that nobody waits for.
    pub(crate) async fn may_report(&self, client: IpAddr, sender: &Address) -> bool {
        let mailbox = format!("{}@{}", sender.local(), sender.domain_key().unwrap_or_default());
        for (limiter, who) in [(&self.per_client, client::network(client).to_string()), (&self.per_address, mailbox)] {
            if !limiter.acquire(&who, 1).await.is_ok_and(|answer| answer.tokens > 0) {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use staffetta_queue::server::LocalServer;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::terms::Terms;

    fn origin(client: Option<&str>, login: Option<&str>) -> Origin {
        Origin {
            listener: "smtp".into(),
            client: client.map(|ip| ip.parse().unwrap()),
            helo: String::new(),
            login: login.map(str::to_owned),
            span: None,
        }
    }

    #[tokio::test]
    async fn a_stranger_is_who_neither_logged_in_nor_is_in_a_trusted_network_and_reports_to_his_senders_are_few() {
        let folder = tempfile::tempdir().unwrap();
        let redis = LocalServer::start(folder.path()).unwrap();
        let trusted = "[frontend]\ntrusted_networks = [\"192.0.2.0/24\"]\n";
        let text = format!("hostname = \"mail.test\"\n{trusted}[redis]\nurl = \"{}\"\n", redis.url());
        let config = staffetta_config::Config::parse(&text, "test.toml").unwrap();
        let stop = CancellationToken::new();
        let queue = Queue::open((&config).into(), stop.clone()).unwrap();
        queue.ready(Duration::from_secs(20)).await.unwrap();
        let strangers = Strangers::new(&queue, Terms::new(&config).into_force());

        assert_eq!(strangers.client(&origin(Some("192.0.2.9"), None)), None);
        assert_eq!(strangers.client(&origin(Some("198.51.100.9"), Some("john"))), None);
        assert_eq!(strangers.client(&origin(None, None)), None, "our own reports");
        let client = strangers.client(&origin(Some("198.51.100.9"), None)).unwrap();

        let victim: Address = "victim@example.org".parse().unwrap();
        let same: Address = "victim@EXAMPLE.org".parse().unwrap();
        let mut reports = 0;
        for _ in 0..10 {
            reports += u32::from(strangers.may_report(client, &victim).await);
            reports += u32::from(strangers.may_report(client, &same).await);
        }
        assert_eq!(reports, PER_ADDRESS.count);
        for number in 0..PER_CLIENT.count {
            let other = format!("v{number}@example.org").parse().unwrap();
            reports += u32::from(strangers.may_report(client, &other).await);
        }
        assert!(reports <= PER_CLIENT.count, "{reports}");
        assert!(strangers.may_report("2001:db8::1".parse().unwrap(), &"other@example.org".parse().unwrap()).await);
        stop.cancel();
    }
}
