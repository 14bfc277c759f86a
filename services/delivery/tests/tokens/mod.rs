//! Smart hosts that want a token instead of a password, and whoever gives one.

use std::net::SocketAddr;

use staffetta_queue::Entry;
use staffetta_testkit::certs::Authority;
use staffetta_testkit::tokens::Provider;

use crate::BODY;
use crate::world::mx::{Script, Server, acceptor};
use crate::world::{World, waiting};

const GRANTED: &str = r#"{"access_token":"token-{n}","token_type":"Bearer","expires_in":3600}"#;
/// `user=john@home.test`, `auth=Bearer token-1` and `token-2`, each behind ^A.
const FIRST: &str = "AUTH XOAUTH2 dXNlcj1qb2huQGhvbWUudGVzdAFhdXRoPUJlYXJlciB0b2tlbi0xAQE=";
const SECOND: &str = "AUTH XOAUTH2 dXNlcj1qb2huQGhvbWUudGVzdAFhdXRoPUJlYXJlciB0b2tlbi0yAQE=";
const WELCOME: &str = "235 2.7.0 welcome";
/// `{"status":"400"}`
const REASON: &str = "334 eyJzdGF0dXMiOiI0MDAifQ==";
const REFUSED: &str = "535 5.7.8 no such token";

struct Scene {
    world: World,
    provider: Provider,
    _dir: tempfile::TempDir,
    smart: Server,
}

impl Scene {
    /// A smart host that answers so to AUTH and to what follows it.
    async fn set(replies: &[(&'static str, &'static str)]) -> anyhow::Result<Self> {
        let (world, dir) = (World::start().await?, tempfile::tempdir()?);
        let tls = acceptor(&Authority::new(dir.path())?.leaf("smart.test", &["smart.test"])?)?;
        let extensions = &["STARTTLS", "AUTH LOGIN XOAUTH2"];
        let script = Script { extensions, tls: Some(tls), replies: replies.to_vec(), ..Script::default() };
        let provider = Provider::start_in_clear(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        provider.answer("/token", "200 OK", GRANTED);
        Ok(Self { world, provider, _dir: dir, smart: Server::start(script).await? })
    }

    fn route(&self, domain: &str) -> String {
        format!(
            "[[delivery.route]]\ndomain = \"{domain}\"\nvia = \"smtp://{}\"\ntls = \"may\"\nusername = \"john@home.test\"\n\
             token_url = \"http://{}/token\"\nclient_id = \"relay\"\nclient_secret = \"cs\"\nrefresh_token = \"rt\"\n\
             scope = \"mail\"\n",
            self.smart.address(),
            self.provider.address(),
        )
    }

    /// AUTH commands as they came.
    fn shown(&self) -> Vec<String> {
        self.smart.commands().into_iter().filter(|command| command.starts_with("AUTH")).collect()
    }

    /// Under which the cluster keeps the token.
    fn key(&self) -> anyhow::Result<String> {
        let keys = self.world.keys("{O:*}")?;
        let key = keys.lines().find(|line| line.starts_with("{O:"));
        key.map(str::to_owned).ok_or_else(|| anyhow::anyhow!("no token is kept: {keys}"))
    }

    async fn waits(&self) -> anyhow::Result<String> {
        let waits = |entries: &[Entry]| waiting(entries).len() == 1;
        Ok(waiting(&self.world.until("deferred", waits).await?).concat())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_is_for_all_workers_and_nobody_else() -> anyhow::Result<()> {
    let scene = Scene::set(&[("AUTH", WELCOME), ("AUTH", WELCOME)]).await?;
    let route = scene.route("*");
    let first = scene.world.worker("", &route)?;
    scene.world.send("john@home.test", &["a@x.test"], BODY).await?;
    scene.smart.received(1).await?;
    first.stop().await?;
    let second = scene.world.worker("", &route)?;
    scene.world.send("john@home.test", &["b@y.test"], BODY).await?;
    assert!(scene.smart.received(2).await?.iter().all(|mail| mail.encrypted));
    assert_eq!(scene.shown(), [FIRST, FIRST]);
    let asked = scene.provider.asked();
    let form = "grant_type=refresh_token&refresh_token=rt&client_id=relay&client_secret=cs&scope=mail";
    assert_eq!(asked.iter().map(|asked| (&*asked.line, &*asked.body)).collect::<Vec<_>>(), [("POST /token", form)]);
    // Whoever reads Redis has nothing.
    let kept = scene.world.tell_redis(&format!("GET {}", scene.key()?))?;
    assert!(kept.len() > 50 && !kept.contains("token"), "{kept:?}");
    second.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_is_dropped_and_another_shown_at_once() -> anyhow::Result<()> {
    let scene = Scene::set(&[("AUTH", REASON), ("", REFUSED), ("AUTH", WELCOME)]).await?;
    let worker = scene.world.worker("retry_min = \"1h\"\nretry_max = \"2h\"", &scene.route("*"))?;
    scene.world.send("john@home.test", &["a@x.test"], BODY).await?;
    scene.smart.received(1).await?;
    assert_eq!(scene.shown(), [FIRST, SECOND]);
    // What is said to a reason is an empty line.
    let commands = scene.smart.commands();
    assert!(commands.windows(2).any(|pair| pair == [FIRST, ""]), "{commands:?}");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_every_token_makes_mail_wait_and_nobody_ask_on() -> anyhow::Result<()> {
    let scene = Scene::set(&[("AUTH", REFUSED); 20]).await?;
    let worker = scene.world.worker("", &scene.route("*"))?;
    scene.world.send("john@home.test", &["a@x.test"], BODY).await?;
    let tried = |entries: &[Entry]| entries.first().is_some_and(|entry| entry.jobs[0].attempts >= 3);
    let entries = scene.world.until("tried thrice", tried).await?;
    let reason = entries[0].jobs[0].reason.clone().unwrap_or_default();
    assert!(reason.starts_with("SASL authentication failed; server"), "{reason}");
    let shown = scene.shown();
    assert_eq!((&*shown[0], &*shown[1], &*shown[2]), (FIRST, SECOND, SECOND), "{shown:?}");
    assert_eq!(scene.provider.asked().len(), 2);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_waits_while_nobody_gives_a_token_and_goes_when_somebody_does() -> anyhow::Result<()> {
    let scene = Scene::set(&[("AUTH", WELCOME)]).await?;
    let refusal = r#"{"error":"invalid_client","error_description":"secret expired"}"#;
    scene.provider.answer("/token", "401 Unauthorized", refusal);
    let worker = scene.world.worker("", &scene.route("*"))?;
    scene.world.send("john@home.test", &["a@x.test"], BODY).await?;
    let reason = scene.waits().await?;
    let expected =
        "x.test: SASL authentication failed: no token to log in with: refused: invalid_client: secret expired";
    assert_eq!(reason, expected);
    assert_eq!((scene.smart.connections(), scene.provider.asked().len()), (0, 1), "nobody asks again at once");
    scene.provider.answer("/token", "200 OK", GRANTED);
    scene.smart.received(1).await?;
    assert!(scene.provider.asked().len() < 4, "what fails is left alone for a while");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_that_comes_with_a_token_counts_from_then_on() -> anyhow::Result<()> {
    let scene = Scene::set(&[("AUTH", WELCOME); 3]).await?;
    let exchanged = r#"{"access_token":"t","token_type":"Bearer","expires_in":3600,"refresh_token":"rt-{n}"}"#;
    scene.provider.answer("/token", "200 OK", exchanged);
    for (count, used) in [(1, "rt"), (2, "rt-1"), (3, "rt-2")] {
        let worker = scene.world.worker("", &scene.route("*"))?;
        scene.world.send("john@home.test", &["a@x.test"], BODY).await?;
        scene.smart.received(count).await?;
        let asked = scene.provider.asked();
        assert_eq!(asked.len(), count);
        let form = format!("grant_type=refresh_token&refresh_token={used}&client_id=relay&client_secret=cs&scope=mail");
        assert_eq!(asked[count - 1].body, form);
        worker.stop().await?;
        // As if its time were over.
        scene.world.tell_redis(&format!("DEL {}", scene.key()?))?;
    }
    Ok(())
}
