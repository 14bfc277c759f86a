//! Bodies too large for Redis: `spool.url`, with the real services. A directory that frontend and workers share, and an object
//! store that speaks S3.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use staffetta_cli::sink::{Scenario, Sink, Stage};
use staffetta_dkim::{Algorithm, Key};
use staffetta_testkit::s3::{S3Server, files};
use staffetta_tests::{Client, SOON, Service, World, eventually, get, next, program};

/// Octets of the largest message that the default configuration takes are 40 MiB; this leaves room for header fields.
const HUGE: usize = (40 << 20) - 4_096;

/// A message of about so many octets in which no two lines are alike.
fn message(size: usize) -> String {
    let mut text = String::with_capacity(size + 100);
    text.push_str("From: John <john@example.org>\r\nSubject: large\r\n\r\n");
    let mut line = 0_u64;
    while text.len() + 74 < size {
        // A dot in front of every other line, which must be doubled on its way in and out.
        let dot = if line.is_multiple_of(2) { "." } else { "-" };
        text.push_str(&format!("{dot}{line:070}\r\n"));
        line += 1;
    }
    text
}

fn body(text: &str) -> &str {
    text.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim_end())
}

fn stuffed(text: &str) -> String {
    text.replace("\r\n.", "\r\n..")
}

async fn client(world: &World) -> anyhow::Result<Client> {
    let mut client = Client::connect_from("127.0.0.9", world.smtp()).await?;
    client.expect("EHLO client.test", 250).await?;
    Ok(client)
}

async fn send(world: &World, to: &[&str], text: &str) -> anyhow::Result<u16> {
    Ok(client(world).await?.send("john@example.org", to, &stuffed(text)).await?.code)
}

async fn arrives(mx: &mut Sink, text: &str) -> anyhow::Result<()> {
    let received = next(mx).await?;
    let got = String::from_utf8(received.body.to_vec())?;
    ensure!(body(&got) == body(text), "{} octets became {}", text.len(), got.len());
    Ok(())
}

fn spool(world: &World) -> PathBuf {
    world.folder().join("spool")
}

/// Files of bodies.
fn objects(world: &World) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = files(spool(world))?;
    files.retain(|path| !path.to_string_lossy().contains("/mark-"));
    Ok(files)
}

/// By how many KiB the memory of a service grows at most while this happens.
async fn growth<T>(
    world: &World,
    service: Service,
    act: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(u64, T)> {
    let pid = *world.pids(service).first().context("it does not run")?;
    let field = |name: &str| -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
        Ok(line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse()?)
    };
    let before = field("VmRSS")?;
    // From now on the peak is that of what follows.
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
    let done = act.await?;
    let grown = field("VmHWM")?.saturating_sub(before);
    Ok((grown, done))
}

/// A fifth of a message of [`HUGE`]: whoever holds one as a whole needs five times as much.
const LITTLE: u64 = 8 << 10;

async fn until_gone(world: &World) -> anyhow::Result<()> {
    eventually(SOON, || async {
        let left = objects(world)?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await
}

async fn with_directory() -> anyhow::Result<World> {
    let world = World::new().await?;
    let url = format!("\"file://{}\"", spool(&world).display());
    Ok(world.set("spool.url", url))
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_on_their_way_in_take_no_more_of_the_store_than_the_file_says() -> anyhow::Result<()> {
    // Six of 512 KiB a message: a third has four, and what is left is enough for the ends of the first two,
    // also while the third's are being deleted.
    let world =
        with_directory().await?.set("frontend.size_limit", "\"4MiB\"").set("spool.incoming_limit", "\"8448KiB\"");
    let mut world = world.set("spool.compression", "\"none\"").start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let large = message(3 << 20);
    let mut unfinished = Vec::new();
    for number in 1..=2 {
        let mut client = client(&world).await?;
        client.begin("john@example.org", &["a@example.com"]).await?;
        client.write(stuffed(&large).as_bytes()).await?;
        eventually(SOON, || async {
            let found = objects(&world)?.len();
            ensure!(found >= 6 * number, "{found} pieces of {number} messages");
            Ok(())
        })
        .await?;
        unfinished.push(client);
    }
    let before = objects(&world)?.len();
    assert_eq!(send(&world, &["a@example.com"], &large).await?, 452);
    let refused = world.metrics(Service::Frontend).await?.sum("staffetta_store_incoming_refused_total", &[]);
    assert_eq!(refused, 1.0);
    eventually(SOON, || async {
        let found = objects(&world)?.len();
        ensure!(found == before, "{found} pieces, {before} before");
        Ok(())
    })
    .await?;
    for mut client in unfinished {
        assert_eq!(client.finish("").await?.code, 250, "they have what they need");
    }
    assert_eq!(send(&world, &["a@example.com"], &large).await?, 250, "there is room again");
    for _ in 0..3 {
        arrives(&mut mx, &large).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_lie_in_the_directory_and_arrive_as_they_were() -> anyhow::Result<()> {
    let mut world = with_directory().await?.start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let mut other = world.mx("example.net", Scenario::default()).await?;
    for service in [Service::Frontend, Service::Delivery] {
        let log = world.log(service);
        ensure!(!log.contains("large mail must wait"), "a store that is new is no trouble: {log}");
    }
    world.kill(Service::Delivery);
    let (small, large, huge) = (message(200_000), message(3 << 20), message(HUGE));
    assert_eq!(send(&world, &["a@example.com"], &small).await?, 250);
    assert_eq!((objects(&world)?.len(), world.store()?.keys("*}b:*")?.len()), (0, 1), "small enough for Redis");
    assert_eq!(send(&world, &["a@example.com", "b@example.net"], &large).await?, 250);
    assert_eq!((objects(&world)?.len(), world.store()?.keys("*}b:*")?.len()), (7, 1), "once, whoever gets it");
    assert_eq!(send(&world, &["a@example.com"], &huge).await?, 250);
    assert!(objects(&world)?.len() >= 80);
    world.spawn(Service::Delivery)?;
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let got = String::from_utf8(next(&mut mx).await?.body.to_vec())?;
        let sent = [&small, &large, &huge].into_iter().find(|sent| body(&got) == body(sent));
        sizes.push(sent.context("what arrived was not sent")?.len());
    }
    sizes.sort_unstable();
    assert_eq!(sizes, [small.len(), large.len(), huge.len()]);
    arrives(&mut other, &large).await?;
    world.until_empty().await?;
    until_gone(&world).await?;
    let metrics = world.metrics(Service::Delivery).await?;
    assert!(metrics.sum("staffetta_store_requests_total", &["act=\"get\"", "result=\"ok\""]) >= 87.0);
    assert_eq!(metrics.sum("staffetta_store_up", &[]), 1.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_40_mib_passes_through_little_memory() -> anyhow::Result<()> {
    let world = with_directory().await?;
    let (_, pem) = Key::generate(Algorithm::Ed25519)?;
    let path = world.folder().join("dkim.pem");
    std::fs::write(&path, pem.as_bytes())?;
    let key = path.display();
    let table = format!("[[delivery.dkim]]\ndomain = \"example.org\"\nselector = \"s\"\nkey = \"{key}\"\n");
    let mut world = world.tables(&table).start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    // What is allocated once is there afterwards.
    let (large, huge) = (message(3 << 20), message(HUGE));
    for _ in 0..3 {
        assert_eq!(send(&world, &["a@example.com"], &large).await?, 250);
        arrives(&mut mx, &large).await?;
    }
    let passage = async {
        let (grown, code) = growth(&world, Service::Frontend, send(&world, &["a@example.com"], &huge)).await?;
        assert!(code == 250 && grown < LITTLE, "{code}, {grown} KiB");
        arrives(&mut mx, &huge).await
    };
    let (grown, ()) = growth(&world, Service::Delivery, passage).await?;
    assert!(grown < LITTLE, "{grown} KiB");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_limit_says_what_is_too_large_for_redis() -> anyhow::Result<()> {
    let mut world = with_directory().await?.set("spool.redis_limit", "\"1MiB\"").start().await?;
    world.kill(Service::Delivery);
    world.dns.mx("example.com", 10, "mx.example.com");
    assert_eq!(send(&world, &["a@example.com"], &message(1 << 20)).await?, 250);
    // The trace field is a part of it, and beyond the limit.
    let there = objects(&world)?;
    assert!(!there.is_empty() && world.store()?.keys("*}b:*")?.is_empty(), "{there:?}");
    assert_eq!(send(&world, &["a@example.com"], &message(900_000)).await?, 250);
    assert_eq!((objects(&world)?, world.store()?.keys("*}b:*")?.len()), (there, 4));
    Ok(())
}

/// A server that takes nothing for a while must not fill Redis.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_waits_moves_to_the_store_after_the_time_of_the_file() -> anyhow::Result<()> {
    for (after, moves) in [("\"1s\"", true), ("\"\"", false)] {
        let world = with_directory().await?.set("spool.redis_limit", "\"1MiB\"").set("spool.offload_after", after);
        let world = world.set("delivery.retry_min", "\"10m\"").set("delivery.retry_max", "\"1h\"");
        let mut world = world.start().await?;
        let once = Scenario::default().reply(Stage::Recipient, "450 4.2.0 Later").times(1);
        let mut busy = world.mx("busy.example", once).await?;
        let mut mx = world.mx("example.com", Scenario::default()).await?;
        let text = message(300_000);
        assert_eq!(send(&world, &["a@busy.example", "b@example.com"], &text).await?, 250);
        arrives(&mut mx, &text).await?;
        if !moves {
            // Nobody walks: there is no note of how far.
            tokio::time::sleep(Duration::from_secs(12)).await;
            assert!(objects(&world)?.is_empty() && world.store()?.keys("*}off")?.is_empty());
            continue;
        }
        eventually(SOON, || async {
            ensure!(!objects(&world)?.is_empty() && world.store()?.keys("*}b:*")?.is_empty(), "it is in Redis");
            Ok(())
        })
        .await?;
        eventually(SOON, || async {
            let page = get(world.http(Service::Delivery), "/metrics").await?.1;
            ensure!(page.contains("staffetta_store_offloaded_total 1"), "not counted");
            Ok(())
        })
        .await?;
        ensure!(world.staffetta(&["queue", "list", "--json"])?.contains("\"body_in\":\"store\""), "nobody is told");
        world.staffetta(&["queue", "flush"])?;
        arrives(&mut busy, &text).await?;
        world.until_empty().await?;
        until_gone(&world).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_takes_large_bodies_and_a_bucket_that_is_away_loses_none() -> anyhow::Result<()> {
    let server = S3Server::start("mail").await?;
    let world = World::new().await?.set("spool.url", "\"s3://mail/bodies\"").environment(server.environment());
    let mut world = world.start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let large = message(3 << 20);
    assert_eq!(send(&world, &["a@example.com"], &large).await?, 250);
    arrives(&mut mx, &large).await?;
    world.until_empty().await?;
    world.kill(Service::Delivery);
    assert_eq!(send(&world, &["b@example.com"], &large).await?, 250);

    server.set_away(true);
    assert_eq!(send(&world, &["c@example.com"], &large).await?, 451, "no promise that cannot be kept");
    assert_eq!(send(&world, &["d@example.com"], &message(1_000)).await?, 250, "it has nothing to do with the store");
    // Now it is known, and nobody need send it first.
    let mut early = client(&world).await?;
    early.expect("MAIL FROM:<john@example.org> SIZE=3000000", 451).await?;
    early.expect("MAIL FROM:<john@example.org> SIZE=3000", 250).await?;
    world.until_ready(Service::Frontend).await?;

    world.spawn(Service::Delivery)?;
    arrives(&mut mx, &message(1_000)).await?;
    eventually(SOON, || async {
        let waits = world.metrics(Service::Delivery).await?.sum("staffetta_delivery_store_waits_total", &[]);
        ensure!(waits >= 1.0, "{waits}");
        Ok(())
    })
    .await?;
    let queue = world.queue().await?;
    eventually(SOON, || async {
        let page = queue.list(&staffetta_queue::Filter::default(), None, 10).await?;
        let attempts: Vec<u32> = page.entries.iter().map(|entry| entry.jobs[0].attempts).collect();
        ensure!(attempts == [0], "the large one is there, and was not attempted: {attempts:?}");
        Ok(())
    })
    .await?;
    server.set_away(false);
    // It rests for up to three quarters of a minute.
    queue.flush(&staffetta_queue::Filter::default()).await?;
    eventually(Duration::from_secs(60), || async {
        queue.flush(&staffetta_queue::Filter::default()).await?;
        ensure!(mx.count() >= 3, "{}", mx.count());
        Ok(())
    })
    .await?;
    arrives(&mut mx, &large).await?;
    world.until_empty().await?;
    eventually(SOON, || async {
        // What the worker that was killed had begun to delete belongs to it for a minute.
        for key in world.store()?.keys("*}gc")? {
            world.store()?.ask(&["EVAL", DUE, "1", &key])?;
        }
        let mut left = server.objects("mail")?;
        left.retain(|path| !path.to_string_lossy().contains("/mark-"));
        ensure!(left.iter().all(|path| path.to_string_lossy().contains(".s3s-fs")), "{left:?}");
        Ok(())
    })
    .await?;
    assert!(!world.log(Service::Frontend).contains("secretsecret"));
    assert_eq!(send(&world, &["e@example.com"], &large).await?, 250);
    arrives(&mut mx, &large).await
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_killed_on_the_way_lose_no_large_mail_and_leave_nothing_behind() -> anyhow::Result<()> {
    let mut world = with_directory().await?.start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    // A frontend in the middle of the content.
    let large = message(3 << 20);
    let mut cut = client(&world).await?;
    cut.begin("john@example.org", &["a@example.com"]).await?;
    cut.write(&stuffed(&large).as_bytes()[..2 << 20]).await?;
    eventually(SOON, || async {
        ensure!(!objects(&world)?.is_empty(), "nothing is stored yet");
        Ok(())
    })
    .await?;
    world.kill(Service::Frontend);
    world.spawn(Service::Frontend)?;
    world.until_ready(Service::Frontend).await?;
    let left = world.store()?.keys("*}gc")?;
    assert_eq!(left.len(), 1, "somebody knows of what it left");
    // As if two minutes had passed.
    world.store()?.ask(&["EVAL", DUE, "1", &left[0]])?;
    until_gone(&world).await?;
    assert_eq!(mx.count(), 0);

    // A worker in the middle of sending it.
    world.kill(Service::Delivery);
    assert_eq!(send(&world, &["b@example.com"], &large).await?, 250);
    world.spawn(Service::Delivery)?;
    eventually(SOON, || async {
        ensure!(!world.store()?.keys("*}lease")?.is_empty() || mx.count() > 0, "not begun");
        Ok(())
    })
    .await?;
    world.kill(Service::Delivery);
    world.spawn(Service::Delivery)?;
    if mx.count() == 0 {
        arrives(&mut mx, &large).await?;
    }
    world.until_empty().await?;
    until_gone(&world).await
}

/// Makes all entries of a set due.
const DUE: &str =
    "for _, name in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do redis.call('ZADD', KEYS[1], 1, name) end";

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_not_there_any_more_refuses_mail_and_loses_none() -> anyhow::Result<()> {
    let mut world = with_directory().await?.start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let large = message(1 << 20);
    let deny = Scenario::default().reply(Stage::Recipient, "450 4.2.0 Later");
    let busy = world.mx("example.net", deny).await?;
    assert_eq!(send(&world, &["a@example.net"], &large).await?, 250);
    let (there, away) = (spool(&world), world.folder().join("away"));
    std::fs::rename(&there, &away)?;
    assert_eq!(send(&world, &["a@example.com"], &large).await?, 451);
    assert!(!there.exists() || objects(&world)?.is_empty(), "nothing is written beside it");
    let log = world.log(Service::Frontend);
    assert!(log.contains("the store of large bodies cannot be used"), "{log}");
    let _ = std::fs::remove_dir_all(&there);
    std::fs::rename(&away, &there)?;
    assert_eq!(send(&world, &["a@example.com"], &large).await?, 250);
    arrives(&mut mx, &large).await?;
    assert_eq!(busy.count(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tries_the_store() -> anyhow::Result<()> {
    let world = with_directory().await?.start().await?;
    let check = || {
        std::process::Command::new(program("staffetta")?)
            .arg("check")
            .arg("--config")
            .arg(world.config_file())
            .output()
            .context("no check")
    };
    let output = check()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("spool.url"), "{text}");
    let (there, away) = (spool(&world), world.folder().join("away"));
    std::fs::rename(&there, &away)?;
    std::fs::write(&there, "in the way")?;
    let output = check()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("spool.url: failed to write an object"), "{text}");
    Ok(())
}

/// Commands that look make nothing, and `check` compares what is there with what the queue uses.
#[tokio::test(flavor = "multi_thread")]
async fn only_services_make_the_directory_and_check_knows_another_one() -> anyhow::Result<()> {
    let world = with_directory().await?.start().await?;
    let there = spool(&world);
    let text = std::fs::read_to_string(world.config_file())?;
    let other = world.folder().join("other");
    let file = world.folder().join("other.toml");
    std::fs::write(&file, text.replace(&there.display().to_string(), &other.display().to_string()))?;
    let run = |arguments: &[&str]| -> anyhow::Result<(bool, String)> {
        let output =
            std::process::Command::new(program("staffetta")?).args(arguments).arg("--config").arg(&file).output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
    };
    let (_, said) = run(&["check"])?;
    let warning = format!("warning: spool.url: there is no directory {}: the service that starts", other.display());
    anyhow::ensure!(said.contains(&warning), "{said}");
    for command in [&["queue", "list"][..], &["queue", "summary"], &["queue", "verify"]] {
        let (_, said) = run(command)?;
        anyhow::ensure!(!other.exists(), "{command:?} makes it: {said}");
        let warns = said.contains("the store of large bodies cannot be used from here");
        anyhow::ensure!(warns == (command[1] != "verify"), "{command:?}: {said}");
    }
    std::fs::create_dir(&other)?;
    let (sound, said) = run(&["check"])?;
    anyhow::ensure!(!sound && said.contains("spool.url: it is not the store that this queue uses"), "{said}");
    Ok(())
}

/// A piece that is shorter than it was is no part of what was accepted.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_has_lost_octets_is_not_delivered() -> anyhow::Result<()> {
    let mut world = with_directory().await?.start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    world.kill(Service::Delivery);
    let large = message(2 << 20);
    assert_eq!(send(&world, &["a@example.com"], &large).await?, 250);
    let piece = objects(&world)?.into_iter().find(|path| path.ends_with("1")).context("no second piece")?;
    let whole = std::fs::read(&piece)?;
    std::fs::write(&piece, &whole[..1_000])?;
    world.spawn(Service::Delivery)?;
    eventually(SOON, || async {
        let log = world.log(Service::Delivery);
        ensure!(log.contains("is damaged"), "{log}");
        Ok(())
    })
    .await?;
    assert_eq!(mx.count(), 0);
    std::fs::write(&piece, &whole)?;
    arrives(&mut mx, &large).await
}
