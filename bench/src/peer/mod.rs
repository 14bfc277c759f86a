//! The relays that can be measured. Each listens on a free port of loopback, trusts it, and relays everything to the
//! sink; its state is in the scratch directory.

mod postfix;
mod staffetta;

use std::fmt;
use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;
use staffetta_testkit::certs::{Authority, Leaf};
use staffetta_testkit::dovecot::Dovecot;

use crate::child::Child;
use crate::cpu;
use crate::load::Load;
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

/// The relay's certificate, signed by [`AUTHORITY`].
fn certificate(scratch: &Path) -> Result<Leaf> {
    Authority::new(scratch)?.leaf("relay", &[HOSTNAME])
}

impl Peer {
    /// Returns when the relay takes mail.
    pub(crate) async fn start(kind: Kind, scratch: &Path, sink: &Sink, load: Load, binaries: &Path) -> Result<Self> {
        match kind {
            Kind::Staffetta => staffetta::start(scratch, sink.port(), load, binaries).await,
            Kind::Postfix => postfix::start(scratch, sink.port(), load).await,
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
