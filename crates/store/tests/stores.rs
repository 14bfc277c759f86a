//! What every store does, each against the real thing: a directory, and a server that speaks S3 and checks signatures.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use staffetta_store::{Fault, Group, Store};
use staffetta_testkit::s3::{S3Server, files};

const SIZE: usize = 512 * 1024;

fn octets(fill: u8) -> Bytes {
    vec![fill; SIZE].into()
}

async fn groups(store: &Store, under: &str) -> Vec<String> {
    let groups: Vec<Group> = store.groups(under).await.unwrap().try_collect().await.unwrap();
    let now = SystemTime::now();
    assert!(groups.iter().all(|group| now.duration_since(group.written).unwrap_or_default() < Duration::from_secs(60)));
    let mut names: Vec<String> = groups.into_iter().map(|group| group.name).collect();
    names.sort();
    names.dedup();
    names
}

/// In a store that is empty.
async fn keeps_what_it_is_given(store: &Store) {
    assert!(matches!(store.get("q/none/0").await, Err(Fault::Missing(_))));
    assert_eq!((groups(store, "q").await, store.count("q", "none").await.unwrap()), (vec![], 0));
    for number in 0..12 {
        store.put(&format!("q/a/{number}"), octets(number)).await.unwrap();
    }
    store.put("q/ab/0", Bytes::new()).await.unwrap();
    store.put("other/c/0", octets(9)).await.unwrap();
    store.put("q/mark", "one".into()).await.unwrap();
    assert_eq!(store.get("q/mark").await.unwrap(), "one");
    store.put("q/mark", "three".into()).await.unwrap();
    assert_eq!(store.get("q/mark").await.unwrap(), "three");
    assert_eq!(store.get("q/a/11").await.unwrap(), octets(11));
    assert_eq!(store.get("q/ab/0").await.unwrap(), "");
    assert_eq!(groups(store, "q").await, ["a", "ab"], "a mark is no group");
    assert_eq!(store.count("q", "a").await.unwrap(), 12);

    store.remove_group("q", "a").await.unwrap();
    store.remove_group("q", "a").await.unwrap();
    assert!(matches!(store.get("q/a/3").await, Err(Fault::Missing(_))));
    assert_eq!(groups(store, "q").await, ["ab"], "a name that begins alike is another");
    assert_eq!(store.get("other/c/0").await.unwrap(), octets(9));
    store.try_out("trials", "x", 7).await.unwrap();
    assert_eq!(groups(store, "trials").await, [""; 0]);
}

#[tokio::test]
async fn a_directory_keeps_what_it_is_given_and_is_made_for_us_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("var/spool");
    let store = Store::open(&format!("file://{}", path.display()), []).unwrap();
    assert!(!path.exists(), "nothing happens before the first use");
    keeps_what_it_is_given(&store).await;
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(files(path).unwrap().len(), 3, "the mark, and two objects");
}

#[tokio::test]
async fn what_a_put_that_was_killed_left_behind_goes_with_its_group() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("file://{}", folder.path().display()), []).unwrap();
    store.put("q/a/0", octets(1)).await.unwrap();
    std::fs::write(folder.path().join("q/a/1#1"), "half").unwrap();
    assert_eq!(store.count("q", "a").await.unwrap(), 1);
    store.remove_group("q", "a").await.unwrap();
    assert!(!folder.path().join("q/a").exists());
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_says_so_and_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    std::fs::write(&path, "in the way").unwrap();
    let store = Store::open(&format!("file://{}", path.display()), []).unwrap();
    let fault = store.try_out("t", "x", 7).await.unwrap_err().to_string();
    assert!(fault.starts_with("failed to write an object: ") && fault.contains("spool"), "{fault}");
    std::fs::remove_file(&path).unwrap();
    store.try_out("t", "x", 7).await.unwrap();
}

#[tokio::test]
async fn s3_keeps_what_it_is_given() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let server = S3Server::start("mail").await.unwrap();
    let store = Store::open("s3://mail/large/bodies", server.environment()).unwrap();
    keeps_what_it_is_given(&store).await;
    let objects = server.objects("mail").unwrap();
    assert!(objects.iter().any(|path| path.ends_with("mail/large/bodies/q/ab/0")), "{objects:?}");
    // Two buckets' worth of pages would be 2,000 objects; one page more than one is enough to see that pages follow.
    for number in 0..1_050 {
        store.put(&format!("pages/{number}/0"), "x".into()).await.unwrap();
    }
    assert_eq!(store.groups("pages").await.unwrap().count().await, 1_050);
}

#[tokio::test]
async fn s3_that_is_away_or_does_not_know_us_says_so_and_nothing_secret() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let server = S3Server::start("mail").await.unwrap();
    let mut wrong = server.environment();
    wrong.retain(|(name, _)| name != "AWS_SECRET_ACCESS_KEY");
    wrong.push(("AWS_SECRET_ACCESS_KEY".into(), "guessed".into()));
    let fault = Store::open("s3://mail", wrong).unwrap().try_out("t", "x", 7).await.unwrap_err().to_string();
    assert!(fault.contains("SignatureDoesNotMatch") && !fault.contains("guessed"), "{fault}");

    let store = Store::open("s3://mail", server.environment()).unwrap();
    store.put("q/a/0", "x".into()).await.unwrap();
    drop(server);
    let fault = store.get("q/a/0").await.unwrap_err();
    assert!(matches!(&fault, Fault::Away(text) if text.len() <= 400), "{fault}");
}

#[test]
fn other_urls_are_refused() {
    for url in ["", "file://", "file:///", "file://relative", "s3://", "s3:///prefix", "http://host/x", "/var/spool"] {
        assert!(Store::open(url, []).is_err(), "{url}");
    }
    for url in ["file:///a", "s3://b", "s3://b/", "gs://b/p", "az://c/p/q"] {
        assert!(Store::open(url, []).is_ok(), "{url}");
    }
}

/// A pipe that nobody writes to: whoever opens it waits, as in a network file system that is away.
#[tokio::test]
async fn a_directory_that_hangs_keeps_few_threads_however_many_ask_and_serves_again_afterwards() {
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("file://{}", folder.path().display()), []).unwrap();
    store.put("q/b/0", octets(1)).await.unwrap();
    std::fs::create_dir(folder.path().join("q/a")).unwrap();
    let pipe = folder.path().join("q/a/0");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let before = threads();
    let askers: Vec<_> = (0..200)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { tokio::time::timeout(Duration::from_millis(300), store.get("q/a/0")).await })
        })
        .collect();
    for asker in askers {
        assert!(asker.await.unwrap().is_err(), "nobody gets an answer");
    }
    let hanging = threads();
    let writer = tokio::task::spawn_blocking(move || std::fs::OpenOptions::new().write(true).open(pipe));
    drop(writer.await.unwrap().unwrap());
    assert!(hanging <= before + 64, "{hanging} threads, {before} before");
    assert_eq!(store.get("q/b/0").await.unwrap(), octets(1));
}
