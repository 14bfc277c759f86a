//! What only the inside shows: a clock that is wrong, an answer that is lost.

use std::time::Duration;

use super::*;
use crate::op::inside::{Server, accept};
use crate::shared::Process;
use crate::{Hour, Record};

const LADDER: Ladder = Ladder { thresholds: Counts::new([2, 0, 0, 0, 0, 0]), multiples: [1, 0, 0, 0] };

fn message() -> Sending {
    Sending::of(&accept(&["a@x.example", "b@y.example"]).envelope)
}

async fn record(shared: &Arc<Shared>, hour: Hour) -> Record {
    Records::new(shared.clone()).login(hour, "john").await.unwrap()
}

/// Far enough from a full hour.
async fn settled(shared: &Shared) {
    while shared.home().clock.now() % HOUR > HOUR - 30_000 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn what_is_told_in_a_wrong_hour_counts_in_the_right_one() {
    let server = Server::start();
    let shared = server.open(Process::TODAY).await;
    settled(&shared).await;
    let conduct = Conduct::new(shared.clone(), LADDER, HOLD);
    let right = shared.home().clock.now();
    for wrong in [right + HOUR, right - HOUR] {
        shared.home().clock.adjust(wrong);
        conduct.sent("john", &message());
        conduct.flush(&|crossing| panic!("{crossing:?}")).await;
        assert_eq!(record(&shared, Hour::Now).await.counts, Counts::default(), "{wrong} {right}");
    }
    shared.home().clock.adjust(right);
    let told = Mutex::new(Vec::new());
    conduct.flush(&|crossing: &Crossing| told.lock().unwrap().push(crossing.clone())).await;
    assert_eq!(record(&shared, Hour::Now).await.counts, Counts::new([2, 4, 2, 0, 0, 0]));
    let told = told.into_inner().unwrap();
    assert_eq!((told.len(), told[0].hour, told[0].count), (1, right / HOUR, 2));
}

#[tokio::test]
async fn what_has_no_answer_is_told_again_and_counts_once() {
    let server = Server::start();
    let shared = server.open(Process::TODAY).await;
    settled(&shared).await;
    let conduct = Conduct::new(shared.clone(), LADDER, HOLD);
    conduct.sent("john", &message());
    // The server stands still, and does what is in its socket when it goes on.
    server.signal("-STOP");
    conduct.flush(&|_| {}).await;
    assert_eq!(conduct.told.lock().await.len(), 1, "nobody knows");
    conduct.sent("john", &message());
    server.signal("-CONT");
    while !conduct.told.lock().await.is_empty() || !conduct.table().is_empty() {
        conduct.flush(&|_| {}).await;
    }
    assert_eq!(record(&shared, Hour::Now).await.counts, Counts::new([2, 4, 2, 0, 0, 0]));
    assert_eq!(record(&shared, Hour::Last).await.counts, Counts::default());
}

#[tokio::test]
async fn what_sessions_meet_ends_with_the_hour() {
    let server = Server::start();
    let shared = server.open(Process::TODAY).await;
    settled(&shared).await;
    let ladder = Ladder { multiples: [0, 1, 2, 0], ..LADDER };
    let conduct = Conduct::new(shared.clone(), ladder, HOLD);
    for (slow, hold) in [(false, false), (true, false), (true, false), (true, true)] {
        conduct.sent("john", &message());
        conduct.flush(&|_| {}).await;
        assert_eq!(conduct.stance("john"), Stance { slow, hold });
    }
    assert_eq!(conduct.stance("lisa"), Stance::default());
    shared.home().clock.adjust(shared.home().clock.now() + HOUR);
    assert_eq!(conduct.stance("john"), Stance::default());
}
