//! What a failure is of, for people and their tools: a [`Class`] for every deferral and bounce, with whom it is about and
//! what to do next.
//!
//! [`crate::classify`] decides what to do about a failure, by the protocol alone; nothing here changes that. What servers
//! say in words tells more, and is worth no more than words: it goes into the log and the metrics, and an address is
//! suppressed by it only where its own server has refused it for good.
//!
//! The order: what one provider means by its codes (`providers.rs`), what is said everywhere (`words.rs`), the enhanced code,
//! the reply code and the command (`codes.rs`). The tables are data; `corpus.txt` beside them says what is expected of them.
//!
//! Servers repeat addresses in their replies, and strangers choose their addresses: callers take them out before
//! ([`without_addresses`](crate::shaping::without_addresses)).

mod class;
mod codes;
mod providers;
mod words;

use std::sync::LazyLock;

use regex::bytes::{Regex, RegexBuilder};
use staffetta_mail::RemoteReply;
use staffetta_smtp::client::{Failure as SessionFailure, Stage};

pub use class::{Class, Remedy, Scope};

use crate::classify::Failure;

/// A class, and what is searched for in a reply that was put into lower case.
type Words = (Class, &'static str);

/// Octets of a reply that are looked at.
const LOOKED_AT: usize = 1_000;

/// What is known of a failure without the words of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A server has answered to this.
    Answered(Stage),
    /// Nobody has said anything: it is of this class.
    Met(Class),
}

impl Trouble {
    /// Of a failed attempt.
    pub const fn of(failure: &Failure) -> Self {
        Self::Met(match failure {
            Failure::NullMx | Failure::NotFound { .. } => Class::BadDomain,
            Failure::Dns { .. } | Failure::Loop | Failure::Blocked => Class::RoutingErrors,
            Failure::Unproven { .. } => Class::TlsRelated,
            Failure::NoToken { .. } => Class::LoginRelated,
            Failure::Connect { .. } => Class::NoAnswerFromHost,
            Failure::Suppressed => Class::Suppressed,
            Failure::Route { .. } | Failure::Suspended { .. } | Failure::NoSource { .. } | Failure::Local { .. } => {
                Class::Local
            }
            Failure::Session { failure, .. } => return Self::in_session(failure),
        })
    }

    const fn in_session(failure: &SessionFailure) -> Self {
        use SessionFailure as F;
        Self::Met(match failure {
            F::Reply { stage, .. } => return Self::Answered(*stage),
            F::TimedOut { stage: Stage::Greeting } => Class::NoAnswerFromHost,
            F::Lost { .. } | F::TimedOut { .. } => Class::BadConnection,
            F::Malformed { .. } | F::NoSmtpUtf8 { .. } | F::NoEightBitMime(_) | F::NoBdat => Class::ProtocolErrors,
            F::TlsNotOffered | F::TlsHandshake(_) | F::TlsInjection | F::NoRequireTls => Class::TlsRelated,
            F::NoMechanism => Class::LoginRelated,
            F::TooLarge { .. } => Class::TooLarge,
            F::Loop => Class::RoutingErrors,
        })
    }
}

/// Reads the tables, for which a server that has just answered should not wait.
pub fn prepare() {
    LazyLock::force(&ROWS);
}

/// What `host` means by a reply to this; `text` is the reply on one line, without the addresses of the message.
pub fn diagnose(host: &str, stage: Stage, reply: &RemoteReply, text: &str) -> Class {
    // Our own steps: whatever is said, it is of them.
    match stage {
        Stage::Auth => return Class::LoginRelated,
        Stage::StartTls => return Class::TlsRelated,
        _ => {}
    }
    let spoken = spoken(host, &text[..text.floor_char_boundary(LOOKED_AT)]);
    spoken.or_else(|| coded(reply)).unwrap_or_else(|| codes::by_code(reply.code, stage))
}

/// Does a reply to RCPT of this class say that nobody will ever read at the address? Words alone do not: a server may repeat those
/// of another, which the sender has chosen. Its code must say so, too, or it is a provider's, whose words are known.
pub fn condemns_address(host: &str, reply: &RemoteReply, class: Class) -> bool {
    let is_of_provider = || providers::PROVIDERS.iter().any(|(_, names, _)| is_of(host, names));
    class.suppresses() && (coded(reply).is_some_and(Class::suppresses) || is_of_provider())
}

/// The providers whose words are known, by their names.
pub fn providers() -> impl Iterator<Item = &'static str> {
    providers::PROVIDERS.iter().map(|(name, ..)| *name)
}

/// The one of [`providers`] that all of these mail hosts belong to.
pub fn provider_of(hosts: &[String]) -> Option<&'static str> {
    providers::PROVIDERS.iter().find(|(_, names, _)| are_of(hosts, names)).map(|(name, ..)| *name)
}

/// Are there hosts, and is each below one of these names?
pub(crate) fn are_of(hosts: &[String], names: &[&str]) -> bool {
    !hosts.is_empty() && hosts.iter().all(|host| is_of(host, names))
}

/// By the enhanced code alone.
fn coded(reply: &RemoteReply) -> Option<Class> {
    reply.status.and_then(|status| codes::by_status(status.with_class_of(reply.code)))
}

/// One of what is searched for.
struct Row {
    /// Only in what hosts below these names say; without any everywhere.
    hosts: &'static [&'static str],
    class: Class,
    words: Regex,
}

/// Those of the providers first. One by one: each is found by its letters, which is fifty times as fast as one automaton for all.
static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| all().filter_map(Row::new).collect());

fn all() -> impl Iterator<Item = (&'static [&'static str], &'static Words)> {
    let of_providers = providers::PROVIDERS.iter().flat_map(|(_, hosts, words)| words.iter().map(|row| (*hosts, row)));
    of_providers.chain(words::WORDS.iter().map(|row| (&[][..], row)))
}

impl Row {
    fn new((hosts, (class, words)): (&'static [&'static str], &'static Words)) -> Option<Self> {
        // The tables are constant, and a test sees that all can be read.
        let words = RegexBuilder::new(words).unicode(false).build().ok()?;
        Some(Self { hosts, class: *class, words })
    }

    fn is_for(&self, host: &str) -> bool {
        self.hosts.is_empty() || is_of(host, self.hosts)
    }
}

fn spoken(host: &str, text: &str) -> Option<Class> {
    let (host, text) = (host.trim_end_matches('.'), text.to_ascii_lowercase());
    ROWS.iter().find(|row| row.is_for(host) && row.words.is_match(text.as_bytes())).map(|row| row.class)
}

fn is_of(host: &str, names: &[&str]) -> bool {
    names.iter().any(|name| is_below(host, name))
}

fn is_below(host: &str, name: &str) -> bool {
    let dot = host.len().checked_sub(name.len() + 1);
    dot.and_then(|dot| host.get(dot..))
        .and_then(|end| end.strip_prefix('.'))
        .is_some_and(|end| end.eq_ignore_ascii_case(name))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
