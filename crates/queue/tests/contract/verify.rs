//! A look at the whole queue: nothing is found where nothing is wrong, and what a hand has broken is found and put right.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use staffetta_mail::QueueId;
use staffetta_queue::{Destination, Filter, Place, Problem, Queue, Verified};

use crate::world::{World, accept, put, world};

/// What is found, by kind and about what.
async fn look(queue: &Queue, repair: bool) -> (Vec<(Problem, Option<QueueId>, String)>, Verified) {
    let mut found = Vec::new();
    let verified = queue
        .verify(repair, &mut |finding| {
            assert!(!finding.to_string().is_empty());
            assert_eq!(finding.mended, repair && finding.problem.is_curable());
            found.push((finding.problem, finding.id, finding.about.clone()));
        })
        .await
        .unwrap();
    assert_eq!(verified.findings, found.len() as u64);
    (found, verified)
}

/// A message of each kind and in each place.
async fn busy(world: &World) -> Vec<QueueId> {
    let mut ids = Vec::new();
    for body in [&b"x"[..], &vec![b'b'; 600_000]] {
        for to in [&["a@x.example"][..], &["a@x.example", "b@y.example", "c@z.example"]] {
            ids.push(world.put(to, body).await);
        }
    }
    let mut held = world.queue.receive().unwrap();
    held.hold();
    held.write(b"x").await.unwrap();
    ids.push(held.commit(accept(&["a@held.example", "b@y.example"]), b"").await.unwrap());
    ids
}

fn run(world: &World, words: &[&str]) {
    redis::cmd(words[0]).arg(&words[1..]).exec(&mut world.redis()).unwrap();
}

fn key(world: &World, pattern: &str) -> String {
    let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query(&mut world.redis()).unwrap();
    assert_eq!(keys.len(), 1, "{pattern}: {keys:?}");
    keys[0].clone()
}

#[tokio::test]
async fn a_sound_queue_is_in_order_whatever_happens_in_it() {
    let world = world().await;
    assert_eq!(look(&world.queue, false).await, (vec![], Verified::default()));
    busy(&world).await;
    let job = world.claim("y.example").await.remove(0);
    let (found, verified) = look(&world.queue, false).await;
    assert_eq!((found, verified.messages, verified.jobs), (vec![], 5, 10));

    // Mail comes, is delivered and is put off while it is looked at, many times.
    let (end, other) = (Arc::new(AtomicBool::new(false)), world.another().await);
    let traffic = tokio::spawn({
        let end = end.clone();
        async move {
            let mut turns = 0_u32;
            while !end.load(Ordering::Relaxed) {
                put(&other, &["a@x.example", "b@y.example"], &vec![b'b'; 20_000]).await.unwrap();
                for partition in 0..other.partitions() {
                    for job in other.claim(partition, &Destination::new("x.example"), 2).await.unwrap() {
                        let after = Duration::from_secs(60);
                        let how = match turns % 3 {
                            0 => crate::world::deferred(job.recipients.clone(), after),
                            _ => staffetta_queue::Settlement::Finished { notices: Vec::new() },
                        };
                        other.settle(&job.lease, how).await.unwrap();
                    }
                }
                turns += 1;
            }
            turns
        }
    });
    for repair in [false, true, false, true, false, true, false, true] {
        assert_eq!(look(&world.queue, repair).await.0, vec![]);
    }
    end.store(true, Ordering::Relaxed);
    assert!(traffic.await.unwrap() > 0);
    assert!(world.finish(&job).await.is_done());
}

/// What a hand does to a message with one delivery, or with three: and what is found then, and found no more once repaired.
#[tokio::test]
async fn what_is_broken_is_found_once_and_put_right() {
    type Break = (&'static str, fn(&World, &[QueueId]), &'static [(Problem, &'static str)]);
    let breaks: &[Break] = &[
        (
            "a delivery is in no queue",
            |w, ids| run(w, &["ZREM", &waiting(w, ids[0], "x.example"), &name(ids[0], 0)]),
            &[(Problem::Nowhere, "x.example")],
        ),
        (
            "one of three is in no queue",
            |w, ids| run(w, &["ZREM", &waiting(w, ids[1], "y.example"), &name(ids[1], 1)]),
            &[(Problem::Nowhere, "y.example")],
        ),
        (
            "it is held as well",
            |w, ids| run(w, &["ZADD", &tagged(w, ids[0], "held"), "5", &name(ids[0], 0)]),
            &[(Problem::Twice, "x.example")],
        ),
        (
            "it is leased as well",
            |w, ids| {
                let member = format!("{} token x.example", name(ids[0], 0));
                run(w, &["ZADD", &tagged(w, ids[0], "lease"), "9999999999999", &member]);
            },
            &[(Problem::Twice, "x.example")],
        ),
        (
            "a delivery that is over waits",
            |w, ids| {
                run(w, &["SREM", &key(w, &format!("*}}o:{}", ids[1])), "0"]);
                run(w, &["DECR", &tagged(w, ids[1], "n")]);
            },
            &[(Problem::Over, "x.example")],
        ),
        (
            "nothing says what is open",
            |w, ids| run(w, &["DEL", &key(w, &format!("*}}o:{}", ids[1]))]),
            &[(Problem::Uncounted, "")],
        ),
        (
            "nobody looks at a destination",
            |w, ids| run(w, &["ZREM", &tagged(w, ids[0], "due"), "x.example"]),
            &[(Problem::Asleep, "x.example")],
        ),
        (
            "somebody looks at nothing",
            |w, ids| run(w, &["ZADD", &tagged(w, ids[0], "due"), "5", "none.example"]),
            &[(Problem::Idle, "none.example")],
        ),
        (
            "a record would expire",
            |w, ids| run(w, &["EXPIRE", &key(w, &format!("*}}m:{}", ids[0])), "600"]),
            &[(Problem::Fading, "")],
        ),
        (
            "a piece of a body would",
            |w, ids| run(w, &["EXPIRE", &key(w, &format!("*}}b:{}:1", ids[2])), "600"]),
            &[(Problem::Fading, "")],
        ),
        (
            "a message is not listed",
            |w, ids| run(w, &["ZREM", &tagged(w, ids[0], "ids"), &ids[0].to_string()]),
            &[(Problem::Unlisted, "")],
        ),
        (
            "nothing of it is but its record",
            |w, ids| {
                run(w, &["ZREM", &tagged(w, ids[0], "ids"), &ids[0].to_string()]);
                run(w, &["ZREM", &waiting(w, ids[0], "x.example"), &name(ids[0], 0)]);
            },
            &[(Problem::Unlisted, ""), (Problem::Nowhere, "x.example")],
        ),
        (
            "deliveries are miscounted",
            |w, ids| run(w, &["INCRBY", &tagged(w, ids[0], "n"), "7"]),
            &[(Problem::Miscounted, "+7")],
        ),
    ];
    for (what, break_it, expected) in breaks {
        let world = world().await;
        let ids = busy(&world).await;
        break_it(&world, &ids);
        let expected: BTreeSet<String> =
            expected.iter().map(|(problem, about)| format!("{problem:?} {about}")).collect();
        for repair in [false, true] {
            let (found, verified) = look(&world.queue, repair).await;
            let found: BTreeSet<String> =
                found.iter().map(|(problem, _, about)| format!("{problem:?} {about}")).collect();
            assert!(expected.is_subset(&found), "{what}: {found:?}");
            assert!(found.iter().all(|text| expected.contains(text) || text.starts_with("Idle")), "{what}: {found:?}");
            assert_eq!(verified.mended, if repair { verified.findings } else { 0 }, "{what}");
        }
        let (found, verified) = look(&world.queue, false).await;
        let jobs = if *what == "a delivery that is over waits" { 9 } else { 10 };
        assert_eq!((found, verified.messages, verified.jobs), (vec![], 5, jobs), "{what}");
        drains(&world, what).await;
    }
}

/// What does not come back is found as long as it is listed; the rest of it is cleared away.
#[tokio::test]
async fn what_is_lost_is_told_and_nothing_of_it_stays() {
    let world = world().await;
    let ids = busy(&world).await;
    run(&world, &["DEL", &key(&world, &format!("*}}m:{}", ids[1]))]);
    run(&world, &["DEL", &key(&world, &format!("*}}b:{}:2", ids[2]))]);
    let kinds = |found: &[(Problem, Option<QueueId>, String)]| -> BTreeSet<String> {
        let of_messages = found.iter().filter_map(|(problem, id, _)| Some((problem, (*id)?)));
        of_messages.map(|(problem, id)| format!("{problem:?} {id}")).collect()
    };
    let [lost, torn] = [format!("Lost {}", ids[1]), format!("Torn {}", ids[2])];
    assert_eq!(kinds(&look(&world.queue, false).await.0), BTreeSet::from([lost.clone(), torn.clone()]));
    // With its entry gone, what belonged to it belongs to nobody.
    let first = kinds(&look(&world.queue, true).await.0);
    let rest = [format!("Ghost {}", ids[1]), format!("Leftover {}", ids[1])];
    assert_eq!(first, [&[lost, torn][..], &rest].concat().into_iter().collect::<BTreeSet<_>>());
    let (found, verified) = look(&world.queue, true).await;
    assert_eq!((found, verified.mended), (vec![(Problem::Torn, Some(ids[2]), String::new())], 0));
    let keys: Vec<String> = redis::cmd("KEYS").arg(format!("*{}*", ids[1])).query(&mut world.redis()).unwrap();
    assert_eq!(keys, Vec::<String>::new());
    let acts = world.queue.acts(ids[1].partition()).await.unwrap();
    assert_eq!((acts.len(), &*acts[0].verb), (1, "lost"));
}

/// A worker that has many jobs in hand: none of them is a finding, and what is wrong with one is.
#[tokio::test]
async fn many_leases_are_no_finding_and_one_that_is_twice_is() {
    let world = world().await;
    for _ in 0..150 {
        world.put(&["a@x.example", "b@y.example"], b"x").await;
    }
    let mut leased = 0;
    while leased < 150 {
        leased += world.claim("x.example").await.len();
    }
    let (found, verified) = look(&world.queue, true).await;
    assert_eq!((found, verified.messages, verified.jobs), (vec![], 150, 300));
    let one = world.put(&["c@z.example"], b"x").await;
    assert_eq!(world.claim("z.example").await.len(), 1);
    run(&world, &["ZADD", &waiting(&world, one, "z.example"), "5", &name(one, 0)]);
    let (found, _) = look(&world.queue, true).await;
    assert!(found.contains(&(Problem::Twice, Some(one), "z.example".to_owned())), "{found:?}");
    // An empty record is as good as none.
    run(&world, &["SET", &key(&world, &format!("*}}m:{one}")), ""]);
    let (found, _) = look(&world.queue, true).await;
    assert!(found.iter().any(|(problem, id, _)| (*problem, *id) == (Problem::Lost, Some(one))), "{found:?}");
}

/// The key of a message's partition.
fn tagged(world: &World, id: QueueId, kind: &str) -> String {
    let record = key(world, &format!("*}}m:{id}"));
    format!("{}{kind}", record.split_inclusive('}').next().unwrap())
}

fn waiting(world: &World, id: QueueId, destination: &str) -> String {
    tagged(world, id, &format!("w:{destination}"))
}

fn name(id: QueueId, job: u16) -> String {
    format!("{id}.{job}")
}

/// Everything that was put can be taken and finished, once, and nothing is left.
async fn drains(world: &World, what: &str) {
    world.queue.release(&Filter::default()).await.unwrap();
    let page = world.queue.list(&Filter::default(), None, 100).await.unwrap();
    // A lease that nobody has ends by itself; here it is ended by hand.
    for entry in page.entries.iter().filter(|entry| entry.jobs.iter().any(|job| matches!(job.place, Place::Leased(_))))
    {
        let lease = tagged(world, entry.message.id, "lease");
        let members: Vec<String> = redis::cmd("ZRANGE").arg(&lease).arg(0).arg(-1).query(&mut world.redis()).unwrap();
        members.iter().for_each(|member| run(world, &["ZADD", &lease, "5", member]));
    }
    world.keep_house().await;
    world.queue.flush(&Filter::default()).await.unwrap();
    for destination in ["x.example", "y.example", "z.example", "held.example"] {
        for job in world.claim(destination).await {
            assert!(world.finish(&job).await.is_done(), "{what}");
        }
    }
    let left = world.remains();
    assert!(left.iter().all(|key| key.contains("}b:") || key.ends_with("}gc")), "{what}: {left:?}");
}
