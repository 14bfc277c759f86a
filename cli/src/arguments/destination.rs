//! `staffetta destination …`

use clap::{Args, Subcommand};
use staffetta_queue::Target;

use super::block::{Blocks, Named, Terms};

/// `staffetta destination`
#[derive(Debug, Subcommand)]
pub(crate) enum Destination {
    /// Send no mail to some servers for a while; what is for them waits
    Suspend(Suspend),
    /// Send mail to servers again, within a minute, as fast and over as many connections as usual
    Resume(Resume),
    /// List the destinations that are suspended, slow or have fewer connections, by operators and by rules, those of which
    /// replies are final by a rule, and hosts that get commands one by one
    List(Blocks),
}

/// `staffetta destination suspend`
#[derive(Debug, Args)]
pub(crate) struct Suspend {
    /// Recipients' domains, mail hosts, or all hosts and domains below a name: *.example.com; 'NAME from POOL' for mail from
    /// one pool of our addresses
    #[arg(value_name = "NAME", value_parser = destination, required = true)]
    pub(crate) names: Vec<Target>,
    #[command(flatten)]
    pub(crate) terms: Terms,
}

/// `staffetta destination resume`
#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// The names, as `list` shows them; without `from POOL` all pools of our addresses are meant
    #[arg(value_name = "NAME", value_parser = destination, required = true)]
    pub(crate) names: Vec<Target>,
    #[command(flatten)]
    pub(crate) named: Named,
}

fn destination(text: &str) -> Result<Target, String> {
    Target::destination(text).map_err(|error| error.to_string())
}
