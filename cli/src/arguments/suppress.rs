//! `staffetta suppress …`

use clap::{Args, Subcommand};
use staffetta_queue::Target;

use super::block::{Blocks, Named, Terms};

/// `staffetta suppress`
#[derive(Debug, Subcommand)]
pub(crate) enum Suppress {
    /// Send no more mail to recipients; whoever tries is told
    Add(Add),
    /// Send mail to recipients again
    Remove(Remove),
    /// List the recipients that get no mail
    List(Blocks),
}

/// `staffetta suppress add`
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Addresses, or domains for all their recipients
    #[arg(value_name = "RECIPIENT", value_parser = recipient, required = true)]
    pub(crate) recipients: Vec<Target>,
    #[command(flatten)]
    pub(crate) terms: Terms,
}

/// `staffetta suppress remove`
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The addresses or domains, as they were added
    #[arg(value_name = "RECIPIENT", value_parser = recipient, required = true)]
    pub(crate) recipients: Vec<Target>,
    #[command(flatten)]
    pub(crate) named: Named,
}

fn recipient(text: &str) -> Result<Target, String> {
    Target::recipient(text).map_err(|error| error.to_string())
}
