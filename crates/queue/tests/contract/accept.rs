//! Taking responsibility: receive, write, commit.

use staffetta_queue::{Body, Health};

use crate::world::{accept, world};

#[tokio::test]
async fn a_small_message_comes_back_as_it_went_in() {
    let world = world().await;
    assert_eq!(world.queue.health(), Health::Ready);
    let id = world.put(&["a@x.example", "b@X.example"], b"Subject: x\r\n\r\nhello\r\n").await;
    let job = world.claim_one("x.example").await;
    assert_eq!(job.lease.id, id);
    assert_eq!(job.message.envelope, accept(&["a@x.example", "b@X.example"]).envelope);
    assert_eq!(job.recipients, [0, 1]);
    assert_eq!(job.body, Body::Inline(b"Subject: x\r\n\r\nhello\r\n".as_slice().into()));
    assert_eq!(world.finish(&job).await, staffetta_queue::Settled::Done);
    assert_eq!(world.remains(), Vec::<String>::new());
}
