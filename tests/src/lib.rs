//! The world of an end-to-end test: the three binaries, a real Redis, a fake DNS, scripted MX hosts.
//!
//! ```ignore
//! let world = World::new().await?.user("john@example.org", "summersun").await?.start().await?;
//! let mx = world.mx("example.com", Scenario::default()).await?;
//! let mut client = world.submission().await?;
//! ```
//! Every process of a world ends with it. Loopback only; MX hosts get addresses of 127.0.0.0/8 of their own because all
//! of them listen on the one port that `delivery.port` names.

mod client;
mod collector;
mod disk;
mod exim;
mod hand;
mod haraka;
mod http;
mod lmtp;
mod load;
mod opensmtpd;
mod peer;
mod postfix;
mod preload;
mod redis;
pub mod skew;
mod world;

pub use client::{Client, Reply};
pub use collector::{Collector, Span};
pub use disk::Disk;
pub use exim::Exim;
pub use hand::{Content, Hand, Visit};
pub use haraka::Haraka;
pub use http::{Metrics, get};
pub use lmtp::DovecotLmtp;
pub use load::{Arrivals, Load, Told, Verdict};
pub use opensmtpd::OpenSmtpd;
pub use peer::{Kept, Peer, Power};
pub use postfix::Postfix;
pub use redis::{Redis, Value};
pub use world::{Service, World, program, queue_of};

use std::time::Duration;

/// Longest time that a test waits for something that should happen soon.
pub const SOON: Duration = Duration::from_secs(20);

/// Asks again and again until there is an answer.
///
/// # Errors
/// The last one when `limit` is over.
pub async fn eventually<F, Fut, T>(limit: Duration, mut question: F) -> anyhow::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    let end = tokio::time::Instant::now() + limit;
    loop {
        match question().await {
            Ok(answer) => return Ok(answer),
            Err(error) if tokio::time::Instant::now() > end => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// The next message that a sink gets.
///
/// # Errors
/// If none comes in time, or the sink could not keep all for the test to see.
pub async fn next(sink: &mut staffetta_cli::sink::Sink) -> anyhow::Result<staffetta_cli::sink::Received> {
    use anyhow::Context;
    anyhow::ensure!(sink.missed() == 0, "{} messages came faster than the test reads them", sink.missed());
    tokio::time::timeout(SOON, sink.received()).await.context("no message came")?.context("the sink ended")
}
