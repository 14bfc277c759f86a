//! Redis and Sentinels that are spoken to by TLS, and ask for a certificate themselves.

use std::path::{Path, PathBuf};
use std::time::Duration;

use staffetta_config::Config;
use staffetta_queue::server::{LocalServer, Options};
use staffetta_queue::{Announcer, Queue, Revocations, Settings, TlsFiles};
use staffetta_testkit::certs::{Authority, Leaf};
use staffetta_testkit::redis_server::{PATIENCE, Sentinel};
use tokio_util::sync::CancellationToken;

use crate::world::{free_port, put, settings};

/// An authority, a certificate of a server on this machine, one of ours.
struct Certificates {
    authority: Authority,
    server: Leaf,
    ours: Leaf,
}

impl Certificates {
    fn new(folder: &Path) -> Self {
        let authority = Authority::new(folder).unwrap();
        let server = authority.leaf("server", &["127.0.0.1", "localhost"]).unwrap();
        let ours = authority.leaf("relay", &["relay.example"]).unwrap();
        Self { authority, server, ours }
    }

    /// The settings of a server, or a Sentinel, at this port that speaks TLS with those who have a certificate.
    fn of_server(&self, port: u16) -> Vec<(String, String)> {
        let shown = |path: &Path| path.display().to_string();
        let pairs = [
            ("tls-port", port.to_string()),
            ("tls-cert-file", shown(&self.server.certificate)),
            ("tls-key-file", shown(&self.server.key)),
            ("tls-ca-cert-file", shown(&self.authority.ca())),
            ("tls-replication", "yes".to_owned()),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// That of a service of such a Redis.
    fn configuration(&self, port: u16) -> Config {
        let tls = self.of_ours();
        let [ca, certificate, key] = [tls.ca, tls.certificate, tls.key].map(Option::unwrap);
        let text = format!(
            "[redis]\nurl = \"rediss://127.0.0.1:{port}\"\nca = {ca:?}\ncertificate = {certificate:?}\nkey = {key:?}\n\
             [[frontend.listener]]\nname = \"smtp\"\nbind = \"127.0.0.1:25\"\nkind = \"relay\"\ntls = \"off\"\n"
        );
        Config::parse(&text, "staffetta.toml").unwrap()
    }

    fn of_ours(&self) -> TlsFiles {
        let Leaf { certificate, key } = self.ours.clone();
        TlsFiles { ca: Some(self.authority.ca()), certificate: Some(certificate), key: Some(key) }
    }
}

fn server(dir: &Path, certificates: &Certificates, port: u16) -> LocalServer {
    LocalServer::start_with(dir, Options { port: None, settings: certificates.of_server(port) }).unwrap()
}

fn open(settings: Settings) -> Queue {
    Queue::open(settings, CancellationToken::new()).unwrap()
}

/// Why there is no queue.
async fn trouble(settings: Settings) -> String {
    open(settings).ready(Duration::from_secs(3)).await.unwrap_err().to_string()
}

#[tokio::test]
async fn who_does_not_show_a_certificate_or_is_not_trusted_has_no_queue() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::new(dir.path());
    let port = free_port();
    let _server = server(&dir.path().join("redis"), &certificates, port);
    let at = |tls: TlsFiles| Settings { tls, ..settings(format!("rediss://127.0.0.1:{port}")) };

    let good = Settings::from(&certificates.configuration(port));
    assert_eq!(good.tls, certificates.of_ours());
    let queue = open(good.clone());
    queue.ready(PATIENCE).await.unwrap();
    put(&queue, &["a@x.example"], b"x").await.unwrap();
    // All that has connections of its own.
    let pod = Revocations::follow(&good, CancellationToken::new()).unwrap();
    assert!(pod.is_current_within(PATIENCE).await);
    Announcer::connect(&good).await.unwrap().revoke("john").await.unwrap();
    assert!(staffetta_queue::exists(&good).await.unwrap());

    let stranger = trouble(at(TlsFiles { ca: None, ..certificates.of_ours() })).await;
    assert!(stranger.contains("UnknownIssuer") && stranger.contains("redis.ca"), "{stranger}");
    let nobody = trouble(at(TlsFiles { ca: Some(certificates.authority.ca()), ..TlsFiles::default() })).await;
    assert!(nobody.contains(&format!("127.0.0.1:{port}")) && nobody.contains("redis.certificate"), "{nobody}");
}

#[tokio::test]
async fn a_certificate_that_was_renewed_is_used_from_the_next_connection_on() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::new(dir.path());
    let port = free_port();
    let mut server = server(&dir.path().join("redis"), &certificates, port);
    let settings = Settings { tls: certificates.of_ours(), ..settings(format!("rediss://localhost:{port}")) };
    let queue = open(settings);
    queue.ready(PATIENCE).await.unwrap();
    put(&queue, &["a@x.example"], b"x").await.unwrap();

    // Another authority, and everybody has certificates of it, in the same files.
    let next = Certificates::new(dir.path());
    server.restart().unwrap();
    queue.ready(PATIENCE).await.unwrap();
    let end = std::time::Instant::now() + PATIENCE;
    while put(&queue, &["a@x.example"], b"x").await.is_err() {
        assert!(std::time::Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(next.ours.certificate, certificates.ours.certificate);
}

#[tokio::test]
async fn sentinels_and_their_servers_may_speak_tls() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::new(dir.path());
    let port = free_port();
    let _server = server(&dir.path().join("redis"), &certificates, port);
    let own = free_port();
    let more: Vec<String> =
        certificates.of_server(own).into_iter().map(|(name, value)| format!("{name} {value}\n")).collect();
    let sentinel = Sentinel::start(dir.path(), port, &format!("port 0\n{}", more.concat())).unwrap();
    let url = |scheme: &str| settings(format!("{scheme}://127.0.0.1:{own}/mail"));
    let queue = open(Settings { tls: certificates.of_ours(), ..url("rediss-sentinel") });
    queue.ready(PATIENCE).await.unwrap();
    put(&queue, &["a@x.example"], b"x").await.unwrap();

    let stranger = TlsFiles { ca: None, ..certificates.of_ours() };
    let said = trouble(Settings { tls: stranger, ..url("rediss-sentinel") }).await;
    assert!(said.contains("no Sentinel names a primary"), "{said}");
    drop(sentinel);
}

#[test]
fn a_file_that_is_no_pem_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join("odd.pem");
    std::fs::write(&odd, "nothing").unwrap();
    let missing = dir.path().join("missing.pem");
    let of = |ca: &PathBuf| {
        let tls = TlsFiles { ca: Some(ca.clone()), ..TlsFiles::default() };
        let settings = Settings { tls, ..settings("rediss://localhost".to_owned()) };
        Queue::open(settings, CancellationToken::new()).err().unwrap().to_string()
    };
    for (path, text) in [(&odd, "nothing in PEM"), (&missing, "No such file")] {
        let said = of(path);
        assert!(said.contains("redis.ca") && said.contains(&*path.to_string_lossy()) && said.contains(text), "{said}");
    }
}
