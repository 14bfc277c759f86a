//! What every load of our own needs: commands and replies, and many sessions at a time.

use std::future::Future;

use anyhow::{Result, bail, ensure};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::JoinSet;

/// Sends a command, or content with its dot, and wants a reply with this code.
pub(crate) async fn ask<S: AsyncBufRead + AsyncWrite + Unpin>(stream: &mut S, command: &str, code: &str) -> Result<()> {
    stream.write_all(command.as_bytes()).await?;
    stream.flush().await?;
    expect(stream, code).await
}

/// Reads a whole reply.
pub(crate) async fn expect<S: AsyncBufRead + Unpin>(stream: &mut S, code: &str) -> Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        ensure!(stream.read_line(&mut line).await? > 0, "the relay closed the connection");
        match line.strip_prefix(code).map(|rest| rest.starts_with('-')) {
            Some(true) => {}
            Some(false) => return Ok(()),
            None => bail!("the relay said {:?} instead of {code}", line.trim_end()),
        }
    }
}

/// Runs so many sessions at a time and gathers what they return.
///
/// # Errors
/// The first one of a session; the others are cut then.
pub(crate) async fn together<T, F>(sessions: u32, session: impl Fn() -> F) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<Vec<T>>> + Send + 'static,
{
    let mut running = JoinSet::new();
    (0..sessions).for_each(|_| {
        running.spawn(session());
    });
    let mut all = Vec::new();
    while let Some(returned) = running.join_next().await {
        all.extend(returned??);
    }
    Ok(all)
}

/// Appends lines of text until the message has so many octets, or a few more, and the dot that ends it.
pub(crate) fn fill(mut message: String, size: u64) -> String {
    while (message.len() as u64) < size {
        message.push_str("All work and no play makes Jack a dull boy, says the proverb.\r\n");
    }
    message + ".\r\n"
}
