//! The ways that a route may have, and lists of them; routes for some senders.

mod senders;

use staffetta_queue::Entry;
use staffetta_testkit::certs::Authority;

use crate::world::mx::{Script, Server, acceptor};
use crate::world::{World, waiting};
use crate::{BODY, home};

const FOR_LATER: &str = "retry_min = \"1h\"\nretry_max = \"2h\"";

fn route(domain: &str, via: &str, more: &str) -> String {
    format!("[[delivery.route]]\ndomain = \"{domain}\"\nvia = {via}\n{more}\n")
}

/// `via` of these servers, one after the other.
fn list(servers: &[&Server]) -> String {
    let each: Vec<String> = servers.iter().map(|server| format!("\"smtp://{}\"", server.address())).collect();
    format!("[{}]", each.join(", "))
}

async fn replying(replies: Vec<(&'static str, &'static str)>) -> anyhow::Result<Server> {
    Server::start(Script { replies, ..Script::default() }).await
}

/// A server that nobody listens as any more.
async fn gone() -> anyhow::Result<String> {
    let server = Server::start(Script::default()).await?;
    Ok(format!("smtp://{}", server.address()))
}

async fn waits(world: &World, jobs: usize) -> anyhow::Result<Vec<String>> {
    Ok(waiting(&world.until("deferred", |entries: &[Entry]| waiting(entries).len() == jobs).await?))
}

#[tokio::test(flavor = "multi_thread")]
async fn smtps_is_encrypted_before_the_greeting_and_carries_a_login() -> anyhow::Result<()> {
    let (world, dir) = (World::start().await?, tempfile::tempdir()?);
    let tls = Some(acceptor(&Authority::new(dir.path())?.leaf("smart.test", &["smart.test"])?)?);
    let (extensions, replies) = (&["AUTH PLAIN"], vec![("AUTH", "235 2.7.0 welcome")]);
    let smart = Server::start(Script { tls, wrapped: true, extensions, replies, ..Script::default() }).await?;
    // It greets at once, in the clear.
    let clear = Server::start(Script { extensions: &["STARTTLS"], ..Script::default() }).await?;
    let login = "username = \"john\"\npassword = \"summersun\"\ntls = \"may\"";
    let routes = route("good.test", &format!("\"smtps://{}\"", smart.address()), login)
        + &route("clear.test", &format!("\"smtps://{}\"", clear.address()), "tls = \"may\"");
    let worker = world.worker(FOR_LATER, &routes)?;
    world.send("john@home.test", &["a@good.test"], BODY).await?;
    world.send("john@home.test", &["a@clear.test"], BODY).await?;
    assert!(smart.received(1).await?[0].encrypted);
    let commands = smart.commands();
    assert!(commands.iter().any(|line| line == "AUTH PLAIN AGpvaG4Ac3VtbWVyc3Vu"), "{commands:?}");
    assert!(!commands.iter().any(|line| line == "STARTTLS"), "{commands:?}");
    let waiting = waits(&world, 1).await?;
    assert!(waiting[0].starts_with("clear.test: Cannot start TLS: handshake failure with"), "{waiting:?}");
    assert!(clear.mails().is_empty() && !clear.commands().iter().any(|line| line.starts_with("EHLO")));
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mail_hosts_of_a_named_domain_take_the_mail_of_others() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    world.dns.mx("relay.test", 20, "mx2.relay.test").mx("relay.test", 10, "mx1.relay.test");
    world.dns.host("mx2.relay.test", server.ip()).null_mx("null.test").null_mx("x.test");
    let routes = route("null.test", "\"mx://null.test\"", "") + &route("*", "\"mx://Relay.test\"", "concurrency = 1");
    // The operator has named the domain, so its hosts may be anywhere.
    let settings = format!("{FOR_LATER}\nport = {}\nblocked_networks = [\"loopback\"]", server.port());
    for recipient in ["a@x.test", "b@y.test", "c@null.test"] {
        world.send("john@home.test", &[recipient], BODY).await?;
    }
    let worker = world.worker(&settings, &routes)?;
    let mut got: Vec<_> = server.received(2).await?.into_iter().map(|mail| mail.recipients.join(",")).collect();
    got.sort();
    assert_eq!((got, server.connections()), (vec!["a@x.test".to_owned(), "b@y.test".to_owned()], 1));
    // What is wrong with it is nobody's fault who sends mail.
    let waiting = waits(&world, 1).await?;
    assert!(waiting[0].contains("name=null.test type=MX: it does not accept mail"), "{waiting:?}");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_named_domain_says_of_its_hosts_is_obeyed() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.dns.vouch();
    let server = Server::start(Script::default()).await?;
    let port = server.port();
    world.dns.mx("relay.test", 10, "mx.relay.test").host("mx.relay.test", server.ip());
    world.dns.tlsa(&format!("_{port}._tcp.mx.relay.test"), [3, 0, 1], &[7; 32]);
    let settings = format!("{FOR_LATER}\nport = {port}");
    let worker = world.worker_proving("dnssec = \"trust-ad\"", &settings, &route("*", "\"mx://relay.test\"", ""))?;
    world.send("john@home.test", &["a@x.test"], BODY).await?;
    let waiting = waits(&world, 1).await?;
    let expected = "x.test: TLS is required, but was not offered by host mx.relay.test[127.0.0.1]";
    assert_eq!(waiting, [expected]);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn lmtp_goes_through_a_unix_socket_where_it_is_there() -> anyhow::Result<()> {
    let (world, dir) = (World::start().await?, tempfile::tempdir()?);
    let socket = dir.path().join("lmtp");
    // An offer of TLS is no use there, whatever the level.
    // And who offers CHUNKING there in vain is not found out, so nobody is taken at his word.
    let script = Script { lmtp: true, extensions: &["STARTTLS", "CHUNKING"], ..Script::default() };
    let server = Server::start_at(&socket, script)?;
    let routes = route("x.test", &format!("\"lmtp://unix:{}\"", socket.display()), "")
        + &route("y.test", "\"lmtp://unix:/nowhere/lmtp\"", "");
    let worker = world.worker(&format!("{FOR_LATER}\ntls = \"verify\""), &routes)?;
    world.send("john@home.test", &["a@x.test", "b@x.test"], BODY).await?;
    world.send("john@home.test", &["a@y.test"], BODY).await?;
    assert_eq!(server.received(1).await?[0].recipients, ["a@x.test", "b@x.test"]);
    let said = server.commands();
    assert!(said.contains(&"LHLO relay.test".to_owned()) && said.contains(&"DATA".to_owned()), "{said:?}");
    let waiting = waits(&world, 1).await?;
    assert_eq!(waiting, ["y.test: connect to relay.test[/nowhere/lmtp]: No such file or directory"]);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_that_demands_proof_never_goes_through_a_unix_socket() -> anyhow::Result<()> {
    let (world, dir) = (World::start().await?, tempfile::tempdir()?);
    let socket = dir.path().join("lmtp");
    let script = Script { lmtp: true, extensions: &["STARTTLS", "REQUIRETLS"], ..Script::default() };
    let server = Server::start_at(&socket, script)?;
    let inbox = Server::start(Script::default()).await?;
    let routes = home(&inbox) + &route("*", &format!("\"lmtp://unix:{}\"", socket.display()), "");
    let worker = world.worker("", &routes)?;
    world.send_as("a@x.test", |envelope| envelope.require_tls = true).await?;
    let report = crate::report(&world, &inbox).await?;
    assert!(report.contains("Status: 5.7.30"), "{report}");
    assert!(server.mails().is_empty());
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_of_a_list_is_tried_when_the_one_before_cannot_be_reached_or_refuses_to_talk() -> anyhow::Result<()> {
    let world = World::start().await?;
    let busy = Server::start(Script { greeting: Some("421 4.3.2 closed"), ..Script::default() }).await?;
    let gruff = Server::start(Script { greeting: Some("554 5.7.1 go away"), ..Script::default() }).await?;
    let deaf = Server::start(Script { hello: Some("451 4.3.0 not now"), ..Script::default() }).await?;
    let last = Server::start(Script::default()).await?;
    let never = Server::start(Script::default()).await?;
    let via = list(&[&busy, &gruff, &deaf, &last, &never]).replacen('[', &format!("[\"{}\", ", gone().await?), 1);
    let worker = world.worker(FOR_LATER, &route("*", &via, "concurrency = 1"))?;
    for n in 0..3 {
        world.send("john@home.test", &[&format!("a@d{n}.test")], BODY).await?;
    }
    last.received(3).await?;
    world.drained().await?;
    assert_eq!((never.connections(), last.connections()), (0, 1), "one hop for all three domains");
    assert!([&busy, &gruff, &deaf].iter().all(|server| server.connections() == 1 && server.mails().is_empty()));
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_about_the_mail_counts_as_that_of_a_mail_host() -> anyhow::Result<()> {
    let world = World::start().await?;
    let first = replying(vec![("RCPT TO:<late@", "450 4.2.1 later"), ("RCPT TO:<gone@", "550 5.1.1 unknown")]).await?;
    let (second, inbox) = (Server::start(Script::default()).await?, Server::start(Script::default()).await?);
    let worker = world.worker(FOR_LATER, &(home(&inbox) + &route("*", &list(&[&first, &second]), "")))?;
    world.send("john@home.test", &["here@x.test", "late@x.test", "gone@x.test"], BODY).await?;
    assert_eq!(second.received(1).await?[0].recipients, ["late@x.test"]);
    let report = crate::report(&world, &inbox).await?;
    assert!(report.contains("gone@x.test") && !report.contains("late@x.test"), "{report}");
    assert_eq!(first.mails().iter().map(|mail| mail.recipients.join(",")).collect::<Vec<_>>(), ["here@x.test"]);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_which_nobody_talks_rests_as_one() -> anyhow::Result<()> {
    let world = World::start().await?;
    let shut = || Server::start(Script { greeting: Some("421 4.3.2 closed"), ..Script::default() });
    let (first, second) = (shut().await?, shut().await?);
    let worker = world.worker(FOR_LATER, &route("*", &list(&[&first, &second]), ""))?;
    for n in 0..20 {
        world.send("john@home.test", &[&format!("a@d{n}.test")], BODY).await?;
    }
    first.until("both are asked", || second.connections() == 1).await?;
    world.until("one attempt", |entries| entries.iter().any(|entry| entry.jobs[0].attempts > 0)).await?;
    world.at_rest(20).await?;
    assert_eq!((first.connections(), second.connections()), (1, 1), "for twenty domains");
    worker.stop().await
}

/// `smtp_fallback_relay`.
#[tokio::test(flavor = "multi_thread")]
async fn behind_the_mail_hosts_of_a_domain_a_list_falls_back_but_not_for_mail_that_nobody_wants() -> anyhow::Result<()>
{
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    let (spare, inbox) = (Server::start(Script::default()).await?, Server::start(Script::default()).await?);
    world.dns.host("up.test", server.ip()).null_mx("null.test").servfail("late.test");
    // Nobody listens there; and of this one we are a mail host ourselves.
    world.dns.host("down.test", [127, 0, 0, 77]);
    world.dns.mx("ours.test", 10, "mx.ours.test").host("mx.ours.test", [127, 0, 0, 77]).mx(
        "ours.test",
        20,
        "relay.test",
    );
    let via = format!("[\"mx\", \"smtp://{}\"]", spare.address());
    let settings = format!("{FOR_LATER}\nport = {}", server.port());
    let worker = world.worker(&settings, &(home(&inbox) + &route("*", &via, "")))?;
    for domain in ["up", "down", "none", "late", "ours", "null"] {
        world.send("john@home.test", &[&format!("a@{domain}.test")], BODY).await?;
    }
    let mut got: Vec<_> = spare.received(3).await?.into_iter().map(|mail| mail.recipients.join(",")).collect();
    got.sort();
    assert_eq!(got, ["a@down.test", "a@late.test", "a@none.test"]);
    assert_eq!(server.received(1).await?[0].recipients, ["a@up.test"]);
    assert!(inbox.received(1).await?[0].body.contains("null.test does not accept mail"));
    let waiting = waits(&world, 1).await?;
    assert!(waiting[0].starts_with("ours.test: connect to mx.ours.test[127.0.0.77]"), "{waiting:?}");
    assert_eq!(spare.mails().len(), 3);
    worker.stop().await
}
