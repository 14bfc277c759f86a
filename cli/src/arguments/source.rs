//! `staffetta source …`

use clap::{Args, Subcommand};
use staffetta_queue::Target;

use super::block::{Blocks, Named, Terms};

/// `staffetta source`
#[derive(Debug, Subcommand)]
pub(crate) enum Source {
    /// Send nothing from addresses of ours for a while; the others of their pools take their share
    Suspend(Suspend),
    /// Send from addresses again
    Resume(Resume),
    /// List the addresses that are suspended
    List(Blocks),
}

/// `staffetta source suspend`
#[derive(Debug, Args)]
pub(crate) struct Suspend {
    /// Addresses of [[delivery.source]]
    #[arg(value_name = "ADDRESS", value_parser = source, required = true)]
    pub(crate) addresses: Vec<Target>,
    #[command(flatten)]
    pub(crate) terms: Terms,
}

/// `staffetta source resume`
#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// The addresses
    #[arg(value_name = "ADDRESS", value_parser = source, required = true)]
    pub(crate) addresses: Vec<Target>,
    #[command(flatten)]
    pub(crate) named: Named,
}

fn source(text: &str) -> Result<Target, String> {
    Target::source(text).map_err(|error| error.to_string())
}
