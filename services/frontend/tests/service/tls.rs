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
