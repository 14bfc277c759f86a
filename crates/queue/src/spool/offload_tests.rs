//! A move that is cut off, comes too late, or is cleared up while another is under way.

use std::sync::Arc;

use redis::Cmd;
use staffetta_mail::QueueId;

use super::Spool;
use crate::op::inside::{Server, accept};
use crate::shared::Shared;
use crate::{Body, Deleted, Destination, Incoming, Job, value};

static BODY: [u8; 20_000] = [b'x'; 20_000];

struct Scene {
    shared: Arc<Shared>,
    spool: Arc<Spool>,
    folder: tempfile::TempDir,
    id: QueueId,
    _server: Server,
}

impl Scene {
    async fn start() -> Self {
        let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
        let shared = server.open_with_store(folder.path()).await;
        shared.home().announce_reader().await.unwrap();
        shared.home().look_at_readers(true).await.unwrap();
        let spool = shared.spool.clone().unwrap();
        spool.home().await.unwrap();
        let mut incoming = Incoming::new(shared.clone(), None).unwrap();
        incoming.write(&BODY).await.unwrap();
        let id = incoming.commit(accept(&["a@x.example"]), b"").await.unwrap();
        Self { shared, spool, folder, id, _server: server }
    }

    fn files(&self) -> usize {
        let files = staffetta_testkit::s3::files(self.folder.path().to_owned()).unwrap();
        files.iter().filter(|path| !path.to_string_lossy().contains("/mark-")).count()
    }

    /// All garbage is due, and a reaper comes.
    async fn reap(&self) {
        let keys = self.shared.partition(self.id.partition());
        let ask = async |words: &[&str]| {
            let mut command = Cmd::new();
            command.arg(words);
            self.shared.home().admin.ask(command).await.unwrap()
        };
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let names = ask(&["ZRANGE", &keys.garbage, "0", "-1"]).await;
            let names: Vec<&str> = value::array(&names).iter().filter_map(value::str).collect();
            if names.is_empty() {
                return;
            }
            assert!(std::time::Instant::now() < end, "{names:?}");
            for name in names {
                ask(&["ZADD", &keys.garbage, "XX", "1", name]).await;
            }
            self.shared.reap(keys).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    async fn claim(&self) -> Job {
        let claimed = self.shared.claim(self.id.partition(), &Destination::new("x.example"), 1).await;
        claimed.unwrap().remove(0)
    }

    /// Where it says that it is.
    async fn body(&self, job: &Job) -> bytes::Bytes {
        let Body::Chunks(chunks) = job.body else { panic!("{:?}", job.body) };
        match chunks.place(self.id) {
            None => self.shared.chunk(self.id, 0).await.unwrap(),
            Some(place) => self.shared.piece(place, 0).await.unwrap(),
        }
    }
}

#[tokio::test]
async fn a_copy_that_was_given_up_is_never_the_body() {
    let scene = Scene::start().await;
    let copied = scene.shared.copy_to_store(&scene.spool, scene.id).await.unwrap().unwrap();
    assert_eq!(scene.files(), 1);
    // Its worker stood still for longer than the copy may take.
    scene.reap().await;
    assert_eq!(scene.files(), 0, "the message is there, and this was not its body");
    assert!(!scene.shared.replace_chunks(&copied).await.unwrap());
    let job = scene.claim().await;
    assert_eq!(scene.body(&job).await, BODY.as_slice());
}

#[tokio::test]
async fn what_is_left_of_one_attempt_is_cleared_up_without_harm_to_another() {
    let scene = Scene::start().await;
    let first = scene.shared.copy_to_store(&scene.spool, scene.id).await.unwrap().unwrap();
    let second = scene.shared.copy_to_store(&scene.spool, scene.id).await.unwrap().unwrap();
    assert_eq!(scene.files(), 2);
    assert!(scene.shared.replace_chunks(&second).await.unwrap());
    assert!(!scene.shared.replace_chunks(&first).await.unwrap(), "the record is not what it was");
    // An answer that was lost is asked for again.
    assert!(!scene.shared.replace_chunks(&second).await.unwrap());
    scene.reap().await;
    assert_eq!(scene.files(), 1);
    let job = scene.claim().await;
    assert_eq!(scene.body(&job).await, BODY.as_slice());
    // Whatever says so: what the record names stays.
    let keys = scene.shared.partition(scene.id.partition());
    let Body::Chunks(chunks) = job.body else { panic!() };
    let place = chunks.place(scene.id).unwrap();
    let mut command = Cmd::new();
    command.arg("ZADD").arg(&keys.garbage).arg(1).arg(place.entry(super::IN_STORE));
    scene.shared.home().admin.ask(command).await.unwrap();
    scene.reap().await;
    assert_eq!(scene.body(&job).await, BODY.as_slice());
}

/// By an operator who has seen it before.
#[tokio::test]
async fn a_message_that_is_deleted_while_its_body_moves_leaves_nothing() {
    let scene = Scene::start().await;
    let seen = scene.shared.record(scene.id).await.unwrap().unwrap().unwrap();
    let copied = scene.shared.copy_to_store(&scene.spool, scene.id).await.unwrap().unwrap();
    assert!(scene.shared.replace_chunks(&copied).await.unwrap());
    let late = scene.shared.abort_call(&(&seen).into(), true, "");
    assert_eq!(value::str(&scene.shared.home().admin.ask(late).await.unwrap()), Some("CHANGED"));
    assert_eq!(scene.shared.delete(scene.id).await.unwrap(), Deleted::Removed);
    scene.reap().await;
    assert_eq!(scene.files(), 0);
}

#[tokio::test]
async fn a_message_that_ends_meanwhile_leaves_nothing() {
    let scene = Scene::start().await;
    let copied = scene.shared.copy_to_store(&scene.spool, scene.id).await.unwrap().unwrap();
    let job = scene.claim().await;
    assert!(!scene.shared.replace_chunks(&copied).await.unwrap(), "a worker has it");
    scene.shared.finish(&job.lease, &[]).await.unwrap();
    assert!(!scene.shared.replace_chunks(&copied).await.unwrap());
    assert!(scene.shared.copy_to_store(&scene.spool, scene.id).await.unwrap().is_none());
    scene.reap().await;
    assert_eq!(scene.files(), 0);
}
