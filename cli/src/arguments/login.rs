//! `staffetta login`.

use clap::{Args, Subcommand, ValueEnum};

use super::ConfigFile;

/// `staffetta login`
#[derive(Debug, Subcommand)]
pub(crate) enum Login {
    /// List the logins that have done most of something within an hour
    Top(Top),
    /// Show what a login has done, what is too much, and what was done about it
    Show(ShowLogin),
}

/// `staffetta login top`
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Which full hour, UTC
    #[arg(long, value_enum, default_value = "now")]
    pub(crate) hour: Hour,
    /// By what they are ranked
    #[arg(long, value_enum, default_value = "messages")]
    pub(crate) by: By,
    /// How many, up to 10000
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) limit: u16,
    /// JSON instead of text, one object a line
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
}

/// `staffetta login show`
#[derive(Debug, Args)]
pub(crate) struct ShowLogin {
    /// The login, in any spelling
    #[arg(value_parser = login)]
    pub(crate) login: String,
    /// A JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
}

/// An hour that is counted.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Hour {
    /// The one that is
    Now,
    /// The one before
    Last,
}

/// What is counted.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum By {
    /// Messages that were accepted
    Messages,
    /// Their recipients
    Recipients,
    /// The different domains of these
    Domains,
    /// Recipients who were refused for good
    Bounces,
    /// Those among them who do not exist
    Unknown,
    /// Networks from which it was not used before
    Networks,
}

/// What can be a login.
fn login(text: &str) -> Result<String, String> {
    staffetta_queue::Target::login(text).map(|login| login.name()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::arguments::Arguments;

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let parse = |rest: &[&str]| Arguments::try_parse_from([&["staffetta", "login"][..], rest].concat());
        for good in [
            &["top"][..],
            &["top", "--hour", "last", "--by", "bounces", "--limit", "10000", "--json"],
            &["top", "--by", "networks"],
            &["show", "john@example.org", "--json"],
        ] {
            assert!(parse(good).is_ok(), "{good:?}");
        }
        for bad in [
            &[][..],
            &["top", "--hour", "yesterday"],
            &["top", "--by", "size"],
            &["top", "--limit", "0"],
            &["top", "--limit", "10001"],
            &["show"],
            &["show", ""],
            &["show", "a\nb"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
