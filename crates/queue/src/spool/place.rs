//! The names of bodies in the store, and of their entries in the garbage set.

use std::fmt;

use staffetta_mail::QueueId;

/// Stands in the garbage set for a body that is to be deleted.
pub(crate) const IN_STORE: &str = "o";
/// For one that still comes in, or is being moved.
pub(crate) const UNFINISHED: &str = "a";

/// Where a body lies: in a group of its own, `<id>`, or `<id>-<8 hexadecimal digits>` where it was moved while the message
/// waited. No two attempts to move it have the same place, so that to clear up after one never harms another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) id: QueueId,
    /// The number of the move.
    pub(crate) offload: Option<u32>,
}

impl Place {
    /// Where it goes while it comes in.
    pub(crate) fn of(id: QueueId) -> Self {
        Self { id, offload: None }
    }

    /// Where it is moved to.
    pub(crate) fn fresh(id: QueueId) -> Self {
        Self { id, offload: Some(rand::random()) }
    }

    /// A group in the store, if it has a name of ours.
    pub(crate) fn parse(group: &str) -> Option<Self> {
        match group.split_once('-') {
            None => Some(Self::of(group.parse().ok()?)),
            Some((id, number)) => Some(Self { id: id.parse().ok()?, offload: Some(parse_number(number)?) }),
        }
    }

    /// What an entry `<id> <what>` of the garbage set says, if it is `kind`.
    pub(crate) fn parse_entry(id: QueueId, what: &str, kind: &str) -> Option<Self> {
        match what.strip_prefix(kind)? {
            "" => Some(Self::of(id)),
            rest => Some(Self { id, offload: Some(parse_number(rest.strip_prefix('-')?)?) }),
        }
    }

    /// What the garbage set says of it behind the id.
    pub(crate) fn what(self, kind: &str) -> String {
        self.offload.map_or_else(|| kind.to_owned(), |number| format!("{kind}-{number:08x}"))
    }

    /// Its entry in the garbage set.
    pub(crate) fn entry(self, kind: &str) -> String {
        format!("{} {}", self.id, self.what(kind))
    }
}

fn parse_number(digits: &str) -> Option<u32> {
    let number = u32::from_str_radix(digits, 16).ok()?;
    (digits == format!("{number:08x}")).then_some(number)
}

impl fmt::Display for Place {
    /// The name of the group.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offload {
            None => self.id.fmt(f),
            Some(number) => write!(f, "{}-{number:08x}", self.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_names_that_are_read_back_and_no_others() {
        let id = QueueId::new(3, 1_790_000_000_000, 77);
        for place in [Place::of(id), Place { id, offload: Some(0xab) }] {
            assert_eq!(Place::parse(&place.to_string()), Some(place));
            for kind in [UNFINISHED, IN_STORE] {
                let entry = place.entry(kind);
                let (of, what) = entry.split_once(' ').unwrap_or_default();
                assert_eq!((of, Place::parse_entry(id, what, kind)), (&*id.to_string(), Some(place)));
            }
            assert_eq!(Place::parse_entry(id, &place.what(UNFINISHED), IN_STORE), None);
        }
        assert_eq!(Place { id, offload: Some(0xab) }.to_string(), format!("{id}-000000ab"));
        for other in
            ["", "x", "mark-00", &format!("{id}-"), &format!("{id}-AB"), &format!("{id}-1"), &format!("{id}-000000AB")]
        {
            assert_eq!(Place::parse(other), None, "{other}");
        }
        for other in ["oo", "o-", "o-1", "o 1"] {
            assert_eq!(Place::parse_entry(id, other, IN_STORE), None, "{other}");
        }
    }
}
