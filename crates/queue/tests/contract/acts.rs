//! What operators do by hand: it is noted for the mail log in the step that does it.

use std::time::Duration;

use staffetta_mail::QueueId;
use staffetta_queue::{Act, Deleted, Destination, Filter, Object, Place, Target};

use crate::world::{World, accept, world};

/// All notes, which are gone then.
async fn acts(world: &World) -> Vec<Act> {
    let mut acts = Vec::new();
    for partition in 0..world.queue.partitions() {
        acts.extend(world.queue.acts(partition).await.unwrap());
    }
    acts
}

/// Of mail: the message, whether it ended, whom it does not reach.
fn mail(act: &Act) -> (QueueId, bool, String) {
    match &act.object {
        Object::Mail { id, ended, recipients } => (*id, *ended, recipients.join(" ")),
        Object::Selection { .. } | Object::Target { .. } => panic!("{act:?}"),
    }
}

#[tokio::test]
async fn who_is_blocked_is_noted_once() {
    let world = world().await;
    let target = Target::client("192.0.2.0/24").unwrap();
    world.queue.note_target(&target, "blocked", "").await.unwrap();
    let noted = acts(&world).await;
    assert_eq!((noted.len(), &*noted[0].verb), (1, "blocked"));
    assert_eq!(noted[0].object, Object::Target { target, reason: String::new() });
    assert_eq!(acts(&world).await, []);
}

#[tokio::test]
async fn what_an_operator_deletes_is_noted_once_with_those_who_will_not_get_it() {
    let world = world().await;
    let id = world.put(&["a@x.example", "b@x.example", "c@y.example", "d@z.example"], b"x").await;
    let job = world.claim_one("x.example").await;
    world.queue.settle(&job.lease, crate::world::deferred(vec![1], Duration::ZERO)).await.unwrap();
    assert_eq!(world.queue.delete_jobs(id, &[1]).await.unwrap(), Deleted::Removed);
    let noted = acts(&world).await;
    assert_eq!((mail(&noted[0]), &*noted[0].verb), ((id, false, "c@y.example".to_owned()), "deleted"));
    assert!(!noted[0].by.is_empty() && noted.len() == 1, "{noted:?}");
    let _worker = world.claim_one("z.example").await;
    assert_eq!(world.queue.delete(id).await.unwrap(), Deleted::Leased);
    let noted = acts(&world).await;
    assert_eq!(mail(&noted[0]), (id, false, "b@x.example d@z.example".to_owned()));
    let whole = world.put(&["a@x.example"], b"x").await;
    assert_eq!(world.queue.delete(whole).await.unwrap(), Deleted::Removed);
    assert_eq!(world.queue.delete(whole).await.unwrap(), Deleted::Missing);
    let noted = acts(&world).await;
    assert_eq!((noted.len(), mail(&noted[0])), (1, (whole, true, "a@x.example".to_owned())));
    assert_eq!(acts(&world).await, [], "nobody gets it twice");
}

#[tokio::test]
async fn mail_that_was_never_accepted_is_no_act_of_an_operator() {
    let world = world().await;
    world.queue.receive().unwrap().commit(accept(&[]), b"").await.unwrap_err();
    world.put(&["a@x.example"], b"x").await;
    world.finish(&world.claim_one("x.example").await).await;
    assert_eq!(acts(&world).await, []);
}

#[tokio::test]
async fn an_operator_takes_what_waits_or_is_held_and_nothing_that_a_worker_has() {
    let world = world().await;
    let x = Destination::new("x.example");
    let later = world.put(&["a@x.example"], b"x").await;
    world.defer(&world.claim_one("x.example").await, Duration::from_secs(900)).await;
    let held = world.put(&["a@x.example"], b"x").await;
    world.queue.hold(&Filter { id: Some(held), ..Filter::default() }).await.unwrap();
    let leased = world.put(&["a@x.example"], b"x").await;
    let worker = world.claim_one("x.example").await;
    assert_eq!(worker.message.id, leased);
    assert!(world.queue.take(leased, 0, &x).await.unwrap().is_none());
    for id in [later, held] {
        let job = world.queue.take(id, 0, &x).await.unwrap().unwrap();
        assert_eq!((job.message.id, job.recipients.clone()), (id, vec![0]));
        assert!(world.queue.take(id, 0, &x).await.unwrap().is_none(), "nobody takes it twice");
        let entry = world.queue.entry(id).await.unwrap().unwrap();
        assert!(matches!(entry.jobs[0].place, Place::Leased(_)), "{entry:?}");
        assert!(world.finish(&job).await.is_done());
        assert!(world.queue.take(id, 0, &x).await.unwrap().is_none());
    }
    assert!(world.finish(&worker).await.is_done());
    assert_eq!(world.remains(), Vec::<String>::new());
}
