//! Who has which slots, as a member of a cluster says (`CLUSTER SLOTS`), and which of the shards it names are those that were
//! known before.
//!
//! A shard keeps its number when its primary is replaced: it is the one that has most of the slots it had. So what a process
//! knows of a server (its connections, when it last answered) goes on with the replica that takes its place.

use redis::Value;

use crate::value;

/// More primaries than this are not used.
pub(crate) const MOST: usize = 256;

/// The address of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// A primary with its slots; without slots it is none of the cluster any longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    pub(crate) primary: Host,
    pub(crate) replicas: Vec<Host>,
    /// First and last.
    pub(crate) ranges: Vec<(u16, u16)>,
}

/// All shards, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Map(pub(crate) Vec<Shard>);

impl Shard {
    pub(crate) fn slots(&self) -> impl Iterator<Item = u16> {
        self.ranges.iter().flat_map(|(first, last)| *first..=*last)
    }

    fn overlap(&self, other: &Self) -> u32 {
        let common =
            |a: &(u16, u16), b: &(u16, u16)| (u32::from(a.1.min(b.1)) + 1).saturating_sub(u32::from(a.0.max(b.0)));
        self.ranges.iter().map(|a| other.ranges.iter().map(|b| common(a, b)).sum::<u32>()).sum()
    }
}

impl Map {
    /// What was found now, with the numbers that were known before.
    pub(crate) fn followed_by(&self, found: Vec<Shard>) -> Self {
        let mut all: Vec<Shard> = self.0.iter().map(|shard| Shard { ranges: Vec::new(), ..shard.clone() }).collect();
        let mut free: Vec<usize> = (0..all.len()).collect();
        let mut take = |number: usize, shard: Shard, free: &mut Vec<usize>| {
            free.retain(|other| *other != number);
            if number == all.len() {
                all.push(shard);
            } else {
                all[number] = shard;
            }
        };
        let (same, changed): (Vec<Shard>, Vec<Shard>) =
            found.into_iter().partition(|shard| self.0.iter().any(|known| known.primary == shard.primary));
        for shard in same {
            let number = self.0.iter().position(|known| known.primary == shard.primary).unwrap_or(0);
            take(number, shard, &mut free);
        }
        let mut next = self.0.len();
        for shard in changed {
            let may = |number: &usize| self.0[*number].ranges.is_empty() || self.0[*number].overlap(&shard) > 0;
            let heir = free.iter().copied().filter(may).max_by_key(|number| self.0[*number].overlap(&shard));
            let number = heir.unwrap_or(next);
            next += usize::from(heir.is_none());
            take(number, shard, &mut free);
        }
        Self(all)
    }

    /// Those that are part of the cluster, with their numbers.
    pub(crate) fn shards(&self) -> impl Iterator<Item = (u16, &Shard)> {
        (0..).zip(&self.0).filter(|(_, shard)| !shard.ranges.is_empty())
    }

    /// The number of the shard that has a slot.
    pub(crate) fn of_slot(&self, slot: u16) -> Option<u16> {
        let has = |shard: &Shard| shard.ranges.iter().any(|(first, last)| (*first..=*last).contains(&slot));
        self.shards().find(|(_, shard)| has(shard)).map(|(number, _)| number)
    }

    /// Whom to ask.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.shards().flat_map(|(_, shard)| std::iter::once(&shard.primary).chain(&shard.replicas))
    }
}

/// Reads the answer of a member that was reached at `asked`: in place of an address that it does not know stands that one.
pub(crate) fn read(slots: &Value, asked: &Host) -> Result<Vec<Shard>, String> {
    let mut shards: Vec<Shard> = Vec::new();
    for entry in value::array(slots) {
        let [first, last, primary, replicas @ ..] = value::array(entry) else {
            return Err(format!("an entry of CLUSTER SLOTS cannot be read: {entry:?}"));
        };
        let number = |value: &Value| value::integer(value).and_then(|number| u16::try_from(number).ok());
        let (Some(range), Some(primary)) = (number(first).zip(number(last)), host(primary, asked)) else {
            return Err(format!("an entry of CLUSTER SLOTS cannot be read: {entry:?}"));
        };
        match shards.iter_mut().find(|shard| shard.primary == primary) {
            Some(shard) => shard.ranges.push(range),
            None => {
                let replicas = replicas.iter().filter_map(|replica| host(replica, asked)).collect();
                shards.push(Shard { primary, replicas, ranges: vec![range] });
            }
        }
    }
    match shards.len() {
        0 => Err("no server of the cluster has slots yet".to_owned()),
        count if count > MOST => Err(format!("the cluster has {count} primaries, {MOST} are the most")),
        _ => Ok(shards),
    }
}

/// Of `[address, port, id, more…]`. A member that has no name to announce says `?`, and its address behind.
fn host(member: &Value, asked: &Host) -> Option<Host> {
    let [name, port, rest @ ..] = value::array(member) else { return None };
    let port = value::integer(port).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)?;
    let name = match value::str(name) {
        None | Some("") => &*asked.name,
        Some("?") => rest.get(1).and_then(address).unwrap_or(&asked.name),
        Some(name) => name,
    };
    Some(Host { name: name.to_owned(), port })
}

/// What stands behind `ip`, in either protocol.
fn address(more: &Value) -> Option<&str> {
    let is_ip = |name: &Value| value::str(name) == Some("ip");
    match more {
        Value::Map(pairs) => pairs.iter().find(|(name, _)| is_ip(name)).and_then(|(_, ip)| value::str(ip)),
        flat => value::array(flat).chunks_exact(2).find(|pair| is_ip(&pair[0])).and_then(|pair| value::str(&pair[1])),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn host(port: u16) -> Host {
        Host { name: "h".to_owned(), port }
    }

    fn shard(port: u16, ranges: &[(u16, u16)]) -> Shard {
        Shard { primary: host(port), replicas: Vec::new(), ranges: ranges.to_vec() }
    }

    fn ports(map: &Map) -> Vec<(u16, u16)> {
        map.shards().map(|(number, shard)| (number, shard.primary.port)).collect()
    }

    #[test]
    fn a_shard_keeps_its_number_with_its_address_or_with_most_of_its_slots() {
        let three = [shard(1, &[(0, 99)]), shard(2, &[(100, 199)]), shard(3, &[(200, 299)])];
        let map = Map::default().followed_by(three.to_vec());
        assert_eq!(ports(&map), [(0, 1), (1, 2), (2, 3)]);
        let turned = [&three[2], &three[0], &three[1]].map(Clone::clone);
        assert_eq!(map.followed_by(turned.to_vec()), map, "the order in which they are named says nothing");

        let failed_over = map.followed_by(vec![three[0].clone(), shard(7, &[(100, 199)]), three[2].clone()]);
        assert_eq!(ports(&failed_over), [(0, 1), (1, 7), (2, 3)], "a replica took the place");
        let moved = vec![shard(1, &[(0, 50)]), shard(2, &[(51, 199)]), shard(7, &[(200, 299)])];
        assert_eq!(ports(&map.followed_by(moved)), [(0, 1), (1, 2), (2, 7)], "slots moved at the same time");
        let both = vec![shard(8, &[(100, 199)]), shard(7, &[(0, 99)]), three[2].clone()];
        assert_eq!(ports(&map.followed_by(both)), [(0, 7), (1, 8), (2, 3)]);
    }

    #[test]
    fn who_comes_gets_a_number_of_its_own_and_who_goes_leaves_one() {
        let map = Map::default().followed_by(vec![shard(1, &[(0, 99)]), shard(2, &[(100, 199)])]);
        let more = map.followed_by(vec![shard(1, &[(0, 99)]), shard(2, &[(100, 149)]), shard(3, &[(150, 199)])]);
        assert_eq!(ports(&more), [(0, 1), (1, 2), (2, 3)]);
        let less = more.followed_by(vec![shard(2, &[(0, 149)]), shard(3, &[(150, 199)])]);
        assert_eq!(ports(&less), [(1, 2), (2, 3)]);
        assert_eq!((less.of_slot(99), less.of_slot(150), less.of_slot(200)), (Some(1), Some(2), None));
        let again = less.followed_by(vec![shard(2, &[(0, 9)]), shard(3, &[(150, 199)]), shard(4, &[(10, 149)])]);
        assert_eq!(ports(&again), [(0, 4), (1, 2), (2, 3)], "a number that nobody has is taken again");
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn member(name: Value, more: Value) -> Value {
        Value::Array(vec![name, Value::Int(7_000), text("id"), more])
    }

    fn entry(first: i64, last: i64, members: &[Value]) -> Value {
        Value::Array([&[Value::Int(first), Value::Int(last)], members].concat())
    }

    #[test]
    fn an_answer_names_primaries_and_replicas_and_what_it_does_not_know_is_who_was_asked() {
        let none = || Value::Array(Vec::new());
        let ip = || Value::Array(vec![text("ip"), text("192.0.2.7")]);
        let answer = Value::Array(vec![
            entry(0, 9, &[member(text("192.0.2.1"), none()), member(text("192.0.2.2"), none())]),
            entry(20, 29, &[member(text("192.0.2.1"), none())]),
            entry(30, 39, &[member(Value::Nil, none())]),
            entry(40, 49, &[member(text("?"), ip())]),
        ]);
        let shards = read(&answer, &host(1)).unwrap();
        let names: Vec<&str> = shards.iter().map(|shard| &*shard.primary.name).collect();
        assert_eq!(names, ["192.0.2.1", "h", "192.0.2.7"]);
        assert_eq!(shards[0].ranges, [(0, 9), (20, 29)]);
        assert_eq!(shards[0].replicas, [Host { name: "192.0.2.2".into(), port: 7_000 }]);
        assert_eq!(shards[1].primary.port, 7_000);
    }

    #[test]
    fn an_answer_without_slots_or_sense_is_none() {
        let none = Value::Array(Vec::new());
        for answer in
            [Value::Nil, none.clone(), Value::Array(vec![none]), Value::Array(vec![entry(0, 9, &[Value::Nil])])]
        {
            assert!(read(&answer, &host(1)).is_err(), "{answer:?}");
        }
    }
}
