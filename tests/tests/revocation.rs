//! A hijacked account is stopped on every pod within a second: its password changed, the account removed, the login blocked.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use staffetta_cli::sink::Scenario;
use staffetta_testkit::ports::Port;
use staffetta_tests::{Client, Reply, SOON, Service, World, eventually, next, program};

const MESSAGE: &str = "From: John <john@example.org>\r\nSubject: hello\r\n\r\nHello";
/// What is promised.
const PROMISE: Duration = Duration::from_secs(1);

/// Three frontends, of which the first two ask one auth pod and the third another; one worker.
struct Cluster {
    world: World,
    frontends: [SocketAddr; 3],
    _ports: Vec<Port>,
}

impl Cluster {
    async fn start(world: World) -> anyhow::Result<Self> {
        let mut world = world.set("auth.cache_ttl", "\"1h\"").start().await?;
        let ports = (0..12).map(|_| Port::reserve()).collect::<Result<Vec<_>, _>>()?;
        let at = |index: usize| ports[index].address();
        world.another(Service::Auth, at(0), &[(world.auth(), at(1))]).await?;
        let mut frontends = [world.submission(); 3];
        for (number, first) in [(1, 2), (2, 6)] {
            let mut changes = vec![
                (world.smtp(), at(first)),
                (world.submission(), at(first + 1)),
                (world.submissions(), at(first + 2)),
            ];
            if number == 2 {
                changes.push((world.auth(), at(1)));
            }
            world.another(Service::Frontend, at(first + 3), &changes).await?;
            frontends[number] = at(first + 1);
        }
        Ok(Self { world, frontends, _ports: ports })
    }

    async fn login(&self, frontend: SocketAddr, login: &str, password: &str) -> anyhow::Result<Client> {
        let mut client = Client::connect(frontend).await?.start_tls().await?;
        let reply = client.auth(login, password).await?;
        ensure!(reply.code == 235, "{}", reply.text());
        Ok(client)
    }

    fn staffetta(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        end(self.begin(arguments, input)?).map_err(|error| anyhow::anyhow!("{arguments:?}: {error}"))
    }

    fn begin(&self, arguments: &[&str], input: &str) -> anyhow::Result<Child> {
        let mut command = Command::new(program("staffetta")?);
        command.args(arguments).arg("--config").arg(self.world.config_file());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        child.stdin.take().context("no input")?.write_all(input.as_bytes())?;
        Ok(child)
    }
}

/// What a command has said.
fn end(child: Child) -> anyhow::Result<String> {
    let (said, code) = outcome(child)?;
    ensure!(code == Some(0), "{said}");
    Ok(said)
}

fn outcome(child: Child) -> anyhow::Result<(String, Option<i32>)> {
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Ok((said, output.status.code()))
}

/// A session in the middle of its content.
async fn in_data(mut client: Client, from: &str) -> anyhow::Result<Client> {
    client.expect(&format!("MAIL FROM:<{from}>"), 250).await?;
    client.expect("RCPT TO:<lisa@example.com>", 250).await?;
    client.expect("DATA", 354).await?;
    client.write(format!("{MESSAGE}\r\n").as_bytes()).await?;
    Ok(client)
}

/// How long it takes until the next command is refused, and how long the slowest answer before that took.
async fn until_dismissed(client: &mut Client, since: Instant) -> anyhow::Result<(Duration, Duration)> {
    let mut slowest = Duration::ZERO;
    loop {
        let asked = Instant::now();
        let reply = client.command("NOOP").await?;
        slowest = slowest.max(asked.elapsed());
        match reply.code {
            421 => return Ok((since.elapsed(), slowest)),
            code => ensure!(code == 250 && since.elapsed() < SOON, "{}", reply.text()),
        }
    }
}

/// The same for a login with these credentials.
async fn until_refused(
    frontend: SocketAddr,
    login: &str,
    password: &str,
    since: Instant,
) -> anyhow::Result<(Duration, Duration)> {
    let mut slowest = Duration::ZERO;
    loop {
        let asked = Instant::now();
        let mut client = Client::connect(frontend).await?.start_tls().await?;
        let reply = client.auth(login, password).await?;
        slowest = slowest.max(asked.elapsed());
        match reply.code {
            535 => return Ok((since.elapsed(), slowest)),
            // Told while it was looked at: it must be shown again.
            code => ensure!(matches!(code, 235 | 421 | 454) && since.elapsed() < SOON, "{}", reply.text()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "figures for who looks")]
async fn changed_removed_and_blocked_logins_are_refused_on_every_pod_within_a_second() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    for name in ["john", "lisa", "anna"] {
        world = world.user(&format!("{name}@example.org"), "summersun").await?;
    }
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let cluster = Cluster::start(world).await?;
    let cases: [(&str, &[&str], &str); 3] = [
        ("john@example.org", &["user", "password", "john@example.org"], "moonlight\n"),
        ("lisa@example.org", &["user", "remove", "Lisa@Example.org"], ""),
        ("anna@example.org", &["block", "login", "ANNA@example.org", "--keep-queue", "--reason", "a thief"], ""),
    ];
    for (login, command, input) in cases {
        let mut open = Vec::new();
        let mut sending = Vec::new();
        for frontend in cluster.frontends {
            open.push(cluster.login(frontend, login, "summersun").await?);
            sending.push(in_data(cluster.login(frontend, login, "summersun").await?, login).await?);
        }
        // What has its 250 stays accepted.
        ensure!(open[0].send(login, &["lisa@example.com"], MESSAGE).await?.code == 250);
        let mut others = cluster
            .login(
                cluster.frontends[2],
                "john@example.org",
                if login.starts_with('j') { "summersun" } else { "moonlight" },
            )
            .await?;

        cluster.staffetta(command, input)?;
        let since = Instant::now();
        let watching = open.iter_mut().map(|client| until_dismissed(client, since));
        let trying = cluster.frontends.map(|frontend| until_refused(frontend, login, "summersun", since));
        let (dismissed, refused) = tokio::join!(join_all(watching), join_all(trying));
        let seen: Vec<_> = dismissed.into_iter().chain(refused).collect::<anyhow::Result<_>>()?;
        let longest = seen.iter().map(|(took, _)| *took).max().unwrap_or_default();
        // On a machine that is busy with other things, the answers themselves take long.
        let slowest = seen.iter().map(|(_, slowest)| *slowest).max().unwrap_or_default();
        println!("{}: refused everywhere after {longest:?} (slowest answer {slowest:?})", command.join(" "));
        ensure!(longest < PROMISE + 2 * slowest, "{command:?}: {longest:?}, slowest answer {slowest:?}");

        for mut client in sending {
            client.write(b".\r\n").await?;
            let reply = client.reply().await?;
            ensure!(reply.code == 421, "the message under way: {}", reply.text());
        }
        ensure!(next(&mut mx).await?.recipients == ["lisa@example.com"]);
        match login {
            "john@example.org" => {
                ensure!(others.command("NOOP").await?.code == 421, "it is one of his");
                drop(cluster.login(cluster.frontends[1], login, "moonlight").await?);
            }
            _ => ensure!(others.command("NOOP").await?.code == 250, "others go on"),
        }
    }
    cluster.world.until_empty().await?;
    ensure!(mx.missed() == 0, "nothing that was refused has come");
    let metrics = cluster.world.metrics(Service::Frontend).await?;
    for (reason, least) in [("login_revoked", 4.0), ("login_blocked", 2.0)] {
        let counted = metrics.sum("staffetta_smtp_rejections_total", &[&format!("reason=\"{reason}\"")]);
        ensure!(counted >= least, "{reason}: {counted}");
    }
    ensure!(metrics.sum("staffetta_blocks", &["kind=\"login\""]) == 1.0);

    // Said again because nobody could be told the first time: there is no such account, and everybody is told.
    let again = cluster.staffetta(&["user", "remove", "lisa@example.org"], "").map_err(|error| error.to_string());
    ensure!(again.as_ref().is_err_and(|said| said.contains("there is no account")), "{again:?}");
    eventually(SOON, async || {
        let heard = cluster.world.metrics(Service::Frontend).await?;
        let told = heard.sum("staffetta_revocations_total", &["what=\"revoke\""]);
        ensure!(told == 3.0, "{told}");
        Ok(())
    })
    .await?;

    let listed = cluster.staffetta(&["blocks"], "")?;
    ensure!(listed.contains("login anna@example.org") && listed.contains("a thief"), "{listed}");
    told_to_the_operator(&cluster)?;
    cluster.staffetta(&["unblock", "login", "anna@example.org"], "")?;
    eventually(SOON, async || cluster.login(cluster.frontends[2], "anna@example.org", "summersun").await.map(drop))
        .await?;
    let said = cluster.staffetta(&["auth", "test", "anna@example.org"], "summersun\n")?;
    ensure!(said.contains("accepted"), "{said}");
    eventually(SOON, async || {
        let acts = records(&cluster.world, Service::Delivery, "administered");
        let told: Vec<_> = acts.iter().map(|act| format!("{} {}", act["action"], act["reason"])).collect();
        ensure!(told == [r#""blocked" "a thief""#, r#""unblocked" """#], "{acts:?}");
        ensure!(acts.iter().all(|act| act["name"] == "anna@example.org" && act["by"] != ""), "{acts:?}");
        Ok(())
    })
    .await
}

/// What `auth test` and the log say of anna, who is blocked and has the right password.
fn told_to_the_operator(cluster: &Cluster) -> anyhow::Result<()> {
    let (said, code) = outcome(cluster.begin(&["auth", "test", "Anna@example.org"], "summersun\n")?)?;
    ensure!(
        code == Some(1) && said.contains("anna@example.org: blocked: since ") && said.contains("a thief"),
        "{said}"
    );
    let (said, _) = outcome(cluster.begin(&["auth", "test", "anna@example.org"], "moonlight\n")?)?;
    ensure!(said.contains("refused: wrong password"), "{said}");
    let failed = records(&cluster.world, Service::Frontend, "login_failed");
    let is_hers = |record: &&Value| record["sasl_username"] == "anna@example.org";
    ensure!(failed.iter().filter(is_hers).any(|record| record["reason"] == "blocked"), "{failed:?}");
    Ok(())
}

/// What the first process of a service has written of this event.
fn records(world: &World, service: Service, event: &str) -> Vec<Value> {
    let log = world.log(service);
    let records = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    records.filter(|record| record["event"] == event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mail_of_a_blocked_login_is_held_until_the_operator_says_more() -> anyhow::Result<()> {
    let world = World::new().await?.user("john@example.org", "summersun").await?;
    // Nobody is at its host yet.
    world.dns.mx("example.com", 10, "mx.example.com").host("mx.example.com", [127, 0, 1, 99]);
    let world = world.start().await?;
    let cluster = Cluster { frontends: [world.submission(); 3], world, _ports: Vec::new() };
    let mut john = cluster.login(cluster.frontends[0], "john@example.org", "summersun").await?;
    ensure!(john.send("john@example.org", &["lisa@example.com"], MESSAGE).await?.code == 250);
    let held = |text: &str| text.contains("\"held\":1");
    let said = cluster.staffetta(&["block", "login", "john@example.org", "--for", "1h", "--json"], "")?;
    ensure!(held(&said), "{said}");
    ensure!(john.command("NOOP").await?.code == 421);
    let listed = cluster.staffetta(&["queue", "list", "--login", "JOHN@example.org", "--json"], "")?;
    ensure!(listed.contains("held"), "{listed}");
    let said = cluster.staffetta(&["unblock", "login", "john@example.org", "--json"], "")?;
    ensure!(said.contains("unblocked"), "{said}");
    let counts = cluster.world.queue().await?.counts().await?;
    ensure!(counts.held == 1, "it comes back when the operator says so only: {counts:?}");
    cluster.staffetta(&["block", "login", "john@example.org"], "")?;
    let said = cluster.staffetta(&["unblock", "login", "john@example.org"], "")?;
    ensure!(said.contains("`staffetta queue release --login john@example.org`"), "{said}");
    cluster.staffetta(&["block", "login", "john@example.org"], "")?;
    let said = cluster.staffetta(&["unblock", "login", "john@example.org", "--release", "--json"], "")?;
    ensure!(said.contains("\"released\":1"), "{said}");
    let said = cluster.staffetta(&["queue", "delete", "--login", "john@example.org", "--yes"], "")?;
    ensure!(said.contains("1 message deleted"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_under_way_is_held_once_its_attempt_has_failed_and_what_was_not_begun_is_not_sent() -> anyhow::Result<()> {
    let mut world = World::new().await?.user("john@example.org", "summersun").await?;
    let hand = world.hand("example.com").await?;
    let world = world.set("delivery.destination_concurrency", "1").start().await?;
    let cluster = Cluster { frontends: [world.submission(); 3], world, _ports: Vec::new() };
    let mut john = cluster.login(cluster.frontends[0], "john@example.org", "summersun").await?;
    let mut visit = None;
    for number in 0..6 {
        let to = format!("lisa{number}@example.com");
        ensure!(john.send("john@example.org", &[&to], MESSAGE).await?.code == 250);
        if number == 0 {
            visit = Some(hand.accept().await?);
        }
    }
    let mut visit = visit.context("nobody came")?;
    visit.until_data().await?;

    let mut block = cluster.begin(&["block", "login", "john@example.org", "--json"], "")?;
    eventually(SOON, async || {
        let told =
            cluster.world.metrics(Service::Delivery).await?.sum("staffetta_revocations_total", &["what=\"hold\""]);
        ensure!(told >= 1.0, "the worker has not heard");
        Ok(())
    })
    .await?;
    // It has said what is to be done, and waits for it no longer.
    block.kill()?;
    block.wait()?;
    visit.say("451 4.3.0 not now").await?;
    let mut begun = 0;
    while let Some(line) = visit.line().await? {
        begun += usize::from(line.starts_with("MAIL"));
        // One was on its way to the server already.
        ensure!(begun <= 1, "{begun} more were begun");
        visit.say(if line.starts_with("RSET") { "250 2.0.0 Ok" } else { "451 4.3.0 not now" }).await?;
    }
    let queue = cluster.world.queue().await?;
    eventually(SOON, async || {
        let counts = queue.counts().await?;
        ensure!(counts.held == 6, "{counts:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_and_domains_are_blocked_for_everybody() -> anyhow::Result<()> {
    let world = World::new().await?.start().await?;
    world.dns.mx("example.com", 10, "mx.example.com").mx("example.net", 10, "mx.example.com");
    let cluster = Cluster { frontends: [world.submission(); 3], world, _ports: Vec::new() };
    let smtp = cluster.world.smtp();
    let mut thief = Client::connect_from("127.0.0.66", smtp).await?;
    let mut trusted = Client::connect_from("127.0.0.9", smtp).await?;
    trusted.expect("EHLO client.test", 250).await?;
    cluster.staffetta(&["block", "client", "127.0.0.64/27", "--reason", "a thief"], "")?;
    cluster.staffetta(&["block", "domain", "Example.COM"], "")?;
    eventually(SOON, async || {
        let refused = Client::connect_from("127.0.0.66", smtp).await.err().context("it may come in")?.to_string();
        ensure!(refused.contains("554 5.7.1 <127.0.0.66>: Client host rejected: Access denied"), "{refused}");
        Ok(())
    })
    .await?;
    ensure!(thief.command("EHLO client.test").await?.code == 421, "the session that was open");
    trusted.expect("MAIL FROM:<anna@example.org>", 250).await?;
    let reply = trusted.expect("RCPT TO:<lisa@EXAMPLE.com>", 554).await?;
    ensure!(reply.text().contains("<lisa@EXAMPLE.com>: Recipient address rejected: Access denied"), "{}", reply.text());
    trusted.expect("RCPT TO:<lisa@example.net>", 250).await?;
    trusted.expect("RSET", 250).await?;
    trusted.expect("MAIL FROM:<anna@example.com>", 250).await?;
    let reply = trusted.expect("RCPT TO:<lisa@example.net>", 554).await?;
    ensure!(reply.text().contains("<anna@example.com>: Sender address rejected: Access denied"), "{}", reply.text());
    trusted.expect("RSET", 250).await?;

    for (kind, name) in [("client", "127.0.0.64/27"), ("domain", "example.com")] {
        cluster.staffetta(&["unblock", kind, name], "")?;
    }
    eventually(SOON, async || Client::connect_from("127.0.0.66", smtp).await.map(drop)).await?;
    ensure!(cluster.staffetta(&["blocks"], "")?.contains("Nothing is blocked."));
    Ok(())
}

/// Who writes to somebody who must get no more mail is told at once, or by a report where it was queued before.
#[tokio::test(flavor = "multi_thread")]
async fn mail_to_a_suppressed_recipient_is_refused_and_what_was_queued_comes_back() -> anyhow::Result<()> {
    let mut world = World::new().await?.user("john@example.org", "summersun").await?;
    let hand = world.hand("example.com").await?;
    let home = world.hand("example.org").await?;
    world.dns.mx("dead.example", 10, "mx.dead.example");
    let mut world = world.set("frontend.trusted_networks", "[]").start().await?;
    world.kill(Service::Delivery);
    let mut cluster = Cluster { frontends: [world.submission(); 3], world, _ports: Vec::new() };
    let mut john = cluster.login(cluster.frontends[0], "john@example.org", "summersun").await?;
    let to = ["Gone@example.com", "lisa@example.com"];
    ensure!(john.send("john@example.org", &to, MESSAGE).await?.code == 250);
    let said = cluster.staffetta(
        &["suppress", "add", "gone@EXAMPLE.com", "@dead.example", "--reason", "complained", "--for", "30d"],
        "",
    )?;
    ensure!(said.contains("recipient gone@example.com is suppressed"), "{said}");
    let listed = cluster.staffetta(&["suppress", "list"], "")?;
    ensure!(listed.lines().count() == 2 && listed.contains("recipient @dead.example") && listed.contains("complained"));
    ensure!(cluster.staffetta(&["blocks"], "")?.contains("Nothing is blocked."));

    for to in ["gone@example.com", "a@dead.example"] {
        eventually(SOON, async || {
            let reply = rcpt(&cluster, to).await?;
            let text = reply.text();
            ensure!(
                reply.code == 550 && text.contains("Recipient address rejected: mail to this address is"),
                "{text}"
            );
            ensure!(text.contains("5.7.1") && !text.contains("complained"), "{text}");
            Ok(())
        })
        .await?;
    }
    // A stranger is told of relaying only.
    let mut stranger = Client::connect(cluster.world.smtp()).await?;
    stranger.expect("EHLO client.test", 250).await?;
    stranger.expect("MAIL FROM:<a@example.net>", 250).await?;
    stranger.expect("RCPT TO:<gone@example.com>", 554).await?;

    cluster.world.spawn(Service::Delivery)?;
    let mut got = Vec::new();
    for host in [&hand, &home] {
        let mut visit = host.accept().await?;
        visit.until_data().await?;
        got.push(visit.take().await?);
    }
    let (content, report) = (&got[0], &got[1]);
    ensure!(content.contains("Subject: hello"), "{content}");
    ensure!(
        report.contains("Final-Recipient: rfc822; Gone@example.com") && report.contains("Status: 5.7.1"),
        "{report}"
    );

    let said = cluster.staffetta(&["suppress", "remove", "gone@example.com"], "")?;
    ensure!(said.contains("suppressed no longer"), "{said}");
    eventually(SOON, async || {
        let reply = rcpt(&cluster, "gone@example.com").await?;
        ensure!(reply.code == 250, "{}", reply.text());
        Ok(())
    })
    .await
}

/// As for a login that is blocked: what a worker has in hand and has not begun is not sent.
#[tokio::test(flavor = "multi_thread")]
async fn mail_that_is_claimed_already_does_not_go_to_who_is_suppressed() -> anyhow::Result<()> {
    let mut world = World::new().await?.user("john@example.org", "summersun").await?;
    let hand = world.hand("example.com").await?;
    let mut home = world.mx("example.org", Scenario::default()).await?;
    // One partition, so that the first claim takes several.
    let mut world = world.set("delivery.destination_concurrency", "1").set("redis.partitions", "1").start().await?;
    world.kill(Service::Delivery);
    let mut cluster = Cluster { frontends: [world.submission(); 3], world, _ports: Vec::new() };
    let mut john = cluster.login(cluster.frontends[0], "john@example.org", "summersun").await?;
    for _ in 0..6 {
        ensure!(john.send("john@example.org", &["gone@example.com"], MESSAGE).await?.code == 250);
    }
    cluster.world.spawn(Service::Delivery)?;
    let mut visit = hand.accept().await?;
    visit.until_data().await?;
    cluster.staffetta(&["suppress", "add", "gone@example.com"], "")?;
    eventually(SOON, async || {
        let delivery = cluster.world.metrics(Service::Delivery).await?;
        ensure!(delivery.sum("staffetta_revocations_total", &["what=\"block\""]) >= 1.0, "the worker has not heard");
        Ok(())
    })
    .await?;
    visit.take().await?;
    let mut taken = 1;
    while let Some(line) = visit.line().await? {
        match line.split(' ').next() {
            Some("DATA") => {
                visit.take().await?;
                taken += 1;
            }
            _ => visit.say("250 2.0.0 Ok").await?,
        }
        // One was on its way to the server already.
        ensure!(taken <= 2, "{taken} were sent");
    }
    for _ in taken..6 {
        let report = next(&mut home).await?;
        ensure!(String::from_utf8_lossy(&report.body).contains("Status: 5.7.1"));
    }
    cluster.world.until_empty().await
}

/// What a login is told of a recipient.
async fn rcpt(cluster: &Cluster, to: &str) -> anyhow::Result<Reply> {
    let mut john = cluster.login(cluster.frontends[0], "john@example.org", "summersun").await?;
    john.expect("MAIL FROM:<john@example.org>", 250).await?;
    john.command(&format!("RCPT TO:<{to}>")).await
}

/// All at a time.
async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        for (future, done) in running.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            if let std::task::Poll::Ready(output) = future.as_mut().poll(context) {
                *done = Some(output);
            }
        }
        if done.iter().all(Option::is_some) {
            return std::task::Poll::Ready(done.iter_mut().filter_map(Option::take).collect());
        }
        std::task::Poll::Pending
    })
    .await
}
