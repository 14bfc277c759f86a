//! Pieces of bodies that are frames of zstd.

use staffetta_mail::QueueId;
use staffetta_queue::{Body, Chunks, Codec, Compression, Error, Job, Kept};

use crate::world::{World, accept, text, world_with};

async fn packing() -> World {
    world_with(&[], |settings| settings.compression = Compression::Zstd).await
}

/// Octets without any order.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..size).map(|_| next()).collect()
}

/// What Redis has of the body.
fn stored(world: &World, id: QueueId) -> usize {
    let mut redis = world.redis();
    let keys: Vec<String> = redis::cmd("KEYS").arg(format!("*}}b:{id}:*")).query(&mut redis).unwrap();
    keys.iter().map(|key| redis::cmd("STRLEN").arg(key).query::<usize>(&mut redis).unwrap()).sum()
}

fn chunks(job: &Job) -> Chunks {
    match job.body {
        Body::Chunks(chunks) => chunks,
        Body::Inline(_) => panic!("it is inline"),
    }
}

async fn read(world: &World, job: &Job) -> Vec<u8> {
    let chunks = chunks(job);
    let mut octets = job.prefix.to_vec();
    for index in 0..chunks.count {
        let chunk = world.queue.chunk(job.message.id, &chunks, index).await.unwrap();
        octets.extend(chunk);
    }
    octets
}

#[tokio::test]
async fn a_body_that_shrinks_takes_less_of_redis_and_comes_back_as_it_was() {
    let world = packing().await;
    for size in [16 * 1024 + 1, 200_000, 256 * 1024 + 1, 1_200_000] {
        let content = text(size);
        let mut incoming = world.queue.receive().unwrap();
        for piece in content.chunks(9_999) {
            incoming.write(piece).await.unwrap();
        }
        let to = ["a@x.example", "b@y.example"];
        let id = incoming.commit(accept(&to), b"X-First: 1\r\n").await.unwrap();
        assert!(stored(&world, id) < size / 3, "{} of {size}", stored(&world, id));
        for domain in ["x.example", "y.example"] {
            let job = world.claim_one(domain).await;
            let chunks = chunks(&job);
            let count = size.div_ceil(256 * 1024) as u32;
            let expected = Chunks { codec: Codec::Zstd, ..Chunks::in_redis(count, size as u64) };
            assert_eq!((chunks, job.message.size), (expected, size as u64 + 12));
            let head = world.queue.head(id, &job.prefix, &job.body).await.unwrap();
            let whole = [b"X-First: 1\r\n", &*content].concat();
            assert!(whole.starts_with(&head) && head.len() > 16 * 1024);
            assert_eq!(read(&world, &job).await, whole);
            world.finish(&job).await;
        }
        world.keep_house().await;
        assert_eq!(world.remains(), Vec::<String>::new());
    }
}

/// The first piece decides for all: two of its kind follow.
#[tokio::test]
async fn what_does_not_shrink_is_stored_as_it_is() {
    let world = packing().await;
    let piece = 256 * 1024;
    for (first, second, codec) in [
        (noise(piece), noise(100_000), Codec::Plain),
        (noise(piece), text(piece), Codec::Plain),
        (text(piece), noise(piece), Codec::Zstd),
    ] {
        let content = [first, second].concat();
        let id = world.put(&["a@x.example"], &content).await;
        let job = world.claim_one("x.example").await;
        let chunks = chunks(&job);
        assert_eq!(chunks.codec, codec);
        assert_eq!(stored(&world, id) == content.len(), codec == Codec::Plain);
        assert_eq!(read(&world, &job).await, content);
        world.finish(&job).await;
    }
    // What is small is a part of its record.
    let id = world.put(&["a@x.example"], &text(16 * 1024)).await;
    assert_eq!(stored(&world, id), 0);
    assert_eq!(world.claim_one("x.example").await.body, Body::Inline(text(16 * 1024).into()));
}

#[tokio::test]
async fn a_frame_that_is_damaged_is_no_content() {
    let world = packing().await;
    let id = world.put(&["a@x.example"], &text(200_000)).await;
    let job = world.claim_one("x.example").await;
    let chunks = chunks(&job);
    let mut redis = world.redis();
    let key: Vec<String> = redis::cmd("KEYS").arg(format!("*}}b:{id}:0")).query(&mut redis).unwrap();
    let frame: Vec<u8> = redis::cmd("GET").arg(&key).query(&mut redis).unwrap();
    let larger = {
        let mut piece = vec![0; 1024 * 1024];
        piece[..4].copy_from_slice(b"more");
        zstd::bulk::compress(&piece, 1).unwrap()
    };
    for other in [b"no frame".to_vec(), frame[..frame.len() / 2].to_vec(), larger] {
        redis::cmd("SET").arg(&key).arg(other).exec(&mut redis).unwrap();
        let error = world.queue.chunk(id, &chunks, 0).await.unwrap_err();
        assert!(matches!(&error, Error::Damaged(of, _) if *of == id), "{error}");
    }
    redis::cmd("SET").arg(&key).arg(frame).exec(&mut redis).unwrap();
    assert_eq!(world.queue.chunk(id, &chunks, 0).await.unwrap(), text(200_000));
}

#[tokio::test]
async fn a_packed_body_that_outgrows_redis_lies_in_the_store_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}/spool", folder.path().display());
    let world = world_with(&[], |settings| {
        (settings.spool, settings.redis_limit) = (Some(url), 600_000);
        settings.compression = Compression::Zstd;
    })
    .await;
    let content = text(2_000_000);
    let mut incoming = world.queue.receive().unwrap();
    for piece in content.chunks(99_999) {
        incoming.write(piece).await.unwrap();
    }
    let id = incoming.commit(accept(&["a@x.example"]), b"").await.unwrap();
    let files = staffetta_testkit::s3::files(folder.path().join("spool")).unwrap();
    let octets: u64 = files.iter().map(|path| std::fs::metadata(path).unwrap().len()).sum();
    assert!(octets < 700_000 && stored(&world, id) == 0, "{octets}");
    let job = world.claim_one("x.example").await;
    let chunks = chunks(&job);
    assert_eq!((chunks.kept, chunks.codec, chunks.size), (Kept::InStore, Codec::Zstd, 2_000_000));
    assert!(read(&world, &job).await == content);
}
