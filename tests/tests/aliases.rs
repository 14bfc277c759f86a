//! Aliases, from `staffetta user alias` to the mailboxes behind them; and senders that become others.

use std::process::Command;

use anyhow::{Context, ensure};
use staffetta_cli::sink::{Received, Scenario, Sink};
use staffetta_tests::{Client, SOON, Service, World, eventually, next, program};

/// What the accounts say, and somebody elsewhere.
const ALIASES: &str = "\"SELECT destination FROM virtual_aliases WHERE source = :recipient \
    UNION SELECT 'out@example.com' WHERE LOWER(:recipient) = 'info@example.org'\"";

/// `info` leads to john, to `staff`, and elsewhere; `staff` to lisa.
async fn world() -> anyhow::Result<World> {
    let world = World::new().await?.user("john@example.org", "summersun").await?.user("lisa@example.org", "x").await?;
    let world = world.set("frontend.relay_domains_from_auth", "true").set("auth.sql.alias_query", ALIASES);
    let world = world.set("log.format", "\"postfix\"").start().await?;
    for (account, alias) in [("john", "info"), ("lisa", "info"), ("lisa", "staff"), ("john", "postmaster")] {
        let [account, alias] = [account, alias].map(|name| format!("{name}@example.org"));
        let config = world.config_file();
        let mut command = Command::new(program("staffetta")?);
        let output = command.args(["user", "alias", &account, &alias, "--config"]).arg(config).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(world)
}

fn sorted(received: &Received) -> Vec<&str> {
    let mut recipients: Vec<_> = received.recipients.iter().map(String::as_str).collect();
    recipients.sort_unstable();
    recipients
}

async fn reached(ours: &mut Sink, elsewhere: &mut Sink) -> anyhow::Result<()> {
    let received = next(ours).await?;
    assert_eq!(sorted(&received), ["john@example.org", "lisa@example.org"], "each of them once");
    assert_eq!(next(elsewhere).await?.recipients, ["out@example.com"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_for_an_alias_reaches_those_behind_it_whoever_writes_it() -> anyhow::Result<()> {
    let mut world = world().await?;
    let mut ours = world.mx("example.org", Scenario::default()).await?;
    let mut elsewhere = world.mx("example.com", Scenario::default()).await?;
    let body = "Subject: x\r\n\r\nx";

    let mut stranger = Client::connect(world.smtp()).await?;
    stranger.expect("EHLO stranger.test", 250).await?;
    assert_eq!(stranger.command("VRFY info@example.org").await?.code, 252);
    assert_eq!(stranger.send("someone@else.test", &["info@example.org"], body).await?.code, 250);
    reached(&mut ours, &mut elsewhere).await.with_context(|| world.log(Service::Delivery))?;

    let mut webmail = Client::connect_from("127.0.0.9", world.smtp()).await?;
    webmail.expect("EHLO webmail", 250).await?;
    let named = ["John@example.org", "info@example.org", "staff@EXAMPLE.org", "info@example.org", "john@example.org"];
    assert_eq!(webmail.send("someone@else.test", &named[1..], body).await?.code, 250);
    reached(&mut ours, &mut elsewhere).await.with_context(|| world.log(Service::Delivery))?;

    let submissions = Client::connect_tls(world.submissions()).await?;
    for mut user in [world.login("john@example.org", "summersun").await?, submissions] {
        let _ = user.auth("john@example.org", "summersun").await?;
        assert_eq!(user.send("john@example.org", &["Info@example.org"], body).await?.code, 250);
        reached(&mut ours, &mut elsewhere).await.with_context(|| world.log(Service::Delivery))?;
    }
    world.until_empty().await?;
    assert_eq!((ours.count(), elsewhere.count()), (4, 4));

    let log = world.log(Service::Delivery);
    ensure!(log.contains(": to=<lisa@example.org>, orig_to=<info@example.org>, relay="), "{log}");
    ensure!(log.contains(": to=<out@example.com>, orig_to=<Info@example.org>, relay="), "{log}");
    ensure!(!log.contains(": to=<info@example.org>"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_behind_an_alias_and_fails_is_reported_by_its_name() -> anyhow::Result<()> {
    let mut world = world().await?;
    let refuses = "[[rule]]\nstage = \"recipient\"\nmatch = \"lisa\"\nreply = \"550 5.1.1 no\"";
    let refuses = Scenario::parse(refuses).map_err(anyhow::Error::msg)?;
    let mut ours = world.mx("example.org", refuses).await?;
    let _elsewhere = world.mx("example.com", Scenario::default()).await?;
    let mut user = world.login("john@example.org", "summersun").await?;
    user.expect("MAIL FROM:<john@example.org> RET=HDRS", 250).await?;
    user.expect("RCPT TO:<info@example.org> NOTIFY=FAILURE", 250).await?;
    user.expect("DATA", 354).await?;
    user.write(b"Subject: x\r\n\r\nx\r\n.\r\n").await?;
    assert_eq!(user.reply().await?.code, 250);
    let mut seen = [next(&mut ours).await?, next(&mut ours).await?];
    seen.sort_by_key(|received| received.sender.is_empty());
    assert_eq!((seen[0].recipients.as_slice(), seen[1].sender.as_str()), (&["john@example.org".to_owned()][..], ""));
    let report = String::from_utf8(seen[1].body.to_vec())?;
    ensure!(report.contains("Original-Recipient: rfc822;info@example.org\r\n"), "{report}");
    ensure!(report.contains("Final-Recipient: rfc822; lisa@example.org\r\n"), "{report}");
    let trace = String::from_utf8(seen[0].body.to_vec())?;
    ensure!(trace.contains("for <info@example.org>"), "{trace}");
    world.until_empty().await
}

/// `frontend.postmaster` is `postmaster@example.org` in this world.
#[tokio::test(flavor = "multi_thread")]
async fn the_postmaster_may_be_an_alias() -> anyhow::Result<()> {
    let mut world = world().await?;
    let mut ours = world.mx("example.org", Scenario::default()).await?;
    let mut stranger = Client::connect(world.smtp()).await?;
    stranger.expect("EHLO stranger.test", 250).await?;
    let named = ["postmaster", "Postmaster@mail.example.org", "postmaster@example.org", "john@example.org"];
    assert_eq!(stranger.send("someone@else.test", &named, "Subject: x\r\n\r\nx").await?.code, 250);
    assert_eq!(next(&mut ours).await?.recipients, ["john@example.org"]);
    world.until_empty().await?;
    assert_eq!(ours.count(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_accounts_nobody_knows_an_alias_and_nothing_is_refused_for_good() -> anyhow::Result<()> {
    let mut world = world().await?;
    let mut ours = world.mx("example.org", Scenario::default()).await?;
    world.kill(Service::Auth);
    let mut webmail = Client::connect_from("127.0.0.9", world.smtp()).await?;
    webmail.expect("EHLO webmail", 250).await?;
    webmail.expect("MAIL FROM:<someone@else.test>", 250).await?;
    let away = webmail.command("RCPT TO:<staff@example.org>").await?.text();
    assert_eq!(away, "451 4.3.0 <staff@example.org>: Temporary lookup failure");
    webmail.expect("RSET", 250).await?;
    world.spawn(Service::Auth)?;
    world.until_ready(Service::Auth).await?;
    let taken = eventually(SOON, || async {
        let mut client = Client::connect_from("127.0.0.9", world.smtp()).await?;
        client.expect("EHLO webmail", 250).await?;
        client.expect("MAIL FROM:<someone@else.test>", 250).await?;
        client.expect("RCPT TO:<staff@example.org>", 250).await?;
        client.expect("DATA", 354).await?;
        client.write(b"Subject: x\r\n\r\nx\r\n.\r\n").await?;
        ensure!(client.reply().await?.code == 250);
        Ok(())
    });
    taken.await?;
    assert_eq!(next(&mut ours).await?.recipients, ["lisa@example.org"]);
    world.until_empty().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_a_machines_mail_is_told_to_whom_its_sender_became() -> anyhow::Result<()> {
    let world = World::new().await?.tables(
        "[[frontend.canonical]]\nsender = \"*@web1.lan\"\nbecomes = \"ops@example.org\"\n\
         [[delivery.route]]\nsender = \"*@web1.lan\"\nvia = \"smtp://127.0.0.1:1\"\n",
    );
    let mut world = world.start().await?;
    let refuses = "[[rule]]\nstage = \"recipient\"\nreply = \"550 5.1.1 no\"";
    let _elsewhere = world.mx("example.com", Scenario::parse(refuses).map_err(anyhow::Error::msg)?).await?;
    let mut ours = world.mx("example.org", Scenario::default()).await?;
    let mut machine = Client::connect_from("127.0.0.9", world.smtp()).await?;
    machine.expect("EHLO web1", 250).await?;
    let message = "From: Cron <root@web1.lan>\r\nSubject: x\r\n\r\nx";
    assert_eq!(machine.send("root@web1.lan", &["nobody@example.com"], message).await?.code, 250);
    let report = next(&mut ours).await?;
    assert_eq!((report.sender.as_str(), report.recipients.as_slice()), ("", &["ops@example.org".to_owned()][..]));
    let report = String::from_utf8(report.body.to_vec())?;
    ensure!(report.contains("\r\nFrom: Cron <ops@example.org>\r\n"), "{report}");
    world.until_empty().await
}
