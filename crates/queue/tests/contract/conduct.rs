//! How logins behave: counts of the hour over all pods, tops, steps.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use staffetta_policy::conduct::{Counts, Crossing, Ladder, Signal, Stance, Step};
use staffetta_queue::{Announcer, Conduct, Hour, Place, Queue, Sending, Target, UnixMillis};

use crate::world::{World, accept, world, world_with};

/// Nothing is done.
const CALM: Ladder = Ladder { thresholds: Counts::new([0; 6]), multiples: [0; 4] };
const BLOCK_FOR: Duration = Duration::from_secs(600);

fn pod(queue: &Queue, ladder: Ladder) -> Arc<Conduct> {
    queue.conduct(ladder, BLOCK_FOR)
}

fn message(to: &[&str]) -> Sending {
    Sending::of(&accept(to).envelope)
}

/// What it tells.
async fn flushed(pod: &Conduct) -> Vec<Crossing> {
    let told = Mutex::new(Vec::new());
    pod.flush(&|crossing: &Crossing| told.lock().unwrap().push(crossing.clone())).await;
    told.into_inner().unwrap()
}

/// The hour by the clock of Redis, which is not about to end.
async fn hour(world: &World) -> UnixMillis {
    while world.queue.now() % 3_600_000 > 3_570_000 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.queue.now() / 3_600_000
}

async fn counts(world: &World, login: &str) -> Counts {
    world.queue.records().login(Hour::Now, login).await.unwrap().counts
}

#[tokio::test]
async fn pods_count_together_by_whatever_name_a_login_is_written() {
    let world = world().await;
    hour(&world).await;
    let (here, there) = (pod(&world.queue, CALM), pod(&world.another().await, CALM));
    here.sent("John@Example.org", &message(&["a@x.example", "b@y.example", "c@x.example"]));
    here.sent("John@Example.org", &message(&["a@x.example"]));
    there.sent("john@example.org", &message(&["a@X.example", "d@z.example"]));
    there.bounced("john@example.org", true);
    there.bounced("john@example.org", false);
    there.seen_elsewhere("john@example.org");
    for pod in [&here, &there] {
        assert_eq!(flushed(pod).await, [], "there is no ladder");
        assert_eq!(flushed(pod).await, [], "and nothing is counted twice");
    }
    assert_eq!(counts(&world, "JOHN@example.org").await, Counts::new([3, 6, 3, 2, 1, 1]));
    assert_eq!(counts(&world, "lisa").await, Counts::default());
    let last = world.queue.records().login(Hour::Last, "john@example.org").await.unwrap();
    assert_eq!(last.counts, Counts::default());
}

#[tokio::test]
async fn a_step_is_told_once_by_whoever_sees_it_first() {
    let world = world().await;
    let hour = hour(&world).await;
    let ladder = Ladder { thresholds: Counts::new([4, 0, 2, 0, 0, 0]), multiples: [1, 2, 0, 0] };
    let (here, there) = (pod(&world.queue, ladder), pod(&world.another().await, ladder));
    let sent = |pod: &Conduct| pod.sent("john", &message(&["a@x.example"]));
    let crossing =
        |signal, count, threshold, step| Crossing { login: "john".into(), hour, signal, count, threshold, step };
    for _ in 0..3 {
        sent(&here);
    }
    assert_eq!(flushed(&here).await, []);
    sent(&there);
    assert_eq!(flushed(&there).await, [crossing(Signal::Messages, 4, 4, Step::Notify)]);
    sent(&here);
    assert_eq!(flushed(&here).await, [], "it was told");
    there.sent("john", &message(&["a@x.example", "b@y.example", "c@z.example", "d@w.example"]));
    let domains = [crossing(Signal::Domains, 4, 2, Step::Notify), crossing(Signal::Domains, 4, 2, Step::Slow)];
    assert_eq!(flushed(&there).await, domains, "each signal by itself, and no step is left out");
    assert_eq!(there.stance("john"), Stance { slow: true, hold: false });
    assert_eq!(here.stance("john"), Stance::default(), "it learns it when the login does something here");
    sent(&here);
    assert_eq!(flushed(&here).await, []);
    assert_eq!(here.stance("john"), Stance { slow: true, hold: false });
    let taken = world.queue.records().login(Hour::Now, "john").await.unwrap().taken;
    assert_eq!(taken.len(), 3, "{taken:?}");
    // A pod that is started anew does not tell it again either.
    let restarted = pod(&world.another().await, ladder);
    restarted.seen_elsewhere("john");
    assert_eq!(flushed(&restarted).await, []);
}

#[tokio::test]
async fn pods_that_see_it_at_the_same_time_tell_it_once() {
    let world = world().await;
    hour(&world).await;
    let ladder = Ladder { thresholds: Counts::new([1, 0, 0, 0, 0, 0]), multiples: [1, 2, 0, 0] };
    let mut pods = Vec::new();
    for _ in 0..6 {
        pods.push(pod(&world.another().await, ladder));
    }
    for round in 0..10 {
        pods.iter().for_each(|pod| pod.sent(&format!("login{round}"), &message(&["a@x.example"])));
        let told = futures_util::future::join_all(pods.iter().map(|pod| flushed(pod))).await.concat();
        let steps: Vec<Step> = told.iter().map(|crossing| crossing.step).collect();
        assert!(steps.len() == 2 && steps.contains(&Step::Notify) && steps.contains(&Step::Slow), "{told:?}");
    }
}

#[tokio::test]
async fn a_login_that_comes_to_its_block_is_blocked_and_its_waiting_mail_held() {
    let world = world().await;
    hour(&world).await;
    let ladder = Ladder { thresholds: Counts::new([1, 0, 0, 0, 0, 0]), multiples: [0, 0, 0, 2] };
    let pod = pod(&world.queue, ladder);
    let mut incoming = world.queue.receive().unwrap();
    incoming.write(b"x").await.unwrap();
    let mut from_john = accept(&["a@x.example"]);
    from_john.origin.login = Some("John".into());
    let id = incoming.commit(from_john, b"").await.unwrap();
    pod.sent("John", &message(&["a@x.example"]));
    assert_eq!(flushed(&pod).await, []);
    let announcer = Announcer::connect(&world.settings).await.unwrap();
    assert!(announcer.blocks().await.unwrap().0.is_empty());
    pod.sent("John", &message(&["a@x.example"]));
    assert_eq!(flushed(&pod).await.len(), 1);
    let (blocks, now) = announcer.blocks().await.unwrap();
    let [(target, block)] = &blocks[..] else { panic!("{blocks:?}") };
    assert_eq!(*target, Target::login("john").unwrap());
    assert_eq!(block.reason, "abuse: messages is 2 in an hour, the threshold 1");
    let left = block.until.unwrap() - now;
    assert!((590_000..=600_000).contains(&left), "{left}");
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while world.queue.entry(id).await.unwrap().unwrap().jobs[0].place != Place::Held {
        assert!(std::time::Instant::now() < end, "it is not held");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // What an operator takes back stays so, as long as there is nothing new.
    assert!(announcer.unblock(target).await.unwrap());
    pod.sent("John", &message(&["a@x.example"]));
    assert_eq!(flushed(&pod).await, []);
    assert!(announcer.blocks().await.unwrap().0.is_empty());
}

#[tokio::test]
async fn a_top_has_room_for_ten_thousand_and_those_go_who_have_done_least() {
    let world = world().await;
    let hour = hour(&world).await;
    let mut redis = world.redis();
    let key = format!("{{A}}top:{hour}:messages");
    let mut fill = redis::pipe();
    for number in 0..10_000 {
        fill.cmd("ZADD").arg(&key).arg(5).arg(format!("login{number}")).ignore();
    }
    fill.exec(&mut redis).unwrap();
    let pod = pod(&world.queue, CALM);
    let sent = |login: &str, times: usize| (0..times).for_each(|_| pod.sent(login, &message(&["a@x.example"])));
    sent("quiet", 1);
    sent("loud", 7);
    sent("louder", 9);
    flushed(&pod).await;
    let size: usize = redis::cmd("ZCARD").arg(&key).query(&mut redis).unwrap();
    assert_eq!(size, 10_000);
    let top = world.queue.records().top(Hour::Now, Signal::Messages, 3).await.unwrap();
    let logins: Vec<(&str, u64)> = top.iter().map(|it| (it.login.as_str(), it.counts[Signal::Messages])).collect();
    assert_eq!(logins[..2], [("louder", 9), ("loud", 7)]);
    assert_eq!(logins.len(), 3);
    let rank: Option<u64> = redis::cmd("ZRANK").arg(&key).arg("quiet").query(&mut redis).unwrap();
    assert_eq!(rank, None);
    assert_eq!(counts(&world, "quiet").await[Signal::Messages], 1, "whoever is not in the top is counted, too");
    sent("quiet", 6);
    flushed(&pod).await;
    let rank: Option<u64> = redis::cmd("ZREVRANK").arg(&key).arg("quiet").query(&mut redis).unwrap();
    assert!(rank.is_some_and(|rank| rank < 3), "{rank:?}");
    let by_domains = world.queue.records().top(Hour::Now, Signal::Domains, 10).await.unwrap();
    assert_eq!(by_domains.len(), 3);
    assert_eq!(world.queue.records().top(Hour::Now, Signal::Bounces, 10).await.unwrap(), []);
    assert_eq!(world.queue.records().top(Hour::Last, Signal::Messages, 10).await.unwrap(), []);
}

#[tokio::test]
async fn everything_ends_two_hours_after_it_began() {
    let world = world().await;
    hour(&world).await;
    let ladder = Ladder { thresholds: Counts::new([1, 0, 0, 0, 0, 0]), multiples: [1, 0, 0, 0] };
    let pod = pod(&world.queue, ladder);
    pod.sent("john", &message(&["a@x.example"]));
    assert_eq!(flushed(&pod).await.len(), 1);
    let mut redis = world.redis();
    let keys: Vec<String> = redis::cmd("KEYS").arg("{A}*").query(&mut redis).unwrap();
    assert_eq!(keys.len(), 5, "{keys:?}");
    for key in &keys {
        let left: i64 = redis::cmd("PTTL").arg(key).query(&mut redis).unwrap();
        assert!((7_100_000..=7_200_000).contains(&left), "{key}: {left}");
    }
}

#[tokio::test]
async fn while_redis_is_away_or_full_everything_is_gathered_on() {
    let mut world = world_with(&[("maxmemory", "64mb")], |_| {}).await;
    hour(&world).await;
    let pod = pod(&world.queue, CALM);
    let sent = || pod.sent("john", &message(&["a@x.example"]));
    world.server.kill().unwrap();
    for _ in 0..3 {
        sent();
        flushed(&pod).await;
    }
    world.server.restart().unwrap();
    world.queue.ready(Duration::from_secs(20)).await.unwrap();
    while counts(&world, "john").await[Signal::Messages] < 3 {
        flushed(&pod).await;
    }
    let mut redis = world.redis();
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(1).exec(&mut redis).unwrap();
    sent();
    flushed(&pod).await;
    assert_eq!(counts(&world, "john").await[Signal::Messages], 3, "there is no room");
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(0).exec(&mut redis).unwrap();
    sent();
    flushed(&pod).await;
    assert_eq!(counts(&world, "john").await, Counts::new([5, 5, 1, 0, 0, 0]));
}
