//! Postfix's `smtp-sink`, which takes everything and counts it.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use super::{Seen, lock};

pub(super) fn command(port: u16) -> Command {
    let mut command = Command::new("smtp-sink");
    command.args(["-c", "-m", "2000"]);
    if rustix::process::geteuid().is_root() {
        command.args(["-u", "nobody"]);
    }
    command.args([format!("127.0.0.1:{port}"), "4096".to_owned()]).stderr(Stdio::null());
    command
}

/// Reads the running counters, `sess=3 quit=1 mesg=17` and a carriage return each time, until smtp-sink ends.
pub(super) fn follow(mut output: impl Read, seen: &Mutex<Seen>) {
    let mut tail = Vec::new();
    let mut chunk = [0; 65_536];
    while let Ok(length @ 1..) = output.read(&mut chunk) {
        let now = Instant::now();
        tail.extend_from_slice(&chunk[..length]);
        let Some(messages) = last_count(&tail) else { continue };
        tail.drain(..tail.len().saturating_sub(200));
        lock(seen).counted(messages, now);
    }
}

/// The number in the last complete counter line.
fn last_count(output: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(output);
    let complete = &text[..text.rfind('\r')?];
    let (_, rest) = complete.rsplit_once("mesg=")?;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_complete_line_counts() {
        for (output, count) in [
            ("", None),
            ("sess=1 quit=0 mesg=1", None),
            ("sess=1 quit=0 mesg=1\r", Some(1)),
            ("sess=1 quit=0 mesg=1\rsess=1 quit=0 mesg=27\r", Some(27)),
            ("sess=1 quit=0 mesg=27\rsess=1 quit=0 mesg=2", Some(27)),
        ] {
            assert_eq!(last_count(output.as_bytes()), count, "{output:?}");
        }
    }

    #[test]
    fn the_moment_of_the_target_is_kept() {
        let seen = Mutex::new(Seen { target: 2, ..Seen::default() });
        follow(&b"sess=1 quit=0 mesg=1\r"[..], &seen);
        assert!(lock(&seen).reached.is_none());
        follow(&b"sess=1 quit=0 mesg=2\rsess=1 quit=0 mesg=3\r"[..], &seen);
        assert!(lock(&seen).reached.is_some());
        assert_eq!(lock(&seen).messages, 3);
    }
}
