//! What the configuration says of attempts and reports. It is one value, which is swapped as a whole when another
//! configuration comes into force; an attempt that is under way goes on by what it asks for next.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use staffetta_config::{Config, Timeouts};
use staffetta_dispatch::Rules;
use staffetta_policy::schedule::Schedule;
use staffetta_policy::verp::{Signer, Verp};
use staffetta_policy::{client, shaping};
use staffetta_queue::{HardBounces, Message, Origin};
use staffetta_transport::hop::Router;

use crate::shaping::rules;

/// How many times `timeouts.final` nothing is sent again after a final dot that was not answered in time.
const DOUBT: f64 = 1.1;

/// The terms in force.
pub(crate) type Current = Arc<ArcSwap<Terms>>;

/// See the module.
pub(crate) struct Terms {
    /// Where mail goes.
    pub(crate) router: Router,
    /// How long each step may take.
    pub(crate) timeouts: Timeouts,
    /// When what failed is tried again.
    pub(crate) rules: Rules,
    /// What is too much for servers.
    pub(crate) shaping: shaping::Rules,
    /// When a recipient that is refused for good gets no mail any more.
    pub(crate) hard_bounces: Option<HardBounces>,
    /// How long a message is tried.
    pub(crate) lifetime: Duration,
    /// Whose mail is as good as our own.
    pub(crate) trusted_networks: Vec<IpNet>,
    /// Who writes to each recipient as somebody else.
    verp: Verp,
}

impl Terms {
    /// Of a configuration.
    pub(crate) fn new(config: &Config) -> Self {
        let delivery = &config.delivery;
        Self {
            router: Router::new(config),
            timeouts: delivery.timeouts,
            rules: Rules {
                schedule: Schedule { min: delivery.retry_min, max: delivery.retry_max, lifetime: delivery.lifetime },
                delay_warning: delivery.delay_warning,
                back_off: delivery.retry_min,
                // A remote that is given the RFC's time, as we give it, has made up its mind by then.
                doubt: delivery.timeouts.r#final.mul_f64(DOUBT),
            },
            shaping: rules(delivery),
            hard_bounces: HardBounces::of(config),
            lifetime: delivery.lifetime,
            trusted_networks: config.frontend.trusted_networks.clone(),
            verp: config.verp(),
        }
    }

    /// Is it a stranger's message? The client then.
    pub(crate) fn stranger(&self, origin: &Origin) -> Option<IpAddr> {
        client::stranger(origin.client, origin.login.as_deref(), &self.trusted_networks)
    }

    /// Who makes a sender of its own for each recipient of this message. A stranger may name any sender.
    pub(crate) fn verp(&self, message: &Message) -> Option<&Signer> {
        let signer = self.verp.signer(&message.envelope.sender)?;
        self.stranger(&message.origin).is_none().then_some(signer)
    }

    /// In force from now on, until others are.
    pub(crate) fn into_force(self) -> Current {
        Arc::new(ArcSwap::from_pointee(self))
    }
}
