//! Behind a load balancer: the client in the PROXY header is the one that counts.

use staffetta_testkit::child::Running;
use staffetta_testkit::ports::Port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{Client, MESSAGE, early};
use crate::world::World;

/// We are the proxy; trusted is a network that only a header can name.
const BEHIND: &str =
    "proxy_from = [\"127.0.0.1/32\"]\ntrusted_networks = [\"192.0.2.0/24\"]\nconnections_per_client = 2";
const TRUSTED: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 40001 25\r\n";
const STRANGER: &[u8] = b"PROXY TCP4 203.0.113.9 198.51.100.1 40001 25\r\n";
/// LOCAL, with an address that must be ignored.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x11\x00\x0c\xc0\x00\x02\x07\x00\x00\x00\x00\x00\x01\x00\x19";

async fn behind(header: &[u8], world: &World) -> Client {
    let mut client = Client::early(world.relay, header);
    let greeting = client.reply().await;
    assert!(greeting.starts_with("220 mail.test ESMTP"), "{greeting}");
    client.say("EHLO client.test").await;
    client
}

/// Everything the server says on a connection that begins with these octets, up to its end.
async fn answer_to(octets: &[u8], address: std::net::SocketAddr) -> String {
    let mut tcp = early(address, octets);
    let mut said = Vec::new();
    // A reset is an end as well.
    let _ = tcp.read_to_end(&mut said).await;
    String::from_utf8(said).unwrap()
}

#[tokio::test]
async fn the_client_of_the_header_counts_for_trust_limits_log_and_trace() {
    let world = World::start_process(BEHIND, "format = \"postfix\"").await;
    let mut trusted = behind(TRUSTED, &world).await;
    trusted.expect(MESSAGE).await;
    let (message, body) = world.only_message().await;
    assert_eq!(message.origin.client.unwrap().to_string(), "192.0.2.7");
    assert!(String::from_utf8(body).unwrap().contains("[192.0.2.7]"));

    let mut first = behind(STRANGER, &world).await;
    first.expect(&[("MAIL FROM:<a@b.test>", "250 "), ("RCPT TO:<b@example.com>", "554 5.7.1 ")]).await;
    world.log_with("NOQUEUE: reject: RCPT from unknown[203.0.113.9]").await;
    let _second = behind(STRANGER, &world).await;
    let mut third = Client::early(world.relay, STRANGER);
    assert_eq!(third.reply().await, "421 4.7.0 mail.test Error: too many connections from 203.0.113.9\r\n");
    behind(b"PROXY TCP4 203.0.113.10 198.51.100.1 40001 25\r\n", &world).await;
}

#[tokio::test]
async fn a_header_gives_nobody_the_rights_of_the_proxy() {
    let trusting = BEHIND.replace("192.0.2.0/24", "127.0.0.0/8");
    let world = World::start(&trusting).await;
    for (header, reply) in [(b"PROXY UNKNOWN\r\n".as_slice(), "554 5.7.1 "), (LOCAL, "250 ")] {
        let mut client = behind(header, &world).await;
        client.expect(&[("MAIL FROM:<a@b.test>", "250 "), ("RCPT TO:<b@example.com>", reply)]).await;
    }
}

#[tokio::test]
async fn the_header_comes_before_tls() {
    let world = World::start(BEHIND).await;
    let tlvs = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x07\xdc".as_slice(), &STRANGER_BLOCK, &[0xe0; 2000]].concat();
    for header in [STRANGER, &tlvs] {
        let mut client = Client::implicit_behind(header, world.submissions, &world.ca).await;
        client.expect(&[("MAIL FROM:<john@example.org>", "530 5.7.0 ")]).await;
        let mut client = Client::encrypted_behind(header, world.submission, &world.ca).await;
        client.expect(&[("MAIL FROM:<john@example.org>", "530 5.7.0 ")]).await;
    }
}

const STRANGER_BLOCK: [u8; 12] = [203, 0, 113, 9, 198, 51, 100, 1, 0x9c, 0x41, 0, 25];

#[tokio::test]
async fn a_proxy_without_a_good_header_gets_no_word() {
    let world = World::start_process(BEHIND, "").await;
    for octets in [
        b"EHLO client.test\r\n".as_slice(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 40001 25\nEHLO client.test\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 40001 99999\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x11\x11\x00\x0c\xc0\x00\x02\x07\x00\x00\x00\x00\x00\x01\x00\x19",
        // Nothing at all: the three seconds pass.
        b"",
    ] {
        assert_eq!(answer_to(octets, world.relay).await, "", "{octets:?}");
    }
    let metrics = world.get("/metrics").await;
    let rejected = |reason: &str| {
        format!("staffetta_smtp_connections_rejected_total{{listener=\"smtp\",reason=\"proxy_{reason}\"}}")
    };
    assert!(metrics.contains(&format!("{} 4\n", rejected("malformed"))), "{metrics}");
    assert!(metrics.contains(&format!("{} 1\n", rejected("late"))), "{metrics}");
}

#[tokio::test]
async fn a_second_header_ends_the_session() {
    let world = World::start(BEHIND).await;
    let mut client = behind(STRANGER, &world).await;
    client.expect(&[("PROXY TCP4 192.0.2.7 198.51.100.1 40001 25", "554 5.5.0")]).await;
    assert!(client.is_closed().await);
    let said = answer_to(&[STRANGER, TRUSTED].concat(), world.relay).await;
    assert!(said.starts_with("554 5.5.0 ") && said.ends_with("\r\n"), "{said}");
}

#[tokio::test]
async fn a_header_from_anybody_else_ends_the_connection() {
    let world = World::start("proxy_from = [\"192.0.2.0/24\"]\ntrusted_networks = []").await;
    for listener in [world.relay, world.submission, world.submissions] {
        for header in [TRUSTED, LOCAL] {
            assert_eq!(answer_to(header, listener).await, "");
        }
    }
    let (mut client, greeting) = Client::connect(world.relay).await;
    assert!(greeting.starts_with("220 "), "{greeting}");
    client.expect(&[("PROXY UNKNOWN", "554 5.5.0")]).await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_client_that_speaks_before_the_greeting_is_cut_off() {
    let world = World::start("").await;
    let said = answer_to(b"EHLO client.test\r\n", world.relay).await;
    assert!(said.starts_with("554 5.5.0 "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let said = answer_to(b"EHLO client.test\r\n", world.submission).await;
    assert!(said.starts_with("554 5.5.0 "), "{said}");
}

#[tokio::test]
async fn a_listener_has_its_own_proxies_and_places() {
    let keys = "trusted_networks = []\n# smtp\nproxy_from = [\"127.0.0.1/32\"]\nconnection_limit = 1";
    let world = World::start(keys).await;
    let _first = behind(STRANGER, &world).await;
    let mut second = Client::early(world.relay, TRUSTED);
    assert_eq!(second.reply().await, "421 4.3.2 mail.test Error: server busy, try again later\r\n");
    assert_eq!(answer_to(STRANGER, world.submission).await, "");
    Client::ready(world.submission).await;
}

/// A HAProxy that connects from 127.0.0.8, with both versions of the header and its own health checks.
struct HaProxy {
    v1: Port,
    v2: Port,
    _process: Running,
    folder: tempfile::TempDir,
}

impl HaProxy {
    fn start(server: std::net::SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [v1, v2] = [Port::reserve().unwrap(), Port::reserve().unwrap()];
        let config = format!(
            "global\n  stats socket {socket}\ndefaults\n  mode tcp\n  source 127.0.0.8\n  option smtpchk HELO probe.test\n  \
             timeout connect 5s\n  timeout client 1m\n  timeout server 1m\n\
             listen v1\n  bind {}\n  server smtp {server} send-proxy check inter 100ms\n\
             listen v2\n  bind {}\n  server smtp {server} send-proxy-v2 check inter 100ms \
             proxy-v2-options crc32c,unique-id\n  unique-id-format %[uuid()]\n",
            v1.address(),
            v2.address(),
            socket = folder.path().join("stats").display(),
        );
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, config).unwrap();
        let arguments = ["-db".as_ref(), "-f".as_ref(), file.as_os_str()];
        let process = Running::start("haproxy", &arguments, &folder.path().join("log")).unwrap();
        Self { v1, v2, _process: process, folder }
    }

    /// Waits until its own checks have found both servers to be up or down, more than once.
    async fn checks(&self) -> String {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            if let Ok(mut socket) = tokio::net::UnixStream::connect(self.folder.path().join("stats")).await {
                socket.write_all(b"show stat\n").await.unwrap();
                let mut answer = String::new();
                let _ = socket.read_to_string(&mut answer).await;
                let servers: Vec<&str> = answer.lines().filter(|line| line.contains(",smtp,")).collect();
                if servers.len() == 2 && servers.iter().all(|line| line.contains(",L7OK,") || line.contains(",DOWN,")) {
                    return servers.join("\n");
                }
            }
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(std::time::Instant::now() < deadline, "{log}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn haproxy_names_its_clients_and_checks_our_health() {
    let world = World::start("proxy_from = [\"127.0.0.8/32\"]\ntrusted_networks = [\"127.0.0.9/32\"]").await;
    let haproxy = HaProxy::start(world.relay);
    let checks = haproxy.checks().await;
    assert!(!checks.contains(",DOWN,"), "{checks}");
    for port in [&haproxy.v1, &haproxy.v2] {
        for (source, reply) in [("127.0.0.9", "250 2.1.5 "), ("127.0.0.77", "554 5.7.1 ")] {
            let mut client = Client::from(source, port.address()).await;
            client.expect(&[("MAIL FROM:<a@b.test>", "250 "), ("RCPT TO:<b@example.com>", reply)]).await;
        }
    }
    let mut client = Client::from("127.0.0.9", haproxy.v2.address()).await;
    client.expect(MESSAGE).await;
    let (message, _) = world.only_message().await;
    assert_eq!(message.origin.client.unwrap().to_string(), "127.0.0.9");
}
