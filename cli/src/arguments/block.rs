//! `staffetta block`, `unblock`, `blocks`.

use std::time::Duration;

use clap::{Args, Subcommand};
use staffetta_queue::Target;

use super::ConfigFile;

/// `staffetta block`
#[derive(Debug, Subcommand)]
pub(crate) enum Block {
    /// Refuse a login, end its sessions, and hold its mail that waits
    Login(BlockLogin),
    /// Refuse the clients of a network, and end their sessions
    Client(BlockClient),
    /// Refuse mail to and from a domain
    Domain(BlockDomain),
}

/// `staffetta block login`
#[derive(Debug, Args)]
pub(crate) struct BlockLogin {
    /// The login, in any spelling
    #[arg(value_parser = login)]
    pub(crate) login: Target,
    /// Leave its mail that waits where it is
    #[arg(long)]
    pub(crate) keep_queue: bool,
    #[command(flatten)]
    pub(crate) terms: Terms,
}

/// `staffetta block client`
#[derive(Debug, Args)]
pub(crate) struct BlockClient {
    /// An address, or a network such as 192.0.2.0/24
    #[arg(value_name = "NET", value_parser = client)]
    pub(crate) network: Target,
    #[command(flatten)]
    pub(crate) terms: Terms,
}

/// `staffetta block domain`
#[derive(Debug, Args)]
pub(crate) struct BlockDomain {
    /// The domain, without those below it
    #[arg(value_parser = domain)]
    pub(crate) domain: Target,
    #[command(flatten)]
    pub(crate) terms: Terms,
}

/// Why, and for how long.
#[derive(Clone, Debug, Args)]
pub(crate) struct Terms {
    /// Why, for those who list it later; of a destination, for senders, too, whose mail is late or comes back for it
    #[arg(long, value_name = "TEXT", default_value = "", value_parser = reason)]
    pub(crate) reason: String,
    /// For how long, such as 90s, 1h30m, 2d, 1w [default: until it is taken back]
    #[arg(long = "for", value_name = "DURATION", value_parser = life)]
    pub(crate) life: Option<Duration>,
    #[command(flatten)]
    pub(crate) named: Named,
}

/// `staffetta unblock`
#[derive(Debug, Subcommand)]
pub(crate) enum Unblock {
    /// Let a login in again; its mail stays held
    Login(UnblockLogin),
    /// Let the clients of a network in again
    Client(UnblockClient),
    /// Take mail to and from a domain again
    Domain(UnblockDomain),
}

/// `staffetta unblock login`
#[derive(Debug, Args)]
pub(crate) struct UnblockLogin {
    /// The login, in any spelling
    #[arg(value_parser = login)]
    pub(crate) login: Target,
    /// Let all its mail go that is held
    #[arg(long)]
    pub(crate) release: bool,
    #[command(flatten)]
    pub(crate) named: Named,
}

/// `staffetta unblock client`
#[derive(Debug, Args)]
pub(crate) struct UnblockClient {
    /// The network as it was blocked
    #[arg(value_name = "NET", value_parser = client)]
    pub(crate) network: Target,
    #[command(flatten)]
    pub(crate) named: Named,
}

/// `staffetta unblock domain`
#[derive(Debug, Args)]
pub(crate) struct UnblockDomain {
    /// The domain
    #[arg(value_parser = domain)]
    pub(crate) domain: Target,
    #[command(flatten)]
    pub(crate) named: Named,
}

/// What every form of block and unblock takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Named {
    /// A JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
}

/// `staffetta blocks`
#[derive(Debug, Args)]
pub(crate) struct Blocks {
    /// JSON instead of text, one object a line
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
}

fn login(text: &str) -> Result<Target, String> {
    Target::login(text).map_err(|error| error.to_string())
}

fn client(text: &str) -> Result<Target, String> {
    Target::client(text).map_err(|error| error.to_string())
}

fn domain(text: &str) -> Result<Target, String> {
    Target::domain(text).map_err(|error| error.to_string())
}

/// One line: it is shown in lists and lies beside times.
fn reason(text: &str) -> Result<String, String> {
    let longest = staffetta_queue::Block::MAX_REASON;
    if text.len() > longest || text.chars().any(char::is_control) {
        return Err(format!("allowed: one line of up to {longest} octets"));
    }
    Ok(text.to_owned())
}

/// A block that ends at once is a slip.
fn life(text: &str) -> Result<Duration, String> {
    let life = super::parse_age(text)?;
    let longest = Duration::from_secs(100 * 365 * 86_400);
    if life < Duration::from_secs(1) || life > longest {
        return Err(format!("\"{text}\" is too short or too long; allowed: 1s to 36500d"));
    }
    Ok(life)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::arguments::Arguments;

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let parse = |verb: &str, rest: &[&str]| Arguments::try_parse_from([&["staffetta", verb][..], rest].concat());
        for good in [
            &["login", "john@example.org", "--reason", "a thief", "--for", "2h"][..],
            &["login", "john doe", "--for", "1h30m"],
            &["client", "192.0.2.0/24"],
            &["client", "2001:db8::1", "--json"],
            &["domain", "Example.com"],
        ] {
            assert!(parse("block", good).is_ok(), "{good:?}");
        }
        for bad in [
            &[][..],
            &["login"],
            &["login", ""],
            &["login", "a\nb"],
            &["login", "john", "--for", "0s"],
            &["login", "john", "--for", "999ms"],
            &["login", "john", "--for", "99999d"],
            &["login", "john", "--reason", "two\nlines"],
            &["client", "0.0.0.0/0"],
            &["client", "192.0.2.1/24"],
            &["domain", "a b"],
            &["host", "x"],
        ] {
            assert!(parse("block", bad).is_err(), "{bad:?}");
        }
        assert!(parse("unblock", &["login", "john", "--release"]).is_ok());
        assert!(parse("unblock", &["domain", "example.com", "--release"]).is_err());
    }
}
