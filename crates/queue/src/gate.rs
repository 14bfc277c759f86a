//! The durability gate: may this server be trusted with accepted mail?
//!
//! [`ServerFacts`] are read from INFO and CONFIG on each new connection and every second; [`problems`] judges them and
//! says what the operator must set. A failed AOF rewrite or RDB snapshot is not a problem here: what was acknowledged is
//! in the append-only file all the same (a failed *write* to that file is).
//!
//! # Identity
//! At its first start a server is marked: `{kq:cfg}` names the number of partitions and a random id, each partition's
//! identity key repeats the id. Later, a partition without its key, or with another id, means that data was lost or that
//! this is the wrong server, and nothing is accepted. A server that is wholly empty looks like a first start to a process
//! that has just begun, and is initialised unless `redis.create` forbids it; a process that has seen the old id refuses the
//! new one until somebody who knows what happened says so (`staffetta queue init --accept-loss`), or restarts it. With
//! durability `none` an empty server is taken as it comes. The registry also names whose queue it is: two clusters on one
//! Redis do not deliver each other's mail.

use std::collections::HashMap;

use redis::Value;

use crate::Durability;

/// Oldest server that has what the scripts use.
const MIN_VERSION: (u32, u32) = (7, 0);
/// Seconds since a good replica has said how far it is; it says so each second.
const MAX_LAG: u64 = 10;
/// So many of the largest messages should have room.
const ENOUGH: u64 = 10;
/// Octets of reports, at least, that may go beyond `maxmemory`: a queue of nothing but mail that fails must drain, too.
const OVERDRAFT: u64 = 16 << 20;
/// What a server may use that tells neither its limit nor the memory of its machine.
const UNKNOWN_MACHINE: u64 = 1 << 30;

/// What INFO and CONFIG say; `None` where the server does not tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ServerFacts {
    pub(crate) info: HashMap<String, String>,
    /// `None`: CONFIG is forbidden.
    pub(crate) config: Option<HashMap<String, String>>,
}

impl ServerFacts {
    /// The commands whose replies [`ServerFacts::read`] takes.
    pub(crate) fn ask(pipeline: &mut redis::Pipeline) {
        pipeline.cmd("INFO").arg(&["server", "persistence", "memory", "replication", "cluster"]);
        let names = [
            "appendfsync",
            "no-appendfsync-on-rewrite",
            "auto-aof-rewrite-percentage",
            "min-replicas-to-write",
            "cluster-require-full-coverage",
        ];
        pipeline.cmd("CONFIG").arg("GET").arg(&names);
    }

    /// From the replies to [`ServerFacts::ask`].
    pub(crate) fn read(info: &Value, config: &Value) -> Self {
        let info = text(info).unwrap_or_default();
        let info = info.lines().filter_map(|line| line.split_once(':'));
        Self { info: info.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), config: pairs(config) }
    }

    fn info(&self, name: &str) -> &str {
        self.info.get(name).map_or("", String::as_str)
    }

    fn config(&self, name: &str) -> Option<&str> {
        self.config.as_ref()?.get(name).map(String::as_str)
    }

    fn number(&self, name: &str) -> u64 {
        self.info(name).parse().unwrap_or(0)
    }

    pub(crate) fn memory(&self) -> Memory {
        Memory {
            used: self.number("used_memory"),
            limit: self.number("maxmemory"),
            machine: self.number("total_system_memory"),
        }
    }
}

/// The memory of a server, in octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// In use.
    pub(crate) used: u64,
    /// `maxmemory`; 0: none.
    pub(crate) limit: u64,
    /// Of the machine; 0 if the server does not tell.
    pub(crate) machine: u64,
}

impl Memory {
    /// Up to where new mail is taken. Without a `maxmemory` that is nowhere, and half of the machine is a guess for those
    /// who need a number.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of memory"
    )]
    pub(crate) fn mark(self, ratio: f64) -> u64 {
        match self {
            Self { limit: 0, machine: 0, .. } => UNKNOWN_MACHINE,
            Self { limit: 0, machine, .. } => machine / 2,
            Self { limit, .. } => (limit as f64 * ratio) as u64,
        }
    }

    /// Has it so much more than it should that what drains the queue must not add to it either?
    pub(crate) fn is_overdrawn(self) -> bool {
        self.limit > 0 && self.used > self.limit + (self.limit / 10).max(OVERDRAFT)
    }

    /// Is so much of what new mail may take in use that bodies should go elsewhere, if they can?
    pub(crate) fn is_tight(self, ratio: f64) -> bool {
        self.limit > 0 && self.used > self.mark(ratio) / 5 * 4
    }

    /// Is new mail refused?
    pub(crate) fn is_full(self, ratio: f64) -> bool {
        self.limit > 0 && self.used > self.mark(ratio)
    }
}

/// What forbids to use this server; each text tells what to do.
pub(crate) fn problems(facts: &ServerFacts, durability: Durability, replicas: u32) -> Vec<String> {
    let mut problems = usable(facts);
    match durability {
        Durability::None => {}
        Durability::Managed => problems.extend(keeps_everything(facts)),
        Durability::Fsync | Durability::Replicated => {
            problems.extend(keeps_everything(facts));
            problems.extend(synced(facts));
        }
    }
    let (connected, good) = (facts.number("connected_slaves"), good_replicas(facts));
    if durability == Durability::Replicated && good < u64::from(replicas) {
        let found = match connected - good {
            0 => format!("{connected} replicas are connected"),
            late => format!("{connected} replicas are connected, {late} of them not in step"),
        };
        problems.push(format!("{found}, {replicas} are needed: check the replicas"));
    }
    problems
}

/// Those that have all they need to follow, and said so lately: Redis' own idea of a good replica (`min-replicas-max-lag`). What
/// a server does not tell is no reproach.
fn good_replicas(facts: &ServerFacts) -> u64 {
    let follows = |number: &u64| {
        let mut fields = facts.info(&format!("slave{number}")).split(',').filter_map(|field| field.split_once('='));
        fields.all(|(name, value)| match name {
            "state" => value == "online",
            "lag" => value.parse().is_ok_and(|seconds: u64| seconds <= MAX_LAG),
            _ => true,
        })
    };
    (0..facts.number("connected_slaves")).filter(follows).count() as u64
}

/// What does not forbid it, and will be regretted; each text tells what to do. `largest`: octets of a message; `ratio`:
/// the share of its memory up to which new mail is taken.
pub(crate) fn advice(facts: &ServerFacts, durability: Durability, largest: u64, ratio: f64) -> Vec<String> {
    let memory = facts.memory();
    let mut advice = Vec::new();
    if memory.limit == 0 {
        advice.push(
            "maxmemory is 0: it takes mail until its machine has no memory left, and ends; set `maxmemory` to two thirds of \
             that memory"
                .to_owned(),
        );
    } else if memory.machine > 0 && memory.limit / 4 > memory.machine / 5 {
        advice.push(format!(
            "maxmemory is {} of the {} octets of its machine: a rewrite of its file needs room beside it; set two thirds",
            memory.limit, memory.machine
        ));
    } else if memory.mark(ratio) / ENOUGH < largest {
        let least = largest.saturating_mul(ENOUGH);
        advice.push(format!(
            "maxmemory is {}: a few messages of {largest} octets fill it; set {least} at least",
            memory.limit
        ));
    }
    if facts.info("aof_last_bgrewrite_status") == "err" {
        advice.push("the last rewrite of its append-only file failed: check its disk and memory".to_owned());
    }
    if matches!(durability, Durability::Fsync | Durability::Replicated)
        && facts.config("auto-aof-rewrite-percentage") == Some("0")
    {
        let cure = "set `auto-aof-rewrite-percentage 200`";
        advice.push(format!("auto-aof-rewrite-percentage is 0: its append-only file grows for ever; {cure}"));
    }
    if durability == Durability::Replicated && facts.config("min-replicas-to-write") == Some("0") {
        let cure = "set `min-replicas-to-write 1`";
        advice.push(format!("min-replicas-to-write is 0: a primary that is cut off goes on writing; {cure}"));
    }
    if facts.number("cluster_enabled") == 1 && facts.config("cluster-require-full-coverage") == Some("yes") {
        let cure = "set `cluster-require-full-coverage no`";
        advice.push(format!(
            "cluster-require-full-coverage is yes: when one primary is lost all others stop with it; {cure}"
        ));
    }
    advice
}

/// A primary, of our time, that is not loading.
fn usable(facts: &ServerFacts) -> Vec<String> {
    let mut problems = Vec::new();
    if facts.info("role") != "master" {
        problems.push(format!("its role is {}: connect to the primary", facts.info("role")));
    }
    if facts.number("loading") != 0 {
        problems.push("it is loading its data: wait".to_owned());
    }
    let version = facts.info("redis_version");
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    if (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < MIN_VERSION {
        problems.push(format!("its version is {version}: use Redis 7.0, Valkey 7.2 or later"));
    }
    problems
}

/// It never deletes keys to save memory.
fn keeps_everything(facts: &ServerFacts) -> Option<String> {
    let policy = facts.info("maxmemory_policy");
    (!matches!(policy, "noeviction" | ""))
        .then(|| format!("maxmemory-policy is {policy}, which deletes mail: set `maxmemory-policy noeviction`"))
}

/// What it acknowledges is on its disk.
fn synced(facts: &ServerFacts) -> Vec<String> {
    let mut problems = Vec::new();
    if facts.number("aof_enabled") != 1 {
        problems.push("appendonly is no: set `appendonly yes`".to_owned());
    }
    if !matches!(facts.info("aof_last_write_status"), "ok" | "") {
        problems.push("the last write to the append-only file failed: check its disk".to_owned());
    }
    match facts.config("appendfsync") {
        Some("always") => {}
        Some(other) => problems.push(format!("appendfsync is {other}: set `appendfsync always`")),
        None => problems.push(
            "CONFIG GET is forbidden, so its durability is unknown: allow it, or set durability = \"managed\""
                .to_owned(),
        ),
    }
    if facts.config("no-appendfsync-on-rewrite") == Some("yes") {
        problems.push("no-appendfsync-on-rewrite is yes: set `no-appendfsync-on-rewrite no`".to_owned());
    }
    problems
}

/// What the identity keys say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// All partitions belong to this server id.
    Known(String),
    /// These partitions must be marked with this id, then the registry written.
    Unmarked {
        /// The id; `None`: make one up.
        id: Option<String>,
        /// By their numbers.
        partitions: Vec<u16>,
    },
    /// There is no queue, and none may be made.
    Absent,
}

/// What the registry says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Registered<'a> {
    pub(crate) partitions: u16,
    pub(crate) id: &'a str,
    /// Whose queue it is; older programs did not say.
    pub(crate) name: Option<&'a str>,
    /// It was made by somebody who knows that another is lost.
    pub(crate) after_loss: bool,
}

impl<'a> Registered<'a> {
    /// From the fields `partitions`, `id`, `name`, `after_loss`.
    pub(crate) fn read(fields: &'a [Option<String>]) -> Option<Self> {
        let [Some(partitions), Some(id), name, after_loss] = fields else { return None };
        let partitions = partitions.parse().ok()?;
        Some(Self { partitions, id, name: name.as_deref(), after_loss: after_loss.is_some() })
    }
}

/// What is expected of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) name: &'a str,
    /// The id that this process has seen before.
    pub(crate) seen: Option<&'a str>,
    /// May a queue be made where there is none?
    pub(crate) create: bool,
    /// May one go on that has lost something?
    pub(crate) accept_loss: bool,
}

/// How an operator says that what is lost is lost.
const ACCEPT: &str = "Restore its data or, if it is lost, say so with `staffetta queue init --accept-loss`";

/// Why a queue that may not be made cannot be used.
pub(crate) const ABSENT: &str = "there is no queue in this Redis. If it is new, services make one at their first start unless \
     redis.create is false, and `staffetta queue init` makes one anyhow; if it is not, its data is gone";

/// Whose queue is it? `named`: as the registry says.
pub(crate) fn is_ours(named: Option<&str>, name: &str) -> Result<(), String> {
    match named.filter(|other| *other != name) {
        None => Ok(()),
        Some(other) => Err(format!(
            "the queue in this Redis is that of \"{other}\", and redis.name is \"{name}\": check the URL and the database number"
        )),
    }
}

/// What stands in the identity key of a partition.
pub(crate) type Mark = (u16, Option<String>);

/// Judges the identity keys of some or all partitions, of which there are `count`.
pub(crate) fn identity(
    registered: Option<Registered<'_>>,
    marks: &[Mark],
    count: u16,
    expected: Expected<'_>,
) -> Result<Identity, String> {
    let Expected { name, seen, create, accept_loss } = expected;
    is_ours(registered.and_then(|registered| registered.name), name)?;
    let is_seen = |seen: &str| registered.is_some_and(|now| now.id == seen || now.after_loss);
    if !accept_loss && seen.is_some_and(|seen| !is_seen(seen)) {
        return Err(format!("this is not the data that was here before: Redis was emptied or replaced. {ACCEPT}"));
    }
    if registered.is_none() && !create {
        return Ok(Identity::Absent);
    }
    let (partitions, id) = match registered {
        Some(registered) => (registered.partitions, Some(registered.id.to_owned())),
        None => (0, marks.iter().find_map(|(_, mark)| mark.clone())),
    };
    if let Some((wrong, _)) = marks.iter().find(|(_, mark)| mark.is_some() && *mark != id) {
        return Err(format!("partition {wrong} belongs to another queue: check the URL and the database number"));
    }
    let missing: Vec<u16> = marks.iter().filter(|(_, mark)| mark.is_none()).map(|(number, _)| *number).collect();
    if let Some(lost) = missing.iter().find(|number| **number < partitions).filter(|_| !accept_loss) {
        return Err(format!("the data of partition {lost} is gone. {ACCEPT}"));
    }
    match id {
        Some(id) if missing.is_empty() && partitions == count => Ok(Identity::Known(id)),
        id => Ok(Identity::Unmarked { id, partitions: missing }),
    }
}

/// The text of a bulk or simple string.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.clone()),
        _ => None,
    }
}

/// A map, in either protocol.
fn pairs(value: &Value) -> Option<HashMap<String, String>> {
    match value {
        Value::Map(pairs) => pairs.iter().map(|(name, value)| Some((text(name)?, text(value)?))).collect(),
        Value::Array(flat) => flat.chunks_exact(2).map(|pair| Some((text(&pair[0])?, text(&pair[1])?))).collect(),
        _ => None,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn good() -> ServerFacts {
        let own = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        ServerFacts {
            info: own(&[
                ("redis_version", "7.0.15"),
                ("role", "master"),
                ("loading", "0"),
                ("aof_enabled", "1"),
                ("aof_last_write_status", "ok"),
                ("maxmemory_policy", "noeviction"),
                ("connected_slaves", "1"),
            ]),
            config: Some(own(&[("appendfsync", "always"), ("no-appendfsync-on-rewrite", "no")])),
        }
    }

    #[test]
    fn a_good_server_passes_every_level() {
        for durability in [Durability::None, Durability::Fsync, Durability::Replicated, Durability::Managed] {
            assert_eq!(problems(&good(), durability, 1), Vec::<String>::new());
        }
    }

    #[test]
    fn each_problem_tells_what_to_set() {
        let info = [
            ("role", "slave", "connect to the primary"),
            ("loading", "1", "wait"),
            ("redis_version", "6.2.7", "use Redis 7.0"),
            ("aof_enabled", "0", "set `appendonly yes`"),
            ("aof_last_write_status", "err", "check its disk"),
            ("maxmemory_policy", "allkeys-lru", "set `maxmemory-policy noeviction`"),
            ("connected_slaves", "0", "check the replicas"),
        ];
        for (name, value, advice) in info {
            let mut facts = good();
            facts.info.insert(name.into(), value.into());
            let found = problems(&facts, Durability::Replicated, 1);
            assert!(found.len() == 1 && found[0].contains(advice), "{name}: {found:?}");
        }
        for (name, value, advice) in [
            ("appendfsync", "everysec", "set `appendfsync always`"),
            ("no-appendfsync-on-rewrite", "yes", "set `no-appendfsync-on-rewrite no`"),
        ] {
            let mut facts = good();
            facts.config.as_mut().unwrap().insert(name.into(), value.into());
            let found = problems(&facts, Durability::Fsync, 0);
            assert!(found.len() == 1 && found[0].contains(advice), "{name}: {found:?}");
        }
    }

    #[test]
    fn a_replica_counts_that_follows() {
        for (line, advice) in [
            ("ip=10.0.0.2,port=6379,state=online,offset=41,lag=1", None),
            ("ip=10.0.0.2,port=6379,state=wait_bgsave,offset=0,lag=0", Some("1 of them not in step, 1 are needed")),
            ("ip=10.0.0.2,port=6379,state=online,offset=41,lag=11", Some("1 of them not in step, 1 are needed")),
        ] {
            let mut facts = good();
            facts.info.insert("slave0".into(), line.into());
            let found = problems(&facts, Durability::Replicated, 1);
            assert_eq!(found.len(), usize::from(advice.is_some()), "{found:?}");
            assert!(advice.is_none_or(|advice| found[0].contains(advice)), "{found:?}");
        }
    }

    #[test]
    fn new_mail_is_taken_up_to_a_share_of_maxmemory_and_guessed_without_one() {
        let memory = |used, limit, machine| Memory { used, limit, machine };
        for (memory, mark, full) in [
            (memory(800, 1000, 9000), 850, false),
            (memory(851, 1000, 9000), 850, true),
            (memory(8000, 0, 9000), 4500, false),
            (memory(0, 0, 0), UNKNOWN_MACHINE, false),
        ] {
            assert_eq!((memory.mark(0.85), memory.is_full(0.85)), (mark, full), "{memory:?}");
        }
        let mib = |used: u64, limit: u64| memory(used << 20, limit << 20, 0).is_overdrawn();
        assert_eq!((mib(116, 100), mib(117, 100), mib(1_099, 1_000), mib(1_101, 1_000)), (false, true, false, true));
        assert!(!mib(9_000, 0));
    }

    #[test]
    fn what_will_be_regretted_is_said_and_a_good_server_gets_no_advice() {
        let with = |info: &[(&str, &str)], config: &[(&str, &str)]| {
            let mut facts = good();
            let own = |pairs: &[(&str, &str)]| {
                pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>()
            };
            facts.info.extend(own(&[("maxmemory", "2000000"), ("total_system_memory", "3000000")]));
            facts.info.extend(own(info));
            facts.config.as_mut().unwrap().extend(own(config));
            advice(&facts, Durability::Replicated, 100_000, 0.85)
        };
        assert_eq!(with(&[("total_system_memory", "0")], &[("min-replicas-to-write", "1")]), Vec::<String>::new());
        for (info, config, said) in [
            (&[("maxmemory", "0")][..], &[][..], "set `maxmemory` to two thirds"),
            (&[("maxmemory", "2500000")], &[], "needs room beside it"),
            (&[("maxmemory", "1000000")], &[], "set 1000000 at least"),
            (&[("aof_last_bgrewrite_status", "err")], &[], "check its disk and memory"),
            (&[], &[("auto-aof-rewrite-percentage", "0")], "set `auto-aof-rewrite-percentage 200`"),
            (&[], &[("min-replicas-to-write", "0")], "set `min-replicas-to-write 1`"),
            (&[("cluster_enabled", "1")], &[("cluster-require-full-coverage", "yes")], "full-coverage no"),
        ] {
            let found = with(info, config);
            assert!(found.len() == 1 && found[0].contains(said), "{said}: {found:?}");
        }
        let forbidden = ServerFacts { config: None, ..good() };
        assert_eq!(advice(&forbidden, Durability::Managed, 1, 0.85).len(), 1, "nothing is made up of what is not told");
    }

    #[test]
    fn a_server_that_hides_its_configuration_is_managed_or_nothing() {
        let facts = ServerFacts { config: None, ..good() };
        assert!(problems(&facts, Durability::Fsync, 0)[0].contains("durability = \"managed\""));
        assert!(problems(&facts, Durability::Managed, 0).is_empty());
        assert!(problems(&facts, Durability::None, 0).is_empty());
    }

    #[test]
    fn identity_is_made_once_and_its_loss_is_noticed() {
        let mark = |text: &str| Some(text.to_owned());
        let known = Ok(Identity::Known("a".into()));
        let unmarked = |id: Option<&str>, partitions: &[u16]| {
            Ok(Identity::Unmarked { id: id.map(str::to_owned), partitions: partitions.to_vec() })
        };
        let own = Expected { name: "ours", seen: None, create: true, accept_loss: false };
        let seen = |id| Expected { seen: Some(id), ..own };
        let by_hand = Expected { create: false, ..own };
        let accepting = Expected { accept_loss: true, ..own };
        let registered = |partitions, id| Some(Registered { partitions, id, ..Registered::default() });
        let named = |name| Some(Registered { partitions: 1, id: "a", name: Some(name), after_loss: false });
        let anew = Some(Registered { partitions: 2, id: "a", name: None, after_loss: true });
        let both = [mark("a"), mark("a")];
        let of_some = identity;
        let identity = |registered, marks: &[Option<String>], expected| {
            let numbered: Vec<Mark> = (0..).zip(marks.iter().cloned()).collect();
            of_some(registered, &numbered, u16::try_from(marks.len()).unwrap(), expected)
        };
        assert_eq!(identity(None, &[None, None], own), unmarked(None, &[0, 1]), "first start");
        assert_eq!(identity(None, &[mark("a"), None], own), unmarked(Some("a"), &[1]), "interrupted first start");
        assert_eq!(identity(registered(2, "a"), &both, seen("a")), known);
        assert_eq!(identity(registered(2, "a"), &both, by_hand), known);
        assert_eq!(identity(named("ours"), &both[..1], own), known);
        let some = [(1, mark("a"))];
        assert_eq!(of_some(registered(2, "a"), &some, 2, own), known, "of one server of several");
        let lost = of_some(registered(2, "a"), &[(1, None)], 2, own).unwrap_err();
        assert!(lost.contains("partition 1 is gone"), "{lost}");
        assert_eq!(
            identity(registered(1, "a"), &[mark("a"), None], by_hand),
            unmarked(Some("a"), &[1]),
            "more partitions"
        );
        assert_eq!(identity(None, &[None], by_hand), Ok(Identity::Absent));
        assert_eq!(identity(None, &[mark("a")], by_hand), Ok(Identity::Absent));
        assert_eq!(identity(anew, &both, seen("b")), known, "the loss was accepted");
        assert_eq!(identity(registered(2, "a"), &[mark("a"), None], accepting), unmarked(Some("a"), &[1]));
        assert_eq!(identity(registered(2, "a"), &both, Expected { seen: Some("b"), ..accepting }), known);
        for (registered, marks, expected, text) in [
            (registered(2, "a"), vec![mark("a"), None], own, "partition 1 is gone"),
            (registered(1, "a"), vec![mark("b")], own, "belongs to another queue"),
            (registered(1, "a"), vec![mark("b")], accepting, "belongs to another queue"),
            (None, vec![None], seen("a"), "was emptied or replaced"),
            (registered(1, "b"), vec![mark("b")], seen("a"), "was emptied or replaced"),
            (named("theirs"), vec![mark("a")], own, "that of \"theirs\""),
            (named("theirs"), vec![mark("a")], accepting, "that of \"theirs\""),
        ] {
            let error = identity(registered, &marks, expected).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }
}
