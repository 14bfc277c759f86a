//! A minimal HTTP client for `/livez`, `/readyz` and `/metrics`.

use std::net::SocketAddr;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Status and body of `GET path`.
///
/// # Errors
/// If the server cannot be reached or does not speak HTTP.
pub async fn get(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no header")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok((status, if chunked { unchunk(body) } else { body.to_owned() }))
}

fn unchunk(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else { break };
        let Some(chunk) = rest.get(..size).filter(|chunk| !chunk.is_empty()) else { break };
        text.push_str(chunk);
        body = rest.get(size + 2..).unwrap_or_default();
    }
    text
}

/// A scrape.
#[derive(Debug)]
pub struct Metrics(pub String);

impl Metrics {
    /// Scrapes `/metrics`.
    ///
    /// # Errors
    /// As [`get`].
    pub async fn scrape(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self(get(address, "/metrics").await?.1))
    }

    /// The sum of all series of a family whose labels contain every one of `labels` (as `name="value"`).
    pub fn sum(&self, family: &str, labels: &[&str]) -> f64 {
        self.0
            .lines()
            .filter_map(|line| line.strip_prefix(family))
            .filter(|rest| rest.starts_with(['{', ' ']))
            .filter(|rest| labels.iter().all(|label| rest.contains(label)))
            .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}
