//! Guesses at passwords: the limits of client and login.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use staffetta_queue::{Permit, Rate, Taken, Usage};

use crate::world::world;

const RATE: Option<Rate> = Some(Rate { count: 2, per: Duration::from_secs(3_600) });

fn john(network: u8) -> Usage {
    Usage::new("john", Some(IpAddr::V4(Ipv4Addr::new(192, 0, network, 0))))
}

fn permit(taken: Taken) -> Permit {
    assert!(taken.client, "no client is limited");
    taken.login
}

#[tokio::test]
async fn strangers_share_the_guesses_at_a_login_and_who_was_there_lately_needs_none() {
    let world = world().await;
    let (here, there) = (world.queue.guesses(None, RATE), world.another().await.guesses(None, RATE));
    here.settle(None, None, Some(&john(0))).await.unwrap();
    for (guesses, network, expected) in [
        (&here, 1, Permit::Token),
        (&there, 2, Permit::Token),
        (&here, 3, Permit::No),
        (&here, 0, Permit::Free),
        (&there, 0, Permit::Free),
        (&there, 1, Permit::No),
    ] {
        assert_eq!(permit(guesses.take(None, Some(&john(network))).await.unwrap()), expected, "{network}");
    }
    let nowhere = Usage::new("john", None);
    assert_eq!(permit(here.take(None, Some(&nowhere)).await.unwrap()), Permit::No);
    let other = Usage::new("lisa", Some([192, 0, 0, 0].into()));
    assert_eq!(permit(here.take(None, Some(&other)).await.unwrap()), Permit::Token, "each login has its own");
    here.settle(None, Some(john(1).login()), None).await.unwrap();
    assert_eq!(permit(there.take(None, Some(&john(1))).await.unwrap()), Permit::Token, "what was given back");
}

#[tokio::test]
async fn client_and_login_are_asked_at_once_and_told_apart() {
    let world = world().await;
    let guesses = world.queue.guesses(RATE, RATE);
    let take = async |client, network| guesses.take(Some(client), Some(&john(network))).await.unwrap();
    assert_eq!(take("a", 1).await, Taken { client: true, login: Permit::Token });
    assert_eq!(take("a", 1).await, Taken { client: true, login: Permit::Token });
    assert_eq!(take("a", 1).await, Taken { client: false, login: Permit::No });
    assert_eq!(take("b", 1).await, Taken { client: true, login: Permit::No });
    guesses.settle(Some("a"), Some(john(1).login()), Some(&john(1))).await.unwrap();
    assert_eq!(take("a", 1).await, Taken { client: true, login: Permit::Free });
    let unlimited = world.queue.guesses(None, None);
    let taken = unlimited.take(Some("a"), Some(&john(2))).await.unwrap();
    assert_eq!(taken, Taken { client: true, login: Permit::Free });
}

#[tokio::test]
async fn a_network_is_new_once_and_again_when_it_was_forgotten() {
    let world = world().await;
    for guesses in [world.queue.guesses(None, RATE), world.queue.guesses(None, None)] {
        let used = async |network| guesses.settle(Some("a"), Some("b"), Some(&john(network))).await.unwrap();
        assert_eq!([used(1).await, used(1).await], [true, false]);
        assert!(!guesses.settle(None, None, None).await.unwrap());
        let mut redis = world.redis();
        let key: Vec<String> = redis::cmd("KEYS").arg("*known").query(&mut redis).unwrap();
        // Before there is another: two of one millisecond are in the order of their digests.
        let [(network, at)]: [(Vec<u8>, u64); 1] =
            redis::cmd("ZRANGE").arg(&key[0]).arg(0).arg(-1).arg("WITHSCORES").query(&mut redis).unwrap();
        assert!(used(2).await);
        for (days, new) in [(29, false), (30, true)] {
            let old = at - days * 86_400_000 - 1;
            redis::cmd("ZADD").arg(&key[0]).arg(old).arg(&network[..]).exec(&mut redis).unwrap();
            assert_eq!(used(1).await, new, "{days} days ago");
        }
        redis::cmd("DEL").arg(&key[0]).exec(&mut redis).unwrap();
    }
}

#[tokio::test]
async fn a_login_is_known_from_few_networks_and_not_for_ever() {
    const KEY: &str = "{L:login:96d9632f363564cc30325214}known";
    let world = world().await;
    let guesses = world.queue.guesses(None, RATE);
    for network in 0..40 {
        guesses.settle(None, None, Some(&john(network))).await.unwrap();
    }
    let mut redis = world.redis();
    let known: Vec<Vec<u8>> = redis::cmd("ZRANGE").arg(KEY).arg(0).arg(-1).query(&mut redis).unwrap();
    assert_eq!(known.len(), 32);
    let left: i64 = redis::cmd("PTTL").arg(KEY).query(&mut redis).unwrap();
    assert!((2_591_000_000..=2_592_000_000).contains(&left), "{left}");
    redis::cmd("DEL").arg(KEY).exec(&mut redis).unwrap();
    guesses.settle(None, None, Some(&john(1))).await.unwrap();
    let noted: Vec<(Vec<u8>, u64)> =
        redis::cmd("ZRANGE").arg(KEY).arg(0).arg(-1).arg("WITHSCORES").query(&mut redis).unwrap();
    let (network, at) = &noted[0];
    let old = |days: u64| at - days * 86_400_000 - 1;
    let mut set = |days| redis::cmd("ZADD").arg(KEY).arg(old(days)).arg(&network[..]).exec(&mut redis).unwrap();
    set(29);
    assert_eq!(permit(guesses.take(None, Some(&john(1))).await.unwrap()), Permit::Free);
    set(30);
    assert_eq!(permit(guesses.take(None, Some(&john(1))).await.unwrap()), Permit::Token);
    guesses.settle(None, None, Some(&john(2))).await.unwrap();
    let known: Vec<Vec<u8>> = redis::cmd("ZRANGE").arg(KEY).arg(0).arg(-1).query(&mut redis).unwrap();
    assert!(known.len() == 1 && known[0] != *network, "what is over is gone");
}
