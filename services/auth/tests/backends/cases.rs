//! What every back end says to clients and frontends. In each case: who cannot be judged may be right, and is never refused.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use staffetta_proto::auth::v1::authenticate_response::Reason;
use tonic::Code;

use crate::common::{BAD, Outcome, World};
use crate::peer::{ODD_PASSWORD, Peer};

const TEMPORARY: Outcome = Outcome::Failure(Reason::Temporary);
const MALFORMED: Outcome = Outcome::Failure(Reason::Malformed);
/// How many are asked at the same time where it does not matter, each in two ways. Dovecot says no twice a second.
const AT_ONCE: usize = 2;
const JOHN: &str = "john@example.org";

fn is(login: &str) -> Outcome {
    Outcome::Success(login.to_owned())
}

/// These logins with these passwords are no logins.
async fn refused(world: &World, logins: &[&str], passwords: &[&str]) {
    let pairs = logins.iter().flat_map(|login| passwords.iter().map(move |password| (*login, *password)));
    let asked = pairs.map(async |(login, password)| {
        assert_eq!(told(world, login, password).await, BAD, "{login:?} {password:?}");
    });
    futures_util::stream::iter(asked).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

/// This password in PLAIN and in LOGIN, which must be told the same.
async fn told(world: &World, login: &str, password: &str) -> Outcome {
    let answers = [login, password];
    let (plain, by_login) = tokio::join!(world.plain(login, password), world.exchange("LOGIN", None, &answers));
    assert_eq!(plain, by_login, "{login:?} {password:?}");
    plain
}

pub(crate) async fn right_passwords_by_every_mechanism(peer: &mut impl Peer) {
    let world = peer.world().await;
    assert_eq!(world.mechanisms().await.unwrap(), ["PLAIN", "LOGIN", "SCRAM-SHA-256"]);
    assert_eq!(world.plain(JOHN, "summersun").await, is(JOHN));
    assert_eq!(world.exchange("PLAIN", None, &["\0john@example.org\0summersun"]).await, is(JOHN));
    assert_eq!(world.exchange("LOGIN", None, &[JOHN, "summersun"]).await, is(JOHN));
    assert_eq!(world.exchange("LOGIN", Some(JOHN.as_bytes()), &["summersun"]).await, is(JOHN));
    for login in ["scram@example.org", "plain@example.org"] {
        assert_eq!(world.scram(login, "summersun").await, is(login));
        assert_eq!(told(&world, login, "summersun").await, is(login));
    }
    world.stop().await;
}

pub(crate) async fn wrong_passwords(peer: &mut impl Peer) {
    let world = peer.world().await;
    let long = "x".repeat(1000);
    let passwords = ["summersum", "Summersun", "summersu", "summersunn", " summersun", "moonlight", &long];
    refused(&world, &[JOHN, "plain@example.org", "scram@example.org"], &passwords).await;
    assert_eq!(world.plain(JOHN, "").await, BAD, "none is none");
    for login in ["scram@example.org", "plain@example.org"] {
        assert_eq!(world.scram(login, "summersum").await, BAD);
    }
    assert_eq!(told(&world, JOHN, "summersun").await, is(JOHN), "a guess before changes nothing");
    world.stop().await;
}

pub(crate) async fn unknown_logins(peer: &mut impl Peer) {
    let world = peer.world().await;
    let logins = ["nobody@example.org", "john", "john@", "example.org", "%", "john@example.or_", "jöhn@example.org"];
    refused(&world, &logins, &["summersun"]).await;
    refused(&world, &["' OR ''='"], &["summersun", "' OR ''='"]).await;
    let proven = join_all(logins.iter().map(|login| world.scram(login, "summersun"))).await;
    assert!(proven.iter().all(|outcome| *outcome == BAD), "{proven:?}");
    world.stop().await;
}

/// Without a password, and under hashes that are nobody's.
pub(crate) async fn locked_accounts(peer: &mut impl Peer) {
    let world = peer.world().await;
    let logins = ["none@example.org", "barred@example.org", "starred@example.org"];
    refused(&world, &logins, &["summersun", "x", "*"]).await;
    let empty = join_all(logins.iter().map(|login| world.plain(login, ""))).await;
    assert!(empty.iter().all(|outcome| *outcome == BAD), "{empty:?}");
    assert_eq!(world.scram("none@example.org", "summersun").await, BAD);
    world.stop().await;
}

pub(crate) async fn the_login_as_it_is_stored(peer: &mut impl Peer) {
    let world = peer.world().await;
    for spelt in ["John@Example.ORG", "JOHN@EXAMPLE.ORG"] {
        assert_eq!(told(&world, spelt, "summersun").await, is(JOHN));
    }
    assert_eq!(world.scram("Scram@Example.org", "summersun").await, is("scram@example.org"));
    world.stop().await;
}

/// Plain text is taken behind the prefix that says so, and is no prefix of itself.
pub(crate) async fn passwords_in_clear(peer: &mut impl Peer) {
    let world = peer.world().await;
    assert_eq!(told(&world, "plain@example.org", "summersun").await, is("plain@example.org"));
    refused(&world, &["plain@example.org"], &["{PLAIN}summersun", "summer", "summersun "]).await;
    world.stop().await;
}

/// Nobody may act for somebody else.
pub(crate) async fn another_identity(peer: &mut impl Peer) {
    let world = peer.world().await;
    for identity in ["root", "lisa@example.org"] {
        let message = format!("{identity}\0john@example.org\0summersun");
        assert_eq!(world.exchange("PLAIN", Some(message.as_bytes()), &[]).await, BAD, "{identity}");
    }
    world.stop().await;
}

pub(crate) async fn messages_that_make_no_sense(peer: &mut impl Peer) {
    let world = peer.world().await;
    for message in ["john", "", "\0john@example.org"] {
        assert_eq!(world.exchange("PLAIN", Some(message.as_bytes()), &[]).await, MALFORMED, "{message:?}");
    }
    assert_eq!(world.exchange("LOGIN", None, &["", "x"]).await, MALFORMED);
    for mechanism in ["CRAM-MD5", "ANONYMOUS", "plain", ""] {
        let outcome = world.exchange(mechanism, None, &[]).await;
        assert_eq!(outcome, Outcome::Failure(Reason::Mechanism), "{mechanism}");
    }
    world.stop().await;
}

/// TAB and LF end fields and lines on the way to Dovecot, NUL ends strings; in passwords, the first two are octets as others.
pub(crate) async fn control_characters(peer: &mut impl Peer) {
    let world = peer.world().await;
    let odd = "odd@example.org";
    let expected = if peer.takes_any_password() { is(odd) } else { BAD };
    assert_eq!(told(&world, odd, ODD_PASSWORD).await, expected);
    let passwords = ["sum\tmer", "sum", "summersun", "sum mer sun", "sum\tmer\nsun\n", "sum\tmer\r\nsun", "\t", "\n"];
    refused(&world, &[odd], &passwords).await;
    let by_plain =
        ["john@example.org\t", "\njohn@example.org", "john@example.org\tresp=x", "john@example.org\nCONT\t1"];
    let plain = join_all(by_plain.iter().map(|login| world.plain(login, "summersun"))).await;
    let by_login = [
        [JOHN, "summersun\0"],
        [JOHN, "summersun\0x"],
        [JOHN, "\0summersun"],
        ["john@example.org\0", "summersun"],
        ["john@example.org\t", "summersun"],
        ["john@example.org\n", "summersun"],
    ];
    let login = join_all(by_login.iter().map(|answers| world.exchange("LOGIN", None, answers))).await;
    let nul = world.exchange("PLAIN", Some(b"\0john@example.org\0summersun\0"), &[]).await;
    let is_no = |outcome: &Outcome| *outcome == BAD || *outcome == MALFORMED;
    assert!(is_no(&nul) && plain.iter().all(is_no) && login.iter().all(is_no), "{plain:?} {login:?} {nul:?}");
    world.stop().await;
}

pub(crate) async fn senders(peer: &mut impl Peer) {
    let world = peer.world().await;
    let (own, others, nobodys) = ((true, true), (false, true), (false, false));
    for (login, sender, owner) in [
        (JOHN, "john@example.org", own),
        ("JOHN@example.org", "john@example.org", own),
        (JOHN, "John@Example.org", own),
        (JOHN, "john+news@example.org", own),
        (JOHN, "john+@example.org", own),
        (JOHN, "lisa@example.org", others),
        (JOHN, "lisa+news@example.org", others),
        (JOHN, "lisa@example.com", nobodys),
        (JOHN, "john+news@example.com", nobodys),
        (JOHN, "info@example.org", nobodys),
        (JOHN, "@example.org", nobodys),
        (JOHN, "+john@example.org", nobodys),
        // Nobody has logged in.
        ("", "john@example.org", others),
        ("", "john+news@example.org", others),
        ("", "nobody@example.org", nobodys),
    ] {
        assert_eq!(world.owner(login, sender).await, owner, "{login} {sender}");
    }
    assert_eq!(world.owns(JOHN, "").await, Err(Code::InvalidArgument));
    let long = format!("{}@example.org", "x".repeat(1100));
    assert_eq!(world.owns(JOHN, &long).await, Err(Code::InvalidArgument));
    world.stop().await;
}

/// The first key that is known decides: the address, the address without its tag, the domain.
pub(crate) async fn senders_of_whole_domains(peer: &mut impl Peer) {
    let query = "SELECT destination AS login FROM virtual_aliases WHERE source = :sender OR (source = :sender AND source = ':no')";
    let world = peer.world_with(&format!("sender_query = \"{query}\"")).await;
    for (login, sender, owner) in [
        (JOHN, "sales@catch.example", (true, true)),
        (JOHN, "sales+eu@Catch.Example", (true, true)),
        ("lisa@example.org", "sales@catch.example", (false, true)),
        (JOHN, "info+x@example.org", (true, true)),
        (JOHN, "john@example.org", (false, false)),
    ] {
        assert_eq!(world.owner(login, sender).await, owner, "{login} {sender}");
    }
    world.stop().await;
}

pub(crate) async fn domains_and_recipients(peer: &mut impl Peer) {
    let world = peer.world().await;
    for (domain, known) in
        [("example.org", true), ("Example.ORG", true), ("example.com", false), ("org", false), ("%", false)]
    {
        assert_eq!(world.has_domain(domain).await, Ok(known), "{domain}");
    }
    for (recipient, known) in [
        (JOHN, true),
        ("JOHN@example.org", true),
        ("john+list@example.org", true),
        ("info@example.org", true),
        ("anybody@catch.example", true),
        ("nobody@example.org", false),
        ("john@example.com", false),
        ("postmaster", false),
    ] {
        assert_eq!(world.has_recipient(recipient).await, Ok(known), "{recipient}");
    }
    let long = format!("{}@example.org", "x".repeat(1100));
    assert_eq!(world.has_recipient(&long).await, Err(Code::InvalidArgument));
    assert_eq!(world.has_domain("").await, Err(Code::InvalidArgument));
    world.stop().await;
}

/// Two hundred clients at the same time, half of them with a wrong password; nobody is told what is another's.
pub(crate) async fn many_at_once(peer: &mut impl Peer) {
    let world = Arc::new(World::start(peer.config("cache_ttl = \"1h\"", "")).await);
    world.until_ready().await;
    let clients: Vec<_> = (0..200)
        .map(|number| {
            let (login, password, expected) = match number % 4 {
                0 => (JOHN, "summersun", is(JOHN)),
                1 => (JOHN, "moonlight", BAD),
                2 => ("lisa@example.org", "moonlight", is("lisa@example.org")),
                _ => ("plain@example.org", "moonlight", BAD),
            };
            let world = Arc::clone(&world);
            tokio::spawn(async move { (world.plain(login, password).await, expected) })
        })
        .collect();
    for client in clients {
        let (outcome, expected) = client.await.unwrap();
        assert_eq!(outcome, expected);
    }
    Arc::into_inner(world).unwrap().stop().await;
}

/// Temporary, never a no, by whatever mechanism; and back without a restart.
pub(crate) async fn a_back_end_that_is_away(peer: &mut impl Peer) {
    let world = World::start(peer.config("cache_ttl = \"1h\"", "")).await;
    world.until_ready().await;
    assert_eq!(world.plain(JOHN, "summersun").await, is(JOHN));
    peer.stop().await;
    // All at the same time: each may wait for as long as a client does.
    let pairs = [("lisa@example.org", "moonlight"), (JOHN, "wrong"), ("nobody@example.org", "x")];
    let logins = join_all(pairs.map(async |(login, password)| told(&world, login, password).await));
    let look_ups =
        async { tokio::join!(world.owns(JOHN, JOHN), world.has_domain("example.org"), world.has_recipient(JOHN)) };
    let (logins, proven, look_ups) = tokio::join!(logins, world.scram("scram@example.org", "summersun"), look_ups);
    assert!(proven == TEMPORARY && logins.iter().all(|outcome| *outcome == TEMPORARY), "{logins:?} {proven:?}");
    // Those of Dovecot are in a database that is there.
    let expected = if peer.has_look_ups() { Err(Code::Unavailable) } else { Ok(true) };
    assert_eq!(look_ups, (expected, expected, expected));
    assert_eq!(world.plain(JOHN, "summersun").await, is(JOHN), "known from before");
    if peer.is_watched() {
        world.until_away().await;
    }
    peer.start_again().await;
    world.until_ready().await;
    assert_eq!(told(&world, "lisa@example.org", "moonlight").await, is("lisa@example.org"));
    assert_eq!(told(&world, "lisa@example.org", "summersun").await, BAD);
    assert_eq!(world.owns(JOHN, JOHN).await, Ok(true));
    world.stop().await;
}
