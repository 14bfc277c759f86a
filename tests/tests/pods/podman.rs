//! podman, as `scripts/test-k8s` has set it up in namespaces of its own.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// Longest that a command may take which waits for nothing.
const LIMIT: Duration = Duration::from_secs(60);

/// What `podman ARGUMENTS` prints.
///
/// # Errors
/// What it complains about.
pub(crate) async fn podman(arguments: &[&str]) -> anyhow::Result<String> {
    asked(arguments, "", LIMIT).await
}

/// The same, with a text to read, and a limit of the caller's.
///
/// # Errors
/// As [`podman`], and if it takes longer.
pub(crate) async fn asked(arguments: &[&str], input: &str, limit: Duration) -> anyhow::Result<String> {
    Ok(both(arguments, input, limit).await?.0)
}

/// The same, with what it prints to its standard error.
///
/// # Errors
/// As [`asked`].
pub(crate) async fn both(arguments: &[&str], input: &str, limit: Duration) -> anyhow::Result<(String, String)> {
    let mut command = Command::new("podman");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("failed to start podman")?;
    child.stdin.take().context("no input")?.write_all(input.as_bytes()).await?;
    let output =
        timeout(limit, child.wait_with_output()).await.with_context(|| format!("{arguments:?} takes long"))??;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "podman {}: {}", arguments.join(" "), complaint.trim());
    Ok((String::from_utf8(output.stdout)?, complaint.into_owned()))
}
