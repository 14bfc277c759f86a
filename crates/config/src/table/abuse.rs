//! `[frontend.abuse]`: logins that behave as if somebody else had their password.

use std::time::Duration;

use staffetta_policy::conduct::{Counts, Ladder};

use crate::kind::{Number, Time};
use crate::settings::settings;

settings! {
    /// What a stolen password shows in, counted of each login by the hour (from full hour to full hour, UTC) over all pods,
    /// and what is done about it. The first six keys are thresholds, 0 is not watched; the next four say at which multiple
    /// of a threshold a step is taken, 0 is never. The steps that are taken must ascend. With `messages = 500`, `notify = 1`
    /// and `hold = 4`, the log has a line of the login that has sent 500 messages within an hour, and from 2,000 on its
    /// messages are held. `staffetta login top` shows what is usual. Frontends and workers both need this table. They
    /// gather for a second before they tell Redis, so that a step is taken about a second after the count has come to
    /// it, and by a pod that only learns what happened elsewhere when the login does something there. While Redis is away
    /// each pod gathers on and takes no step.
    pub struct Abuse {
        /// Messages of a login that were accepted.
        value messages: u64 as Number<u64, 0, 1000000000> = "500",
        /// Their recipients.
        value recipients: u64 as Number<u64, 0, 1000000000> = "2000",
        /// Different domains among these, by an estimate that is wrong by about one in a hundred.
        value domains: u64 as Number<u64, 0, 1000000000> = "300",
        /// Recipients who failed for good when a worker delivered to them, whatever the reason.
        value bounces: u64 as Number<u64, 0, 1000000000> = "50",
        /// Those among them who do not exist (`5.1.1`): whoever sends to a list that was bought or guessed has many.
        value unknown_recipients: u64 as Number<u64, 0, 1000000000> = "20",
        /// Networks (the /24 of IPv4, the /64 of IPv6) from which the login was not used within 30 days. Of a login that is
        /// used for the first time the first one counts, too. Trusted networks are not counted, nor are logins whose name is
        /// not seen in the dialog, such as EXTERNAL.
        value new_networks: u64 as Number<u64, 0, 1000000000> = "5",
        /// Tells the operator: one line in the log for each login, hour, signal and step, whichever pod sees it first.
        /// The steps below write the same line.
        value notify: u32 as Number<u32, 0, 1000000> = "1",
        /// Answers each MAIL of the login after two seconds, until the hour is over.
        value slow: u32 as Number<u32, 0, 1000000> = "0",
        /// Accepts the login's messages and holds them, until the hour is over: `staffetta queue list --login L`, `release`,
        /// `delete`. What was accepted before is not held.
        value hold: u32 as Number<u32, 0, 1000000> = "0",
        /// Blocks the login for `block_for` and holds its mail that waits, as `staffetta block login` does. A block that is
        /// taken back comes again when another signal reaches this step, or in another hour.
        value block: u32 as Number<u32, 0, 1000000> = "0",
        /// How long such a block holds. What is held by it stays so until it is released.
        value block_for: Duration as Time<1000, 31536000000> = "1h",
    }
}

impl Abuse {
    /// Thresholds and steps as they are judged by.
    pub fn ladder(&self) -> Ladder {
        let Self { messages, recipients, domains, bounces, unknown_recipients, new_networks, .. } = *self;
        Ladder {
            thresholds: Counts::new([messages, recipients, domains, bounces, unknown_recipients, new_networks]),
            multiples: [self.notify, self.slow, self.hold, self.block],
        }
    }
}
