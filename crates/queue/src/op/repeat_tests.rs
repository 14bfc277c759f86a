//! What repeating an operation does: nothing. These cases need the inside of the queue.

use std::sync::Arc;

use super::inside::{Server, accept};
use crate::error::Fault;
use crate::record::{Content, Encoded};
use crate::shared::{Process, Shared};
use crate::value;
use crate::{Chunks, Destination, EnqueueError};

struct Inside {
    shared: Arc<Shared>,
    _server: Server,
}

async fn inside() -> Inside {
    let server = Server::start();
    Inside { shared: server.open(Process::TODAY).await, _server: server }
}

impl Inside {
    fn record(&self, age: u64) -> Encoded {
        Encoded::new(
            2,
            self.shared.new_id(),
            &accept(&["a@x.example"]),
            self.shared.home().clock.now() - age,
            Content::inline(b"body"),
        )
        .unwrap()
    }

    async fn enqueue(&self, record: &Encoded) -> String {
        self.place(record).await;
        self.follow(record).await
    }

    /// The record arrives.
    async fn place(&self, record: &Encoded) {
        let [place, _] = self.shared.enqueue_calls(record, u64::MAX);
        self.shared.home().admin.ask(place).await.unwrap();
    }

    /// The script arrives.
    async fn follow(&self, record: &Encoded) -> String {
        let [_, enqueue] = self.shared.enqueue_calls(record, u64::MAX);
        value::str(&self.shared.home().admin.ask(enqueue).await.unwrap()).unwrap().to_owned()
    }

    /// How long the record is still there, in seconds; -1 for ever, -2 not at all.
    async fn life(&self, record: &Encoded) -> i64 {
        let mut command = redis::Cmd::new();
        command.arg("TTL").arg(self.shared.partition(record.id.partition()).record(record.id));
        value::integer(&self.shared.home().admin.ask(command).await.unwrap()).unwrap()
    }

    async fn abort(&self, record: &Encoded) -> String {
        let call = self.shared.abort_call(&record.into(), true, "");
        value::str(&self.shared.home().admin.ask(call).await.unwrap()).unwrap().to_owned()
    }

    async fn claim(&self, record: &Encoded, token: &str, repeated: bool) -> usize {
        let keys = self.shared.partition(record.id.partition());
        let call = self.shared.claim_call(keys, &Destination::new("x.example"), token, 10, repeated);
        let answer = self.shared.home().admin.ask(call).await.unwrap();
        // The first is TIME.
        value::array(&answer).len() - 1
    }
}

#[tokio::test]
async fn the_same_enqueue_any_number_of_times_is_one_message() {
    let inside = inside().await;
    let record = inside.record(0);
    assert_eq!(inside.enqueue(&record).await, "OK");
    assert_eq!(inside.enqueue(&record).await, "DUP");
    inside.shared.enqueue(&record).await.unwrap();
    let other =
        Encoded::new(2, record.id, &accept(&["a@x.example"]), record.arrived, Content::inline(b"body")).unwrap();
    assert_eq!(inside.enqueue(&other).await, "CONFLICT", "another message with the same id");
    let destination = Destination::new("x.example");
    let jobs = inside.shared.claim(record.id.partition(), &destination, 10).await.unwrap();
    assert_eq!(jobs.len(), 1);
    inside.shared.finish(&jobs[0].lease, &[]).await.unwrap();
    assert_eq!(inside.enqueue(&record).await, "DONE", "it is over and does not begin again");
    assert_eq!(inside.abort(&record).await, "DONE");
}

#[tokio::test]
async fn a_withdrawn_enqueue_cannot_arrive_later() {
    let inside = inside().await;
    let (late, queued) = (inside.record(0), inside.record(0));
    assert_eq!(inside.abort(&late).await, "GONE");
    assert_eq!(inside.abort(&late).await, "GONE", "the first answer may have been lost");
    assert_eq!(inside.enqueue(&late).await, "DONE");
    assert!(inside.shared.enqueue(&late).await.is_err(), "nobody may be told 250 for it");
    assert_eq!(inside.enqueue(&queued).await, "OK");
    assert_eq!(inside.abort(&queued).await, "REMOVED");
    assert_eq!(inside.abort(&queued).await, "GONE", "it was not delivered: a 250 for it would be a loss");
    assert_eq!(inside.enqueue(&queued).await, "DONE");
    assert_eq!(inside.shared.counts().await.unwrap().messages, 0);
}

#[tokio::test]
async fn a_record_is_no_message_until_the_script_has_followed() {
    let inside = inside().await;
    let [alone, queued, withdrawn, late] = [0, 0, 0, 61_000].map(|age| inside.record(age));
    inside.place(&alone).await;
    assert!((100..=120).contains(&inside.life(&alone).await), "it goes by itself");
    assert_eq!(inside.shared.counts().await.unwrap().messages, 0);
    assert_eq!(inside.enqueue(&queued).await, "OK");
    assert_eq!(inside.life(&queued).await, -1, "it lives as long as its jobs");
    inside.place(&queued).await;
    assert_eq!(inside.life(&queued).await, -1, "and a repetition does not change that");
    assert_eq!(inside.follow(&queued).await, "DUP");

    // Nothing is left of what was refused, whichever of the two came late.
    inside.place(&withdrawn).await;
    assert_eq!(inside.abort(&withdrawn).await, "GONE");
    assert_eq!(inside.life(&withdrawn).await, -2);
    assert_eq!(inside.enqueue(&withdrawn).await, "DONE");
    assert_eq!(inside.life(&withdrawn).await, -2);
    assert_eq!(inside.enqueue(&late).await, "LATE");
    assert_eq!(inside.life(&late).await, -2);
    assert_eq!(inside.follow(&inside.record(0)).await, "NORECORD", "the record has never arrived, or has expired");
}

#[tokio::test]
async fn a_full_redis_refuses_the_record_and_keeps_what_has_one() {
    let inside = inside().await;
    let [placed, queued, refused] = [0; 3].map(|age| inside.record(age));
    inside.enqueue(&queued).await;
    inside.place(&placed).await;
    let mut command = redis::Cmd::new();
    command.arg("CONFIG").arg("SET").arg("maxmemory").arg("1mb");
    inside.shared.home().admin.ask(command).await.unwrap();
    let [place, _] = inside.shared.enqueue_calls(&refused, u64::MAX);
    assert_eq!(inside.shared.home().admin.ask(place).await, Err(Fault::Full));
    assert_eq!(inside.follow(&refused).await, "NORECORD");
    assert!(matches!(inside.shared.enqueue(&refused).await, Err(EnqueueError::Full)), "452 and not 451");
    assert_eq!(inside.follow(&placed).await, "OK", "no record stays alone because memory became short behind it");
    inside.shared.enqueue(&queued).await.unwrap();
}

#[tokio::test]
async fn an_old_record_and_one_without_its_body_are_refused() {
    let inside = inside().await;
    assert_eq!(inside.enqueue(&inside.record(61_000)).await, "LATE");
    assert_eq!(inside.enqueue(&inside.record(50_000)).await, "OK");
    let large = Encoded { chunks: Chunks::in_redis(2, 9), ..inside.record(0) };
    inside.shared.store_chunk(large.id, 0, b"one of two").await.unwrap();
    assert_eq!(inside.enqueue(&large).await, "NOBODY");
    assert!(inside.shared.enqueue(&large).await.is_err());
}

#[tokio::test]
async fn a_repeated_claim_gets_the_same_jobs() {
    let inside = inside().await;
    let record = inside.record(0);
    inside.enqueue(&record).await;
    assert_eq!(inside.claim(&record, "one", false).await, 1);
    assert_eq!(inside.claim(&record, "one", true).await, 1);
    assert_eq!(inside.claim(&record, "two", true).await, 0);
    assert_eq!(inside.claim(&record, "two", false).await, 0);
}

#[tokio::test]
async fn a_tombstone_goes_away_by_itself() {
    let inside = inside().await;
    let record = inside.record(0);
    inside.abort(&record).await;
    let mut command = redis::Cmd::new();
    command.arg("TTL").arg(inside.shared.partition(record.id.partition()).tombstones(record.arrived));
    let ttl = value::integer(&inside.shared.home().admin.ask(command).await.unwrap()).unwrap();
    assert!((200..=240).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn a_reaper_with_a_wrong_clock_takes_nothing_back() {
    let inside = inside().await;
    let record = inside.record(0);
    inside.enqueue(&record).await;
    let destination = Destination::new("x.example");
    let jobs = inside.shared.claim(record.id.partition(), &destination, 10).await.unwrap();
    inside.shared.home().clock.adjust(inside.shared.home().clock.now() + 3_600_000);
    assert_eq!(inside.shared.reclaim(record.id.partition()).await.unwrap(), 0, "the script asks TIME");
    assert_eq!(inside.shared.renew(&[jobs[0].lease.clone()]).await.unwrap(), [true]);
}
