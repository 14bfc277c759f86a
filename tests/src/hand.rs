//! An MX whose every word the test says itself: it can wait at any point of the dialog, and sees each octet that came,
//! also of a message that was never finished.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::SOON;

/// A listener; each connection is [`Hand::accept`]ed by the test.
pub struct Hand {
    pub(crate) listener: TcpListener,
}

/// One connection to it.
pub struct Visit {
    stream: BufReader<TcpStream>,
}

/// How the content ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// With its final dot.
    Whole(String),
    /// The connection ended before.
    CutOff(String),
}

impl Hand {
    /// Waits for a connection.
    ///
    /// # Errors
    /// If none comes.
    pub async fn accept(&self) -> anyhow::Result<Visit> {
        let (stream, _) = timeout(SOON, self.listener.accept()).await.context("nobody connects")??;
        Ok(Visit { stream: BufReader::new(stream) })
    }

    /// Waits for a connection for so long; `None` if there is none.
    ///
    /// # Errors
    /// Of the system.
    pub async fn accept_within(&self, limit: Duration) -> anyhow::Result<Option<Visit>> {
        match timeout(limit, self.listener.accept()).await {
            Ok(accepted) => Ok(Some(Visit { stream: BufReader::new(accepted?.0) })),
            Err(_) => Ok(None),
        }
    }
}

impl Visit {
    /// Says a line.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn say(&mut self, reply: &str) -> anyhow::Result<()> {
        Ok(self.stream.write_all(format!("{reply}\r\n").as_bytes()).await?)
    }

    /// The next line; `None` at the end of the connection.
    ///
    /// # Errors
    /// If nothing comes.
    pub async fn line(&mut self) -> anyhow::Result<Option<String>> {
        let mut line = Vec::new();
        // A connection that is reset has ended as well.
        let read = timeout(SOON, self.stream.read_until(b'\n', &mut line)).await.context("the client is silent")?;
        let read = read.unwrap_or(0);
        let text = String::from_utf8_lossy(&line);
        Ok((read > 0).then(|| text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// Greets and says yes to everything up to DATA, which it leaves without an answer.
    ///
    /// # Errors
    /// If the client leaves before.
    pub async fn until_data(&mut self) -> anyhow::Result<()> {
        self.say("220 mx.test").await?;
        loop {
            match self.line().await?.context("the client left before DATA")?.split(' ').next() {
                Some("DATA") => return Ok(()),
                Some("QUIT") => bail!("QUIT before DATA"),
                _ => self.say("250 mx.test").await?,
            }
        }
    }

    /// What comes after 354, up to the dot or the end.
    ///
    /// # Errors
    /// If the client falls silent.
    pub async fn content(&mut self) -> anyhow::Result<Content> {
        let mut text = String::new();
        while let Some(line) = self.line().await? {
            if line == "." {
                return Ok(Content::Whole(text));
            }
            text.push_str(&line);
            text.push_str("\r\n");
        }
        Ok(Content::CutOff(text))
    }

    /// Says 354, takes the content and says 250; what came.
    ///
    /// # Errors
    /// If it does not come whole.
    pub async fn take(&mut self) -> anyhow::Result<String> {
        self.say("354 go on").await?;
        match self.content().await? {
            Content::Whole(text) => self.say("250 2.0.0 taken").await.map(|()| text),
            Content::CutOff(text) => bail!("cut off after {} octets", text.len()),
        }
    }
}
