//! Slots of a Redis Cluster: which of the 16384 a key lies in, and which server has it.
//!
//! What stands in a key between the first `{` and the `}` behind it decides alone, if it is not empty; else the whole key. A
//! server that is no cluster has all slots.

use std::sync::atomic::{AtomicU16, Ordering};

use redis::{Arg, Cmd};

/// How many there are.
pub(crate) const SLOTS: u16 = 16_384;

/// The slot of a key.
pub(crate) fn of_key(key: &[u8]) -> u16 {
    of_tag(tag(key).unwrap_or(key))
}

/// The slot of what stands between the braces.
pub(crate) fn of_tag(tag: &[u8]) -> u16 {
    crc16(tag) % SLOTS
}

/// The slot of the first key of a command: of a script the one behind digest and number of keys, else its first argument.
pub(crate) fn of_command(command: &Cmd) -> u16 {
    let word = |index: usize| match command.args_iter().nth(index) {
        Some(Arg::Simple(word)) => word,
        _ => b"",
    };
    of_key(word(if word(0) == b"EVALSHA" { 3 } else { 1 }))
}

fn tag(key: &[u8]) -> Option<&[u8]> {
    let begin = key.iter().position(|octet| *octet == b'{')? + 1;
    let length = key[begin..].iter().position(|octet| *octet == b'}')?;
    (length > 0).then(|| &key[begin..begin + length])
}

/// CRC-16/XMODEM, as the Redis Cluster specification names it.
fn crc16(data: &[u8]) -> u16 {
    data.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    })
}

/// Which node has a slot, as far as this process knows; nodes by their numbers.
pub(crate) struct Table(Box<[AtomicU16]>);

impl Table {
    /// There is one node.
    pub(crate) fn of_one() -> Self {
        Self(Box::new([]))
    }

    /// The first node has all slots until others are known.
    pub(crate) fn of_many() -> Self {
        Self((0..SLOTS).map(|_| AtomicU16::new(0)).collect())
    }

    pub(crate) fn is_of_many(&self) -> bool {
        !self.0.is_empty()
    }

    pub(crate) fn node(&self, slot: u16) -> u16 {
        self.0.get(usize::from(slot)).map_or(0, |node| node.load(Ordering::Acquire))
    }

    /// What is known now. True: it was another node.
    pub(crate) fn put(&self, slot: u16, node: u16) -> bool {
        self.0.get(usize::from(slot)).is_some_and(|place| place.swap(node, Ordering::AcqRel) != node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_follow_the_cluster_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, tag) in [
            ("foo", "foo"),
            ("{user1000}.following", "user1000"),
            ("foo{bar}{zap}", "bar"),
            ("foo{{bar}}zap", "{bar"),
            ("foo{}{bar}", "foo{}{bar}"),
            ("foo{bar", "foo{bar"),
            ("", ""),
        ] {
            assert_eq!(of_key(key.as_bytes()), of_tag(tag.as_bytes()), "{key}");
        }
        assert_eq!(of_key(b"foo"), 12_182);
        assert_eq!(of_key(b"{kq:cfg}readers"), of_key(b"{kq:cfg}"));
    }

    #[test]
    fn a_command_lies_where_its_first_key_does() {
        let command = |words: &[&str]| {
            let mut command = Cmd::new();
            command.arg(words);
            of_command(&command)
        };
        assert_eq!(command(&["GET", "{T:a}"]), of_key(b"{T:a}"));
        assert_eq!(command(&["EVALSHA", "abc", "2", "{L:a}", "{L:a}known", "1"]), of_key(b"{L:a}"));
        assert_eq!(command(&["PING"]), 0);
    }

    #[test]
    fn one_node_has_everything_and_many_have_what_they_are_given() {
        assert!(!Table::of_one().put(5, 1) && Table::of_one().node(5) == 0);
        let table = Table::of_many();
        assert!(table.put(5, 1) && !table.put(5, 1));
        assert_eq!((table.node(5), table.node(6), table.node(SLOTS)), (1, 0, 0));
    }
}
