//! What operators tell all pods, and what pods make of a Redis that was away, emptied or replaced.

use std::time::{Duration, Instant};

use staffetta_config::Rate;
use staffetta_queue::{Announcer, Block, Curb, Curbs, Revocations, Settings, Target};
use tokio_util::sync::CancellationToken;

use crate::world::{World, settings, world, world_with};

/// For a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn follower(settings: &Settings) -> Revocations {
    Revocations::follow(settings, CancellationToken::new()).unwrap()
}

/// One that knows all.
async fn pod(world: &World) -> Revocations {
    let pod = follower(&world.settings);
    assert!(pod.is_current_within(PATIENCE).await);
    pod
}

async fn announcer(world: &World) -> Announcer {
    Announcer::connect(&world.settings).await.unwrap()
}

async fn until(what: &str, good: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !good() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn login(text: &str) -> Target {
    Target::login(text).unwrap()
}

#[tokio::test]
async fn every_pod_hears_of_a_revocation_and_of_nobody_else_s() {
    let world = world().await;
    let pods = [pod(&world).await, pod(&world).await, pod(&world).await];
    let before = pods.each_ref().map(|pod| pod.version());
    announcer(&world).await.revoke("John@Example.ORG").await.unwrap();
    for (pod, before) in pods.iter().zip(before) {
        until("john is revoked", || pod.is_revoked("john@example.org", before)).await;
        assert!(!pod.is_revoked("lisa@example.org", before));
        let now = pod.version();
        assert!(!pod.is_revoked("john@example.org", now), "who logs in now has the new password");
    }
}

#[tokio::test]
async fn a_pod_that_begins_later_knows_the_blocks_and_none_of_the_revocations() {
    let world = world().await;
    let announcer = announcer(&world).await;
    announcer.revoke("john").await.unwrap();
    assert!(announcer.block(&login("lisa"), None, "a thief").await.unwrap());
    let pod = pod(&world).await;
    assert!(pod.is_login_blocked("LISA") && !pod.is_login_blocked("john"));
    assert!(!pod.is_revoked("john", pod.version()));
    assert!(pod.is_revoked("john", 0), "what was believed before it knew anything must be asked again");
}

#[tokio::test]
async fn what_was_said_while_a_pod_was_away_it_reads_when_it_is_back() {
    let mut world = world().await;
    let pod = pod(&world).await;
    let before = pod.version();
    world.server.kill().unwrap();
    until("it notices", || !pod.is_current()).await;
    assert!(!pod.is_revoked("john", before), "it forgets nothing meanwhile");
    world.server.restart().unwrap();
    // Most of the time before the pod has found Redis again.
    announcer(&world).await.revoke("john").await.unwrap();
    assert!(pod.is_current_within(PATIENCE).await);
    until("john is revoked", || pod.is_revoked("john", before)).await;
    assert!(!pod.is_revoked("lisa", before), "nothing was missed, so nobody else is asked");
}

#[tokio::test]
async fn a_redis_that_was_emptied_or_lost_an_entry_revokes_everybody() {
    let world = world().await;
    let announcer = announcer(&world).await;
    announcer.revoke("john").await.unwrap();
    let pod = pod(&world).await;
    let mut redis = world.redis();

    // Emptied, and nothing new.
    let before = pod.version();
    redis::cmd("DEL").arg("{R}log").exec(&mut redis).unwrap();
    until("all is asked again", || pod.is_revoked("anybody", before)).await;

    // Emptied, and something new before anybody looked.
    announcer.block(&login("john"), None, "").await.unwrap();
    until("john is blocked", || pod.is_login_blocked("john")).await;
    let before = pod.version();
    let mut both = redis::pipe();
    both.atomic().cmd("DEL").arg("{R}log").cmd("DEL").arg("{R}blocks");
    // Time has gone on.
    let (seconds, _): (u64, u64) = redis::cmd("TIME").query(&mut redis).unwrap();
    both.cmd("XADD").arg("{R}log").arg(format!("{}-0", (seconds + 2) * 1_000)).arg(&[
        "after",
        "0-0",
        "what",
        "revoke",
        "of",
        "login lisa",
    ]);
    both.exec(&mut redis).unwrap();
    until("all is asked again", || pod.is_revoked("anybody", before)).await;
    until("the blocks are those of the new Redis", || !pod.is_login_blocked("john")).await;

    // One entry is not there.
    let before = pod.version();
    redis::cmd("XADD")
        .arg("{R}log")
        .arg("*")
        .arg(&["after", "5-5", "what", "revoke", "of", "login lisa"])
        .exec(&mut redis)
        .unwrap();
    until("all is asked again", || pod.is_revoked("anybody", before)).await;
}

#[tokio::test]
async fn what_only_a_newer_program_understands_is_passed_over() {
    let world = world().await;
    let pod = pod(&world).await;
    let mut redis = world.redis();
    let first: String = redis::cmd("XADD")
        .arg("{R}log")
        .arg("*")
        .arg(&["after", "0-0", "what", "comet", "of", "login john"])
        .query(&mut redis)
        .unwrap();
    redis::cmd("XADD")
        .arg("{R}log")
        .arg("*")
        .arg(&["after", &first, "what", "block", "of", "planet 5", "block", "1 0 x"])
        .exec(&mut redis)
        .unwrap();
    redis::cmd("HSET")
        .arg("{R}blocks")
        .arg(&["planet 5", "1 0 x", "login", "", "login lisa", "nonsense"])
        .exec(&mut redis)
        .unwrap();
    let before = pod.version();
    let announcer = announcer(&world).await;
    announcer.revoke("john").await.unwrap();
    until("john is revoked", || pod.is_revoked("john", before)).await;
    assert!(!pod.is_revoked("lisa", before));
    assert_eq!(announcer.blocks().await.unwrap().0, []);
}

#[tokio::test]
async fn blocks_are_listed_end_and_are_taken_back() {
    let world = world().await;
    let (announcer, pod) = (announcer(&world).await, pod(&world).await);
    let odd = login("J\u{f6}rg \"Doe\" {R}*@b\u{fc}cher.example");
    let network = Target::client("2001:db8::/48").unwrap();
    let domain = Target::domain("Example.com").unwrap();
    for target in [&odd, &network, &domain] {
        assert!(announcer.block(target, None, "first").await.unwrap());
    }
    let life = Duration::from_secs(3600);
    assert!(announcer.block(&odd, Some(life), "a thief,  it seems").await.unwrap(), "the last word counts");
    until("all are blocked", || {
        pod.is_login_blocked("J\u{d6}RG \"Doe\" {R}*@xn--bcher-kva.example")
            && pod.is_client_blocked("2001:db8::5".parse().unwrap())
            && pod.is_domain_blocked("example.com")
    })
    .await;
    let (blocks, now) = announcer.blocks().await.unwrap();
    let targets: Vec<_> = blocks.iter().map(|(target, _)| target).collect();
    assert_eq!(targets, [&network, &domain, &odd]);
    let (_, block) = &blocks[2];
    assert_eq!(block.reason, "a thief,  it seems");
    let left = Duration::from_millis(block.until.unwrap() - now);
    assert!(left <= life && left > life / 2, "{left:?}");

    assert!(announcer.unblock(&network).await.unwrap() && !announcer.unblock(&network).await.unwrap());
    assert!(announcer.block(&domain, Some(Duration::from_millis(50)), "").await.unwrap());
    until("both are over", || {
        !pod.is_client_blocked("2001:db8::5".parse().unwrap()) && !pod.is_domain_blocked("example.com")
    })
    .await;
    // The list goes by the clock of Redis, which may be a moment behind the pod's.
    let listed = async { while announcer.blocks().await.unwrap().0.len() > 1 {} };
    tokio::time::timeout(Duration::from_secs(10), listed).await.unwrap();
    assert!(pod.is_login_blocked("j\u{f6}rg \"doe\" {r}*@b\u{fc}cher.example"));
    // What is over makes room when the next is blocked.
    announcer.block(&network, None, "").await.unwrap();
    let kept: u64 = redis::cmd("HLEN").arg("{R}blocks").query(&mut world.redis()).unwrap();
    assert_eq!(kept, 2);
}

/// Fast servers: durability is not what is looked at.
async fn quick_world() -> World {
    world_with(&[("appendonly", "no")], |settings| settings.durability = staffetta_queue::Durability::None).await
}

/// What servers get less of, and how they are spoken to, is known to all pods, made longer, and ended with the suspension.
#[tokio::test]
async fn what_servers_cannot_take_is_known_to_every_pod_until_it_is_over_or_ended() {
    let world = world().await;
    let (announcer, hour) = (announcer(&world).await, Duration::from_secs(3_600));
    let minute = Rate { count: 10, per: Duration::from_secs(60) };
    let early = pod(&world).await;
    assert!(world.queue.curb("mx.a.test", Curb::Connections(2), hour, "421 too many").await.unwrap());
    assert!(world.queue.curb("mx.a.test", Curb::Rate(minute), hour, "450 too fast").await.unwrap());
    let host = [192, 0, 2, 1].into();
    assert!(world.queue.block(&Target::Unpipelined(host), hour, "timed out").await.unwrap());
    let late = pod(&world).await;
    let all = Curbs { rate: Some(minute), connections: Some(2) };
    for pod in [&early, &late] {
        until("all is known", || pod.curbs("mx.a.test") == all && pod.is_unpipelined(host)).await;
        assert!(!pod.has_suspensions());
    }
    // Another one replaces it, however little is left of that.
    assert!(world.queue.curb("mx.a.test", Curb::Connections(3), 2 * hour, "421 too many").await.unwrap());
    until("it is news", || early.curbs("mx.a.test").connections == Some(3)).await;
    let of_fewer = |(target, block): (Target, Block)| {
        matches!(target, Target::Fewer(_)).then(|| (block.until.unwrap() - block.since, block.curb, block.reason))
    };
    let listed = announcer.blocks().await.unwrap().0.into_iter().find_map(of_fewer).unwrap();
    assert_eq!(listed, (7_200_000, Some(Curb::Connections(3)), "421 too many".to_owned()));
    // It ends no earlier for that.
    let minute = Duration::from_secs(60);
    assert!(world.queue.curb("mx.a.test", Curb::Connections(1), minute, "421 far too many").await.unwrap());
    let (left, curb, _) = announcer.blocks().await.unwrap().0.into_iter().find_map(of_fewer).unwrap();
    assert!(left > 7_000_000 && curb == Some(Curb::Connections(1)), "{left} {curb:?}");
    assert!(announcer.unblock(&Target::destination("mx.a.test").unwrap()).await.unwrap());
    assert!(announcer.unblock(&Target::destination("192.0.2.1").unwrap()).await.unwrap());
    assert!(!announcer.unblock(&Target::destination("mx.a.test").unwrap()).await.unwrap());
    until("all is over", || early.curbs("mx.a.test") == Curbs::default() && !early.is_unpipelined(host)).await;
}

/// By which rule replies are final is known to all pods, too, for each rule by itself, and in a word that others may not know.
#[tokio::test]
async fn which_replies_are_final_is_known_to_every_pod_until_it_is_over_or_ended() {
    let world = world().await;
    let (announcer, hour) = (announcer(&world).await, Duration::from_secs(3_600));
    let early = pod(&world).await;
    for (rule, reason) in [("1f3a9c2e", "450 never"), ("00c0ffee", "451 not here")] {
        assert!(world.queue.make_final("MX.a.test from news", rule, hour, reason).await.unwrap());
    }
    assert!(!world.queue.make_final("", "1f3a9c2e", hour, "").await.unwrap(), "no name");
    let late = pod(&world).await;
    let is_final = |pod: &Revocations, rule| pod.is_final("mx.a.test from news", rule);
    for pod in [&early, &late] {
        until("all is known", || is_final(pod, "1f3a9c2e") && is_final(pod, "00c0ffee")).await;
        assert!(!pod.has_suspensions() && pod.curbs("mx.a.test from news") == Curbs::default());
        assert!(!pod.is_final("mx.a.test", "1f3a9c2e"));
    }
    // It is made longer, and ends no earlier.
    for (life, least) in [(2 * hour, 7_200_000), (hour, 7_000_000)] {
        assert!(world.queue.make_final("mx.a.test from news", "1f3a9c2e", life, "450 never").await.unwrap());
        let (blocks, now) = announcer.blocks().await.unwrap();
        let told: Vec<_> = blocks.iter().map(|(target, block)| (target.to_string(), block.reason.as_str())).collect();
        let expected = [("00c0ffee", "451 not here"), ("1f3a9c2e", "450 never")];
        assert_eq!(told, expected.map(|(rule, why)| (format!("bounce mx.a.test from news by {rule}"), why)));
        assert!(blocks[1].1.until.unwrap() + 1_000 >= now + least, "{blocks:?}");
    }
    let one = Target::bounce("mx.a.test from news", "1f3a9c2e").unwrap();
    assert!(announcer.unblock(&one).await.unwrap() && !announcer.unblock(&one).await.unwrap());
    until("that one is over", || !is_final(&early, "1f3a9c2e")).await;
    assert!(is_final(&early, "00c0ffee"));
}

/// Whoever runs mail servers can have them say anything.
#[tokio::test]
async fn programs_leave_half_of_the_room_to_operators() {
    let (world, hour) = (quick_world().await, Duration::from_secs(3_600));
    let mut pipe = redis::pipe();
    for number in 0..50_000 {
        pipe.hset("{R}blocks", format!("fewer mx.d{number}.test"), "1 0 1 many").ignore();
    }
    pipe.exec(&mut world.redis()).unwrap();
    let target = Target::destination("mx.a.test").unwrap();
    assert!(!world.queue.block(&target, hour, "").await.unwrap());
    assert!(!world.queue.curb("mx.a.test", Curb::Connections(1), hour, "").await.unwrap());
    assert!(world.queue.curb("mx.d1.test", Curb::Connections(1), hour, "").await.unwrap(), "it is there");
    assert!(announcer(&world).await.block(&target, None, "").await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_revocations_keeps_its_bounds_and_none_is_lost() {
    let world = quick_world().await;
    let pod = pod(&world).await;
    let before = pod.version();
    let flood = (0..8).map(|lane| {
        let settings = world.settings.clone();
        tokio::spawn(async move {
            let announcer = Announcer::connect(&settings).await.unwrap();
            for number in 0..1_500 {
                announcer.revoke(&format!("user{lane}.{number}@example.org")).await.unwrap();
            }
        })
    });
    for lane in flood.collect::<Vec<_>>() {
        lane.await.unwrap();
    }
    until("the last are revoked", || {
        (0..8).all(|lane| pod.is_revoked(&format!("user{lane}.1499@example.org"), before))
    })
    .await;
    let all = (0..8).flat_map(|lane| (0..1_500).map(move |number| format!("user{lane}.{number}@example.org")));
    for login in all {
        assert!(pod.is_revoked(&login, before), "{login}");
    }
    let kept: u64 = redis::cmd("XLEN").arg("{R}log").query(&mut world.redis()).unwrap();
    assert_eq!(kept, 10_000);
    // A pod that has read less than what was cut off has missed something, and knows it.
    assert!(!pod.is_revoked("nobody@example.org", pod.version()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "figures for who looks")]
async fn a_hundred_thousand_blocks_are_known_and_no_more_are_taken() {
    let world = quick_world().await;
    let mut redis = world.redis();
    for page in 0..100 {
        let mut pipe = redis::pipe();
        for number in page * 1_000..(page + 1) * 1_000 {
            let target = match number % 3 {
                0 => format!("login user{number}@example.org"),
                1 => format!("client 10.{}.{}.{}", number / 65_536, number / 256 % 256, number % 256),
                _ => format!("domain d{number}.example"),
            };
            pipe.hset("{R}blocks", target, "1 0 many").ignore();
        }
        pipe.exec(&mut redis).unwrap();
    }
    let began = Instant::now();
    let pod = pod(&world).await;
    println!("100,000 blocks read in {:?}", began.elapsed());
    assert!(pod.is_login_blocked("user0@example.org") && pod.is_login_blocked("user99999@example.org"));
    assert!(pod.is_client_blocked("10.0.0.1".parse().unwrap()) && pod.is_domain_blocked("d2.example"));
    let began = Instant::now();
    for _ in 0..10_000 {
        assert!(!pod.is_client_blocked("192.0.2.1".parse().unwrap()) && !pod.is_login_blocked("nobody@example.org"));
    }
    println!("10,000 looks for a client and a login: {:?}", began.elapsed());
    let announcer = announcer(&world).await;
    assert!(!announcer.block(&login("one more"), None, "").await.unwrap());
    assert!(announcer.block(&login("user0@example.org"), None, "again").await.unwrap(), "one that is there already");
    assert!(announcer.unblock(&login("user3@example.org")).await.unwrap());
    assert!(announcer.block(&login("one more"), None, "").await.unwrap());
}

#[tokio::test]
async fn a_pod_to_which_redis_forbids_it_knows_that_it_may_miss_something() {
    let world = world().await;
    let mut redis = world.redis();
    let rights = ["on", ">s3cret", "~{kq:*", "&*", "+@all"];
    redis::cmd("ACL").arg("SETUSER").arg("old").arg(&rights).exec(&mut redis).unwrap();
    let port = crate::world::free_port();
    redis::cmd("CONFIG").arg("SET").arg("port").arg(port).exec(&mut redis).unwrap();
    let settings = settings(format!("redis://old:s3cret@127.0.0.1:{port}"));
    let pod = follower(&settings);
    assert!(!pod.is_current_within(PATIENCE).await, "there is nothing to wait for");
    assert!(!pod.vouches_for("john", pod.version()));
    assert!(!pod.is_login_blocked("john") && !pod.is_revoked("john", pod.version()));
    let error = Revocations::try_following(&settings).await.unwrap_err().to_string();
    assert!(error.to_lowercase().contains("no permissions"), "{error}");

    redis::cmd("ACL").arg(&["SETUSER", "old", "~{R}*"]).exec(&mut redis).unwrap();
    until("it asks again", || pod.is_current()).await;
    Revocations::try_following(&settings).await.unwrap();
}

#[tokio::test]
async fn who_belongs_to_another_cluster_neither_tells_nor_hears() {
    let world = world().await;
    let others = Settings { name: "other".to_owned(), ..world.settings.clone() };
    let error = Announcer::connect(&others).await.err().unwrap().to_string();
    assert!(error.contains("is that of \"staffetta\", and redis.name is \"other\""), "{error}");
    let error = Revocations::try_following(&others).await.unwrap_err().to_string();
    assert!(error.contains("redis.name is \"other\""), "{error}");
    let pod = follower(&others);
    announcer(&world).await.block(&login("john"), None, "").await.unwrap();
    assert!(!pod.is_current_within(PATIENCE).await && !pod.is_login_blocked("john"));

    // Where there is no queue nobody knows better.
    redis::cmd("DEL").arg("{kq:cfg}").exec(&mut world.redis()).unwrap();
    until("it is followed", || pod.is_login_blocked("john")).await;
    Announcer::connect(&others).await.unwrap();
}

#[tokio::test]
async fn a_full_redis_takes_blocks_and_revocations() {
    let world = world().await;
    let pod = pod(&world).await;
    let before = pod.version();
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1mb").exec(&mut world.redis()).unwrap();
    let announcer = announcer(&world).await;
    announcer.revoke("john").await.unwrap();
    announcer.block(&login("lisa"), None, "").await.unwrap();
    until("both are heard", || pod.is_revoked("john", before) && pod.is_login_blocked("lisa")).await;
}
