//! The queue as operators see it.

use std::time::Duration;

use staffetta_mail::{QueueId, ReversePath};
use staffetta_queue::{Counts, Destination, Entry, Filter, Page, Place, Settlement};

use crate::world::{World, accept, world};

async fn list_all(world: &World, filter: &Filter, page: usize) -> Vec<Entry> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let Page { entries, next, unreadable } = world.queue.list(filter, cursor, page).await.unwrap();
        assert_eq!(unreadable, []);
        assert!(entries.len() <= page);
        all.extend(entries);
        match next {
            Some(next) => cursor = Some(next),
            None => return all,
        }
    }
}

fn ids(entries: &[Entry]) -> Vec<QueueId> {
    entries.iter().map(|entry| entry.message.id).collect()
}

fn to(destination: &str) -> Filter {
    Filter { destination: Some(Destination::new(destination)), ..Filter::default() }
}

#[tokio::test]
async fn a_list_goes_through_all_partitions_oldest_first() {
    let world = world().await;
    let mut put = Vec::new();
    for number in 0..23 {
        let recipient = format!("a@{}.example", if number % 3 == 0 { "x" } else { "y" });
        put.push(world.put(&[&recipient], &vec![b'b'; number * 200]).await);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for page in [1, 4, 22, 23, 100] {
        assert_eq!(ids(&list_all(&world, &Filter::default(), page).await), put, "{page}");
    }
    let to_x: Vec<QueueId> = put.iter().copied().step_by(3).collect();
    assert_eq!(ids(&list_all(&world, &to("x.example"), 3).await), to_x);
    assert!(list_all(&world, &to("z.example"), 3).await.is_empty());
}

#[tokio::test]
async fn filters_narrow_a_list() {
    let world = world().await;
    let first = world.put(&["a@x.example", "b@y.example"], b"x").await;
    let mut incoming = world.queue.receive().unwrap();
    incoming.write(b"x").await.unwrap();
    let mut bounce = accept(&["a@x.example"]);
    bounce.envelope.sender = ReversePath::Null;
    let second = incoming.commit(bounce, b"").await.unwrap();
    let sender = |text: &str| Filter { sender: Some(text.into()), ..Filter::default() };
    assert_eq!(ids(&list_all(&world, &sender("sender@example.org"), 9).await), [first]);
    assert_eq!(ids(&list_all(&world, &sender(""), 9).await), [second]);
    assert_eq!(ids(&list_all(&world, &Filter { id: Some(second), ..Filter::default() }, 9).await), [second]);
    assert_eq!(ids(&list_all(&world, &to("y.example"), 9).await), [first]);
    let old = |age| Filter { older_than: Some(age), ..Filter::default() };
    assert!(list_all(&world, &old(Duration::from_secs(60)), 9).await.is_empty());
    assert_eq!(list_all(&world, &old(Duration::ZERO), 9).await.len(), 2);
    let both = Filter { sender: Some(String::new()), ..to("y.example") };
    assert!(list_all(&world, &both, 9).await.is_empty());
}

#[tokio::test]
async fn an_entry_shows_where_each_job_is() {
    let world = world().await;
    let recipients: Vec<String> = (0..200).map(|number| format!("recipient{number}@y.example")).collect();
    let mut all = vec!["a@x.example"];
    all.extend(recipients.iter().map(String::as_str));
    let id = world.put(&all, &[b'b'; 10_000]).await;
    world.claim_one("x.example").await;
    let entry = world.queue.entry(id).await.unwrap().unwrap();
    assert!(matches!(entry.jobs[0].place, Place::Leased(_)), "{:?}", entry.jobs[0]);
    assert!(matches!(entry.jobs[1].place, Place::Waiting(_)), "{:?}", entry.jobs[1]);
    assert_eq!(entry.jobs[1].recipients.len(), 200);
    assert_eq!(world.queue.entry(QueueId::new(0, 1, 2)).await.unwrap().map(|entry| entry.message.id), None);
}

#[tokio::test]
async fn counts_add_up() {
    let world = world().await;
    assert_eq!(Counts { memory: (0, 0), ..world.queue.counts().await.unwrap() }, Counts::default());
    for _ in 0..6 {
        world.put(&["a@x.example", "b@y.example", "c@z.example"], b"x").await;
    }
    let jobs = world.claim("x.example").await;
    world.finish(&jobs[0]).await;
    world.defer(&jobs[1], Duration::from_secs(600)).await;
    world.defer(&jobs[2], Duration::from_secs(600)).await;
    let counts = world.queue.counts().await.unwrap();
    assert_eq!((counts.messages, counts.ready, counts.scheduled, counts.leased, counts.held), (6, 12, 2, 3, 0));
    assert!(counts.oldest_ready < Duration::from_secs(60));
    assert!(counts.memory.0 > 0);
    assert!(world.queue.round_trip().await.unwrap() < Duration::from_secs(60));
    let all = list_all(&world, &Filter::default(), 100).await;
    for entry in all {
        world.queue.delete(entry.message.id).await.unwrap();
    }
    for job in &jobs[3..] {
        world.defer(job, Duration::ZERO).await;
    }
    assert_eq!(Counts { memory: (0, 0), ..world.queue.counts().await.unwrap() }, Counts::default());
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn the_oldest_message_of_each_state_is_told_since_it_arrived() {
    let world = world().await;
    let pause = Duration::from_millis(20);
    let ages = async || {
        let counts = world.queue.counts().await.unwrap();
        [counts.oldest_held, counts.oldest_leased, counts.oldest_scheduled]
    };
    let held = world.put(&["a@held.example"], b"x").await;
    tokio::time::sleep(pause).await;
    world.put(&["a@leased.example"], b"x").await;
    tokio::time::sleep(pause).await;
    world.put(&["a@later.example"], b"x").await;
    assert_eq!(ages().await, [Duration::ZERO; 3], "nothing is held, leased or for later");
    world.queue.hold(&Filter { id: Some(held), ..Filter::default() }).await.unwrap();
    let later = world.claim_one("later.example").await;
    world.defer(&later, Duration::from_secs(600)).await;
    // What is not held is the oldest, whichever of its states it is in at the moment.
    let [of_held, of_leased, of_later] = ages().await;
    assert!(of_held >= of_later + pause && of_leased.is_zero() && of_later >= pause, "{:?}", ages().await);
    world.claim_one("leased.example").await;
    let [of_held, of_leased, of_later] = ages().await;
    assert!(of_held >= of_leased + pause && of_leased == of_later, "{:?}", ages().await);
}

#[tokio::test]
async fn what_rests_with_its_destination_says_until_when_and_a_flush_counts_it() {
    let world = world().await;
    let id = world.put(&["a@x.example"], b"x").await;
    let destination = Destination::new("x.example");
    world.queue.park(id.partition(), &destination, Duration::from_secs(300)).await.unwrap();
    let job = async || {
        let page = world.queue.list(&Filter::default(), None, 10).await.unwrap();
        let entry = &page.entries[0];
        let Place::Waiting(at) = entry.jobs[0].place else { panic!("{:?}", entry.jobs) };
        (Duration::from_millis(at - entry.message.arrived).as_secs(), entry.jobs[0].rests)
    };
    let (after, rests) = job().await;
    assert!((300..360).contains(&after) && rests, "{after}");
    let by_id = Filter { id: Some(id), ..Filter::default() };
    assert_eq!(world.queue.flush(&by_id).await.unwrap(), 1);
    let (after, rests) = job().await;
    assert!(after < 60 && !rests, "{after}");
    world.queue.park(id.partition(), &destination, Duration::from_secs(300)).await.unwrap();
    assert_eq!(world.queue.flush(&Filter::default()).await.unwrap(), 1);
    assert_eq!(world.queue.flush(&Filter::default()).await.unwrap(), 0);
}

#[tokio::test]
async fn a_flush_means_what_its_filter_says() {
    let world = world().await;
    let mut put = Vec::new();
    for _ in 0..3 {
        put.push(world.put(&["a@x.example", "b@y.example"], b"x").await);
    }
    for destination in ["x.example", "y.example"] {
        for job in world.claim(destination).await {
            world.defer(&job, Duration::from_secs(600)).await;
        }
    }
    let by_id = Filter { id: Some(put[0]), ..to("x.example") };
    assert_eq!(world.queue.flush(&by_id).await.unwrap(), 1);
    assert_eq!(world.queue.flush(&by_id).await.unwrap(), 0, "it is due already");
    assert_eq!(world.claim_one("x.example").await.lease.id, put[0]);
    assert_eq!(world.queue.flush(&to("y.example")).await.unwrap(), 3);
    assert_eq!(world.claim("y.example").await.len(), 3);
    assert_eq!(world.queue.flush(&Filter::default()).await.unwrap(), 2);
    assert_eq!(world.claim("x.example").await.len(), 2);
}

/// A list that was asked for while jobs move must not miss the message: a selection acts on what is listed.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_seen_while_its_job_is_claimed_and_put_back() {
    let world = std::sync::Arc::new(world().await);
    let id = world.put(&["a@x.example"], b"body").await;
    let mover = world.clone();
    let moves = tokio::spawn(async move {
        for _ in 0..200 {
            let job = mover.claim_one("x.example").await;
            mover.queue.settle(&job.lease, Settlement::Released).await.unwrap();
        }
    });
    let mut looks = 0;
    while !moves.is_finished() {
        assert!(world.queue.entry(id).await.unwrap().is_some(), "not there at look {looks}");
        let listed = world.queue.list(&to("x.example"), None, 10).await.unwrap().entries;
        assert_eq!(ids(&listed), [id], "not found by its destination at look {looks}");
        looks += 1;
    }
    moves.await.unwrap();
}
