//! The client of Dovecot's protocol against a server that says what a real one rarely does.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{BAD, Outcome, World, client, dovecot};
use staffetta_proto::auth::v1::authenticate_response::Reason;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

const GREETING: &str = "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nSPID\t7\nDONE\n";
const TEMPORARY: Outcome = Outcome::Failure(Reason::Temporary);

/// A server on a socket of its own.
struct Fake {
    folder: tempfile::TempDir,
    seen: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

/// What it says to a line, given in its fields; a line that is `HANG UP` ends the connection.
trait Says: Fn(&[&str]) -> String + Send + Sync + 'static {}
impl<F: Fn(&[&str]) -> String + Send + Sync + 'static> Says for F {}

impl Fake {
    /// `greeting` is said at once, or, as from Dovecot 2.4 on, after the client's VERSION.
    fn start(greeting: String, waits: bool, says: impl Says) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("auth")).unwrap();
        let fake = Self { folder, seen: Arc::default(), connections: Arc::default() };
        let (seen, connections, says) = (Arc::clone(&fake.seen), Arc::clone(&fake.connections), Arc::new(says));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Relaxed);
                let talk = talk(stream, greeting.clone(), waits, Arc::clone(&seen), Arc::clone(&says));
                tokio::spawn(talk);
            }
        });
        fake
    }

    fn usual(says: impl Says) -> Self {
        Self::start(GREETING.to_owned(), false, says)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("auth")
    }

    async fn world(&self) -> World {
        let world = World::start(dovecot("cache_ttl = \"0s\"", self.socket().to_str().unwrap(), None)).await;
        world.until_ready().await;
        world
    }

    /// The lines that begin so.
    fn seen(&self, start: &str) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|line| line.starts_with(start)).cloned().collect()
    }

    async fn until_seen(&self, start: &str) -> String {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(line) = self.seen(start).pop() {
                return line;
            }
            assert!(Instant::now() < end, "no {start}: {:?}", self.seen(""));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn talk(stream: UnixStream, greeting: String, waits: bool, seen: Arc<Mutex<Vec<String>>>, says: Arc<impl Says>) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    if waits {
        writer.write_all(b"VERSION\t1\t4\n").await.unwrap();
        let _ = lines.next_line().await;
    }
    let mut answer = greeting;
    loop {
        if answer == "HANG UP" || writer.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        let Ok(Some(line)) = lines.next_line().await else { return };
        seen.lock().unwrap().push(line.clone());
        let fields: Vec<&str> = line.split('\t').collect();
        answer = if matches!(fields[0], "VERSION" | "CPID") { String::new() } else { says(&fields) };
    }
}

/// The login and the password of an AUTH line.
fn credentials(fields: &[&str]) -> (String, String) {
    let response = fields.last().unwrap().strip_prefix("resp=").unwrap();
    let text = String::from_utf8(STANDARD.decode(response).unwrap()).unwrap();
    let mut parts = text.split('\0').skip(1).map(str::to_owned);
    (parts.next().unwrap(), parts.next().unwrap())
}

/// Says yes to everybody, as the name that was given.
fn yes(fields: &[&str]) -> String {
    match fields[0] {
        "AUTH" => format!("OK\t{}\tuser={}\n", fields[1], credentials(fields).0),
        _ => String::new(),
    }
}

fn as_john() -> Outcome {
    Outcome::Success("john".to_owned())
}

#[tokio::test]
async fn every_minor_version_is_spoken_also_by_a_server_that_waits_for_ours() {
    for minor in 1..=4 {
        let greeting = GREETING.replace("1\t2", &format!("1\t{minor}"));
        let fake = Fake::start(greeting, minor > 2, yes);
        let world = fake.world().await;
        assert_eq!(world.plain("john", "summersun").await, as_john(), "1.{minor}");
        assert_eq!(world.mechanisms().await.unwrap(), ["PLAIN", "LOGIN"]);
        world.stop().await;
    }
}

#[tokio::test]
async fn only_what_dovecot_means_as_a_no_is_one() {
    let fake = Fake::usual(|fields| match credentials(fields).0.as_str() {
        "nameless" => format!("OK\t{}\n", fields[1]),
        "asked" => format!("CONT\t{}\t\n", fields[1]),
        login => format!("FAIL\t{}\tuser={login}\t{login}\n", fields[1]),
    });
    let world = fake.world().await;
    let malformed = || Outcome::Failure(Reason::Malformed);
    for (login, expected) in [
        ("john", BAD),
        ("code=temp_fail", TEMPORARY),
        ("temp", TEMPORARY),
        ("authz", BAD),
        ("code=user_disabled", BAD),
        ("code=pass_expired", BAD),
        ("code=invalid_base64", malformed()),
        ("reason=Authentication request timed out", TEMPORARY),
        ("nameless", TEMPORARY),
        ("asked", TEMPORARY),
    ] {
        assert_eq!(world.plain(login, "x").await, expected, "{login}");
    }
    fake.until_seen("CANCEL\t").await;
    world.stop().await;
}

#[tokio::test]
async fn dovecot_hears_who_asks_and_the_response_comes_last() {
    let fake = Fake::usual(yes);
    let world = fake.world().await;
    world.plain("john", "summersun").await;
    let line = fake.until_seen("AUTH").await;
    let fields: Vec<&str> = line.split('\t').skip(2).collect();
    let expected = [
        "PLAIN",
        "service=smtp",
        "nologin",
        "no-penalty",
        "secured",
        "lip=192.0.2.25",
        "rip=192.0.2.1",
        "lport=587",
        "rport=40000",
        "session=submission-192.0.2.1:40000",
        "resp=AGpvaG4Ac3VtbWVyc3Vu",
    ];
    assert_eq!(fields, expected);
    assert!(fake.seen("CPID").iter().all(|line| line != "CPID\t0"));

    let in_clear = staffetta_proto::auth::v1::Client { tls: false, ..client("192.0.2.1") };
    world.converse("PLAIN", Some(b"\0lisa\0x"), in_clear, |_| Vec::new()).await.unwrap();
    assert!(!fake.seen("AUTH").pop().unwrap().contains("secured"));
    world.stop().await;
}

/// Whatever a client says is one field of one line.
#[tokio::test]
async fn no_credential_forges_a_line_or_a_field() {
    let fake = Fake::usual(yes);
    let world = fake.world().await;
    let forged = "x\tresp=AGpvaG4AeA==\nAUTH\t99\tPLAIN\tservice=smtp\tresp=AGpvaG4AeA==";
    assert_eq!(world.plain(forged, forged).await, Outcome::Success("x".to_owned()), "the fake does not escape");
    let session = format!("s\x01\r\0{forged}");
    let client = staffetta_proto::auth::v1::Client { session, ..client("192.0.2.1\tsecured") };
    world.converse("PLAIN", Some(b"\0john\0x"), client, |_| Vec::new()).await.unwrap();
    let lines = fake.seen("AUTH");
    assert_eq!(lines.len(), 2, "{lines:?}");
    for line in &lines {
        let responses = line.split('\t').filter(|field| field.starts_with("resp=")).count();
        assert_eq!((responses, line.split('\t').count()), (1, 13), "{line}");
    }
    assert!(lines[1].contains("session=s\u{1}1\u{1}r\u{1}0x\u{1}tresp="), "{}", lines[1]);
    for raw in [&b"\0john\0x\0resp"[..], b"john", b"\0\0x"] {
        assert_eq!(world.exchange("PLAIN", Some(raw), &[]).await, Outcome::Failure(Reason::Malformed));
    }
    assert_eq!(fake.seen("AUTH").len(), 2, "these were not asked for");
    world.stop().await;
}

/// One connection for all, whose answers find who asked.
#[tokio::test(flavor = "multi_thread")]
async fn answers_in_any_order_reach_who_asked() {
    let held = Mutex::new(Vec::new());
    let fake = Fake::usual(move |fields| {
        let mut held = held.lock().unwrap();
        held.push(yes(fields));
        // The last one first.
        if held.len() == 20 { held.drain(..).rev().collect() } else { String::new() }
    });
    let world = Arc::new(fake.world().await);
    let asking: Vec<_> = (0..20)
        .map(|number| {
            let (world, name) = (Arc::clone(&world), format!("user{number}"));
            tokio::spawn(async move { assert_eq!(world.plain(&name, "x").await, Outcome::Success(name)) })
        })
        .collect();
    for asking in asking {
        asking.await.unwrap();
    }
    let mut ids: Vec<String> =
        fake.seen("AUTH").iter().map(|line| line.split('\t').nth(1).unwrap().to_owned()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), fake.connections.load(Relaxed)), (20, 1));
    assert!(!ids.contains(&"0".to_owned()));
    Arc::into_inner(world).unwrap().stop().await;
}

#[tokio::test]
async fn no_answer_is_temporary_within_5_s_is_given_up_and_holds_nobody_up() {
    let fake = Fake::usual(|fields| match fields[0] {
        "AUTH" if credentials(fields).0 == "slow" => String::new(),
        _ => yes(fields),
    });
    let world = Arc::new(fake.world().await);
    let asked = Instant::now();
    let slow = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.plain("slow", "x").await }
    });
    while !slow.is_finished() {
        assert_eq!(world.plain("john", "summersun").await, as_john());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(slow.await.unwrap(), TEMPORARY);
    let took = asked.elapsed();
    assert!((Duration::from_millis(4900)..Duration::from_millis(5900)).contains(&took), "{took:?}");
    let id = fake
        .seen("AUTH")
        .iter()
        .find(|line| line.contains("AHNsb3cAeA=="))
        .unwrap()
        .split('\t')
        .nth(1)
        .unwrap()
        .to_owned();
    assert_eq!(fake.until_seen("CANCEL").await, format!("CANCEL\t{id}"));
    assert_eq!(fake.connections.load(Relaxed), 1, "the others were answered: the connection is sound");
    Arc::into_inner(world).unwrap().stop().await;
}

/// A connection that says nothing at all may have lost its other end.
#[tokio::test]
async fn a_connection_that_is_silent_while_logins_wait_is_given_up() {
    let fake = Fake::usual(|fields| if credentials(fields).1 == "hang" { String::new() } else { yes(fields) });
    let world = fake.world().await;
    assert_eq!(world.plain("john", "hang").await, TEMPORARY);
    assert_eq!(world.plain("john", "summersun").await, as_john());
    assert_eq!(fake.connections.load(Relaxed), 2);
    world.stop().await;
}

#[tokio::test]
async fn a_login_that_was_asked_for_on_a_dying_connection_is_asked_for_once_more() {
    let left = Mutex::new(1);
    let fake = Fake::usual(move |fields| {
        let mut left = left.lock().unwrap();
        match (*left, credentials(fields).1.as_str()) {
            (0, "summersun") => yes(fields),
            _ => {
                *left = i32::max(0, *left - 1);
                "HANG UP".to_owned()
            }
        }
    });
    let world = fake.world().await;
    assert_eq!(world.plain("john", "summersun").await, as_john());
    assert_eq!(fake.seen("AUTH").len(), 2);
    assert_eq!(world.plain("john", "deadly").await, TEMPORARY, "not for ever");
    assert_eq!(fake.seen("AUTH").len(), 4);
    world.stop().await;
}

#[tokio::test]
async fn what_is_not_the_protocol_ends_the_connection_and_the_next_is_a_new_one() {
    let fake = Fake::usual(|fields| match credentials(fields).1.as_str() {
        "endless" => "x".repeat(20_000),
        "numberless" => "OK\tjohn\n".to_owned(),
        "binary" => format!("CONT\t{}\t\u{1}!!\n", fields[1]),
        "chatty" => format!("NEWS\tx\n\nOK\t4000000000\tuser=eve\n{}", yes(fields)),
        _ => yes(fields),
    });
    let world = fake.world().await;
    assert_eq!(world.plain("john", "chatty").await, as_john(), "what is unknown is passed over");
    for bad in ["endless", "numberless", "binary"] {
        let before = fake.connections.load(Relaxed);
        assert_eq!(world.plain("john", bad).await, TEMPORARY, "{bad}");
        assert_eq!(world.plain("john", "summersun").await, as_john(), "{bad}");
        assert!(fake.connections.load(Relaxed) > before, "{bad}");
    }
    world.stop().await;
}

/// Dovecot ends a connection for a line that is too long, with all logins on it.
#[tokio::test]
async fn a_message_that_dovecot_would_hang_up_on_is_not_sent() {
    let fake = Fake::usual(yes);
    let world = fake.world().await;
    let long = "x".repeat(13_000);
    assert_eq!(world.plain("john", &long).await, Outcome::Failure(Reason::Malformed));
    assert_eq!(world.plain("john", &long[..9000]).await, as_john());
    assert_eq!((fake.seen("AUTH").len(), fake.connections.load(Relaxed)), (1, 1));
    world.stop().await;
}
