//! Senders of their own for recipients.

use staffetta_config::Config;
use staffetta_mail::Recipient;
use staffetta_policy::verp::Returned;

use crate::BODY;
use crate::world::World;
use crate::world::mx::{Mail, Script, Server};

const VERP: &str = "[[verp]]\nsender = \"*@home.test\"\nkey = \"a key that nobody knows\"\n";

/// To whom these go, and what their senders say of it, sorted.
fn read(mails: &[Mail]) -> anyhow::Result<Vec<String>> {
    let verp = Config::parse(VERP, "verp.toml").map_err(|error| anyhow::anyhow!("{error}"))?.verp();
    let said = |mail: &Mail| {
        let said = mail.sender.parse().ok().and_then(|sender| verp.read(&sender));
        let said = said.map(|Returned { sender, recipient, .. }| format!("{sender} to {recipient}"));
        format!("{}: {}", mail.recipients[0], said.unwrap_or_default())
    };
    let mut all: Vec<_> = mails.iter().map(said).collect();
    all.sort();
    Ok(all)
}

/// Through a server for all domains, so that nothing but VERP parts them.
#[tokio::test(flavor = "multi_thread")]
async fn each_recipient_has_a_transaction_of_his_own_and_our_reports_go_to_the_sender() -> anyhow::Result<()> {
    let world = World::start().await?;
    let replies = vec![("RCPT TO:<gone@a.test>", "550 5.1.1 nobody")];
    let server = Server::start(Script { replies, ..Script::default() }).await?;
    let recipients = ["gone@a.test", "john@a.test", "lisa@a.test", "lisa@b.test"];
    world.send("news@home.test", &recipients, BODY).await?;
    world.send("news@else.test", &recipients[1..], BODY).await?;
    let via = format!("[[delivery.route]]\ndomain = \"*\"\nvia = \"smtp://{}\"\n{VERP}", server.address());
    let worker = world.worker("", &via)?;
    world.drained().await?;
    let (plain, mails): (Vec<_>, Vec<_>) = server.mails().into_iter().partition(|mail| mail.sender == "news@else.test");
    let (reports, mails): (Vec<_>, Vec<_>) = mails.into_iter().partition(|mail| mail.sender.is_empty());
    assert!(plain.iter().any(|mail| mail.recipients.len() > 1), "others go together: {plain:?}");
    assert!(mails.iter().all(|mail| mail.recipients.len() == 1), "{mails:?}");
    let expected: Vec<_> = recipients[1..].iter().map(|to| format!("{to}: news@home.test to {to}")).collect();
    assert_eq!(read(&mails)?, expected);
    assert_eq!((reports.len(), &reports[0].recipients[..]), (1, &["news@home.test".to_owned()][..]));
    assert!(!reports[0].body.contains("gone=a.test"), "{}", reports[0].body);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_leaves_as_the_tables_of_now_say() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    let via = format!("[[delivery.route]]\ndomain = \"*\"\nvia = \"smtp://{}\"\n", server.address());
    let worker = world.worker("", &via)?;
    for (tables, count, leaves_as_itself) in [(via.clone(), 1, true), (via.clone() + VERP, 2, false), (via, 3, true)] {
        worker.change("", &tables).await?;
        world.send("news@home.test", &["lisa@a.test"], BODY).await?;
        let mails = server.received(count).await?;
        assert_eq!(mails[count - 1].sender == "news@home.test", leaves_as_itself, "{:?}", mails[count - 1]);
    }
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_send_leaves_as_it_came() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    let lisa = Recipient::new("lisa@a.test".parse()?);
    world.send_from(Some("198.51.100.9".parse()?), "john@a.test", |envelope| envelope.recipients.push(lisa)).await?;
    let via = format!("[[delivery.route]]\ndomain = \"*\"\nvia = \"smtp://{}\"\n{VERP}", server.address());
    let worker = world.worker("", &via)?;
    world.drained().await?;
    let mails = server.mails();
    assert_eq!((mails.len(), mails[0].sender.as_str(), mails[0].recipients.len()), (1, "john@home.test", 2));
    worker.stop().await
}
