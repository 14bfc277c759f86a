//! The life of a job: offered, claimed, settled.

use staffetta_queue::Destination;

use crate::world::world;

#[tokio::test]
async fn destinations_with_mail_are_offered() {
    let world = world().await;
    let id = world.put(&["a@x.example", "b@y.example"], b"hello").await;
    let offer = world.queue.offer(id.partition(), 10).await.unwrap();
    assert_eq!(offer.destinations, [Destination::new("x.example"), Destination::new("y.example")]);
    let again = world.queue.offer(id.partition(), 10).await.unwrap();
    assert_eq!(again.destinations, []);
    assert!(again.next.is_some_and(|next| next <= std::time::Duration::from_millis(200)));
}
