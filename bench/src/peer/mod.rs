//! The relays that can be measured. Each listens on a free port of loopback, trusts it, and relays everything to the
//! sink; its state is in the scratch directory.

mod opendkim;
mod postfix;
mod staffetta;

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use serde::Serialize;
use staffetta_testkit::certs::{Authority, Leaf};
use staffetta_testkit::dovecot::Dovecot;

use crate::child::Child;
use crate::cpu;
use crate::load::Load;
use crate::scenario::Case;
use crate::sink::Sink;
use crate::submission::HOSTNAME;

/// The certificate authority of a relay with TLS, in its scratch directory.
pub(crate) const AUTHORITY: &str = "ca.pem";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Staffetta,
    Postfix,
    /// No relay: the load goes straight into the sink.
    Ceiling,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Staffetta => "staffetta",
            Self::Postfix => "postfix",
            Self::Ceiling => "ceiling",
        })
    }
}

/// A running relay; dropping it ends its processes, the last started first.
pub(crate) struct Peer {
    port: u16,
    processes: Vec<Child>,
    /// Who checks logins for it.
    dovecot: Option<Dovecot>,
}

/// The domain whose mail is signed, that of [`crate::load::SENDER`], and the name of the key.
const SIGNER: (&str, &str) = ("client.bench.test", "bench");

/// The relay's certificate, signed by [`AUTHORITY`].
fn certificate(scratch: &Path) -> Result<Leaf> {
    Authority::new(scratch)?.leaf("relay", &[HOSTNAME])
}

/// An RSA key of 2048 bits for signatures.
fn dkim_key(scratch: &Path, binaries: &Path) -> Result<PathBuf> {
    let (key, (domain, selector)) = (scratch.join("dkim.pem"), SIGNER);
    let out = key.to_string_lossy();
    staffetta(binaries, &["dkim", "keygen", "--domain", domain, "--selector", selector, "--out", &out], "")?;
    Ok(key)
}

/// `staffetta …`, with a password on its standard input.
fn staffetta(binaries: &Path, arguments: &[&str], password: &str) -> Result<()> {
    let mut command = Command::new(binaries.join("staffetta"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("build the programs first: cargo build --release --bins")?;
    if let Some(mut input) = child.stdin.take() {
        writeln!(input, "{password}")?;
    }
    let output = child.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "staffetta {} failed: {}", arguments[..2].join(" "), complaint.trim());
    Ok(())
}

impl Peer {
    /// Returns when the relay takes mail.
    pub(crate) async fn start(
        kind: Kind,
        scratch: &Path,
        sink: &Sink,
        load: Load,
        case: Case,
        binaries: &Path,
    ) -> Result<Self> {
        let key = if case.signs() { Some(dkim_key(scratch, binaries)?) } else { None };
        match kind {
            Kind::Staffetta => {
                let deliveries = staffetta::deliveries(case, sink.port(), key.as_deref());
                staffetta::start(scratch, &deliveries, load, binaries).await
            }
            Kind::Postfix => postfix::start(scratch, sink.port(), load, case, key.as_deref()).await,
            Kind::Ceiling => Ok(Self { port: sink.port(), processes: Vec::new(), dovecot: None }),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// CPU seconds so far, by process started (with its descendants).
    pub(crate) fn cpu_seconds(&self) -> Vec<(&'static str, f64)> {
        let dovecot = self.dovecot.iter().filter_map(|dovecot| Some(("dovecot", cpu::seconds(dovecot.pid()?))));
        self.processes.iter().map(|child| (child.name(), cpu::seconds(child.pid()))).chain(dovecot).collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        while self.processes.pop().is_some() {}
    }
}
