//! A Redis Cluster on loopback: three primaries, each with a replica if asked for. Members die, stand still, come back, and give
//! slots to each other as a test wants.
//!
//! Everything here blocks.

use anyhow::{Context, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::ports::Port;
use crate::redis_server::{RedisServer, until};

/// How many primaries there are.
pub const PRIMARIES: usize = 3;
const SLOTS: usize = 16_384;
/// After so long a member that does not answer is taken for dead, in milliseconds.
const NODE_TIMEOUT: &str = "1500";

/// The members; the first three begin as primaries, each behind them as a replica of one of those.
pub struct RedisCluster {
    members: Vec<Member>,
    _folder: TempDir,
}

struct Member {
    bus: Port,
    server: RedisServer,
}

impl RedisCluster {
    /// Starts it and waits until every member knows every other, and replicas follow. `settings`: as in `redis.conf`; they win.
    pub fn start(with_replicas: bool, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let folder = TempDir::new()?;
        let mut members = Vec::new();
        for number in 0..if with_replicas { 2 * PRIMARIES } else { PRIMARIES } {
            let bus = Port::reserve()?;
            let own = bus.number().to_string();
            let settings = [&[("cluster-port", &*own)], &DEFAULTS[..], settings].concat();
            let server = RedisServer::start(&folder.path().join(number.to_string()), &settings)?;
            members.push(Member { bus, server });
        }
        let cluster = Self { _folder: folder, members };
        cluster.join()?;
        Ok(cluster)
    }

    /// For `redis.url`: all members are named.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = (0..self.members.len()).map(|number| self.place(number)).collect();
        format!("redis-cluster://{}", hosts.join(","))
    }

    /// Address and port of a member.
    pub fn place(&self, member: usize) -> String {
        self.members[member].server.port().address().to_string()
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// There are members at all times.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Asks a member, in words of `redis-cli`.
    pub fn ask(&self, member: usize, words: &[&str]) -> anyhow::Result<String> {
        self.members[member].server.ask(words)
    }

    /// The slot of a key.
    pub fn slot(&self, key: &str) -> anyhow::Result<u16> {
        let there = (0..self.members.len()).find_map(|member| self.ask(member, &["CLUSTER", "KEYSLOT", key]).ok());
        Ok(there.context("no member answers")?.parse()?)
    }

    /// Which member is the primary of a slot now, by the word of one that answers and sees the others.
    pub fn primary_of(&self, slot: u16) -> anyhow::Result<usize> {
        for member in 0..self.members.len() {
            let Ok(nodes) = self.ask(member, &["CLUSTER", "NODES"]) else { continue };
            let owner = nodes.lines().find(|line| {
                let is_primary = line.split(' ').nth(2).is_some_and(|f| f.contains("master") && !f.contains("fail"));
                is_primary && line.split(' ').skip(8).any(|range| holds(range, slot))
            });
            let Some(line) = owner else { continue };
            let port = line.split(' ').nth(1).and_then(|at| at.split(['@', ',']).next()?.rsplit(':').next());
            let port: u16 = port.context("no port")?.parse()?;
            let owner = self.members.iter().position(|member| member.server.port().number() == port);
            return owner.context("an unknown member");
        }
        bail!("nobody has slot {slot}")
    }

    /// Kills a member as a power cut would.
    pub fn kill(&mut self, member: usize) {
        self.members[member].server.kill();
    }

    /// Starts it again on what it has on its disk.
    pub fn revive(&mut self, member: usize) -> anyhow::Result<()> {
        self.members[member].server.revive()
    }

    /// The process ids of all.
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().map(|member| member.server.pid()).collect()
    }

    /// Sends it a signal.
    pub fn signal(&self, member: usize, signal: Signal) -> anyhow::Result<()> {
        self.members[member].server.signal(signal)
    }

    /// Says that a slot goes from one member to another: from here on each has only the keys that are there.
    pub fn begin_move(&self, slot: u16, from: usize, to: usize) -> anyhow::Result<()> {
        let (slot, ids) = (slot.to_string(), [self.id(from)?, self.id(to)?]);
        self.ask(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]])?;
        self.ask(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]]).map(drop)
    }

    /// Moves up to so many keys of it; how many are left.
    pub fn move_keys(&self, slot: u16, from: usize, to: usize, most: usize) -> anyhow::Result<usize> {
        let slot = slot.to_string();
        let keys = self.ask(from, &["CLUSTER", "GETKEYSINSLOT", &slot, &most.to_string()])?;
        let keys: Vec<&str> = keys.lines().filter(|key| !key.is_empty()).collect();
        if !keys.is_empty() {
            let port = self.members[to].server.port().number().to_string();
            let words = [&["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"][..], &keys].concat();
            self.ask(from, &words)?;
        }
        Ok(self.ask(from, &["CLUSTER", "COUNTKEYSINSLOT", &slot])?.parse()?)
    }

    /// The slot belongs to the new one.
    pub fn end_move(&self, slot: u16, from: usize, to: usize) -> anyhow::Result<()> {
        let (slot, id) = (slot.to_string(), self.id(to)?);
        for member in [to, from] {
            self.ask(member, &["CLUSTER", "SETSLOT", &slot, "NODE", &id])?;
        }
        Ok(())
    }

    fn id(&self, member: usize) -> anyhow::Result<String> {
        self.ask(member, &["CLUSTER", "MYID"])
    }

    fn join(&self) -> anyhow::Result<()> {
        for member in 0..self.len() {
            // Epochs that differ from the beginning spare an election about them.
            self.ask(member, &["CLUSTER", "SET-CONFIG-EPOCH", &(member + 1).to_string()])?;
        }
        for member in 0..PRIMARIES {
            let (first, last) = (member * SLOTS / PRIMARIES, (member + 1) * SLOTS / PRIMARIES - 1);
            self.ask(member, &["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()])?;
        }
        for member in &self.members[1..] {
            let (port, bus) = (member.server.port().number().to_string(), member.bus.number().to_string());
            self.ask(0, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus])?;
        }
        let knows_all = |member: usize| {
            let nodes = self.ask(member, &["CLUSTER", "NODES"]).unwrap_or_default();
            nodes.lines().count() == self.len() && !nodes.contains("handshake")
        };
        until("all know all", || (0..self.len()).all(knows_all))?;
        for member in PRIMARIES..self.len() {
            self.ask(member, &["CLUSTER", "REPLICATE", &self.id(member - PRIMARIES)?])?;
        }
        let is_up = |member: usize| {
            let follows = self.ask(member, &["INFO", "replication"]).unwrap_or_default();
            let state = self.ask(member, &["CLUSTER", "INFO"]).unwrap_or_default();
            state.contains("cluster_state:ok") && (member < PRIMARIES || follows.contains("master_link_status:up"))
        };
        until("the cluster comes up", || (0..self.len()).all(is_up))
    }
}

const DEFAULTS: [(&str, &str); 5] = [
    ("cluster-enabled", "yes"),
    ("cluster-node-timeout", NODE_TIMEOUT),
    ("cluster-require-full-coverage", "no"),
    ("cluster-allow-replica-migration", "no"),
    // However long a replica was without its primary, it may take its place.
    ("cluster-replica-validity-factor", "0"),
];

/// Is the slot in `5`, or in `0-5460`?
fn holds(range: &str, slot: u16) -> bool {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if (first..=last).contains(&slot))
}
