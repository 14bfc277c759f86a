//! TLS at the door: whose session is resumed, why a handshake failed, what a probe leaves behind.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client::early;
use crate::world::World;

fn config(world: &World, trusting: bool) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if trusting {
        roots.add(CertificateDer::from_pem_file(&world.ca).unwrap()).unwrap();
    }
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// One handshake up to the greeting, or up to the answer to NOOP after STARTTLS; a ticket has come by then.
async fn handshake(config: &Arc<ClientConfig>, address: SocketAddr, starttls: bool) -> std::io::Result<HandshakeKind> {
    let mut tcp = TcpStream::connect(address).await?;
    let mut answer = [0; 512];
    if starttls {
        for line in ["", "EHLO client.test\r\n", "STARTTLS\r\n"] {
            tcp.write_all(line.as_bytes()).await?;
            let _some = tcp.read(&mut answer).await?;
        }
    }
    let name = ServerName::try_from("mail.test").unwrap();
    let mut tls = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await?;
    if starttls {
        tls.write_all(b"NOOP\r\n").await?;
    }
    let _some = tls.read(&mut answer).await?;
    Ok(tls.get_ref().1.handshake_kind().unwrap())
}

/// The rules of a port hold for who came in through it: a ticket must not carry a session to another.
#[tokio::test]
async fn a_session_is_resumed_on_its_own_listener_only() {
    let world = World::start("").await;
    let config = config(&world, true);
    let full = [HandshakeKind::Full, HandshakeKind::FullWithHelloRetryRequest];
    assert!(full.contains(&handshake(&config, world.submissions, false).await.unwrap()));
    assert_eq!(handshake(&config, world.submissions, false).await.unwrap(), HandshakeKind::Resumed);
    assert!(full.contains(&handshake(&config, world.submission, true).await.unwrap()));
    assert_eq!(handshake(&config, world.submission, true).await.unwrap(), HandshakeKind::Resumed);
    assert!(full.contains(&handshake(&config, world.relay, true).await.unwrap()));
}

#[tokio::test]
async fn the_log_and_the_metrics_say_why_a_handshake_failed_and_a_probe_is_none() {
    let world = World::start_process("", "format = \"postfix\"").await;
    for listener in [world.relay, world.submission, world.submissions] {
        for _ in 0..3 {
            drop(TcpStream::connect(listener).await.unwrap());
        }
    }
    let mut garbage = early(world.submissions, b"EHLO client.test\r\n");
    let _ = garbage.read_to_end(&mut Vec::new()).await;
    handshake(&config(&world, false), world.submissions, false).await.unwrap_err();
    handshake(&config(&world, false), world.relay, true).await.unwrap_err();
    let log = world.log_with("lost connection after STARTTLS").await;
    let lines = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!((lines("TLS handshake failed"), lines("unknown_ca"), lines("not_tls")), (3, 2, 1), "{log}");
    assert_eq!(lines("lost connection"), 1, "the one after STARTTLS: {log}");
    let metrics = world.get("/metrics").await;
    let failed: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with("staffetta_tls_handshakes_total") && line.contains("\"none\""))
        .filter(|line| !line.ends_with(" 0"))
        .collect();
    assert_eq!(failed.len(), 2, "{failed:?}");
    assert!(failed.iter().any(|line| line.contains("unknown_ca") && line.ends_with(" 2")), "{failed:?}");
}

/// The first record of the answer to a hello that names the server so: its type, and what it says.
async fn answer_to(name: &str, address: SocketAddr, config: &Arc<ClientConfig>) -> Vec<u8> {
    let placeholder = "a".repeat(name.len());
    let server = ServerName::try_from(placeholder.clone()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::clone(config), server).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let at = hello.windows(name.len()).position(|part| part == placeholder.as_bytes()).unwrap();
    hello[at..at + name.len()].copy_from_slice(name.as_bytes());
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(&hello).await.unwrap();
    let mut head = [0; 5];
    tcp.read_exact(&mut head).await.unwrap();
    let mut record = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    tcp.read_exact(&mut record).await.unwrap();
    record.insert(0, head[0]);
    record
}

/// Many a client names an address. What strangers put there is no warning, and no flood.
#[tokio::test]
async fn an_address_as_the_name_of_the_server_is_no_name_and_a_malformed_one_is_no_warning() {
    const HANDSHAKE: u8 = 22;
    const ILLEGAL_PARAMETER: [u8; 3] = [21, 2, 47];
    let world = World::start_process("trusted_networks = []", "format = \"postfix\"").await;
    let config = config(&world, true);
    let before = world.log_with("listening").await.matches("WARN").count();
    for name in ["192.0.2.1", "127.0.0.1", "unknown.example", "under_score.example"] {
        let answer = answer_to(name, world.submissions, &config).await;
        assert_eq!(answer[..2], [HANDSHAKE, 2], "{name}: a ServerHello");
    }
    for name in ["white space", "-.-", "a..b", "x\n2026 WARN forged"] {
        assert_eq!(answer_to(name, world.submissions, &config).await, ILLEGAL_PARAMETER, "{name:?}");
    }
    for _ in 0..60 {
        answer_to("a..b", world.submissions, &config).await;
    }
    let log = world.log_with("reason=\"protocol\"").await;
    let lines = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!((lines("WARN"), lines("ERROR"), lines("forged")), (before, 0, 0), "{log}");
    assert!((4..=50).contains(&lines("TLS handshake failed")), "{log}");
}

#[tokio::test]
async fn content_that_only_drips_is_given_up() {
    let world = World::start("timeout = \"1s\"\nmin_data_rate = \"100KiB/s\"").await;
    let mut client = crate::client::Client::ready(world.relay).await;
    client.expect(&[("MAIL FROM:<a@b.test>", "250 "), ("RCPT TO:<b@example.com>", "250 "), ("DATA", "354 ")]).await;
    let reply = async {
        loop {
            client.send("x\r\n").await;
            if let Ok(reply) = tokio::time::timeout(std::time::Duration::from_millis(100), client.reply()).await {
                return reply;
            }
        }
    };
    let reply = tokio::time::timeout(std::time::Duration::from_secs(10), reply).await.unwrap();
    assert_eq!(reply, "421 4.4.2 mail.test Error: timeout exceeded\r\n");
}

#[tokio::test]
async fn half_requests_do_not_close_the_health_port() {
    let world = World::start("").await;
    let mut held = Vec::new();
    for _ in 0..300 {
        let mut tcp = TcpStream::connect(world.http).await.unwrap();
        tcp.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n").await.unwrap();
        held.push(tcp);
    }
    let answer = tokio::time::timeout(std::time::Duration::from_secs(1), world.get("/livez")).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let last = held.last_mut().unwrap();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(5), last.read(&mut [0; 16])).await.unwrap();
    assert!(!matches!(ended, Ok(n) if n > 0), "{ended:?}");
}
