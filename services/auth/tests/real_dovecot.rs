//! The service on a real Dovecot.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::{BAD, Outcome, World, client, dovecot};
use rustix::process::Signal;
use staffetta_auth::Server;
use staffetta_proto::auth::v1::authenticate_response::Reason;
use staffetta_testkit::dovecot::Dovecot;
use tonic::Code;

const JOHN: &str = "john@example.org:{PLAIN}summersun";

fn success() -> Outcome {
    Outcome::Success("john@example.org".to_owned())
}

const TEMPORARY: Outcome = Outcome::Failure(Reason::Temporary);

/// Without a cache and without a database.
async fn world(peer: &Dovecot) -> World {
    let world = World::start(dovecot("cache_ttl = \"0s\"", peer.socket().to_str().unwrap(), None)).await;
    world.until_ready().await;
    world
}

#[tokio::test]
async fn without_a_database_a_login_is_its_own_sender_and_no_domain_is_known() {
    let peer = Dovecot::start("plain login", &[JOHN], "").unwrap();
    let world = world(&peer).await;
    assert_eq!(world.plain("John@Example.ORG", "summersun").await, success(), "as Dovecot spells it");
    for (sender, owned) in [
        ("john@example.org", true),
        ("John@Example.ORG", true),
        ("john+news@example.org", false),
        ("lisa@example.org", false),
    ] {
        assert_eq!(world.owns("john@example.org", sender).await, Ok(owned), "{sender}");
    }
    // Nobody knows; that is not a no.
    assert_eq!(world.has_domain("example.org").await, Err(Code::Unavailable));
    assert_eq!(world.has_recipient("john@example.org").await, Err(Code::Unavailable));
    world.stop().await;
}

#[tokio::test]
async fn mechanisms_are_those_of_dovecot_and_go_through_in_all_their_steps() {
    let mechanisms = "plain scram-sha-256 anonymous external cram-md5";
    let mut peer = Dovecot::start(mechanisms, &[JOHN], "").unwrap();
    let one = world(&peer).await;
    assert_eq!(one.mechanisms().await.unwrap(), ["PLAIN", "SCRAM-SHA-256", "CRAM-MD5"]);
    for (password, expected) in [("summersun", success()), ("moonlight", BAD)] {
        assert_eq!(one.scram("john@example.org", password).await, expected, "{password}");
    }
    for mechanism in ["LOGIN", "ANONYMOUS", "EXTERNAL", "SCRAM-SHA-256-PLUS", "plain", "PLAIN\tresp=x", ""] {
        assert_eq!(one.exchange(mechanism, Some(b"x"), &[]).await, Outcome::Failure(Reason::Mechanism), "{mechanism}");
    }
    // What is offered changes with Dovecot, and stays while it is away.
    peer.kill();
    one.until_away().await;
    assert_eq!(one.mechanisms().await.unwrap(), ["PLAIN", "SCRAM-SHA-256", "CRAM-MD5"]);
    peer.configure("auth_mechanisms = plain login");
    peer.up().unwrap();
    one.until_ready().await;
    assert_eq!(one.mechanisms().await.unwrap(), ["PLAIN", "LOGIN"]);
    assert_eq!(one.exchange("LOGIN", None, &["john@example.org", "summersun"]).await, success());
    one.stop().await;
}

/// Dovecot hears where the client is, and what it says holds for that place alone.
#[tokio::test]
async fn an_account_that_is_tied_to_a_network_is_refused_elsewhere_also_from_the_cache() {
    let tied = "john@example.org:{PLAIN}summersun::::::allow_nets=192.0.2.0/24";
    let peer = Dovecot::start("plain login", &[tied], "").unwrap();
    let world = World::start(dovecot("cache_ttl = \"1h\"", peer.socket().to_str().unwrap(), None)).await;
    let plain = async |ip: &str| {
        let initial = Some(&b"\0john@example.org\0summersun"[..]);
        world.converse("PLAIN", initial, client(ip), |_| Vec::new()).await.unwrap()
    };
    assert_eq!(plain("192.0.2.7").await, success());
    assert_eq!(plain("198.51.100.7").await, BAD);
    peer.users(&["john@example.org:{PLAIN}moonlight"]).unwrap();
    assert_eq!(plain("192.0.2.7").await, success(), "until cache_ttl is over");
    // Dovecot looks at the file once a second.
    let mut others = 8..200;
    while plain(&format!("192.0.2.{}", others.next().unwrap())).await != BAD {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(plain("192.0.2.7").await, success(), "still");
    assert!(peer.log().contains("198.51.100.7"), "{}", peer.log());
    world.stop().await;
}

/// Whom Dovecot's own back end cannot judge, and who takes it longer than we wait, may have the right password.
#[tokio::test]
async fn what_dovecot_cannot_say_is_temporary_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("checkpassword");
    std::fs::write(&script, "#!/bin/sh\nread -r user <&3\ncase $user in slow*) exec sleep 8;; esac\nexit 111\n")
        .unwrap();
    for path in [folder.path(), &script] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let passdb = format!("passdb {{\n  driver = checkpassword\n  args = {}\n}}", script.display());
    let peer = Dovecot::start("plain login", &[JOHN], &passdb).unwrap();
    let world = world(&peer).await;
    assert_eq!(world.plain("lisa@example.org", "summersun").await, TEMPORARY, "{}", peer.log());
    assert_eq!(world.exchange("LOGIN", None, &["lisa@example.org", "summersun"]).await, TEMPORARY);
    let asked = Instant::now();
    let slow = async { (world.plain("slow@example.org", "summersun").await, asked.elapsed()) };
    let ((outcome, took), john) = tokio::join!(slow, world.plain("john@example.org", "summersun"));
    assert_eq!((outcome, john), (TEMPORARY, success()));
    assert!((Duration::from_millis(4900)..Duration::from_millis(5900)).contains(&took), "{took:?}");
    world.stop().await;
}

/// The auth process of a Dovecot that was stopped stays while we are connected, and knows nothing of what was changed.
#[tokio::test]
async fn a_dovecot_that_was_started_anew_is_noticed_while_the_old_one_still_answers() {
    let mut peer = Dovecot::start("plain login", &[JOHN], "").unwrap();
    let world = world(&peer).await;
    peer.stop().unwrap();
    assert_eq!(world.plain("john@example.org", "summersun").await, success(), "the old one");
    peer.configure("auth_mechanisms = plain cram-md5");
    peer.up().unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    while world.mechanisms().await.unwrap() != ["PLAIN", "CRAM-MD5"] {
        assert!(Instant::now() < end, "it is noticed");
        assert_eq!(world.plain("john@example.org", "summersun").await, success());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.plain("john@example.org", "summersun").await, success());
    world.stop().await;
}

/// Right passwords are never refused, whatever happens to Dovecot, and go through again as soon as it is back.
#[tokio::test(flavor = "multi_thread")]
async fn dovecot_killed_and_restarted_under_load_costs_no_login_its_rights() {
    let mut peer = Dovecot::start("plain login", &[JOHN], "").unwrap();
    let world = Arc::new(world(&peer).await);
    let (over, right, away) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..32)
        .map(|number| {
            let (world, over, right, away) =
                (Arc::clone(&world), Arc::clone(&over), Arc::clone(&right), Arc::clone(&away));
            tokio::spawn(async move {
                while !over.load(Relaxed) {
                    let asked = Instant::now();
                    let outcome = match number % 2 {
                        0 => world.plain("john@example.org", "summersun").await,
                        _ => world.exchange("LOGIN", None, &["john@example.org", "summersun"]).await,
                    };
                    assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
                    match outcome {
                        Outcome::Failure(Reason::Temporary) => away.fetch_add(1, Relaxed),
                        outcome => {
                            assert_eq!(outcome, success());
                            right.fetch_add(1, Relaxed)
                        }
                    };
                }
            })
        })
        .collect();
    let more = async |count: &AtomicUsize| {
        let (before, end) = (count.load(Relaxed), Instant::now() + Duration::from_secs(20));
        while count.load(Relaxed) < before + 50 {
            assert!(
                Instant::now() < end,
                "nothing happens: {} right, {} away",
                right.load(Relaxed),
                away.load(Relaxed)
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    for _ in 0..3 {
        more(&right).await;
        peer.kill();
        more(&away).await;
        peer.up().unwrap();
        let back = Instant::now();
        assert_eq!(world.plain("john@example.org", "summersun").await, success(), "at once");
        assert!(back.elapsed() < Duration::from_secs(1), "{:?}", back.elapsed());
    }
    over.store(true, Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    Arc::into_inner(world).unwrap().stop().await;
}

#[tokio::test]
async fn a_dovecot_that_stands_still_is_temporary_in_time_and_answers_when_it_goes_on() {
    let peer = Dovecot::start("plain login", &[JOHN], "").unwrap();
    let world = world(&peer).await;
    assert_eq!(world.plain("john@example.org", "summersun").await, success());
    peer.signal(Signal::STOP);
    for mechanism in ["PLAIN", "LOGIN"] {
        let asked = Instant::now();
        let outcome = match mechanism {
            "PLAIN" => world.plain("john@example.org", "summersun").await,
            _ => world.exchange("LOGIN", None, &["john@example.org", "summersun"]).await,
        };
        assert_eq!(outcome, TEMPORARY);
        assert!(asked.elapsed() < Duration::from_millis(5500), "{mechanism}: {:?}", asked.elapsed());
    }
    peer.signal(Signal::CONT);
    let end = Instant::now() + Duration::from_secs(5);
    while world.plain("john@example.org", "summersun").await != success() {
        assert!(Instant::now() < end, "it goes on");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_socket_that_is_not_for_clients_ends_the_start_and_one_that_is_not_there_is_waited_for() {
    let mut peer = Dovecot::start("plain login", &[JOHN], "").unwrap();
    let wrong = dovecot("", peer.user_socket().to_str().unwrap(), None);
    let error = format!("{:#}", Server::bind(&wrong).await.err().unwrap());
    assert!(error.contains("is one for look-ups"), "{error}");
    let problem = staffetta_auth::check(&wrong.auth).await.unwrap_err();
    assert_eq!(problem.key, "auth.dovecot.socket");
    assert!(problem.problem.contains("is one for look-ups"), "{problem}");

    peer.stop().unwrap();
    let right = dovecot("", peer.socket().to_str().unwrap(), None);
    let problem = staffetta_auth::check(&right.auth).await.unwrap_err().to_string();
    assert!(problem.contains("no connection to Dovecot") && problem.contains("/auth"), "{problem}");
    let world = World::start(right).await;
    world.until_it_says("503", "no connection to Dovecot").await;
    assert_eq!(world.mechanisms().await, Err(Code::Unavailable), "nobody knows yet");
    assert_eq!(world.plain("john@example.org", "summersun").await, TEMPORARY);
    peer.up().unwrap();
    world.until_ready().await;
    assert_eq!(world.plain("john@example.org", "summersun").await, success());
    world.stop().await;
}
