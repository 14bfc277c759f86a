//! What goes to the person: results on standard output, complaints on standard error, passwords from the terminal.

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use secrecy::SecretString;
use staffetta_telemetry::printable;

/// Longest password that is read, in octets.
const MAX_PASSWORD: usize = 1024;

/// Whether a line of a result could not be written.
static LOST: AtomicBool = AtomicBool::new(false);

/// Writes one line to standard output. A command goes on when that fails, since what it does is done by halves otherwise;
/// [`is_result_lost`] tells in the end. A reader who has seen enough and closed the pipe has lost nothing.
pub(crate) fn say(line: &str) {
    if writeln!(io::stdout().lock(), "{line}").is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe) {
        LOST.store(true, Ordering::Relaxed);
    }
}

/// Could a line of the result not be written, on a full disk say?
pub(crate) fn is_result_lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

/// Writes to standard error, each line after the program's name.
pub(crate) fn complain(text: &str) {
    let mut stderr = io::stderr().lock();
    for line in printable(text).lines() {
        let _ = writeln!(stderr, "staffetta: {line}");
    }
}

/// How many warnings there were.
static WARNINGS: AtomicU64 = AtomicU64::new(0);

/// Complains of what is wrong there, or will be, and yet is no error.
pub(crate) fn warn(place: &str, text: &str) {
    WARNINGS.fetch_add(1, Ordering::Relaxed);
    complain(&format!("{place}: warning: {text}"));
}

/// How often [`warn`] was called.
pub(crate) fn warnings() -> u64 {
    WARNINGS.load(Ordering::Relaxed)
}

/// `1 delivery is held`, `2 deliveries are held`; of none there are many.
pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Reads a password: asked for twice without echo on a terminal, the first line of anything else.
pub(crate) fn read_password(prompt: &str) -> anyhow::Result<SecretString> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return read_line(&mut stdin.lock());
    }
    let first = ask(prompt)?;
    let second = ask("Again: ")?;
    if secrecy::ExposeSecret::expose_secret(&first) != secrecy::ExposeSecret::expose_secret(&second) {
        bail!("the two passwords differ");
    }
    Ok(first)
}

/// Reads a password that is there already: asked for once.
pub(crate) fn read_known_password(prompt: &str) -> anyhow::Result<SecretString> {
    let stdin = io::stdin();
    if stdin.is_terminal() { ask(prompt) } else { read_line(&mut stdin.lock()) }
}

fn ask(prompt: &str) -> anyhow::Result<SecretString> {
    let stdin = io::stdin();
    let before = tcgetattr(&stdin).context("cannot read the terminal's settings")?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    write!(io::stderr().lock(), "{prompt}")?;
    tcsetattr(&stdin, OptionalActions::Flush, &silent).context("cannot silence the terminal")?;
    let line = read_line(&mut stdin.lock());
    let restored = tcsetattr(&stdin, OptionalActions::Flush, &before);
    let _ = writeln!(io::stderr().lock());
    restored.context("cannot restore the terminal")?;
    line
}

fn read_line(input: &mut impl BufRead) -> anyhow::Result<SecretString> {
    let mut line = String::new();
    io::Read::take(input, MAX_PASSWORD as u64 + 2).read_line(&mut line).context("cannot read the password")?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        bail!("the password is empty");
    }
    if password.contains('\0') {
        bail!("the password has a NUL, which no client can send");
    }
    if password.len() > MAX_PASSWORD {
        bail!("the password is longer than {MAX_PASSWORD} octets");
    }
    Ok(SecretString::from(password))
}

/// A time as people say it: its two largest units, such as `2 h 5 min`. What has begun counts.
pub(crate) fn span(time: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    let first = UNITS.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(UNITS.len() - 1);
    let mut left = seconds;
    let mut words = Vec::new();
    for (unit, name) in UNITS.iter().skip(first).take(2) {
        if left >= *unit || words.is_empty() {
            words.push(format!("{} {name}", left / unit));
        }
        left %= unit;
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_its_two_largest_units() {
        for (millis, expected) in [
            (0, "0 s"),
            (1, "1 s"),
            (59_000, "59 s"),
            (60_000, "1 min"),
            (125_000, "2 min 5 s"),
            (3_600_000, "1 h"),
            (3_601_000, "1 h"),
            (7_500_000, "2 h 5 min"),
            (90_061_000, "1 d 1 h"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), expected, "{millis}");
        }
    }
}
