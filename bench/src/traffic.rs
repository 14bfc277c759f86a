//! The load of the scenarios in which it matters what becomes of each message: the number of a message is the local part
//! of its recipient, and when it was accepted is noted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::cpu;
use crate::load::{Load, SENDER, Sent};
use crate::scenario::{Case, domain};
use crate::sink::now;
use crate::wire::{ask, expect, fill, together};

/// Longest time for one message.
const PATIENCE: Duration = Duration::from_secs(60);

struct Traffic {
    load: Load,
    case: Case,
    port: u16,
    /// The next message that nobody has begun to send.
    next: AtomicU64,
    started: Instant,
}

/// Sends everything to `port`, each session over one connection, and each message not before its turn where the load has
/// a rate.
///
/// # Errors
/// The first reply that was not expected.
pub(crate) async fn send(load: Load, case: Case, port: u16) -> Result<Sent> {
    let (started, cpu_before) = (Instant::now(), cpu::own());
    let traffic = Arc::new(Traffic { load, case, port, next: AtomicU64::new(0), started });
    let accepted = together(load.sessions, || Arc::clone(&traffic).session()).await?;
    Ok(Sent { started, took: started.elapsed(), cpu_seconds: cpu::own() - cpu_before, logins: Vec::new(), accepted })
}

impl Traffic {
    async fn session(self: Arc<Self>) -> Result<Vec<(u64, Duration)>> {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", self.port)).await?);
        stream.get_ref().set_nodelay(true)?;
        expect(&mut stream, "220").await?;
        ask(&mut stream, "EHLO client.bench.test\r\n", "250").await?;
        let mut accepted = Vec::new();
        while let Some(number) = self.turn().await {
            timeout(PATIENCE, self.message(&mut stream, number)).await.context("a message took too long")??;
            accepted.push((number, now()));
        }
        ask(&mut stream, "QUIT\r\n", "221").await?;
        Ok(accepted)
    }

    /// The next message, when it may go.
    async fn turn(&self) -> Option<u64> {
        let number = self.next.fetch_add(1, Relaxed);
        if number >= self.load.messages {
            return None;
        }
        if let Some(rate) = self.load.rate {
            let due = Duration::from_secs_f64(number as f64 / f64::from(rate));
            sleep(due.saturating_sub(self.started.elapsed())).await;
        }
        Some(number)
    }

    async fn message(&self, stream: &mut BufReader<TcpStream>, number: u64) -> Result<()> {
        let recipient = format!("{number}@{}", domain(self.case.destination(number)));
        let header = format!(
            "From: <{SENDER}>\r\nTo: <{recipient}>\r\nSubject: load\r\nDate: Mon, 30 Nov 2026 12:00:00 +0000\r\n\
             Message-ID: <{number}@client.bench.test>\r\n\r\n"
        );
        ask(stream, &format!("MAIL FROM:<{SENDER}>\r\n"), "250").await?;
        ask(stream, &format!("RCPT TO:<{recipient}>\r\n"), "250").await?;
        ask(stream, "DATA\r\n", "354").await?;
        ask(stream, &fill(header, self.load.size), "250").await
    }
}
