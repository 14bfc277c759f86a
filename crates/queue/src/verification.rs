//! What mail servers said of recipients, remembered for the whole cluster.
//!
//! A table of a fixed size, so that nobody can fill Redis by naming recipients: [`PLACES`] hashes of at most [`ROOM`]
//! entries each. Which place a recipient has, and what stands for it there, comes from a digest, so no key and no entry
//! is longer for a long address. Entries end by the time of Redis. In a full place the entry goes that would end first,
//! and what is no yes has only [`ROOM_OF_OTHERS`] of the entries: names that do not exist push nobody out who does.

use std::sync::Arc;
use std::time::Duration;

use redis::Cmd;
use sha2::{Digest, Sha256};

use crate::inquiry::{PATIENCE, ask_one};
use crate::op::unexpected;
use crate::script;
use crate::shared::Shared;
use crate::slot;
use crate::value;
use crate::{Error, UnixMillis};

/// Hashes in Redis. One more bit would give many recipients another place.
const PLACES: u16 = 2048;
/// Entries of a place.
const ROOM: u64 = 64;
/// Those among them that are no yes: they are larger, and a stranger makes as many as he likes.
const ROOM_OF_OTHERS: u64 = 16;
/// Octets of a digest that stand for a recipient: nobody finds another one with the same.
const DIGEST: usize = 12;
/// Longest text that is kept, in octets.
const TEXT: usize = 300;

/// What a recipient's own server said of him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verification {
    /// It takes mail for him.
    Deliverable,
    /// It refuses him for good; the text says why.
    Undeliverable(String),
    /// It could not say.
    Unknown,
}

impl Verification {
    /// How long it is believed. A mailbox seldom goes, may be made at any time, and who was put off comes again soon.
    pub const fn life(&self) -> Duration {
        Duration::from_secs(match self {
            Self::Deliverable => 86_400,
            Self::Undeliverable(_) => 3_600,
            Self::Unknown => 300,
        })
    }
}

/// The memory of one cluster. Cheap to clone.
#[derive(Clone)]
pub struct Verifications {
    shared: Arc<Shared>,
}

impl Verifications {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// What was said of `who`, a text for server and recipient, and is still believed.
    ///
    /// # Errors
    /// Redis is away or does not answer within a second.
    pub async fn recall(&self, who: &str) -> Result<Option<Verification>, Error> {
        let (place, digest) = place(who);
        let mut command = Cmd::new();
        command.arg("HGET").arg(&place).arg(&digest[..]);
        let now = self.shared.node_at(slot::of_key(place.as_bytes())).clock.now();
        Ok(value::str(&ask_one(PATIENCE, &self.shared, command).await?).and_then(|entry| read(entry, now)))
    }

    /// Remembers it for so long.
    ///
    /// # Errors
    /// As [`Self::recall`], or Redis is full: it may be remembered or not.
    pub async fn remember(&self, who: &str, said: &Verification, life: Duration) -> Result<(), Error> {
        let (place, digest) = place(who);
        let (kind, text) = match said {
            Verification::Deliverable => ("y", ""),
            Verification::Undeliverable(text) => ("n", beginning(text)),
            Verification::Unknown => ("?", ""),
        };
        let call = script::Verify {
            place: &place,
            who: digest[..].into(),
            kind: kind.into(),
            life: life.into(),
            text: text.into(),
            room: ROOM.into(),
            room_of_others: ROOM_OF_OTHERS.into(),
        };
        match ask_one(PATIENCE, &self.shared, call.call()).await? {
            redis::Value::Int(1) => Ok(()),
            other => Err(unexpected("verify", &other).into()),
        }
    }
}

/// The key of the place, and what stands for `who` there.
fn place(who: &str) -> (String, [u8; DIGEST]) {
    let hash = Sha256::digest(who);
    let mut digest = [0; DIGEST];
    digest.copy_from_slice(&hash[2..2 + DIGEST]);
    (format!("{{V:{}}}", u16::from_be_bytes([hash[0], hash[1]]) % PLACES), digest)
}

/// An entry: its kind, when it ends, and a text behind a blank. One of a kind that is not known here is none.
fn read(entry: &str, now: UnixMillis) -> Option<Verification> {
    let (head, text) = entry.split_once(' ')?;
    let (kind, ends) = head.split_at_checked(1)?;
    if ends.parse::<UnixMillis>().ok()? <= now {
        return None;
    }
    match kind {
        "y" => Some(Verification::Deliverable),
        "n" => Some(Verification::Undeliverable(text.to_owned())),
        "?" => Some(Verification::Unknown),
        _ => None,
    }
}

fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_until_its_end_and_only_if_its_kind_is_known() {
        let no = Some(Verification::Undeliverable("host mx said: 550 no".to_owned()));
        for (entry, now, read_as) in [
            ("y1000 ", 999, Some(Verification::Deliverable)),
            ("y1000 ", 1_000, None),
            ("n1000 host mx said: 550 no", 0, no),
            ("?1000 ", 0, Some(Verification::Unknown)),
            ("z1000 ", 0, None),
            ("y ", 0, None),
            ("y1000", 0, None),
            ("", 0, None),
            ("\u{e9}1000 ", 0, None),
        ] {
            assert_eq!(read(entry, now), read_as, "{entry:?}");
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let text = "\u{e9}".repeat(TEXT);
        assert_eq!(beginning(&text).len(), TEXT);
        assert_eq!(beginning(&format!("x{text}")).len(), TEXT - 1);
        assert_eq!(beginning("short"), "short");
    }

    #[test]
    fn recipients_are_spread_over_the_places() {
        let keys: std::collections::HashSet<String> = (0..20_000).map(|n| place(&format!("{n}@x.test")).0).collect();
        assert_eq!(keys.len(), usize::from(PLACES));
        assert!(keys.contains("{V:0}") && keys.contains("{V:2047}"));
        assert_ne!(place("a@x.test").1, place("b@x.test").1);
    }
}
