//! What can be measured. A scenario is one table, and each of its cases a row for each peer.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

/// Most connections to one destination: of Postfix always, of Staffetta where mail does not go to `smtp-sink`.
pub(crate) const CONNECTIONS: u32 = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scenario {
    /// In clear to one destination: how much is taken and passed on.
    Relay,
    /// The same with STARTTLS to the destination.
    Tls,
    /// The same, signed with an RSA key of 2048 bits; Postfix asks OpenDKIM.
    Dkim,
    /// How many connections are used to one destination, and to a thousand.
    Destinations,
    /// Ten destinations of which one stops answering, at each stage: how late is the mail of the other nine?
    Stall,
    /// One destination that answers 200 ms late.
    Late,
}

/// What a destination that stalls does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    Connect,
    Greeting,
    Ehlo,
    /// All ten offer STARTTLS, and it is asked of them.
    Handshake,
    Mail,
    Rcpt,
    Data,
    Dot,
}

/// What the destinations of one run are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Case {
    pub(crate) scenario: Scenario,
    pub(crate) destinations: u32,
    /// Where the last destination stops answering.
    pub(crate) stall: Option<Stage>,
}

impl Scenario {
    pub(crate) fn cases(self) -> Vec<Case> {
        let case = |destinations, stall| Case { scenario: self, destinations, stall };
        match self {
            Self::Relay | Self::Tls | Self::Dkim | Self::Late => vec![case(1, None)],
            Self::Destinations => vec![case(1, None), case(1000, None)],
            Self::Stall => {
                let stages = Stage::value_variants().iter().copied().map(Some);
                std::iter::once(None).chain(stages).map(|stage| case(10, stage)).collect()
            }
        }
    }
}

impl Case {
    pub(crate) fn encrypts(self) -> bool {
        self.scenario == Scenario::Tls || self.stall == Some(Stage::Handshake)
    }

    pub(crate) fn signs(self) -> bool {
        self.scenario == Scenario::Dkim
    }

    /// How late each answer of the destinations is.
    pub(crate) fn late(self) -> Duration {
        Duration::from_millis(if self.scenario == Scenario::Late { 200 } else { 0 })
    }

    /// To which destination a message goes: in no order, as mail comes, but the same one in each run.
    pub(crate) fn destination(self, message: u64) -> u64 {
        scatter(message) % u64::from(self.destinations)
    }

    /// Whether a message goes to another destination than the one that stalls, or that would in the next case.
    pub(crate) fn healthy(self, message: u64) -> bool {
        self.destination(message) + 1 < u64::from(self.destinations)
    }

    /// How many of so many messages arrive.
    pub(crate) fn arriving(self, messages: u64) -> u64 {
        if self.stall.is_none() {
            messages
        } else {
            (0..messages).filter(|&message| self.healthy(message)).count() as u64
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match (self.scenario, self.stall) {
            (Scenario::Relay, _) => "relay".to_owned(),
            (Scenario::Tls, _) => "STARTTLS".to_owned(),
            (Scenario::Dkim, _) => "DKIM".to_owned(),
            (Scenario::Late, _) => format!("answers {} ms late", self.late().as_millis()),
            (Scenario::Destinations, _) => format!("destinations: {}", self.destinations),
            (Scenario::Stall, None) => "none stalls".to_owned(),
            (Scenario::Stall, Some(stage)) => format!("stalls at {stage}"),
        };
        f.pad(&text)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Greeting => "greeting",
            Self::Ehlo => "EHLO",
            Self::Handshake => "handshake",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Dot => "final dot",
        })
    }
}

/// A number that tells nothing of the next one's (the mixer of SplitMix64).
fn scatter(number: u64) -> u64 {
    let number = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The domain of a destination, counted from 0.
pub(crate) fn domain(destination: u64) -> String {
    format!("d{destination}.bench.test")
}

/// The address of its server, in 127.0.0.0/8; that of the first is the usual one.
pub(crate) fn address(destination: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + destination)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_to_the_destination_that_stalls_does_not_arrive() {
        let cases = Scenario::Stall.cases();
        let arriving: Vec<_> = cases.iter().map(|case| case.arriving(10_000)).collect();
        assert_eq!(arriving[0], 10_000);
        assert!(
            arriving[1..].iter().all(|&some| some == arriving[1] && (8_900..9_100).contains(&some)),
            "{arriving:?}"
        );
        let stalls = |case: &Case| (0..100).filter(|&message| !case.healthy(message)).collect::<Vec<_>>();
        assert_eq!(stalls(&cases[0]), stalls(&cases[1]), "the same ones are compared when nobody stalls");
    }

    #[test]
    fn a_thousand_destinations_have_addresses_of_their_own() {
        assert_eq!(address(0), Ipv4Addr::LOCALHOST);
        assert_eq!(address(999), Ipv4Addr::new(127, 0, 3, 232));
    }
}
