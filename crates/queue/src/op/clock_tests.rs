//! Processes whose clocks are six days off, in both directions: nothing of it reaches a message.

use std::time::Duration;

use redis::Cmd;
use staffetta_mail::Status;

use super::inside::{Server, put};
use crate::record::{Content, Encoded};
use crate::shared::{Process, Shared};
use crate::{Destination, Filter, Place, Settlement, UnixMillis, value};

const SIX_DAYS: u64 = 6 * 86_400_000;

async fn redis_now(shared: &Shared) -> UnixMillis {
    let mut command = Cmd::new();
    command.arg("TIME");
    value::time(&shared.home().admin.ask(command).await.unwrap()).unwrap()
}

/// The clock of a process that is early or late; without a direction it is right.
fn off(direction: i64) -> Process {
    let now = Process::TODAY.wall;
    let wall = match direction {
        0 => now,
        1 => || (Process::TODAY.wall)() + SIX_DAYS,
        _ => || (Process::TODAY.wall)() - SIX_DAYS,
    };
    Process { wall, ..Process::TODAY }
}

#[tokio::test]
async fn wrong_clocks_of_frontend_and_worker_expire_nothing_early_or_late() {
    for (frontend, worker) in [(1, 0), (-1, 0), (0, 1), (0, -1), (1, -1), (-1, 1)] {
        let server = Server::start();
        let case = format!("frontend {frontend}, worker {worker}");
        let frontend = server.open(off(frontend)).await;
        let worker = server.open(off(worker)).await;
        let id = put(&frontend, &["a@x.example"]).await.unwrap();
        let now = redis_now(&worker).await;
        assert!(now.abs_diff(id.unix_millis()) < 10_000, "{case}: the id says {id:?}");

        let destination = Destination::new("x.example");
        let job = worker.claim(id.partition(), &destination, 1).await.unwrap().pop().unwrap();
        assert!(now.abs_diff(job.message.arrived) < 10_000, "{case}: {}", job.message.arrived);
        assert_eq!(job.message.expires - job.message.arrived, 3_600_000);
        assert!(job.age < Duration::from_secs(10), "{case}: {:?}", job.age);
        assert!(job.left > Duration::from_secs(3_590), "{case}: {:?}", job.left);
        assert_eq!(worker.reclaim(id.partition()).await.unwrap(), 0, "{case}");
        assert_eq!(worker.renew(std::slice::from_ref(&job.lease)).await.unwrap(), [true], "{case}");

        // Later than its life: it comes up when that ends, by Redis.
        let settlement = Settlement::Deferred {
            remaining: vec![0],
            after: Duration::from_secs(86_400),
            reason: String::new(),
            status: Status::new(4, 0, 0),
            back_off: None,
            notices: Vec::new(),
            delay_noticed: false,
            held: false,
        };
        worker.settle(&job.lease, settlement).await.unwrap();
        let entry = worker.entry(id).await.unwrap().unwrap();
        assert_eq!(entry.jobs[0].place, Place::Waiting(job.message.expires), "{case}");
        let old = Filter { older_than: Some(Duration::from_secs(60)), ..Filter::default() };
        assert!(worker.list(&old, None, 10).await.unwrap().entries.is_empty(), "{case}");
    }
}

#[tokio::test]
async fn a_message_expires_by_redis_whatever_the_worker_thinks() {
    for direction in [1, -1] {
        let server = Server::start();
        let worker = server.open(off(direction)).await;
        let id = put(&worker, &["a@x.example"]).await.unwrap();
        let destination = Destination::new("x.example");
        let job = worker.claim(id.partition(), &destination, 1).await.unwrap().pop().unwrap();
        assert!(job.left > Duration::ZERO);
        worker.settle(&job.lease, Settlement::Released).await.unwrap();
        age(&worker, id, 3_600_001).await;
        let job = worker.claim(id.partition(), &destination, 1).await.unwrap().pop().unwrap();
        assert_eq!(job.left, Duration::ZERO, "{direction}");
        assert!(job.age >= Duration::from_secs(3_600) && job.age < Duration::from_secs(3_620), "{:?}", job.age);
    }
}

/// Rewrites a record as if it had arrived so many milliseconds before.
async fn age(shared: &Shared, id: staffetta_mail::QueueId, millis: u64) {
    let record = shared.record(id).await.unwrap().unwrap().unwrap();
    let accept = super::inside::accept(&["a@x.example"]);
    let arrived = record.message.arrived - millis;
    let older = Encoded::new(2, id, &accept, arrived, Content::inline(b"body")).unwrap();
    let mut command = Cmd::new();
    command.arg("SET").arg(shared.partition(id.partition()).record(id)).arg(&older.bytes);
    shared.home().admin.ask(command).await.unwrap();
}
