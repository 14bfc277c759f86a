//! What a destination of our own says to a client.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use super::now;
use super::server::{Arrival, Event, tell};
use crate::scenario::Stage;

#[derive(Clone)]
pub(super) struct Behaviour {
    /// Time between what is read and its answer.
    pub(super) late: Duration,
    /// Where it stops answering.
    pub(super) stall: Option<Stage>,
    pub(super) tls: Option<TlsAcceptor>,
}

/// What follows a dialog.
pub(super) enum Next {
    Close,
    StartTls,
}

pub(super) struct Dialog<'a, S> {
    pub(super) stream: BufReader<S>,
    behaviour: &'a Behaviour,
    encrypted: bool,
    /// The messages of this transaction: one, or one for each recipient.
    numbers: Vec<u64>,
    /// Replies to what came together go together.
    replies: Vec<u8>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Dialog<'a, S> {
    pub(super) fn new(stream: S, behaviour: &'a Behaviour, encrypted: bool) -> Self {
        Self { stream: BufReader::new(stream), behaviour, encrypted, numbers: Vec::new(), replies: Vec::new() }
    }

    pub(super) async fn run(&mut self) -> Result<Next> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.stream.read_line(&mut line).await? == 0 {
                return Ok(Next::Close);
            }
            let verb = line.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" => self.reply(Some(Stage::Ehlo), self.extensions()).await?,
                "MAIL" => {
                    self.numbers.clear();
                    self.reply(Some(Stage::Mail), "250 2.1.0 Ok").await?;
                }
                "RCPT" => match number(&line) {
                    Some(number) => {
                        self.numbers.push(number);
                        self.reply(Some(Stage::Rcpt), "250 2.1.5 Ok").await?;
                    }
                    None => self.reply(None, "550 5.1.1 No such message").await?,
                },
                "DATA" if self.numbers.is_empty() => self.reply(None, "503 5.5.1 RCPT first").await?,
                "DATA" => self.take().await?,
                "STARTTLS" if self.extensions().contains(&verb) => {
                    self.reply(None, "220 2.0.0 Go ahead").await?;
                    self.stall(Stage::Handshake).await?;
                    return Ok(Next::StartTls);
                }
                "QUIT" => {
                    self.reply(None, "221 2.0.0 Bye").await?;
                    return Ok(Next::Close);
                }
                "RSET" => {
                    self.numbers.clear();
                    self.reply(None, "250 2.0.0 Ok").await?;
                }
                _ => self.reply(None, "502 5.5.1 Not here").await?,
            }
        }
    }

    fn extensions(&self) -> &'static str {
        if self.behaviour.tls.is_some() && !self.encrypted {
            "250-sink.bench.test\r\n250-PIPELINING\r\n250-STARTTLS\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES"
        } else {
            "250-sink.bench.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES"
        }
    }

    /// DATA, the content, and what is said of it.
    async fn take(&mut self) -> Result<()> {
        self.reply(Some(Stage::Data), "354 Go ahead").await?;
        let signed = self.content().await?;
        self.stall(Stage::Dot).await?;
        for number in std::mem::take(&mut self.numbers) {
            tell(&Event::Arrived(Arrival { number, at: now(), encrypted: self.encrypted, signed }))?;
        }
        self.reply(None, "250 2.0.0 Ok").await
    }

    /// Reads to the dot; returns whether there is a signature.
    async fn content(&mut self) -> Result<bool> {
        let (mut line, mut signed) = (Vec::new(), false);
        loop {
            line.clear();
            match self.stream.read_until(b'\n', &mut line).await? {
                0 => bail!("the client went away"),
                _ if line == b".\r\n" => return Ok(signed),
                _ => signed |= line.get(..15).is_some_and(|name| name.eq_ignore_ascii_case(b"DKIM-Signature:")),
            }
        }
    }

    /// Answers when everything that came together has been read, and late if it has to be, unless it stalls here.
    pub(super) async fn reply(&mut self, stage: Option<Stage>, text: &str) -> Result<()> {
        if let Some(stage) = stage {
            self.stall(stage).await?;
        }
        self.replies.extend_from_slice(text.as_bytes());
        self.replies.extend_from_slice(b"\r\n");
        if self.stream.buffer().is_empty() { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        sleep(self.behaviour.late).await;
        self.stream.write_all(&std::mem::take(&mut self.replies)).await?;
        Ok(self.stream.flush().await?)
    }

    /// Says no more, if this is where it stalls, until the client has enough of it.
    async fn stall(&mut self, stage: Stage) -> Result<()> {
        if self.behaviour.stall != Some(stage) {
            return Ok(());
        }
        self.flush().await?;
        tokio::io::copy(&mut self.stream, &mut tokio::io::sink()).await?;
        bail!("the client went away")
    }
}

/// The number of a message is the local part of its recipient.
fn number(line: &str) -> Option<u64> {
    let (_, path) = line.split_once('<')?;
    path.split_once('@')?.0.parse().ok()
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "tests")]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    const TOGETHER: &str = "MAIL FROM:<a@client.bench.test>\r\nRCPT TO:<7@d0.bench.test>\r\nDATA\r\n";

    /// What a destination says to this until it stalls or waits for more.
    async fn says(stall: Option<Stage>, sent: &str) -> String {
        let (mut client, server) = tokio::io::duplex(65_536);
        let behaviour = Behaviour { late: Duration::ZERO, stall, tls: None };
        client.write_all(sent.as_bytes()).await.expect("it is written");
        // Nothing more comes; what would be said then is what the stall is about.
        client.shutdown().await.expect("it is closed");
        let _ = Dialog::new(server, &behaviour, false).run().await;
        let mut said = String::new();
        client.read_to_string(&mut said).await.expect("it is text");
        said
    }

    #[tokio::test]
    async fn what_comes_before_the_stall_is_answered() {
        let content = format!("{TOGETHER}\r\n.\r\n");
        for (stall, codes) in [
            (Some(Stage::Mail), &[][..]),
            (Some(Stage::Rcpt), &["250"]),
            (Some(Stage::Data), &["250", "250"]),
            (Some(Stage::Dot), &["250", "250", "354"]),
            (None, &["250", "250", "354", "250"]),
        ] {
            let said = says(stall, &content).await;
            let said: Vec<_> = said.lines().map(|line| &line[..3]).collect();
            assert_eq!(said, codes, "{stall:?}");
        }
    }

    #[tokio::test]
    async fn answers_to_what_came_together_are_late_once() {
        let (mut client, server) = tokio::io::duplex(65_536);
        let behaviour = Behaviour { late: Duration::ZERO, stall: None, tls: None };
        client.write_all(TOGETHER.as_bytes()).await.expect("it is written");
        let mut dialog = Dialog::new(server, &behaviour, false);
        let mut piece = [0; 1000];
        let length = tokio::select! {
            _ = dialog.run() => 0,
            length = client.read(&mut piece) => length.expect("it is read"),
        };
        assert_eq!(piece[..length].iter().filter(|&&octet| octet == b'\n').count(), 3);
    }

    #[test]
    fn the_number_of_a_message_is_its_local_part() {
        assert_eq!(number("RCPT TO:<12@d3.bench.test> NOTIFY=NEVER\r\n"), Some(12));
        assert_eq!(number("RCPT TO:<from@client.bench.test>\r\n"), None);
    }
}
