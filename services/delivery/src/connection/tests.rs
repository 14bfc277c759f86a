//! Over real sockets, by a clock that is ours.

use staffetta_mail::{Address, BodyType, Recipient, ReversePath};
use staffetta_policy::classify::Endpoint;
use staffetta_policy::mx::Proof;
use staffetta_policy::tls::Sts;
use staffetta_policy::tls::{Label, Trust};
use staffetta_smtp::client::{Outcome, Protocol, ServerProfile, Tls, TransactionId, Transfer};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const LIMIT: Duration = Duration::from_secs(2);

/// A connection, and the server's end of it.
async fn connection() -> (Connection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stream = Stream::Plain(TcpStream::connect(address).await.unwrap());
    let endpoint = Endpoint::Tcp(address);
    let settings = ServerProfile {
        helo_name: "relay.test".to_owned(),
        ignored: Vec::new(),
        protocol: Protocol::Smtp,
        tls: Tls::Off,
        credentials: None,
        verified: false,
        nonce: String::new(),
        own_name: None,
    };
    let peer = Candidate { host: "mx.test".into(), endpoint, proof: Proof::Insecure, sts: Sts::Off, way: 0 };
    let security =
        Security { starttls: Tls::Off, trust: Trust::Any, fallback: false, label: Label::None, waived: false };
    (Connection::new(stream, Client::new(Arc::new(settings)), peer, security), listener.accept().await.unwrap().0)
}

/// Octet after octet, one every 1.5 s, while the client waits as it does before it is ready.
async fn drip(text: &str) -> (Event, Duration) {
    let (mut connection, mut server) = connection().await;
    let began = tokio::time::Instant::now();
    let text = text.to_owned();
    let dripping = tokio::spawn(async move {
        for octet in text.bytes() {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            server.write_all(&[octet]).await.unwrap();
        }
        server
    });
    loop {
        match connection.next() {
            Event::Read(stage) => connection.exchange(stage, LIMIT).await,
            event => {
                dripping.abort();
                return (event, began.elapsed());
            }
        }
    }
}

#[test]
fn each_stage_has_the_time_that_is_configured_for_it() {
    let second = Duration::from_secs;
    let timeouts = Timeouts {
        connect: second(1),
        greeting: second(2),
        tls: second(3),
        helo: second(4),
        mail: second(5),
        rcpt: second(6),
        data: second(7),
        transfer: second(8),
        r#final: second(9),
    };
    for (stage, expected) in [
        (Stage::Greeting, 2),
        (Stage::StartTls, 3),
        (Stage::Helo, 4),
        (Stage::Auth, 4),
        (Stage::Mail, 5),
        (Stage::Reset, 5),
        (Stage::Idle, 5),
        (Stage::Rcpt, 6),
        (Stage::Data, 7),
        (Stage::Transfer, 8),
        (Stage::Final, 9),
        (Stage::Quit, 2),
    ] {
        assert_eq!(time_limit(&timeouts, stage), second(expected), "{stage:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_drips_is_late_after_its_time_not_after_its_last_octet() {
    let (event, took) = drip("220 mx.test ESMTP\r\n").await;
    assert_eq!(event, Event::Closed(Some(Failure::TimedOut { stage: Stage::Greeting })));
    assert_eq!(took, LIMIT);
}

#[tokio::test]
async fn a_server_that_has_gone_before_the_dot_was_written_cannot_have_the_message() {
    let (mut connection, mut server) = connection().await;
    let transaction = Transfer {
        sender: ReversePath::Null,
        recipients: vec![Recipient::new(Address::parse("a@x.test").unwrap())],
        size: 3,
        body: BodyType::SevenBit,
        ret: None,
        envid: None,
        smtputf8: false,
        require_tls: false,
    };
    connection.session.submit(TransactionId(1), transaction);
    let mut replies = ["220 mx", "250 mx", "250 1", "250 2", "354 3"].iter();
    loop {
        match connection.next() {
            Event::Read(stage) => {
                server.write_all(format!("{}\r\n", replies.next().unwrap()).as_bytes()).await.unwrap();
                connection.exchange(stage, LIMIT).await;
            }
            Event::SendBody(_) => break,
            event => assert_eq!(event, Event::Ready),
        }
    }
    // Closed with commands unread: a reset.
    drop(server);
    let mut framer = connection.session.framer();
    framer.append(b"one", &mut connection.output);
    framer.finish(&mut connection.output);
    connection.session.on_body_sent();
    assert_eq!(connection.next(), Event::Read(Stage::Final));
    assert_eq!(connection.flush(LIMIT).await, Heard::End);
    connection.tell(Heard::End).await;
    let Event::Done(_, report) = connection.next() else { panic!("no report") };
    assert_eq!(report.outcomes, [Outcome::Failed(Failure::Lost { stage: Stage::Transfer })]);
}

#[tokio::test(start_paused = true)]
async fn each_reply_has_its_own_time() {
    let (mut connection, mut server) = connection().await;
    tokio::spawn(async move {
        for reply in ["220 mx.test\r\n", "250 mx.test\r\n"] {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            server.write_all(reply.as_bytes()).await.unwrap();
        }
        std::future::pending::<()>().await;
    });
    loop {
        match connection.next() {
            Event::Read(stage) => connection.exchange(stage, LIMIT).await,
            event => return assert_eq!(event, Event::Ready),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_moves_both_ways() {
    let mut deadline = Deadline::default();
    let start = tokio::time::Instant::now();
    deadline.set(Duration::from_secs(10));
    deadline.set(Duration::from_secs(30));
    deadline.passed().await;
    assert_eq!(start.elapsed().as_secs(), 30);
    deadline.set(Duration::from_secs(60));
    deadline.set(Duration::from_secs(5));
    deadline.passed().await;
    assert_eq!(start.elapsed().as_secs(), 35);
}
