//! `staffetta trace`

use std::path::PathBuf;

use clap::Args;

use super::ConfigFile;

/// `staffetta trace`
#[derive(Debug, Args)]
pub(crate) struct Trace {
    /// A queue id, a Message-ID, or a recipient
    #[arg(value_name = "ID|MESSAGE-ID|RECIPIENT", value_parser = super::parse_name)]
    pub(crate) what: String,
    /// A mail log in JSON; several can be given, in any order, and - is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Vec<PathBuf>,
    /// JSON objects, one a line: the records of the log, then what is in the queue
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
}
