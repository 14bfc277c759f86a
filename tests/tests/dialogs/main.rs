//! Plays `tests/dialogs/**/*.smtp` on the real frontend, over TCP and TLS, and on a real Postfix. The same files are played on
//! the core of the session by `crates/smtp/tests/dialogs.rs`, which tells what `@open` and the people mean.
//!
//! Beside the text this proves that octets arrive as they were sent: what a stored message must have is compared with
//! what lies in Redis, without the fields that the relay puts in itself.
#![expect(clippy::expect_used, reason = "tests")]

mod mismatch;
mod reference;
mod store;
mod wire;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use staffetta_testkit::dialog::{Dialog, DialogError, Postfix};
use staffetta_testkit::ports::Port;
use staffetta_tests::{Service, World};
use tokio::sync::Semaphore;
use wire::{Place, Wire};

/// How many are played at once.
const AT_ONCE: usize = 16;
/// Limits that dialogs reach with little ado; the reference has the same ones.
const SIZE_LIMIT: u32 = 51_200;
const RECIPIENT_LIMIT: u32 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_dialog_goes_as_written_on_the_wire_in_clear_and_under_tls() -> anyhow::Result<()> {
    let relays = Port::reserve()?;
    let mut world = World::new()
        .await?
        .set("frontend.size_limit", SIZE_LIMIT.to_string())
        .set("frontend.recipient_limit", RECIPIENT_LIMIT.to_string())
        .set("frontend.relay_domains_from_auth", "true")
        .set("frontend.trusted_networks", "[\"127.9.0.0/16\"]")
        .set("frontend.etrn_networks", "[\"127.9.0.0/16\"]")
        .listener(&format!(r#"{{ name = "relays", bind = "{}", kind = "relay", tls = "implicit" }}"#, relays.address()))
        .user("john@example.org", "summersun")
        .await?
        .user("lisa@example.org", "winterrain")
        .await?
        .start()
        .await?;
    world.dns.mx("example.com", 10, "mx.example.com");
    // A domain that dialogs write in U-labels.
    world.dns.mx("xn--fsqu00a.example", 10, "mx.example.com");
    // What is queued stays where it is.
    world.kill(Service::Delivery);

    let place = Arc::new(Place {
        relay: world.smtp(),
        relays: relays.address(),
        submission: world.submission(),
        submissions: world.submissions(),
        tls: wire::trusting(&world.ca())?,
        store: Some(store::Store::new(&world).await?),
    });
    let dialogs = dialogs()?;
    let encrypted: Vec<_> = dialogs.iter().filter(|(_, dialog)| dialog.is_for_tls()).map(under_tls).collect();
    let failures = play_all(&place, dialogs.into_iter().chain(encrypted), Dialog::play).await?;
    assert!(failures.is_empty(), "{}\n{}", failures.join("\n"), world.log(Service::Frontend));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_real_postfix_says_the_same_but_where_a_dialog_tells_why_not() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let authority = staffetta_testkit::certs::Authority::new(folder.path())?;
    let leaf = authority.leaf("relay", &["mail.example.org"])?;
    let senders = "reject_authenticated_sender_login_mismatch";
    let (postfix, place) = reference::start(&leaf, &authority.ca(), senders)?;
    let playable = dialogs()?.into_iter().filter(|(_, dialog)| !matches!(dialog.postfix, Postfix::Not(_)));
    let failures = play_all(&Arc::new(place), playable, Dialog::play_as_postfix).await?;
    assert!(failures.is_empty(), "{}\n{}", failures.join("\n"), postfix.log());
    Ok(())
}

#[test]
fn the_specifications_name_each_difference_from_postfix_and_no_other() -> anyhow::Result<()> {
    let page = std::fs::read_to_string("../docs/specifications.md")?;
    let section = page.split("\n## ").find(|section| section.starts_with("Departures from Postfix\n"));
    let rows = section.expect("a section").lines().filter_map(|line| line.strip_prefix("| it ")?.split(" | ").next());
    let named: BTreeSet<String> = rows.map(|row| format!("it {row}")).collect();
    let reasons = dialogs()?.into_iter().filter_map(|(_, dialog)| match dialog.postfix {
        Postfix::Same => None,
        Postfix::Differs(reason) | Postfix::Not(reason) => Some(reason),
    });
    assert_eq!(named, reasons.collect());
    Ok(())
}

fn dialogs() -> anyhow::Result<Vec<(PathBuf, Dialog)>> {
    Dialog::in_folder(Path::new("dialogs"))
}

/// The same on a listener on which TLS comes first.
fn under_tls((path, dialog): &(PathBuf, Dialog)) -> (PathBuf, Dialog) {
    let mut dialog = dialog.clone();
    if dialog.opening.first().is_some_and(|listener| listener == "relay") {
        "relays".clone_into(&mut dialog.opening[0]);
    }
    (path.clone(), dialog)
}

type Play = fn(&Dialog, &mut Wire) -> Result<(), DialogError>;

/// What went wrong, by file. Each client has an address of its own.
async fn play_all(
    place: &Arc<Place>,
    dialogs: impl Iterator<Item = (PathBuf, Dialog)>,
    play: Play,
) -> anyhow::Result<Vec<String>> {
    let seats = Arc::new(Semaphore::new(AT_ONCE));
    let mut playing = Vec::new();
    for (number, (path, dialog)) in (0..).zip(dialogs) {
        let seat = Arc::clone(&seats).acquire_owned().await?;
        let wire = Wire::open(Arc::clone(place), &dialog.opening, number).await?;
        let listener = dialog.opening.first().cloned().unwrap_or_default();
        playing.push((
            format!("{} on {listener}", path.display()),
            tokio::task::spawn_blocking(move || {
                let outcome = play(&dialog, &mut { wire });
                drop(seat);
                outcome
            }),
        ));
    }
    let mut failures = Vec::new();
    for (what, outcome) in playing {
        if let Err(error) = outcome.await? {
            failures.push(format!("{what}: {error}"));
        }
    }
    Ok(failures)
}
