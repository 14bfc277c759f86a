//! `staffetta sendmail`, and the program under the name `sendmail`: what cron, PHP and monit call to send a message.
//!
//! The message comes from standard input and goes by SMTP to a relay listener that trusts this machine ([`submit`]); it is
//! in the queue when the program ends with 0. [`options`] are those of sendmail(1), [`message`] is what becomes of the
//! text, [`person`] who calls. Exit codes are those of sysexits.h, so that callers know whether to try again.

mod message;
mod options;
mod person;
mod submit;

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use staffetta_config::{Config, ListenerKind, ListenerTls, Service};
use staffetta_mail::{Address, Envelope, Recipient, ReversePath};
use staffetta_smtp::client::Transfer;

use super::SYSTEM_CONFIG;
use crate::arguments::{self, Sendmail};
use crate::terminal::{complain, say};
use message::{Draft, Message};
use options::{Mode, Options};
use person::Person;

/// Exit codes of sysexits.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sysexit {
    Usage = 64,
    DataErr = 65,
    NoUser = 67,
    Unavailable = 69,
    IoErr = 74,
    TempFail = 75,
}

/// Why the message was not sent.
#[derive(Debug)]
struct Refusal(Sysexit, String);

/// Where the relay listens if nobody says it.
const RELAY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 25);
/// How long a name of a server may take to be looked up.
const LOOK_UP: Duration = Duration::from_secs(10);

/// What the configuration says, as far as whoever calls may read it.
struct Settings {
    hostname: String,
    server: SocketAddr,
    /// Octets of the largest message.
    largest: u64,
}

pub(super) async fn run(sendmail: Sendmail) -> ExitCode {
    let sent = match Options::parse(sendmail.arguments) {
        Ok(Options { mode: Mode::List, config, .. }) => return list(config.as_deref()).await,
        Ok(options) => send(options).await,
        Err(usage) => Err(Refusal(Sysexit::Usage, usage)),
    };
    match sent {
        Ok(()) => ExitCode::SUCCESS,
        Err(Refusal(code, text)) => {
            complain(&text);
            ExitCode::from(code as u8)
        }
    }
}

/// `-bp`: as `staffetta queue list`.
async fn list(config: Option<&Path>) -> ExitCode {
    let file = arguments::ConfigFile { config: config.map(Path::to_owned) };
    let all = arguments::List { json: false, selection: arguments::Selection::default(), file };
    let listed = super::queue::run(arguments::Queue::List(all)).await;
    listed.unwrap_or_else(|error| {
        complain(&format!("{error:#}"));
        ExitCode::from(Sysexit::Unavailable as u8)
    })
}

async fn send(options: Options) -> Result<(), Refusal> {
    let settings = settings(&options)?;
    let text = read(io::stdin().lock(), options.dots, settings.largest)?;
    let person = Person::of_this_process();
    let sender = sender(options.from.as_deref(), &person, &settings.hostname)?;
    let message = Message::read(&text);
    let mut recipients = addresses(&options.recipients, &settings.hostname)?;
    if options.from_header {
        let named = message.recipients(&settings.hostname).map_err(|text| Refusal(Sysexit::DataErr, text))?;
        recipients.extend(named);
    }
    let mut known = std::collections::HashSet::new();
    recipients.retain(|recipient| known.insert(recipient.as_str().to_owned()));
    if recipients.is_empty() {
        return Err(Refusal(Sysexit::Usage, "no recipient: name one, or use -t with a field To, Cc or Bcc".to_owned()));
    }
    let name = options.name.as_deref().or(person.name.as_deref());
    let draft = Draft { hostname: &settings.hostname, sender: &sender, name, uid: person.uid };
    let content = message.complete(&draft);
    let transfer = transfer(&options, sender, recipients, &content);
    let server = server(options.server.as_deref(), settings.server).await?;
    let accepted = submit::submit(server, &settings.hostname, transfer, &content).await?;
    if options.verbose {
        accepted.iter().for_each(|line| say(line));
    }
    Ok(())
}

/// With the envelope that is asked for.
fn transfer(options: &Options, sender: ReversePath, recipients: Vec<Address>, content: &[u8]) -> Transfer {
    let is_utf8 = |address: &Address| !address.as_str().is_ascii();
    let smtputf8 = recipients.iter().any(is_utf8) || sender.address().is_some_and(is_utf8);
    let recipients: Vec<_> =
        recipients.into_iter().map(|to| Recipient { notify: options.notify, ..Recipient::new(to) }).collect();
    let body = if content.is_ascii() { Default::default() } else { staffetta_mail::BodyType::EightBitMime };
    let (ret, envid) = (options.ret, options.envid.clone());
    let envelope = Envelope { body, ret, envid, smtputf8, ..Envelope::new(sender, recipients) };
    let all: Vec<u32> = (0..envelope.recipients.len() as u32).collect();
    Transfer::new(&envelope, &all, content.len() as u64)
}

/// Ordinary users may not be able to read the file, which has secrets; then this machine's port 25 is right.
fn settings(options: &Options) -> Result<Settings, Refusal> {
    let file = options.config.as_deref().unwrap_or(Path::new(SYSTEM_CONFIG));
    let config = match Config::examine(file, Service::Frontend) {
        Ok(examined) => examined.config,
        Err(error) if options.config.is_some() => return Err(Refusal(Sysexit::IoErr, error.to_string())),
        Err(_) => Config::default(),
    };
    let in_clear = |listener: &&staffetta_config::Listener| {
        listener.kind == ListenerKind::Relay && listener.tls != ListenerTls::Implicit
    };
    let listener = config.frontend.listener.iter().find(in_clear);
    Ok(Settings {
        server: listener.map_or(RELAY, |listener| from_here(listener.bind)),
        largest: config.frontend.size_limit.0,
        hostname: config.hostname,
    })
}

/// Where a listener on this address is reached from this machine.
fn from_here(bind: SocketAddr) -> SocketAddr {
    let ip = match bind.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bind.port())
}

/// The server that was named, or the one of the configuration.
async fn server(named: Option<&str>, configured: SocketAddr) -> Result<SocketAddr, Refusal> {
    let Some(named) = named else { return Ok(configured) };
    let temporary = |why: &str| Refusal(Sysexit::TempFail, format!("cannot look up {named}: {why}"));
    let found = tokio::time::timeout(LOOK_UP, tokio::net::lookup_host(named)).await;
    let mut found = found.map_err(|_| temporary("no answer"))?.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => Refusal(Sysexit::Usage, format!("\"{named}\" is not host:port")),
        _ => temporary(&error.to_string()),
    })?;
    found.next().ok_or_else(|| temporary("it has no address"))
}

/// The text to its end; a line that is a dot alone ends it, too, unless `dots`.
fn read(input: impl Read, dots: bool, largest: u64) -> Result<Vec<u8>, Refusal> {
    let mut text = Vec::new();
    let mut input = input.take(largest.saturating_add(1));
    input
        .read_to_end(&mut text)
        .map_err(|error| Refusal(Sysexit::IoErr, format!("cannot read the message: {error}")))?;
    if text.len() as u64 > largest {
        return Err(Refusal(Sysexit::Unavailable, format!("the message is larger than {largest} octets")));
    }
    let dot = if dots { None } else { message::lone_dot(&text) };
    if let Some(end) = dot {
        text.truncate(end);
    }
    Ok(text)
}

fn sender(from: Option<&str>, person: &Person, hostname: &str) -> Result<ReversePath, Refusal> {
    match from.map(|from| from.trim_start_matches('<').trim_end_matches('>')) {
        Some("") => Ok(ReversePath::Null),
        from => Ok(ReversePath::Address(address(from.unwrap_or(&person.login), hostname)?)),
    }
}

fn addresses(words: &[String], hostname: &str) -> Result<Vec<Address>, Refusal> {
    let mut all = Vec::new();
    for word in words {
        let wrong = || Refusal(Sysexit::DataErr, format!("\"{word}\" is no address"));
        all.extend(staffetta_mail::mailbox::recipients(word, hostname).ok_or_else(wrong)?);
    }
    Ok(all)
}

/// A name without a domain is one of this host.
fn address(text: &str, hostname: &str) -> Result<Address, Refusal> {
    let whole = if text.contains('@') { text.to_owned() } else { format!("{text}@{hostname}") };
    Address::parse(&whole).map_err(|error| Refusal(Sysexit::DataErr, format!("\"{text}\" is no address: {error}")))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_reached_through_this_machine() {
        for (bind, reached) in
            [("0.0.0.0:25", "127.0.0.1:25"), ("[::]:2525", "[::1]:2525"), ("192.0.2.1:25", "192.0.2.1:25")]
        {
            assert_eq!(from_here(bind.parse().unwrap()), reached.parse().unwrap());
        }
    }

    #[test]
    fn a_dot_alone_ends_the_text_unless_it_is_part_of_it() {
        let text = b"a\n..\n.\nb\n";
        assert_eq!(read(&text[..], false, 100).unwrap(), b"a\n..\n");
        assert_eq!(read(&text[..], true, 100).unwrap(), text);
        assert_eq!(read(&text[..], true, text.len() as u64).unwrap(), text);
        assert_eq!(read(&text[..], true, text.len() as u64 - 1).unwrap_err().0, Sysexit::Unavailable);
    }

    #[test]
    fn senders_are_of_this_host_unless_they_say_otherwise() {
        let person = Person { uid: 33, login: "www-data".to_owned(), name: None };
        for (from, expected) in [
            (None, "www-data@mail.test"),
            (Some("john"), "john@mail.test"),
            (Some("<john@example.org>"), "john@example.org"),
            (Some("<>"), ""),
            (Some(""), ""),
        ] {
            assert_eq!(sender(from, &person, "mail.test").unwrap().as_str(), expected, "{from:?}");
        }
        assert_eq!(sender(Some("a b@c"), &person, "mail.test").unwrap_err().0, Sysexit::DataErr);
    }
}
