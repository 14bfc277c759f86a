//! Envelopes, hosts and what they say.

use staffetta_policy::classify::Endpoint;

use super::*;

pub(super) fn envelope(recipients: usize) -> Envelope {
    let address = |text: &str| Address::parse(text).unwrap();
    Envelope::new(
        ReversePath::Address(address("a@b.test")),
        (0..recipients).map(|i| Recipient::new(address(&format!("r{i}@x.test")))).collect(),
    )
}

pub(super) fn in_clear() -> Security {
    Security { starttls: client::Tls::Off, trust: Trust::Any, fallback: false, label: Label::None, waived: false }
}

pub(super) fn peer() -> Peer {
    Peer { host: "mx.test".to_owned(), endpoint: Endpoint::Tcp(([192, 0, 2, 1], 25).into()) }
}

pub(super) fn session(failure: client::Failure) -> Failure {
    Failure::Session { peer: peer(), failure }
}

pub(super) fn reply_to(stage: Stage, code: u16) -> client::Failure {
    client::Failure::Reply { stage, reply: reply(code) }
}

pub(super) fn reply(code: u16) -> RemoteReply {
    RemoteReply { code, status: None, text: "as scripted".to_owned() }
}

pub(super) fn no(code: u16) -> Outcome {
    Outcome::Failed(reply_to(Stage::Rcpt, code))
}

pub(super) fn ok() -> Outcome {
    Outcome::Delivered(reply(250))
}
