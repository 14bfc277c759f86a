//! CHUNKING (RFC 3030): content goes by BDAT to servers that offer it.

use crate::world::World;
use crate::world::mx::{Script, Server};
use crate::{BODY, everything_to, report};

const OFFERS: &[&str] = &["8BITMIME", "CHUNKING"];

/// A body of this many lines, each of which begins with a dot.
fn large(lines: usize) -> String {
    format!("Subject: large\r\n\r\n{}", format!(".{}\r\n", "x".repeat(76)).repeat(lines))
}

/// The commands that began with one of these words.
fn said(server: &Server, words: &[&str]) -> Vec<String> {
    let is_one = |line: &String| words.iter().any(|word| line.starts_with(word));
    server.commands().into_iter().filter(is_one).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn content_arrives_in_chunks_octet_by_octet() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script { extensions: OFFERS, ..Script::default() }).await?;
    let bodies = [
        String::new(),
        ".\r\n..\r\n".to_owned(),
        "Subject: Gr\u{fc}\u{df}e\r\n\r\n\u{20ac}\r\n.\r\n".to_owned(),
        large(10_000),
    ];
    let sizes = bodies.each_ref().map(String::len);
    let worker = world.worker_via(&server, "destination_concurrency = 1")?;
    for (count, body) in bodies.iter().enumerate() {
        world.send("john@home.test", &["a@x.test"], body.as_bytes()).await?;
        let mails = server.received(count + 1).await?;
        assert!(mails[count].body == *body, "{} octets of {}", mails[count].body.len(), body.len());
    }
    world.drained().await?;
    let chunks = said(&server, &["BDAT", "DATA"]);
    let whole: Vec<_> = sizes[..3].iter().map(|size| format!("BDAT {size} LAST")).collect();
    assert_eq!(chunks[..3], whole, "what is at hand is one chunk");
    let (last, pieces) = chunks[3..].split_last().unwrap_or_else(|| panic!("no pieces"));
    assert_eq!(last, "BDAT 0 LAST", "the end of a large one stands alone");
    let octets = |line: &String| line.strip_prefix("BDAT ").and_then(|size| size.parse::<usize>().ok());
    assert_eq!(pieces.iter().map(octets).sum::<Option<usize>>(), Some(sizes[3]), "{pieces:?}");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_for_nobody_and_the_connection_goes_on() -> anyhow::Result<()> {
    let world = World::start().await?;
    let replies = vec![("RCPT TO:<no@", "550 5.1.1 nobody")];
    let server = Server::start(Script { extensions: OFFERS, replies, ..Script::default() }).await?;
    let inbox = Server::start(Script::default()).await?;
    let worker = world.worker("destination_concurrency = 1", &(crate::home(&inbox) + &everything_to(&server)))?;
    world.send("john@home.test", &["no@x.test"], BODY).await?;
    assert!(report(&world, &inbox).await?.contains("550 5.1.1 nobody"));
    world.send("john@home.test", &["a@x.test"], BODY).await?;
    server.received(1).await?;
    world.drained().await?;
    let chunks = said(&server, &["BDAT", "DATA"]);
    assert_eq!(chunks, [format!("BDAT {} LAST", BODY.len())]);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_more_is_not_sent_the_rest() -> anyhow::Result<()> {
    let world = World::start().await?;
    // What was refused, and the message behind it, by what BDAT is answered.
    for (reply, status) in [("552 5.3.4 too much", "5.3.4"), ("452 4.3.1 later", ""), ("500 5.5.2 what is BDAT?", "")] {
        let replies = vec![("BDAT", reply)];
        let server = Server::start(Script { extensions: OFFERS, replies, ..Script::default() }).await?;
        let inbox = Server::start(Script::default()).await?;
        let routes = crate::home(&inbox) + &everything_to(&server);
        let worker = world.worker("destination_concurrency = 1", &routes)?;
        let body = large(200_000);
        world.send("john@home.test", &["a@x.test"], body.as_bytes()).await?;
        if status.is_empty() {
            assert!(server.received(1).await?[0].body == body, "the second try is whole");
        } else {
            let report = report(&world, &inbox).await?;
            assert!(report.contains(&format!("Status: {status}\r\n")) && report.contains(reply), "{report}");
        }
        world.drained().await?;
        let by_data = said(&server, &["DATA"]).len();
        assert_eq!(by_data, usize::from(reply.starts_with("500")), "who does not know BDAT is not asked again");
        let chunks = said(&server, &["BDAT"]);
        let first: Vec<_> = chunks.iter().take_while(|line| !line.ends_with(" LAST")).collect();
        assert!(status.is_empty() || first.len() == chunks.len(), "the last one was never sent: {chunks:?}");
        assert!(inbox.mails().len() <= 1);
        worker.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_chunk_without_an_answer_may_have_arrived() -> anyhow::Result<()> {
    for body in [BODY.to_vec(), large(10_000).into_bytes()] {
        let world = World::start().await?;
        let server = Server::start(Script { extensions: OFFERS, dots: vec![""], ..Script::default() }).await?;
        let worker = world.worker_via(&server, "")?;
        world.send("john@home.test", &["a@x.test"], &body).await?;
        let deferred = |entries: &[staffetta_queue::Entry]| entries.first().is_some_and(|e| e.jobs[0].attempts == 1);
        let entries = world.until("deferred", deferred).await?;
        let why = format!("{:?}", entries[0].jobs[0]);
        assert!(why.contains("message may be sent more than once"), "{why}");
        server.received(1).await?;
        world.drained().await?;
        worker.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lmtp_answers_the_last_chunk_for_each_recipient() -> anyhow::Result<()> {
    let world = World::start().await?;
    let dots = vec!["250 2.0.0 stored", "452 4.2.2 full", "250 2.0.0 stored"];
    let server = Server::start(Script { lmtp: true, extensions: OFFERS, dots, ..Script::default() }).await?;
    let route = format!("[[delivery.route]]\ndomain = \"*\"\nvia = \"lmtp://{}\"\n", server.address());
    let worker = world.worker("", &route)?;
    let body = large(10_000);
    world.send("john@home.test", &["a@x.test", "b@x.test"], body.as_bytes()).await?;
    server.until("second attempt", || server.mails().len() == 2).await?;
    world.drained().await?;
    let mails = server.mails();
    assert!(mails[1].recipients == ["b@x.test"] && mails.iter().all(|mail| mail.body == body));
    assert!(said(&server, &["DATA"]).is_empty());
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_want_chunks_sends_dots() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script { extensions: OFFERS, ..Script::default() }).await?;
    let worker = world.worker_via(&server, "chunking = false")?;
    for (count, (chunking, verb)) in [(false, "DATA"), (true, "BDAT"), (false, "DATA")].into_iter().enumerate() {
        worker.change(&format!("chunking = {chunking}"), &everything_to(&server)).await?;
        // An idle connection goes on as it began.
        world.drained().await?;
        server.until("end of the connection", || said(&server, &["QUIT"]).len() >= count).await?;
        world.send("john@home.test", &["a@x.test"], BODY).await?;
        assert_eq!(server.received(count + 1).await?[count].body.as_bytes(), BODY);
        let verbs = said(&server, &["DATA", "BDAT"]);
        assert!(verbs.len() == count + 1 && verbs[count].starts_with(verb), "{verbs:?}");
    }
    worker.stop().await
}
