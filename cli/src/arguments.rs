//! The command line.

mod block;
mod destination;
mod login;
mod queue;
mod source;
mod suppress;
mod trace;
mod user;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use staffetta_config::Service;
use staffetta_mail::{AddressError, ReversePath};
use staffetta_telemetry::Build;

pub(crate) use block::{Block, Blocks, Named, Terms, Unblock};
pub(crate) use destination::Destination;
pub(crate) use login::{By, Hour, Login, ShowLogin, Top};
pub(crate) use queue::{Act, Cat, Delete, Flush, Init, List, Queue, Selection, Show, Summary, Verify};
pub(crate) use source::Source;
pub(crate) use suppress::Suppress;
pub(crate) use trace::Trace;
pub(crate) use user::{Alias, Auth, Domain, NewPassword, OneUser, Shown, User, Users};

/// Staffetta: an SMTP relay that runs as a cluster.
#[derive(Debug, Parser)]
#[command(name = "staffetta", version, about, max_term_width = 100)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole cluster in one process
    Up(Up),
    /// Check the configuration and try what it names
    Check(Check),
    /// Print the configuration in force, secrets masked
    Config(Config),
    /// Manage the accounts of the SQL back end
    #[command(subcommand)]
    User(User),
    /// Try what the auth service says of a login
    #[command(subcommand)]
    Auth(Auth),
    /// Hash a password, read from the terminal or standard input
    Hash(Hash),
    /// Look at the queue and act on it
    #[command(subcommand)]
    Queue(Queue),
    /// See what logins do: who sends most, whose mail comes back
    #[command(subcommand)]
    Login(Login),
    /// Stop a login, the clients of a network, or a domain, on all frontends at once
    #[command(subcommand)]
    Block(Block),
    /// End a block
    #[command(subcommand)]
    Unblock(Unblock),
    /// List what is blocked
    Blocks(Blocks),
    /// Keep mail from recipients that must not get any more
    #[command(subcommand)]
    Suppress(Suppress),
    /// Let some servers rest, and see which do
    #[command(subcommand)]
    Destination(Destination),
    /// Take addresses of ours out of their pools, and see which are
    #[command(subcommand)]
    Source(Source),
    /// Tell what has become of a message, with what servers said
    Trace(Trace),
    /// Tell what a delivery to a domain would do, and why
    Resolve(Resolve),
    /// Make DKIM keys, show their records, see whether the DNS has them
    #[command(subcommand)]
    Dkim(Dkim),
    /// Run a test MX that keeps what it gets
    Sink(Sink),
    /// Send a message as sendmail does: for cron, PHP and other programs of this machine
    Sendmail(Sendmail),
    /// Print the completions of this command for a shell
    Completions(Completions),
    /// Write the manual pages of this command into a directory
    Man(Man),
}

/// Which configuration file.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConfigFile {
    /// The configuration file [default: /etc/staffetta/staffetta.toml, else ./.staffetta/staffetta.toml]
    #[arg(long, value_name = "FILE", env = "STAFFETTA_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

/// `staffetta check`
#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Try and require only what this service needs, as on the machine that runs it
    #[arg(long, value_name = "SERVICE")]
    pub(crate) service: Option<OneService>,
}

/// `staffetta config`
#[derive(Debug, Args)]
pub(crate) struct Config {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Only what is not so by default
    #[arg(long)]
    pub(crate) changed: bool,
    /// Require only what this service needs, as on the machine that runs it
    #[arg(long, value_name = "SERVICE")]
    pub(crate) service: Option<OneService>,
}

/// One of the services.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OneService {
    Frontend,
    Auth,
    Delivery,
}

impl From<OneService> for Service {
    fn from(service: OneService) -> Self {
        match service {
            OneService::Frontend => Self::Frontend,
            OneService::Auth => Self::Auth,
            OneService::Delivery => Self::Delivery,
        }
    }
}

/// `staffetta up`
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// The configuration file; without it everything is made under the data directory
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Add a demo user, send all outbound mail to a built-in sink, submit one message and show its journey
    #[arg(long, conflicts_with = "config")]
    pub(crate) demo: bool,
    /// Where everything lives without a configuration
    #[arg(long, value_name = "DIR", default_value = ".staffetta")]
    pub(crate) data: PathBuf,
    /// Added to every port, so that several can run side by side
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "config")]
    pub(crate) port_offset: u16,
}

/// `staffetta hash`
#[derive(Debug, Args)]
pub(crate) struct Hash {
    /// The scheme, with or without braces
    #[arg(long, default_value = "ARGON2ID")]
    pub(crate) scheme: String,
}

/// `staffetta resolve`
#[derive(Debug, Args)]
pub(crate) struct Resolve {
    /// A domain, an address literal such as [192.0.2.1], or a mail address
    pub(crate) domain: String,
    /// For mail of this sender; "<>" for reports. Left out: of all who are not named in a route
    #[arg(long, value_name = "ADDRESS", value_parser = sender)]
    pub(crate) sender: Option<ReversePath>,
    /// For mail that this login has handed in
    #[arg(long, value_name = "LOGIN")]
    pub(crate) login: Option<String>,
    /// Write one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
}

/// `staffetta dkim`
#[derive(Debug, Subcommand)]
pub(crate) enum Dkim {
    /// Make a key in a new file and print the record to publish
    Keygen(Keygen),
    /// Print the records to publish for the keys of the configuration
    Dns(Records),
    /// Look up whether the keys of the configuration are published
    Check(Records),
}

/// `staffetta dkim keygen`
#[derive(Debug, Args)]
pub(crate) struct Keygen {
    /// The domain that signs
    #[arg(long, value_name = "DOMAIN", value_parser = parse_domain)]
    pub(crate) domain: String,
    /// A name for the key, such as s2026; a new key gets a new one
    #[arg(long, value_name = "NAME", value_parser = parse_domain)]
    pub(crate) selector: String,
    /// What verifiers must know; not all know ed25519
    #[arg(long, value_enum, default_value = "rsa")]
    pub(crate) algorithm: KeyKind,
    /// The file for the private key; it must not be there [default: DOMAIN.NAME.pem]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// The kinds of DKIM keys.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum KeyKind {
    /// 2048 bits
    Rsa,
    /// RFC 8463
    Ed25519,
}

/// `staffetta dkim dns` and `check`
#[derive(Debug, Args)]
pub(crate) struct Records {
    /// Write one JSON array
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
}

/// `staffetta sink`
#[derive(Debug, Args)]
pub(crate) struct Sink {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:2526")]
    pub(crate) bind: SocketAddr,
    /// How to misbehave: a TOML file, see docs/operations.md
    #[arg(long, value_name = "FILE")]
    pub(crate) scenario: Option<PathBuf>,
    /// Where messages are written, one .eml each; without it they are only counted
    #[arg(long, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

/// `staffetta sendmail`
#[derive(Debug, Args)]
#[command(after_help = SENDMAIL)]
pub(crate) struct Sendmail {
    /// Options of sendmail, and recipients
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub(crate) arguments: Vec<OsString>,
}

const SENDMAIL: &str = "\
The message is read from standard input, to a line that is a dot alone.
  -t               recipients are those of To, Cc and Bcc, too; Bcc is taken out
  -i, -oi          a dot alone does not end the message
  -f, -r ADDRESS   the sender of the envelope; empty: none
  -F NAME          the name of whoever sends, for a From field that is not there
  -N WHEN          report never, or success, failure, delay
  -R full|hdrs     how much of the message a report has
  -V ID            an identifier for reports
  -v               print what the relay says
  -bp              list the queue, as mailq
  -C, --config F   the configuration file, which says where the relay listens, or $STAFFETTA_CONFIG
  --server H:PORT  the relay, or $STAFFETTA_SENDMAIL_SERVER
Other options of sendmail that change nothing here are taken. Exit codes are those of sysexits.h: 64 the call is wrong,
65 the message is, 67 a recipient is refused, 69 the message is, 75 try again later.";

impl Arguments {
    /// The command line; under the names `sendmail` and `mailq` this program is those.
    pub(crate) fn of_this_process(build: Build) -> Self {
        let mut words = std::env::args_os();
        let name = words.next().map(PathBuf::from).unwrap_or_default();
        let before: &[&str] = match name.file_name().and_then(|name| name.to_str()) {
            Some("sendmail") => &[],
            Some("mailq") => &["-bp"],
            _ => {
                let command = Self::command().version(build.text());
                return Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
            }
        };
        let arguments = before.iter().map(OsString::from).chain(words).collect();
        Self { command: Command::Sendmail(Sendmail { arguments }) }
    }
}

/// `staffetta completions`
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// For which shell
    pub(crate) shell: clap_complete::Shell,
}

/// `staffetta man`
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Where to; it is made if it is not there
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

/// A sender as MAIL FROM has it, with the angle brackets or without.
fn sender(text: &str) -> Result<ReversePath, String> {
    let text = text.strip_prefix('<').and_then(|inner| inner.strip_suffix('>')).unwrap_or(text);
    if text.is_empty() {
        return Ok(ReversePath::Null);
    }
    text.parse().map(ReversePath::Address).map_err(|error: AddressError| error.to_string())
}

/// In lower case and A-labels.
fn parse_domain(text: &str) -> Result<String, String> {
    let name = staffetta_mail::Address::parse(&format!("postmaster@{text}")).ok();
    let name = name.filter(|_| !text.starts_with('[')).and_then(|address| address.domain_key());
    name.ok_or_else(|| format!("\"{text}\" is no domain name; allowed: letters, digits and hyphens between dots"))
}

/// What messages are selected by. A variable of a script that is not set must not select anything.
fn parse_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(format!("{text:?} is no name; allowed: one without blanks and control characters"));
    }
    Ok(text.to_owned())
}

/// `90s`, `1h30m`, `1w`: as in the configuration.
fn parse_age(text: &str) -> Result<std::time::Duration, String> {
    staffetta_config::parse_duration(text).ok_or_else(|| {
        format!("\"{text}\" is not a duration; allowed: numbers with w, d, h, m, s, ms, such as 90s or 1h30m")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn nothing_is_selected_by_an_empty_name() {
        assert_eq!(parse_name("<>"), Ok("<>".to_owned()));
        for text in ["", " ", "a b", "a\nb", "\u{1b}[31m"] {
            assert!(parse_name(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn ages_are_durations_as_in_the_configuration() {
        for (text, seconds) in [("90s", 90), ("2d", 172_800), ("1h30m", 5_400), ("1w", 604_800)] {
            assert_eq!(parse_age(text), Ok(std::time::Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "5", "5y", "-5m", "5\u{e9}", "99999999999999999999d"] {
            assert!(parse_age(text).is_err(), "{text:?}");
        }
    }
}
