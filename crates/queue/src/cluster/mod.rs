//! A Redis Cluster: who of its members is the primary of which slots, as they say themselves.
//!
//! [`Cluster::primary`] is asked for each connection, as Sentinels are: a connection that is lost because its server died or
//! was demoted leads to the replica that was promoted, as soon as some member knows. The map is fetched by one caller at a
//! time, at most twice a second, and besides whenever a server says that a slot is not its own
//! ([`Cluster::doubt`]). That a server is a primary it must say itself ([`crate::server_check`]), and which slots it has it says
//! with each command: a map that is out of date costs time and nothing else.
//!
//! Nothing is redirected: what a server has not done because the slot is moving, or has moved, has failed for now
//! ([`crate::error::Fault::Elsewhere`]), and whoever sent it decides.

mod follow;
mod map;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{Client, ConnectionAddr, IntoConnectionInfo, Pipeline, ProtocolVersion, RedisConnectionInfo};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::connection;
use crate::error::Fault;
use crate::slot::Table;
use crate::tls::TlsFiles;

pub(crate) use map::{Host, MOST, Map, Shard};

/// The shortest time between two questions for the map.
const REST: Duration = Duration::from_millis(500);
/// How long a member may take to connect and answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Members asked at a time: one that was cut off a moment ago may not know it yet, and the newest answer counts.
const AT_ONCE: usize = 3;

/// The members, as far as they are known.
pub(crate) struct Cluster {
    seeds: Vec<Host>,
    login: RedisConnectionInfo,
    /// All members are spoken to by TLS, with these.
    tls: Option<TlsFiles>,
    map: watch::Sender<Arc<Map>>,
    /// Held by whoever asks: how the last question ended.
    asking: tokio::sync::Mutex<Result<(), String>>,
    asked: Mutex<Option<Instant>>,
    doubts: Notify,
    /// With whom the next question begins.
    turn: std::sync::atomic::AtomicUsize,
}

/// Which member is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The primary that has this slot.
    Slot(u16),
    /// The primary of the shard with this number.
    Shard(u16),
}

/// What a member has said.
struct Said {
    shards: Vec<Shard>,
    /// It sees most of the others.
    healthy: bool,
    epoch: i64,
}

impl Cluster {
    /// `//[user[:password]@]host[:port][,host[:port]…]`, with the files of TLS or without.
    pub(crate) fn parse(rest: &str, tls: Option<TlsFiles>) -> Result<Self, String> {
        let rest = rest.trim_start_matches('/').trim_end_matches('/');
        let (login, hosts) = rest.rsplit_once('@').map_or(("", rest), |(login, hosts)| (login, hosts));
        if hosts.contains('/') {
            return Err("a cluster has no database number and no name: redis-cluster://host:port,host:port".to_owned());
        }
        let parsed = |url: String| url.into_connection_info().map_err(|error| error.to_string());
        // The library reads login and addresses as it does in the URL of a server.
        let at = if login.is_empty() { "" } else { "@" };
        let login = parsed(format!("redis://{login}{at}localhost"))?;
        let seeds = hosts.split(',').map(|host| match parsed(format!("redis://{host}"))?.addr() {
            ConnectionAddr::Tcp(name, port) => Ok(Host { name: name.clone(), port: *port }),
            _ => Err(format!("{host} is no address")),
        });
        let seeds = seeds.collect::<Result<_, String>>()?;
        let login = login.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        Ok(Self {
            seeds,
            login,
            tls,
            map: watch::Sender::default(),
            asking: tokio::sync::Mutex::new(Ok(())),
            asked: Mutex::default(),
            doubts: Notify::new(),
            turn: rand::random_range(0..AT_ONCE).into(),
        })
    }

    /// The way to a primary, as far as is known now. The error is for the operator.
    pub(crate) async fn primary(&self, wanted: Wanted) -> Result<Client, String> {
        let asked = self.refresh().await;
        let map = self.map();
        let number = match wanted {
            Wanted::Slot(slot) => map.of_slot(slot),
            Wanted::Shard(number) => map.shards().map(|(known, _)| known).find(|known| *known == number),
        };
        match number.and_then(|number| map.0.get(usize::from(number))) {
            Some(shard) => self.client(&shard.primary),
            None => Err(asked.err().unwrap_or_else(|| match wanted {
                Wanted::Slot(slot) => format!("no server of the cluster has slot {slot}"),
                Wanted::Shard(_) => "it has no slots any longer".to_owned(),
            })),
        }
    }

    /// As it was last heard.
    pub(crate) fn map(&self) -> Arc<Map> {
        self.map.borrow().clone()
    }

    /// Says when it has changed.
    fn watch(&self) -> watch::Receiver<Arc<Map>> {
        self.map.subscribe()
    }

    /// Which shard has which slot now, if any member says so.
    pub(crate) async fn table(&self) -> Result<Table, String> {
        let asked = self.refresh().await;
        let (map, table) = (self.map(), Table::of_many());
        if map.0.is_empty() {
            return Err(asked.err().unwrap_or_default());
        }
        for (number, shard) in map.shards() {
            for slot in shard.slots() {
                table.put(slot, number);
            }
        }
        Ok(table)
    }

    /// A server has said that a slot is not its own: the map is fetched, soon.
    pub(crate) fn doubt(&self) {
        self.doubts.notify_one();
    }

    /// Fetches the map, unless somebody did a moment ago.
    pub(crate) async fn refresh(&self) -> Result<(), String> {
        let mut outcome = self.asking.lock().await;
        if self.asked().is_none_or(|asked| asked.elapsed() >= REST) {
            *outcome = self.ask_members().await;
            *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        outcome.clone()
    }

    /// Waits until somebody doubts, and until the map may be fetched again.
    async fn doubted(&self) {
        self.doubts.notified().await;
        if let Some(asked) = self.asked() {
            sleep_until(asked + REST).await;
        }
    }

    fn asked(&self) -> Option<Instant> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Some at a time, until one answers. Of several answers the newest counts, from somebody who sees most of the others.
    async fn ask_members(&self) -> Result<(), String> {
        let known = self.map();
        let mut hosts: Vec<&Host> = Vec::new();
        for host in known.hosts().chain(&self.seeds) {
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        let turn = self.turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % hosts.len().max(1);
        hosts.rotate_left(turn);
        let mut reasons = Vec::new();
        for some in hosts.chunks(AT_ONCE) {
            let mut best: Option<Said> = None;
            for (host, said) in
                some.iter().zip(futures_util::future::join_all(some.iter().map(|host| self.ask(host))).await)
            {
                match said {
                    Ok(said) if best.as_ref().is_none_or(|best| said.rank() > best.rank()) => best = Some(said),
                    Ok(_) => {}
                    Err(reason) => reasons.push(format!("{}:{}: {reason}", host.name, host.port)),
                }
            }
            if let Some(said) = best {
                self.learn(known.followed_by(said.shards));
                return Ok(());
            }
        }
        Err(format!("no server of the cluster names its primaries: {}", reasons.join("; ")))
    }

    fn learn(&self, map: Map) {
        self.map.send_if_modified(|known| {
            let changed = **known != map;
            if changed {
                tracing::info!(shards = map.shards().count(), "the map of the cluster has changed");
                *known = Arc::new(map);
            }
            changed
        });
    }

    async fn ask(&self, host: &Host) -> Result<Said, String> {
        let client = self.client(host)?;
        let asked = timeout(PATIENCE, async {
            let live = connection::connect(&client, PATIENCE, None).await?;
            let mut pipeline = Pipeline::new();
            pipeline.cmd("CLUSTER").arg("SLOTS");
            pipeline.cmd("CLUSTER").arg("INFO");
            live.send(&pipeline).await.map_err(|fault| fault.to_string())
        });
        let mut answers = asked.await.map_err(|_| "no answer in time".to_owned())??.into_iter();
        let mut next = || answers.next().unwrap_or_else(|| Err(Fault::Unknown("no answer".into())));
        let (slots, info) = (next().map_err(|fault| fault.to_string())?, next());
        Ok(Said::new(
            map::read(&slots, host)?,
            info.ok().as_ref().and_then(crate::gate::text).unwrap_or_default().as_str(),
        ))
    }

    fn client(&self, host: &Host) -> Result<Client, String> {
        let (name, port) = (host.name.clone(), host.port);
        let place = match &self.tls {
            None => ConnectionAddr::Tcp(name, port),
            Some(_) => ConnectionAddr::TcpTls { host: name, port, insecure: false, tls_params: None },
        };
        let place = place.into_connection_info().map_err(|error| error.to_string())?;
        let place = place.set_tcp_settings(crate::address::tcp()).set_redis_settings(self.login.clone());
        match &self.tls {
            None => Client::open(place).map_err(|error| error.to_string()),
            Some(tls) => tls.secure(place),
        }
    }
}

/// Where it was begun with. No login.
impl std::fmt::Display for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hosts: Vec<String> = self.seeds.iter().map(|host| format!("{}:{}", host.name, host.port)).collect();
        write!(f, "the cluster of {}", hosts.join(","))
    }
}

impl Said {
    /// `info`: of CLUSTER INFO; without it nothing speaks for this answer.
    fn new(shards: Vec<Shard>, info: &str) -> Self {
        let field =
            |name: &str| info.lines().filter_map(|line| line.trim().split_once(':')).find(|(key, _)| *key == name);
        let epoch = field("cluster_current_epoch").and_then(|(_, epoch)| epoch.parse().ok()).unwrap_or(0);
        Self { shards, healthy: field("cluster_state").is_some_and(|(_, state)| state == "ok"), epoch }
    }

    fn rank(&self) -> (bool, i64) {
        (self.healthy, self.epoch)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_seeds_and_a_login_for_all() {
        let cluster = Cluster::parse("//mail:s%2Fcret@a.example:7000,b.example,[::1]:7", None).unwrap();
        assert_eq!(cluster.to_string(), "the cluster of a.example:7000,b.example:6379,::1:7");
        assert_eq!((cluster.login.username(), cluster.login.password()), (Some("mail"), Some("s/cret")));
        let client = cluster.client(&Host { name: "c".into(), port: 1 }).unwrap();
        assert_eq!(client.get_connection_info().redis_settings().password(), Some("s/cret"));
        assert!(Cluster::parse("//a", None).unwrap().login.password().is_none());
        for url in ["//", "//a,", "//a:x", "//a/1", "//a/name"] {
            assert!(Cluster::parse(url, None).is_err(), "{url}");
        }
    }

    #[test]
    fn who_sees_the_others_and_knows_the_newest_election_is_believed() {
        let said = |info: &str| Said::new(Vec::new(), info).rank();
        let ok = |epoch: u8| said(&format!("cluster_state:ok\r\ncluster_current_epoch:{epoch}\r\n"));
        assert!(ok(2) > ok(1) && ok(1) > said("cluster_state:fail\r\ncluster_current_epoch:9\r\n") && ok(0) > said(""));
    }

    #[tokio::test]
    async fn nobody_who_answers_is_told_by_name_and_without_the_password() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cluster = Cluster::parse(&format!("//mail:hush@127.0.0.1:{port}"), None).unwrap();
        let reason = cluster.primary(Wanted::Slot(0)).await.map(drop).unwrap_err();
        assert!(reason.contains(&format!("127.0.0.1:{port}: ")) && !reason.contains("hush"), "{reason}");
    }
}
