//! The queue id: 80 bits as 16 characters of Crockford's base 32.
//!
//! 10 bits of partition, 42 bits of milliseconds since the Unix epoch, 28 bits that make it unique. It is made before
//! the message is stored, is the idempotency key of the enqueue, appears in the `250`, and tells everybody in which
//! partition of the queue the message lives.

use std::fmt;
use std::str::FromStr;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LENGTH: usize = 16;

/// Names a message for its whole life. Ordered by partition, then by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(u128);

/// The text is no queue id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a queue id (16 characters of 0-9 A-Z without I, L, O, U)")]
pub struct QueueIdError;

impl QueueId {
    /// Characters of its text.
    pub const LENGTH: usize = LENGTH;
    /// Most partitions that an id can name.
    pub const MAX_PARTITIONS: u16 = 1024;

    /// Puts an id together; each part is cut to its width.
    pub const fn new(partition: u16, unix_millis: u64, unique: u32) -> Self {
        let partition = (partition as u128 & 0x3ff) << 70;
        let millis = (unix_millis as u128 & ((1 << 42) - 1)) << 28;
        Self(partition | millis | (unique as u128 & 0x0fff_ffff))
    }

    /// The partition of the queue.
    pub const fn partition(self) -> u16 {
        (self.0 >> 70) as u16
    }

    /// When the id was made, in milliseconds since the Unix epoch.
    pub const fn unix_millis(self) -> u64 {
        (self.0 >> 28) as u64 & ((1 << 42) - 1)
    }

    /// Appends the text, as `{id}` would, but without a formatter: names of keys are made of it.
    pub fn push_to(self, text: &mut String) {
        text.push_str(as_text(&self.octets()));
    }

    /// The text: 16 characters of ASCII.
    pub fn octets(self) -> [u8; LENGTH] {
        let halves = [(self.0 >> 40) as u64, self.0 as u64];
        std::array::from_fn(|at| ALPHABET[(halves[at / 8] >> (35 - 5 * (at % 8))) as usize & 31])
    }
}

fn as_text(octets: &[u8; LENGTH]) -> &str {
    std::str::from_utf8(octets).unwrap_or_default()
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(as_text(&self.octets()))
    }
}

impl fmt::Debug for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for QueueId {
    type Err = QueueIdError;

    /// Case does not matter; Crockford's look-alikes (`O`, `I`, `L`) are read as the digits they resemble.
    fn from_str(text: &str) -> Result<Self, QueueIdError> {
        if text.len() != LENGTH {
            return Err(QueueIdError);
        }
        let mut value = 0u128;
        for b in text.bytes() {
            let b = match b.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                b => b,
            };
            let digit = ALPHABET.iter().position(|&a| a == b).ok_or(QueueIdError)?;
            value = value << 5 | digit as u128;
        }
        Ok(Self(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        let id = QueueId::new(1023, (1 << 42) - 1, 0x0fff_ffff);
        assert_eq!(id.to_string(), "ZZZZZZZZZZZZZZZZ");
        assert_eq!((id.partition(), id.unix_millis()), (1023, (1 << 42) - 1));
        let id = QueueId::new(5, 1_790_000_000_000, 7);
        assert_eq!((id.partition(), id.unix_millis()), (5, 1_790_000_000_000));
    }

    #[test]
    fn look_alikes_and_case_are_forgiven_and_nonsense_is_not() {
        assert_eq!("000000000000000o".parse(), Ok(QueueId::new(0, 0, 0)));
        assert_eq!("000000000000000l".parse(), Ok(QueueId::new(0, 0, 1)));
        for text in ["", "0", "00000000000000000", "000000000000000U", "000000000000000\u{e9}"] {
            assert_eq!(text.parse::<QueueId>(), Err(QueueIdError), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn text_round_trips(partition in 0u16..1024, millis in 0u64..(1 << 42), unique in 0u32..(1 << 28)) {
            let id = QueueId::new(partition, millis, unique);
            proptest::prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
    }
}
