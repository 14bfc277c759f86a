//! Questions to a server of this process, with a real Redis between the pods.

use std::net::SocketAddr;
use std::sync::Mutex;

use futures_util::future::join_all;
use staffetta_mail::ReversePath;
use staffetta_policy::classify::{Endpoint, Peer};
use staffetta_queue::server::LocalServer;
use staffetta_testkit::dns::FakeDns;
use staffetta_transport::dns::DnsSettings;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
const NOBODY: Submitter<'static> = Submitter { sender: &ReversePath::Null, login: None };
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

/// What a server heard.
#[derive(Default)]
struct Heard {
    commands: Vec<String>,
    connections: usize,
    now: usize,
    most: usize,
}

/// A mail server: it takes mail for `yes…`, not yet for `later…`, for nobody else, and never answers about `quiet…`.
struct Server {
    address: SocketAddr,
    heard: Arc<Mutex<Heard>>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(greeting: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, heard) = (listener.local_addr().unwrap(), Arc::<Mutex<Heard>>::default());
        let (mut tasks, shared) = (JoinSet::new(), Arc::clone(&heard));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                connections.spawn(serve(tcp, greeting, Arc::clone(&shared)));
            }
        });
        Self { address, heard, _tasks: tasks }
    }

    fn connections(&self) -> usize {
        self.heard.lock().unwrap().connections
    }

    fn most_at_a_time(&self) -> usize {
        self.heard.lock().unwrap().most
    }

    /// All commands, once the last connection has ended.
    async fn commands(&self) -> Vec<String> {
        let end = Instant::now() + PATIENCE;
        while self.heard.lock().unwrap().now > 0 {
            assert!(Instant::now() < end, "a connection stays");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.heard.lock().unwrap().commands.clone()
    }
}

async fn serve(tcp: TcpStream, greeting: &str, heard: Arc<Mutex<Heard>>) {
    {
        let mut heard = heard.lock().unwrap();
        heard.connections += 1;
        heard.now += 1;
        heard.most = heard.most.max(heard.now);
    }
    let _ = talk(tcp, greeting, &heard).await;
    heard.lock().unwrap().now -= 1;
}

async fn talk(tcp: TcpStream, greeting: &str, heard: &Mutex<Heard>) -> std::io::Result<()> {
    let mut tcp = BufReader::new(tcp);
    tcp.get_mut().write_all(format!("{greeting}\r\n").as_bytes()).await?;
    let mut line = String::new();
    while tcp.read_line(&mut line).await? > 0 {
        let command = std::mem::take(&mut line).trim_end().to_owned();
        heard.lock().unwrap().commands.push(command.clone());
        let reply = match command.split_once(":<").unwrap_or((&command, "")) {
            ("EHLO mail.test" | "LHLO mail.test", _) => "250-mx.test\r\n250-PIPELINING\r\n250 SIZE",
            ("MAIL FROM", _) if greeting.contains("no null path") => "550 5.7.1 not from nobody",
            ("MAIL FROM", ">" | "> SIZE=0") => "250 2.1.0 Ok",
            ("RCPT TO", who) if who.starts_with("yes") => "250 2.1.5 Ok",
            ("RCPT TO", who) if who.starts_with("later") => "450 4.2.0 Greylisted",
            ("RCPT TO", who) if who.starts_with("quiet") => std::future::pending().await,
            ("RCPT TO", _) => "550 5.1.1 User unknown",
            ("QUIT", _) => "221 2.0.0 Bye",
            _ => "500 5.5.1 What?",
        };
        tcp.get_mut().write_all(format!("{reply}\r\n").as_bytes()).await?;
    }
    Ok(())
}

/// A Redis, a DNS, and the configuration of all pods.
struct Cluster {
    config: Config,
    dns: FakeDns,
    stop: CancellationToken,
    _stop: DropGuard,
    _redis: LocalServer,
    _folder: tempfile::TempDir,
}

impl Cluster {
    /// With these routes: domain and target.
    async fn start(routes: &[(&str, String)]) -> Self {
        staffetta_transport::tls::install_provider();
        let folder = tempfile::tempdir().unwrap();
        let redis = LocalServer::start(folder.path()).unwrap();
        let dns = FakeDns::start().await.unwrap();
        let mut text = format!(
            "hostname = \"mail.test\"\nredis.url = \"{}\"\ndns.servers = [\"{}\"]\n",
            redis.url(),
            dns.address()
        );
        for (domain, via) in routes {
            text.push_str(&format!("[[delivery.route]]\ndomain = \"{domain}\"\nvia = \"{via}\"\n"));
        }
        let stop = CancellationToken::new();
        Self {
            config: Config::parse(&text, "test.toml").unwrap(),
            dns,
            _stop: stop.clone().drop_guard(),
            stop,
            _redis: redis,
            _folder: folder,
        }
    }

    /// One with a server behind `x.test`.
    async fn before(server: &Server) -> Self {
        Self::start(&[("x.test", format!("smtp://{}", server.address))]).await
    }

    async fn pod(&self) -> Verifier {
        let queue = Queue::open((&self.config).into(), self.stop.clone()).unwrap();
        queue.ready(PATIENCE).await.unwrap();
        let resolver = Resolver::new(&DnsSettings::from(&self.config.dns)).unwrap();
        Verifier::new(&self.config, &queue, resolver).unwrap()
    }
}

async fn ask(pod: &Verifier, recipient: &str) -> Answer {
    pod.ask(CLIENT, NOBODY, &recipient.parse().unwrap(), Demands::default()).await
}

async fn ask_all(pod: &Verifier, names: impl Iterator<Item = String>) -> Vec<Answer> {
    let names: Vec<String> = names.collect();
    join_all(names.iter().map(|name| ask(pod, name))).await
}

fn refused(words: &str) -> Answer {
    Answer::Refuses(format!("host 127.0.0.1[127.0.0.1] said: {words} (in reply to RCPT TO command)").into())
}

#[tokio::test]
async fn what_one_pod_was_told_no_pod_asks_again_and_nothing_but_a_question_is_sent() {
    let server = Server::start("220 mx.test").await;
    let cluster = Cluster::before(&server).await;
    let (here, there) = (cluster.pod().await, cluster.pod().await);
    let no = refused("550 5.1.1 User unknown");
    for pod in [&here, &there, &here] {
        assert_eq!(ask(pod, "yes@x.test").await, Answer::Takes);
        assert_eq!(ask(pod, "nobody@X.test").await, no);
        assert_eq!(ask(pod, "later@x.test").await, Answer::Takes);
    }
    assert_eq!(server.connections(), 3, "one for each recipient");
    let mut expected = Vec::new();
    for who in ["yes@x.test", "nobody@X.test", "later@x.test"] {
        expected.extend(["EHLO mail.test", "MAIL FROM:<> SIZE=0"].map(str::to_owned));
        expected.extend([format!("RCPT TO:<{who}>"), "QUIT".to_owned()]);
    }
    assert_eq!(server.commands().await, expected);
}

#[tokio::test]
async fn the_way_is_that_of_a_delivery() {
    let server = Server::start("220 lmtp.test").await;
    let lmtp = [("x.test", format!("lmtp://{}", server.address)), ("mail.test", format!("smtp://{}", server.address))];
    let cluster = Cluster::start(&lmtp).await;
    let pod = cluster.pod().await;
    assert_eq!(ask(&pod, "nobody@x.test").await, refused("550 5.1.1 User unknown"));
    assert_eq!(server.commands().await[0], "LHLO mail.test");
    assert_eq!(ask(&pod, "Postmaster").await, refused("550 5.1.1 User unknown"));
    assert!(server.commands().await.contains(&"RCPT TO:<Postmaster@mail.test>".to_owned()));

    cluster.dns.null_mx("null.test").servfail("broken.test").mx("loop.test", 10, "mail.test");
    cluster.dns.host("inside.test", [127, 0, 0, 1]);
    for (recipient, words) in [
        ("yes@null.test", "Domain null.test does not accept mail (nullMX)"),
        ("yes@nothing.test", "Host or domain name not found. "),
        ("yes@loop.test", "mail for loop.test loops back to myself"),
        ("yes@inside.test", "every mail host of inside.test has an address that must not be used"),
    ] {
        let answer = ask(&pod, recipient).await;
        assert!(matches!(&answer, Answer::NoWay(why) if why.starts_with(words)), "{recipient}: {answer:?}");
    }
    assert_eq!(ask(&pod, "yes@broken.test").await, Answer::Takes, "a DNS that is down does not say no");
}

#[tokio::test]
async fn a_server_that_cannot_be_asked_stops_no_mail_and_is_not_asked_by_everybody() {
    for greeting in ["", "554 5.3.2 closed", "220 no null path"] {
        let server = Server::start(greeting).await;
        let cluster = Cluster::before(&server).await;
        let pod = cluster.pod().await;
        let began = Instant::now();
        assert_eq!(ask(&pod, "yes@x.test").await, Answer::Takes, "{greeting}");
        assert!(began.elapsed() < TURN + PROBE + Duration::from_secs(2), "{:?}", began.elapsed());
        let began = Instant::now();
        let names = (0..20).map(|n| format!("{n}@x.test"));
        let answers = ask_all(&pod, names).await;
        assert!(answers.iter().all(|answer| *answer == Answer::Takes), "{answers:?}");
        assert!(began.elapsed() < PROBE / 2, "nobody waits for what is known: {:?}", began.elapsed());
        assert_eq!(server.connections(), 1, "{greeting}");
    }
}

/// Such a message would come back from there, whoever gets mail otherwise.
#[tokio::test]
async fn what_a_message_demands_the_server_must_be_able_to_do() {
    let server = Server::start("220 mx.test").await;
    let cluster = Cluster::before(&server).await;
    let pod = cluster.pod().await;
    let recipient = "yes@x.test".parse().unwrap();
    for (smtputf8, require_tls, words) in [
        (true, false, "SMTPUTF8 is required, but was not offered by host 127.0.0.1[127.0.0.1]"),
        (false, true, "REQUIRETLS is required, but was not offered over verified TLS by host 127.0.0.1[127.0.0.1]"),
    ] {
        let answer = pod.ask(CLIENT, NOBODY, &recipient, Demands { smtputf8, require_tls }).await;
        assert_eq!(answer, Answer::Refuses(words.into()));
        assert_eq!(ask(&pod, "yes@x.test").await, Answer::Takes, "what demands nothing is taken");
    }
    assert!(!server.commands().await.contains(&"STARTTLS".to_owned()));
}

#[tokio::test]
async fn a_server_that_falls_silent_about_one_recipient_holds_nobody_for_long() {
    let server = Server::start("220 mx.test").await;
    let cluster = Cluster::before(&server).await;
    let pod = cluster.pod().await;
    let began = Instant::now();
    assert_eq!(ask(&pod, "quiet@x.test").await, Answer::Takes);
    assert!(began.elapsed() >= PROBE && began.elapsed() < PROBE + Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn many_who_ask_at_once_make_one_question_of_a_recipient_and_few_at_a_time_of_a_server() {
    let server = Server::start("220 mx.test").await;
    let cluster = Cluster::before(&server).await;
    let pod = cluster.pod().await;
    let answers = join_all((0..50).map(|_| ask(&pod, "nobody@x.test"))).await;
    assert!(answers.iter().all(|answer| matches!(answer, Answer::Refuses(_))), "{answers:?}");
    assert_eq!(server.connections(), 1);
    let names = (0..60).map(|n| format!("yes{n}@x.test"));
    let answers = ask_all(&pod, names).await;
    assert!(answers.iter().all(|answer| *answer == Answer::Takes), "{answers:?}");
    assert_eq!(server.connections(), 61);
    assert!((2..=9).contains(&server.most_at_a_time()), "{}", server.most_at_a_time());
}

#[tokio::test]
async fn a_client_causes_no_more_questions_than_it_may_whichever_pods_it_asks() {
    let server = Server::start("220 mx.test").await;
    let cluster = Cluster::before(&server).await;
    let pods = [cluster.pod().await, cluster.pod().await];
    let mut asked = 0;
    for n in 0..PER_CLIENT.count + 20 {
        asked += usize::from(ask(&pods[n as usize % 2], &format!("{n}@x.test")).await != Answer::Busy);
    }
    // Some tokens come back while it takes its time.
    assert!((200..=210).contains(&asked), "{asked}");
    assert_eq!(server.connections(), asked);
    assert_eq!(ask(&pods[0], "new@x.test").await, Answer::Busy);
    assert!(matches!(ask(&pods[0], "0@x.test").await, Answer::Refuses(_)), "what is known costs nothing");
    let recipient = "yes@x.test".parse().unwrap();
    assert_eq!(
        pods[0].ask("192.0.2.8".parse().unwrap(), NOBODY, &recipient, Demands::default()).await,
        Answer::Takes,
        "another client"
    );
}

#[test]
fn only_what_a_delivery_would_return_at_once_is_refused() {
    let peer = || Peer { host: "mx.test".to_owned(), endpoint: Endpoint::Tcp((CLIENT, 25).into()) };
    let reply = |code: u16| staffetta_mail::RemoteReply { code, status: None, text: "text".to_owned() };
    let session = |failure| Failure::Session { peer: peer(), failure };
    let said = |stage, code| session(SessionFailure::Reply { stage, reply: reply(code) });
    for (failure, found) in [
        (said(Stage::Rcpt, 550), "no"),
        (said(Stage::Rcpt, 552), "no"),
        (said(Stage::Rcpt, 450), "unknown"),
        (said(Stage::Rcpt, 421), "unknown"),
        (session(SessionFailure::Lost { stage: Stage::Rcpt }), "unknown"),
        (session(SessionFailure::NoSmtpUtf8 { ignored: false }), "no"),
        (session(SessionFailure::NoRequireTls), "no"),
        (said(Stage::Mail, 550), "server takes"),
        (said(Stage::Helo, 550), "server takes"),
        (said(Stage::Greeting, 554), "server takes"),
        (session(SessionFailure::TlsNotOffered), "server takes"),
        (session(SessionFailure::Loop), "no way"),
        (Failure::Connect { peer: peer(), reason: "Connection refused".to_owned() }, "server takes"),
        (Failure::Dns { detail: String::new() }, "server takes"),
        (Failure::Route { detail: String::new() }, "server takes"),
        (Failure::Local { reason: String::new() }, "server takes"),
        (Failure::NullMx, "no way"),
        (Failure::NotFound { detail: String::new() }, "no way"),
        (Failure::Loop, "no way"),
        (Failure::Blocked, "no way"),
    ] {
        let shown = match judged(&failure, "x.test") {
            Found::Recipient(Verification::Undeliverable(_)) => "no",
            Found::Recipient(Verification::Unknown) => "unknown",
            Found::Server(Answer::Takes) => "server takes",
            Found::Server(Answer::NoWay(_)) => "no way",
            other => panic!("{failure:?}: {other:?}"),
        };
        assert_eq!(shown, found, "{failure:?}");
    }
}
