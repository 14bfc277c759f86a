//! The mail log: one record for every thing that happens to a message or a client.
//!
//! Each event has a struct of borrowed fields and a function of its own; there are no format strings anywhere else.
//! The same record comes out as a line of JSON with flat keys or as the line that Postfix would write, so that the
//! tools that read Postfix logs go on working. Records are never sampled and never dropped: when the reader of
//! standard output is slow the caller waits. A body or a password is in none of them.
//!
//! Before [`crate::init`] the functions do nothing, so that libraries and unit tests can call them freely.
//!
//! In the Postfix format the program is `staffetta/<listener>/smtpd`, what Postfix writes with
//! `-o syslog_name=staffetta/<listener>`; the others are `staffetta/cleanup`, `/qmgr`, `/smtp`, `/lmtp`, `/bounce`, `/abuse`.
//! `staffetta` is `log.syslog_name`. docs/log.md is made from this ([`reference`]).

mod conduct;
mod delivery;
pub(crate) mod hidden;
mod line;
mod manual;
mod number;
mod reception;
mod returned;
mod samples;
mod sink;
mod stamp;
mod text;
mod tls;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use jiff::tz::TimeZone;
use staffetta_policy::conduct::Crossing;

pub use conduct::Barred;
pub use delivery::{Administered, Attempt, Delays, GivenUp, Moved, Relay, Removed, Report, Reported};
pub(crate) use line::Json;
pub use manual::reference;
pub use reception::{Accepted, Client, Connected, Disconnected, Login, LoginFailed, Lost, Rejected, Sasl};
pub use returned::{Complaint, RemoteBounce};
pub(crate) use stamp::Stamp;
pub(crate) use text::is_dangerous;
pub use text::{MAX_TEXT, Text};
pub use tls::{Encrypted, Secured};

use crate::LogFormat;
use crate::origin::Origin;
use delivery::{BOUNCED, DEFERRED, DELIVERED, EXPIRED, Outcome};
use line::{Classic, Event};
use sink::Sink;

static LOG: OnceLock<(Sink, Origin)> = OnceLock::new();
static FORMAT: AtomicU8 = AtomicU8::new(LogFormat::Json as u8);
static CONNECTIONS: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Every thread renders into its own buffer.
    static LINES: RefCell<(Vec<u8>, Stamp)> = RefCell::new((Vec::new(), Stamp::new(TimeZone::system())));
}

/// A client connected. Logged only at level `debug`.
pub fn connected(event: &Connected<'_>) {
    if CONNECTIONS.load(Relaxed) {
        emit(event);
    }
}

/// A client said goodbye. Logged only at level `debug`.
pub fn disconnected(event: &Disconnected<'_>) {
    if CONNECTIONS.load(Relaxed) {
        emit(event);
    }
}

/// TLS was agreed upon with a client: in JSON each of its messages says so, and this only at level `debug`.
pub fn secured(event: &Secured<'_>) {
    if CONNECTIONS.load(Relaxed) || is_classic() {
        emit(event);
    }
}

/// TLS was agreed upon with a server: in JSON each delivery says so, and this only at level `debug`.
pub fn encrypted(event: &Encrypted<'_>) {
    if CONNECTIONS.load(Relaxed) || is_classic() {
        emit(event);
    }
}

/// A client vanished or fell silent.
pub fn lost(event: &Lost<'_>) {
    emit(event);
}

/// A client logged in.
pub fn login(event: &Login<'_>) {
    emit(event);
}

/// A client failed to log in.
pub fn login_failed(event: &LoginFailed<'_>) {
    emit(event);
}

/// A message was accepted.
pub fn accepted(event: &Accepted<'_>) {
    emit(event);
}

/// A command or a message was refused.
pub fn rejected(event: &Rejected<'_>) {
    emit(event);
}

/// A recipient has the message: `status=sent`.
pub fn delivered(event: &Attempt<'_>) {
    emit(&Outcome::<DELIVERED>(event));
}

/// A recipient is tried again later.
pub fn deferred(event: &Attempt<'_>) {
    emit(&Outcome::<DEFERRED>(event));
}

/// A recipient failed for good.
pub fn bounced(event: &Attempt<'_>) {
    emit(&Outcome::<BOUNCED>(event));
}

/// A recipient was given up after the message's lifetime.
pub fn expired(event: &Attempt<'_>) {
    emit(&Outcome::<EXPIRED>(event));
}

/// A message is given up for some of its recipients, who have expired.
pub fn given_up(event: &GivenUp<'_>) {
    emit(event);
}

/// A report to the sender was queued.
pub fn reported(event: &Reported) {
    emit(event);
}

/// An operator has taken a recipient out of the queue.
pub fn administered(event: &Administered<'_>) {
    emit(event);
}

/// An operator has moved what a selection found.
pub fn moved(event: &Moved<'_>) {
    emit(event);
}

/// An operator has blocked somebody, or wants a recipient to get no mail, or has ended that.
pub fn barred(event: &Barred<'_>) {
    emit(event);
}

/// A rule has suppressed a recipient: `by` is the key that says so.
pub fn suppressed(recipient: &str, by: &str, reason: &str) {
    emit(&Barred { kind: "recipient", name: recipient, verb: "suppressed", by, reason });
}

/// Another system reports that somebody did not get a message.
pub fn remote_bounce(event: &RemoteBounce<'_>) {
    emit(event);
}

/// Somebody complains about a message.
pub fn complaint(event: &Complaint<'_>) {
    emit(event);
}

/// A message left the queue.
pub fn removed(event: &Removed) {
    emit(event);
}

/// A login has come to a step of `[frontend.abuse]`.
pub fn conspicuous(event: &Crossing) {
    emit(event);
}

/// Changes the format for what follows.
pub fn set_format(format: LogFormat) {
    FORMAT.store(format as u8, Relaxed);
}

/// Waits until everything logged so far is written; false if that took longer than `patience`.
pub fn flush(patience: Duration) -> bool {
    LOG.get().is_none_or(|(sink, _)| sink.flush(patience))
}

/// Starts the writer, unless there is one already.
pub(crate) fn start(output: impl Write + Send + 'static, origin: Origin) -> io::Result<()> {
    if LOG.get().is_none() {
        let _ = LOG.set((Sink::start(output)?, origin));
    }
    Ok(())
}

/// The families of the log itself.
pub(crate) fn declare_metrics() {
    drop(sink::declare());
}

fn is_classic() -> bool {
    LogFormat::from_u8(FORMAT.load(Relaxed)) == LogFormat::Postfix
}

/// Turns `connected` and `disconnected` on.
pub(crate) fn set_connections(on: bool) {
    CONNECTIONS.store(on, Relaxed);
}

fn emit<E: Event>(event: &E) {
    let Some((sink, origin)) = LOG.get() else { return };
    LINES.with_borrow_mut(|(lines, stamp)| {
        lines.clear();
        render(event, LogFormat::from_u8(FORMAT.load(Relaxed)), lines, stamp, origin, SystemTime::now());
        if !lines.is_empty() {
            sink.push(lines);
        }
    });
}

fn render<E: Event>(
    event: &E,
    format: LogFormat,
    lines: &mut Vec<u8>,
    stamp: &mut Stamp,
    origin: &Origin,
    now: SystemTime,
) {
    match format {
        LogFormat::Json => Json::write(event, lines, stamp, origin, now),
        LogFormat::Postfix => Classic::write(event, lines, stamp, origin, now),
    }
}
