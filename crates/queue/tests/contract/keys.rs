//! docs/stored-formats.md against what a busy queue really holds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use staffetta_policy::conduct::Ladder;
use staffetta_queue::{
    Announcer, Durability, Filter, HardBounces, Heads, Queue, Rate, Revocations, Sending, Settings, Settlement, Target,
    TlsPeriod, Usage, Verification,
};
use tokio_util::sync::CancellationToken;

use crate::deliver::expire_leases;
use crate::world::{World, accept, deferred, world_with};

const DOCUMENT: &str = include_str!("../../../../docs/stored-formats.md");

/// The first table: pattern of a key and its type.
fn documented() -> BTreeMap<String, String> {
    let rows = DOCUMENT.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `{")?.split(" | ");
        let pattern = format!("{{{}", cells.next()?.strip_suffix('`')?);
        Some((pattern, cells.next()?.to_owned()))
    });
    rows.collect()
}

/// Does a key have this form?
fn matches(pattern: &str, key: &str) -> bool {
    let Some((literal, rest)) = pattern.split_once('<') else { return pattern == key };
    let Some((name, rest)) = rest.split_once('>') else { return false };
    let Some(key) = key.strip_prefix(literal) else { return false };
    let fits = |text: &str| {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
        let id = |text: &str| text.len() == 16 && text.bytes().all(|octet| octet.is_ascii_alphanumeric());
        match name {
            "p" | "i" | "n" | "minute" | "hour" | "start" => digits(text),
            "id" => id(text),
            "job" => text.split_once('.').is_some_and(|(of, number)| id(of) && digits(number)),
            "account" | "destination" | "domain" | "scope" | "who" | "client" | "login" | "signal" => !text.is_empty(),
            other => panic!("what is <{other}>?"),
        }
    };
    (1..=key.len()).filter(|&end| key.is_char_boundary(end)).any(|end| fits(&key[..end]) && matches(rest, &key[end..]))
}

fn types(world: &World) -> BTreeMap<String, String> {
    let mut redis = world.redis();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut redis).unwrap();
    keys.into_iter()
        .map(|key| {
            let kind = redis::cmd("TYPE").arg(&key).query(&mut redis).unwrap();
            (key, kind)
        })
        .collect()
}

/// Every kind of thing that mail, workers and operators leave behind.
async fn busy(world: &World) {
    let to = ["a@x.example", "b@y.example", "c@[192.0.2.1]"];
    for size in [10, 600_000, 10] {
        world.put(&to, &vec![b'b'; size]).await;
    }
    for partition in 0..world.queue.partitions() {
        world.queue.offer(partition, 10).await.unwrap();
    }
    let silent = world.put(&["s@s.example"], b"x").await;
    for _ in 0..2 {
        let job = world.claim_one("s.example").await;
        assert!(world.queue.begin(&job.lease).await.unwrap());
        expire_leases(world);
        assert_eq!(world.queue.reclaim(silent.partition()).await.unwrap(), 1);
    }
    let mut jobs = world.claim("x.example").await;
    let (first, second) = (jobs.remove(0), jobs.remove(0));
    let mut settlement = deferred(vec![0], Duration::from_secs(60));
    if let Settlement::Deferred { back_off, .. } = &mut settlement {
        *back_off = Some(Duration::from_secs(60));
    }
    world.queue.settle(&first.lease, settlement).await.unwrap();
    world.finish(&second).await;
    let gone = world.put(&["d@z.example"], &[b'x'; 300_000]).await;
    world.queue.delete(gone).await.unwrap();
    let mut incoming = world.queue.receive().unwrap();
    incoming.write(&[b'b'; 300_000]).await.unwrap();
    incoming.commit(accept(&["e@z.example"]), b"").await.unwrap();
    let mut incoming = world.queue.receive().unwrap();
    incoming.count_for_login();
    incoming.write(b"x").await.unwrap();
    let mut counted = accept(&["f@z.example"]);
    counted.origin.login = Some("john".to_owned());
    incoming.commit(counted, b"").await.unwrap();
    let held = Filter { recipient: Some("e@z.example".into()), ..Filter::default() };
    assert_eq!(world.queue.hold(&held).await.unwrap().jobs, 1);
    let limiter = world.queue.limiter("auth", Rate { count: 3, per: Duration::from_secs(600) });
    limiter.acquire("192.0.2.1", 1).await.unwrap();
    let guesses = world.queue.guesses(None, Some(Rate { count: 3, per: Duration::from_secs(600) }));
    guesses.settle(None, None, Some(&Usage::new("john", Some([192, 0, 2, 0].into())))).await.unwrap();
    let heads = Heads { client: "192.0.2.1".to_owned(), count: 2, version: 1 };
    world.queue.headcount().claim(&heads, 50).await.unwrap();
    let said = Verification::Undeliverable("no".to_owned());
    world.queue.verifications().remember("mx nobody@x.example", &said, Duration::from_secs(600)).await.unwrap();
    let announcer = Announcer::connect(&world.settings).await.unwrap();
    let life = Some(Duration::from_secs(600));
    assert!(announcer.block(&Target::login("john").unwrap(), life, "a thief").await.unwrap());
    let twice = Rate { count: 2, per: Duration::from_secs(600) };
    let rule = HardBounces { after: twice, life: Duration::from_secs(600) };
    world.queue.hard_bounce(&Target::recipient("a@x.example").unwrap(), rule, "no such user").await.unwrap();
    let conduct = world.queue.conduct(Ladder::default(), Duration::from_secs(600));
    conduct.sent("john", &Sending::of(&accept(&to).envelope));
    conduct.flush(&|_| {}).await;
    let (tokens, minute) = (world.queue.tokens(), Duration::from_secs(60));
    tokens.keep("acc0", Some((b"sealed", minute)), Some(b"sealed")).await.unwrap();
    tokens.rest("acc0", "1 no", minute).await.unwrap();
    assert!(tokens.lease("acc0", minute).await.unwrap());
    assert!(tokens.refuse("acc1", minute).await.unwrap());
    world.queue.policies().keep("x.example", "policy", Duration::from_secs(600)).await.unwrap();
    let day = TlsPeriod { domain: "x.example".to_owned(), start: 0, end: 86_400_000 };
    assert!(world.queue.tls_counts().add(&day, 86_400_000, &[("{}".to_owned(), 1)]).await.unwrap());
    let (mut moved, end) = (0, tokio::time::Instant::now() + Duration::from_secs(20));
    while moved == 0 {
        assert!(tokio::time::Instant::now() < end, "no body moves");
        tokio::time::sleep(Duration::from_millis(100)).await;
        for partition in 0..world.queue.partitions() {
            moved += world.queue.offload(partition).await.unwrap();
        }
    }
}

/// Where bodies go that wait, as soon as they do.
fn with_store(settings: &mut Settings, folder: &tempfile::TempDir) {
    settings.spool = Some(format!("file://{}", folder.path().display()));
    (settings.redis_limit, settings.offload_after) = (1 << 30, Some(Duration::ZERO));
}

#[tokio::test]
async fn every_key_is_documented_and_every_documented_key_exists() {
    let documented = documented();
    assert!(documented.len() > 10, "{documented:?}");
    // With a replica, so that there is what asks for its word.
    let folder = tempfile::tempdir().unwrap();
    let mut world = world_with(&[], |settings| with_store(settings, &folder)).await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    redis::cmd("CONFIG").arg("SET").arg("port").arg(port).exec(&mut world.redis()).unwrap();
    let replica = world_with(&[], |settings| settings.durability = Durability::None).await;
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(port).exec(&mut replica.redis()).unwrap();
    let settings = Settings { durability: Durability::Replicated, replicas: 1, ..world.settings.clone() };
    world.queue = Queue::open(settings, CancellationToken::new()).unwrap();
    world.queue.ready(Duration::from_secs(20)).await.unwrap();
    busy(&world).await;

    let mut seen = BTreeSet::new();
    for (key, kind) in types(&world) {
        let pattern = documented.iter().find(|(pattern, _)| matches(pattern, &key));
        let (pattern, documented) = pattern.unwrap_or_else(|| panic!("{key} ({kind}) is not documented"));
        assert_eq!(&kind, documented, "{key}");
        seen.insert(pattern);
    }
    let unseen: Vec<_> = documented.keys().filter(|pattern| !seen.contains(pattern)).collect();
    assert!(unseen.is_empty(), "nothing like {unseen:?} exists");
}

/// With a user who may do what the manual says and nothing else.
#[tokio::test]
async fn the_rights_that_the_manual_names_are_enough() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = world_with(&[], |settings| with_store(settings, &folder)).await;
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/redis.md")).unwrap();
    let rule = manual.lines().find_map(|line| line.trim().strip_prefix("ACL ")).unwrap();
    redis::cmd("ACL").arg(rule.split(' ').collect::<Vec<_>>()).exec(&mut world.redis()).unwrap();
    world.settings.url.push_str("?user=staffetta&pass=PASSWORD");
    world.queue = world.another().await;
    let end = CancellationToken::new();
    let _end = end.clone().drop_guard();
    let revocations = Revocations::follow(&world.settings, end).unwrap();
    let _wakes = world.queue.wakes().unwrap();
    busy(&world).await;
    world.queue.flush(&Filter::default()).await.unwrap();
    let listed = world.queue.list(&Filter::default(), None, 100).await.unwrap();
    assert!(listed.entries.len() > 3 && world.queue.counts().await.unwrap().messages > 3);
    let mut found = Vec::new();
    world.queue.verify(true, &mut |finding| found.push(finding.to_string())).await.unwrap();
    assert_eq!(found, Vec::<String>::new());
    assert!(revocations.is_current_within(Duration::from_secs(20)).await);
    let patience = tokio::time::Instant::now() + Duration::from_secs(20);
    while redis::cmd("PUBSUB").arg("NUMPAT").query::<u32>(&mut world.redis()).unwrap() == 0 {
        assert!(tokio::time::Instant::now() < patience, "nobody listens");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let refused: redis::Value = redis::cmd("ACL").arg("LOG").query(&mut world.redis()).unwrap();
    assert_eq!(refused, redis::Value::Array(Vec::new()), "{refused:?}");
}

#[test]
fn patterns_match_what_they_say() {
    assert!(matches("{kq:<p>.<i>}b:<id>:<n>", "{kq:0.15}b:0FD21GHPVY9NJ0VT:12"));
    assert!(!matches("{kq:<p>.<i>}b:<id>:<n>", "{kq:0.15}b:0FD21GHPVY9NJ0VT"));
    assert!(!matches("{kq:<p>.<i>}n", "{kq:0.15}held"));
    assert!(matches("{kq:<p>.<i>}w:<destination>", "{kq:0.15}w:[IPv6:2001:db8::1]"));
    assert!(!matches("{kq:cfg}", "{kq:cfg}readers"));
}
