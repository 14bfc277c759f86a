//! Messages from client to queue without a line of SMTP, on a real queue.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::sync::Arc;

use metrics::Counter;
use staffetta_config::Config;
use staffetta_mail::trace::Protocol;
use staffetta_policy::relay::{Listener, Objection};
use staffetta_queue::server::LocalServer;
use staffetta_queue::{Body, Filter, Message, Revocations};
use staffetta_testkit::dns::FakeDns;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::auth::Auth;
use crate::setup;

const PATIENCE: Duration = Duration::from_secs(20);
/// More than a chunk, so that a part of it goes to Redis while the rest is still to come.
const LARGE: usize = 300 * 1024;

/// A queue and a DNS; nobody answers for the auth service.
struct House {
    redis: LocalServer,
    queue: Queue,
    intake: Intake,
    _dns: FakeDns,
    _stop: DropGuard,
    _folder: tempfile::TempDir,
}

impl House {
    async fn build() -> Self {
        Self::build_with("").await
    }

    /// With more keys of `[frontend]`, and tables behind it. Nobody is at the server of the relay domain.
    async fn build_with(more: &str) -> Self {
        staffetta_transport::tls::install_provider();
        let folder = tempfile::tempdir().unwrap();
        let redis = LocalServer::start(&folder.path().join("redis")).unwrap();
        let dns = FakeDns::start().await.unwrap();
        dns.mx("example.com", 10, "mx.example.com");
        let text = format!(
            "hostname = \"mail.test\"\n[redis]\nurl = \"{}\"\npartitions = 2\n[dns]\nservers = [\"{}\"]\n\
             [frontend]\nauth = \"http://127.0.0.1:1\"\nrelay_domains = [\"ours.test\"]\n{more}\n\
             [[delivery.route]]\ndomain = \"ours.test\"\nvia = \"smtp://127.0.0.1:1\"\n",
            redis.url(),
            dns.address()
        );
        let config = Config::parse(&text, "test.toml").unwrap();
        let stop = CancellationToken::new();
        let queue = Queue::open((&config).into(), stop.clone()).unwrap();
        queue.ready(PATIENCE).await.unwrap();
        let revocations = Revocations::follow(&(&config).into(), stop.clone()).unwrap();
        let auth = Auth::new(&config, revocations.clone()).unwrap();
        let resolver = setup::resolver(&config).unwrap();
        let conduct = setup::conduct(&config, &queue);
        let intake = setup::intake(&config, queue.clone(), auth, resolver, revocations, conduct).unwrap();
        Self { redis, queue, intake, _dns: dns, _stop: stop.drop_guard(), _folder: folder }
    }

    /// The only message, with its body.
    async fn only_message(&self) -> (Arc<Message>, String) {
        for partition in 0..self.queue.partitions() {
            let Some(destination) = self.queue.offer(partition, 10).await.unwrap().destinations.pop() else { continue };
            let mut jobs = self.queue.claim(partition, &destination, 10).await.unwrap();
            assert_eq!(jobs.len(), 1);
            let job = jobs.remove(0);
            let Body::Inline(body) = &job.body else { panic!("not a small message") };
            return (Arc::clone(&job.message), String::from_utf8(body.to_vec()).unwrap());
        }
        panic!("nothing is queued");
    }

    async fn is_empty(&self) -> bool {
        self.queue.list(&Filter::default(), None, 10).await.unwrap().entries.is_empty()
    }
}

fn source(kind: Listener) -> Source {
    Source { name: "http".to_owned(), index: 0, kind, accepted: Counter::noop() }
}

/// Somebody in a network that is not trusted, who said nothing of himself.
fn stranger(source: &Source) -> Principal<'_> {
    Principal {
        source,
        client: SocketAddr::from(([192, 0, 2, 7], 4711)),
        name: None,
        trusted: false,
        helo: None,
        protocol: Protocol { extended: false, encrypted: false, authenticated: false, utf8: false },
        tls: None,
        login: None,
        require_tls: false,
    }
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn envelope(recipient: &str) -> Envelope {
    let sender = ReversePath::Address(address("john@example.org"));
    let recipients = vec![Recipient::new(address(recipient))];
    Envelope::new(sender, recipients)
}

#[tokio::test]
async fn a_message_of_ours_is_traced_completed_and_queued_with_its_origin() {
    let house = House::build().await;
    let source = source(Listener::Relay);
    let who = Principal { trusted: true, helo: Some("printer"), ..stranger(&source) };
    let envelope = envelope("lisa@example.com");
    house.intake.judge_sender(None).unwrap();
    let recipient = &envelope.recipients[0].address;
    let judged = house.intake.judge_recipient(&Memory::default(), &who, &envelope.sender, recipient).await;
    assert_eq!(judged, Ok(None));
    let mut opened = house.intake.open(&who, &envelope.sender, &envelope.recipients).await.unwrap();
    for piece in ["Sub", "ject: hi\r", "\n\r\nhel", "lo\r\n"] {
        opened.write(piece.as_bytes()).await;
    }
    let stored = house.intake.commit(opened, &who, envelope.clone(), Aliases::default()).await.unwrap();

    let (message, body) = house.only_message().await;
    assert_eq!((message.id, message.size), (stored.id, stored.size));
    assert_eq!(message.envelope, envelope);
    assert_eq!((message.origin.listener.as_str(), message.origin.helo.as_str()), ("http", "printer"));
    assert_eq!((message.origin.client, message.origin.login.clone()), (Some(who.client.ip()), None));
    let by = format!("by mail.test (Staffetta) with SMTP id {}", stored.id);
    assert!(body.starts_with("Received: from printer (unknown [192.0.2.7])\r\n") && body.contains(&by), "{body}");
    assert!(body.contains("\r\nSubject: hi\r\nFrom: john@example.org\r\nDate: "), "{body}");
    let message_id = format!("{}@mail.test", stored.id);
    assert_eq!(stored.message_id, Some(message_id.clone()));
    assert!(body.ends_with(&format!("Message-ID: <{message_id}>\r\n\r\nhello\r\n")), "{body}");
}

#[tokio::test]
async fn the_cause_of_a_refusal_is_told_as_it_is() {
    let house = House::build().await;
    let (relay, submission) = (source(Listener::Relay), source(Listener::Submission));
    let nobody = stranger(&relay);
    let john = Some(Login { name: "john@example.org", mechanism: "PLAIN" });
    for (who, recipient, expected) in [
        (nobody, "lisa@example.com", Err(Objection::RelayDenied)),
        (nobody, "john@ours.test", Ok(())),
        (stranger(&submission), "john@ours.test", Err(Objection::NotLoggedIn)),
        (Principal { trusted: true, ..nobody }, "lisa@example.com", Ok(())),
        (Principal { trusted: true, ..nobody }, "lisa@nx.test", Err(Objection::DomainNotFound)),
        (Principal { trusted: true, ..nobody }, "lisa@nodot", Err(Objection::NotFullyQualified)),
        // Whoever logs in is asked about his sender, wherever he comes from; here nobody can say.
        (Principal { login: john, ..nobody }, "lisa@example.com", Err(Objection::SenderUnknown)),
        (Principal { trusted: true, login: john, ..nobody }, "lisa@example.com", Err(Objection::SenderUnknown)),
    ] {
        let sender = ReversePath::Address(address("john@example.org"));
        let judged = house.intake.judge_recipient(&Memory::default(), &who, &sender, &address(recipient)).await;
        assert_eq!(judged.map(drop).map_err(|denied| denied.objection), expected, "{recipient}");
    }
}

/// A 250 for it would be one for a truncated message.
#[tokio::test]
async fn a_message_whose_chunk_was_lost_is_refused_although_the_queue_is_back() {
    let mut house = House::build().await;
    let source = source(Listener::Relay);
    let who = Principal { trusted: true, ..stranger(&source) };
    let envelope = envelope("lisa@example.com");
    let mut opened = house.intake.open(&who, &envelope.sender, &envelope.recipients).await.unwrap();
    opened.write(b"Subject: large\r\n\r\n").await;
    house.redis.kill().unwrap();
    opened.write(&vec![b'x'; LARGE]).await;
    house.redis.restart().unwrap();
    house.queue.ready(PATIENCE).await.unwrap();
    opened.write(b"\r\nthe end\r\n").await;
    assert_eq!(house.intake.judge_sender(None), Ok(()), "the queue is back");
    let committed = house.intake.commit(opened, &who, envelope, Aliases::default()).await;
    assert_eq!(committed.err(), Some(NotQueued::Unavailable));
    assert!(house.is_empty().await);
}

#[tokio::test]
async fn a_message_beyond_the_memory_of_this_process_is_refused_at_its_end() {
    let mut house = House::build().await;
    house.intake.budget = Budget::new(2048, 0, 1);
    let source = source(Listener::Relay);
    let who = Principal { trusted: true, ..stranger(&source) };
    for (octets, expected) in [(2048, Err(NotQueued::Full)), (1500, Ok(())), (2000, Err(NotQueued::Full))] {
        let envelope = envelope("lisa@example.com");
        let mut opened = house.intake.open(&who, &envelope.sender, &envelope.recipients).await.unwrap();
        let header = b"From: a@b\r\nMessage-ID: <a@b>\r\nDate: now\r\n\r\n";
        opened.write(header).await;
        opened.write(&vec![b'x'; octets - header.len()]).await;
        assert_eq!(
            house.intake.commit(opened, &who, envelope, Aliases::default()).await.map(drop),
            expected,
            "{octets}"
        );
    }
}

#[tokio::test]
async fn what_is_dropped_before_its_end_is_not_queued() {
    let house = House::build().await;
    let source = source(Listener::Relay);
    let who = Principal { trusted: true, ..stranger(&source) };
    let mut opened = house.intake.open(&who, &ReversePath::Null, &[]).await.unwrap();
    opened.write(&vec![b'x'; LARGE]).await;
    drop(opened);
    assert!(house.is_empty().await);
}

#[tokio::test]
async fn rfc5321_4_5_1_the_bare_postmaster_is_this_hosts() {
    let route = "[[delivery.route]]\ndomain = \"mail.test\"\nvia = \"smtp://127.0.0.1:1\"\n";
    let house = House::build_with(route).await;
    let source = source(Listener::Relay);
    let who = stranger(&source);
    let envelope = envelope("Postmaster");
    let opened = house.intake.open(&who, &envelope.sender, &envelope.recipients).await.unwrap();
    house.intake.commit(opened, &who, envelope, Aliases::default()).await.unwrap();
    let (message, body) = house.only_message().await;
    assert_eq!(message.envelope.recipients[0].address.as_str(), "Postmaster@mail.test");
    assert!(!body.contains("Message-ID"), "nothing is added for a stranger: {body}");
}

#[tokio::test]
async fn the_postmasters_mail_goes_where_the_operator_says_and_to_everybody_once() {
    let house = House::build_with("postmaster = \"admin@ours.test\"\n").await;
    let source = source(Listener::Relay);
    let who = stranger(&source);
    let named = ["postmaster", "PostMaster@MAIL.test", "a@ours.test", "a@OURS.test", "A@ours.test", "a@ours.test"];
    let recipients: Vec<Recipient> = named.map(|text| Recipient::new(address(text))).into();
    for recipient in &recipients {
        assert_eq!(judged(&house, &who, &recipient.address).await, Ok(()), "{}", recipient.address);
    }
    let opened = house.intake.open(&who, &ReversePath::Null, &recipients).await.unwrap();
    house
        .intake
        .commit(opened, &who, Envelope { recipients, ..envelope("x@ours.test") }, Aliases::default())
        .await
        .unwrap();
    let (message, _) = house.only_message().await;
    let taken: Vec<&str> = message.envelope.recipients.iter().map(|recipient| recipient.address.as_str()).collect();
    assert_eq!(taken, ["admin@ours.test", "a@ours.test", "A@ours.test"]);
}

/// Also where the client names two who lead to one, or one of them as well.
#[tokio::test]
async fn those_behind_aliases_are_queued_once_and_the_aliases_are_not() {
    let house = House::build().await;
    let source = source(Listener::Relay);
    let who = stranger(&source);
    let (mut aliases, mut bill) = (Aliases::default(), Bill::default());
    let recipients = ["john@ours.test", "info@ours.test", "team@OURS.test"].map(|text| Recipient::new(address(text)));
    for (alias, to) in [(1, ["john@ours.test", "lisa@else.test"]), (2, ["lisa@ELSE.test", "mary@ours.test"])] {
        let added = house.intake.add_alias(
            (&mut aliases, &mut bill),
            &who,
            &recipients[alias],
            &to.map(address),
            (alias, 1000),
        );
        assert_eq!(added, Ok(true));
    }
    let opened = house.intake.open(&who, &ReversePath::Null, &recipients).await.unwrap();
    house
        .intake
        .commit(opened, &who, Envelope { recipients: recipients.into(), ..envelope("x@ours.test") }, aliases)
        .await
        .unwrap();
    let (message, _) = house.only_message().await;
    let queued: Vec<&str> = message.envelope.recipients.iter().map(|to| to.address.as_str()).collect();
    assert_eq!(queued, ["john@ours.test", "lisa@else.test", "mary@ours.test"]);
}

#[tokio::test]
async fn a_postmaster_whom_nobody_reads_is_refused() {
    let house = House::build().await;
    let source = source(Listener::Relay);
    let judged = judged(&house, &stranger(&source), &address("postmaster")).await;
    assert_eq!(judged, Err(Objection::NoSuchRecipient));
}

/// May he send a report to this recipient?
async fn judged(house: &House, who: &Principal<'_>, recipient: &Address) -> Result<(), Objection> {
    let judged = house.intake.judge_recipient(&Memory::default(), who, &ReversePath::Null, recipient).await;
    judged.map(drop).map_err(|denied| denied.objection)
}

#[tokio::test]
async fn what_only_concerns_the_sender_stays_here_and_an_author_is_added() {
    let house = House::build().await;
    let source = source(Listener::Relay);
    let message = "From cron Tue Nov 24\r\nTo: x\r\nBcc: secret@a.test,\r\n other@b.test\r\nContent-Length: 3\r\n\r\nBcc: body\r\n";
    for trusted in [true, false] {
        let who = Principal { trusted, ..stranger(&source) };
        let envelope = envelope("a@ours.test");
        let mut opened = house.intake.open(&who, &envelope.sender, &envelope.recipients).await.unwrap();
        for piece in message.as_bytes().chunks(7) {
            opened.write(piece).await;
        }
        let stored = house.intake.commit(opened, &who, envelope, Aliases::default()).await.unwrap();
        let (_, body) = house.only_message().await;
        let (header, content) = body.split_once("\r\n\r\n").unwrap();
        assert_eq!(content, "Bcc: body\r\n");
        assert!(header.contains("\r\nX-Mailbox-Line: From cron Tue Nov 24\r\nTo: x"), "{header}");
        assert_eq!(header.contains("\r\nFrom: john@example.org\r\nDate: "), trusted, "{header}");
        assert_eq!(header.contains("secret") || header.contains("other@") || header.contains("Length"), !trusted);
        house.queue.delete(stored.id).await.unwrap();
    }
}
