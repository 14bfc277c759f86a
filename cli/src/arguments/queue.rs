//! `staffetta queue …`

use clap::{ArgGroup, Args, Subcommand};
use staffetta_mail::QueueId;

use super::ConfigFile;

/// `staffetta queue`
#[derive(Debug, Subcommand)]
pub(crate) enum Queue {
    /// List messages, oldest first
    List(List),
    /// Show one message: envelope, deliveries, last replies
    Show(Show),
    /// Print a message as it is stored
    Cat(Cat),
    /// Try waiting mail now; mail that is held because workers died over it too
    Flush(Flush),
    /// Take waiting mail out of the way until it is released or expires
    Hold(Act),
    /// Try held mail now
    Release(Act),
    /// Delete messages, or their deliveries to a domain or recipient; nobody is told
    Delete(Delete),
    /// End deliveries and tell the senders that they have failed
    Bounce(Delete),
    /// Recipients by destination and by the age of their messages in minutes
    Shape(List),
    /// What is in the queue, on one screen
    Summary(Summary),
    /// Look whether every message and delivery is in its place
    Verify(Verify),
    /// Make the queue in a Redis that has none
    Init(Init),
}

/// `staffetta queue verify`
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Put right what is out of place
    #[arg(long)]
    pub(crate) repair: bool,
    /// JSON objects, one a line: what is out of place, then the numbers
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
}

/// `staffetta queue init`
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Go on although the queue, or a part of it, is lost
    #[arg(long)]
    pub(crate) accept_loss: bool,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
}

/// `staffetta queue list`, `shape`
#[derive(Debug, Args)]
pub(crate) struct List {
    /// JSON instead of text; for list one object a line
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) selection: Selection,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
}

/// Which messages.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Selection {
    /// Only deliveries to this domain
    #[arg(long, value_name = "DOMAIN", value_parser = super::parse_name)]
    pub(crate) domain: Option<String>,
    /// Only deliveries to this recipient; "@example.org" are all of a domain
    #[arg(long, value_name = "ADDRESS", value_parser = super::parse_name)]
    pub(crate) recipient: Option<String>,
    /// Only the message with this queue id
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<QueueId>,
    /// Only messages from this sender; "<>" is the null sender, "@example.org" are all of a domain
    #[arg(long, value_name = "ADDRESS", value_parser = super::parse_name)]
    pub(crate) sender: Option<String>,
    /// Only messages that this login has submitted
    #[arg(long, value_name = "LOGIN", value_parser = super::parse_name)]
    pub(crate) login: Option<String>,
    /// Only messages at least this old, such as 90s, 1h30m, 2d, 1w
    #[arg(long, value_name = "AGE", value_parser = super::parse_age)]
    pub(crate) older_than: Option<std::time::Duration>,
}

impl Selection {
    /// As it was written; empty for everything.
    pub(crate) fn words(&self) -> String {
        let id = self.id.map(|id| id.to_string());
        let age = self.older_than.map(|age| format!("{}s", age.as_secs()));
        let given = [
            ("--id", &id),
            ("--domain", &self.domain),
            ("--recipient", &self.recipient),
            ("--sender", &self.sender),
            ("--login", &self.login),
            ("--older-than", &age),
        ];
        let words = given.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?)));
        words.collect::<Vec<_>>().join(" ")
    }
}

/// `staffetta queue show`
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The queue id
    pub(crate) id: QueueId,
    /// A JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
}

/// `staffetta queue cat`
#[derive(Debug, Args)]
pub(crate) struct Cat {
    /// The queue id
    pub(crate) id: QueueId,
    /// Only the header section
    #[arg(long, short = 'H', conflicts_with = "body")]
    pub(crate) header: bool,
    /// Only what follows the header section
    #[arg(long, short)]
    pub(crate) body: bool,
    /// A JSON object; octets that are not UTF-8 are replaced in it
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
}

/// `staffetta queue flush`
#[derive(Debug, Args)]
pub(crate) struct Flush {
    /// Only these messages
    #[arg(conflicts_with_all = SELECTING)]
    pub(crate) ids: Vec<QueueId>,
    /// Every message in the queue, as without ids and without a selection
    #[arg(long, conflicts_with_all = SELECTING_WITHOUT_ALL)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// A JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
}

/// `staffetta queue hold`, `release`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").args(WHICH).multiple(true).required(true))]
pub(crate) struct Act {
    /// The queue ids
    #[arg(conflicts_with_all = SELECTING)]
    pub(crate) ids: Vec<QueueId>,
    /// Every message in the queue
    #[arg(long, conflicts_with_all = SELECTING_WITHOUT_ALL)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// A JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
}

/// `staffetta queue delete`, `bounce`
#[derive(Debug, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    pub(crate) act: Act,
    /// Do not ask before it is done to what a selection finds
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `staffetta queue summary`
#[derive(Debug, Args)]
pub(crate) struct Summary {
    /// A JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
}

/// What says which messages.
const WHICH: [&str; 8] = ["ids", "domain", "recipient", "id", "sender", "login", "older_than", "all"];
/// What stands for ids.
const SELECTING: [&str; 7] = ["domain", "recipient", "id", "sender", "login", "older_than", "all"];
const SELECTING_WITHOUT_ALL: [&str; 6] = ["domain", "recipient", "id", "sender", "login", "older_than"];

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::arguments::Arguments;

    /// What is given beside ids would be ignored, and more deleted than was meant.
    #[test]
    fn messages_to_act_on_are_named_in_one_way() {
        let id = "0FD21GHPVY9NJ0VT";
        for verb in ["delete", "bounce", "hold", "release"] {
            let parse = |rest: &[&str]| Arguments::try_parse_from([&["staffetta", "queue", verb], rest].concat());
            let domain = ["--domain", "example.com", "--older-than", "1d", "--dry-run"];
            let one = ["--id", id, "--recipient", "a@example.com"];
            for good in [&[id][..], &[id, id], &["--all"], &domain, &["--recipient", "a@example.com"], &one] {
                assert!(parse(good).is_ok(), "{verb} {good:?}");
            }
            for bad in [
                &[][..],
                &[id, "--all"],
                &[id, "--domain", "example.com"],
                &[id, "--id", id],
                &[id, "--older-than", "1d"],
                &["--all", "--login", "anna"],
                &["--dry-run"],
            ] {
                assert!(parse(bad).is_err(), "{verb} {bad:?}");
            }
        }
        let flush = |rest: &[&str]| Arguments::try_parse_from([&["staffetta", "queue", "flush"], rest].concat());
        assert!(flush(&[]).is_ok() && flush(&["--all"]).is_ok() && flush(&[id, "--domain", "example.com"]).is_err());
        for two in [id, "--login=anna"] {
            assert!(flush(&["--all", two]).is_err(), "{two}");
        }
    }

    /// Who names none learns how else they can be named.
    #[test]
    fn no_message_to_act_on_tells_of_selections() {
        for verb in ["delete", "bounce", "hold", "release"] {
            let error = Arguments::try_parse_from(["staffetta", "queue", verb]).map(drop).map_err(|it| it.to_string());
            let said = error.err().unwrap_or_default();
            assert!(said.contains("--all") && said.contains("--older-than"), "{verb}: {said}");
        }
    }
}
