//! How far a message goes from host to host in one attempt.

use std::net::SocketAddr;

use crate::world::mx::{Script, Server};
use crate::world::{Worker, World, waiting};
use crate::{BODY, home};

const FOR_LATER: &str = "retry_min = \"1h\"\nretry_max = \"1h\"";

/// The mail hosts of a domain, in the order of their preferences.
struct Hosts(Vec<Server>);

impl Hosts {
    /// At 127.9.`net`.1 and so on.
    async fn of(world: &World, domain: &str, net: u8, scripts: Vec<Script>) -> anyhow::Result<Self> {
        let mut servers: Vec<Server> = Vec::new();
        for (number, script) in (1..).zip(scripts) {
            let port = servers.first().map_or(0, Server::port);
            let server = Server::start_on(SocketAddr::from(([127, 9, net, number], port)), script).await?;
            let name = format!("mx{number}.{domain}");
            world.dns.mx(domain, 10 * u16::from(number), &name).host(&name, server.ip());
            servers.push(server);
        }
        Ok(Self(servers))
    }

    fn worker(&self, world: &World, routes: &str) -> anyhow::Result<Worker> {
        world.worker(&format!("port = {}\n{FOR_LATER}", self.0[0].port()), routes)
    }

    /// How often each was told of a recipient.
    fn asked(&self) -> Vec<usize> {
        let asked = |server: &Server| server.commands().iter().filter(|line| line.starts_with("RCPT")).count();
        self.0.iter().map(asked).collect()
    }
}

fn greylisting() -> Script {
    Script { replies: vec![("RCPT", "451 4.7.1 greylisted"); 20], ..Script::default() }
}

/// Postfix' `smtp_mx_session_limit`. Neither who does not let us in nor who hangs up without a word is counted.
#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_that_put_a_message_off_speak_for_all() -> anyhow::Result<()> {
    let world = World::start().await?;
    let shut = Script { greeting: Some("421 4.3.2 closed"), ..Script::default() };
    let rude = Script { replies: vec![("MAIL", "")], ..Script::default() };
    let hosts = Hosts::of(&world, "x.test", 1, vec![shut, rude, greylisting(), greylisting(), greylisting()]).await?;
    let worker = hosts.worker(&world, "")?;
    world.send("john@home.test", &["a@x.test"], BODY).await?;
    let left = world.until("deferred", |entries| waiting(entries).len() == 1).await?;
    assert_eq!(hosts.asked(), [0, 0, 1, 1, 0]);
    assert_eq!(hosts.0.iter().map(Server::connections).collect::<Vec<_>>(), [1, 1, 1, 1, 0]);
    assert!(waiting(&left)[0].contains("mx4.x.test[127.9.1.4] said: 451 4.7.1 greylisted"), "{left:?}");
    worker.stop().await
}

/// As in Postfix, a relay of last resort is asked all the same.
#[tokio::test(flavor = "multi_thread")]
async fn behind_two_hosts_that_put_a_message_off_comes_the_next_way() -> anyhow::Result<()> {
    let world = World::start().await?;
    let hosts = Hosts::of(&world, "x.test", 2, vec![greylisting(), greylisting(), greylisting()]).await?;
    let last = Server::start(Script::default()).await?;
    let via = format!("[\"mx\", \"smtp://{}\"]", last.address());
    let worker = hosts.worker(&world, &format!("[[delivery.route]]\ndomain = \"x.test\"\nvia = {via}\n"))?;
    world.send("john@home.test", &["a@x.test"], BODY).await?;
    last.received(1).await?;
    world.drained().await?;
    assert_eq!(hosts.asked(), [1, 1, 0]);
    worker.stop().await
}

/// The host that could have it may be back.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_last_host_cannot_do_is_no_bounce_while_another_may_do_it() -> anyhow::Result<()> {
    let (world, inbox) = (World::start().await?, Server::start(Script::default()).await?);
    let shut = Script { greeting: Some("421 4.3.2 closed"), extensions: &["8BITMIME"], ..Script::default() };
    let slow = Script { extensions: &["8BITMIME"], ..greylisting() };
    let raw = "Subject: \u{e9}\r\n\r\nx\r\n";
    for (net, first, asked) in [(3, shut, [0, 0]), (4, slow, [1, 0])] {
        let domain = format!("x{net}.test");
        let hosts = Hosts::of(&world, &domain, net, vec![first, Script::default()]).await?;
        let worker = hosts.worker(&world, &home(&inbox))?;
        world.send("john@home.test", &[&format!("a@{domain}")], raw.as_bytes()).await?;
        let is_here = |reason: &String| reason.starts_with(&format!("{domain}: "));
        let left = world.until("deferred", |entries| waiting(entries).iter().any(is_here)).await?;
        let reasons = waiting(&left);
        let reason = reasons.iter().find(|reason| is_here(reason)).map_or("", String::as_str);
        assert!(reason.contains("8BITMIME is required, but was not offered by host mx2."), "{reason}");
        let job = left.iter().flat_map(|entry| &entry.jobs).find(|job| job.destination.as_str() == domain);
        assert_eq!(job.and_then(|job| job.status).map(|status| status.to_string()).as_deref(), Some("4.6.3"));
        assert_eq!(hosts.asked(), asked, "{domain}");
        worker.stop().await?;
    }
    assert!(inbox.mails().is_empty(), "nobody is told: {:?}", inbox.mails());
    Ok(())
}
