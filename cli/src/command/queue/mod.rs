//! `staffetta queue`: what postqueue, postcat, postsuper and qshape do.

mod act;
mod bounce;
mod cat;
mod render;
mod shape;
mod verify;

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
pub(super) use render::found;
use staffetta_config::{Config, Service};
use staffetta_mail::QueueId;
use staffetta_queue::{
    Beginning, Destination, Entry, Error, Filter, JobState, Page, Place, Queue, Settings, StoreTrouble, Unreadable,
    compare_store,
};
use tokio_util::sync::CancellationToken;

use super::suspended::{Sites, Standing, Suspended};
use crate::arguments::{self, ConfigFile, Selection};
use crate::terminal::{complain, say};

/// How long an operator waits for Redis.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long he waits for the store, after he has seen what there is.
const STORE_PATIENCE: Duration = Duration::from_secs(2);
/// Messages fetched at a time.
const PAGE: usize = 200;

pub(super) async fn run(command: arguments::Queue) -> anyhow::Result<ExitCode> {
    match command {
        arguments::Queue::List(list) => list_messages(&list).await,
        arguments::Queue::Show(show) => show_message(&show).await,
        arguments::Queue::Cat(cat) => cat::print(&open(&cat.file).await?, &cat).await,
        arguments::Queue::Flush(flush) => {
            let (config, queue) = open_with(&flush.file).await?;
            act::flush(&config, &queue, flush).await
        }
        arguments::Queue::Hold(hold) => act::hold(&open(&hold.file).await?, &hold).await,
        arguments::Queue::Release(release) => act::release(&open(&release.file).await?, &release).await,
        arguments::Queue::Delete(delete) => act::delete(&open(&delete.act.file).await?, &delete).await,
        arguments::Queue::Bounce(bounce) => {
            let (config, queue) = open_with(&bounce.act.file).await?;
            bounce::bounce(&config, &queue, &bounce).await
        }
        arguments::Queue::Shape(shape) => shape::print(&open(&shape.file).await?, &shape).await,
        arguments::Queue::Verify(wanted) => verify::print(&open(&wanted.file).await?, &wanted).await,
        arguments::Queue::Init(init) => begin(&init).await,
        arguments::Queue::Summary(summary) => {
            let (config, queue) = open_with(&summary.file).await?;
            let code = shape::summary(&config, &queue, &summary).await?;
            warn_of_store(&queue).await;
            Ok(code)
        }
    }
}

async fn open(file: &ConfigFile) -> anyhow::Result<Queue> {
    Ok(open_with(file).await?.1)
}

pub(super) async fn open_with(file: &ConfigFile) -> anyhow::Result<(Config, Queue)> {
    let config = file.load(Service::Delivery)?;
    let queue = connect(file, &config).await?;
    Ok((config, queue))
}

async fn connect(file: &ConfigFile, config: &Config) -> anyhow::Result<Queue> {
    let queue = Queue::open(Settings::from(config).only_looking(), CancellationToken::new())?;
    queue.ready(PATIENCE).await.with_context(|| unusable(file, config))?;
    warn_of_parts(&queue);
    Ok(queue)
}

/// Of a cluster some servers may be away: an operator must not take what the others have for everything.
fn warn_of_parts(queue: &Queue) {
    let away = queue.away();
    let Some((_, reason)) = away.first() else { return };
    let numbers: Vec<String> = away.iter().map(|(number, _)| number.to_string()).collect();
    let which = if let [number] = &numbers[..] {
        format!("partition {number}")
    } else {
        format!("partitions {}", numbers.join(", "))
    };
    complain(&format!("warning: {which} of the queue cannot be reached, so mail may be missing here: {reason}"));
}

/// While the store is away large mail waits, which no list of it shows. Said at the end, for asking may take a moment.
async fn warn_of_store(queue: &Queue) {
    let trouble = match tokio::time::timeout(STORE_PATIENCE, compare_store(queue)).await {
        Ok(Ok(())) => return,
        Ok(Err(StoreTrouble::Unfit(what) | StoreTrouble::Doubtful(what))) => what,
        Err(_) => format!("no answer within {} s", STORE_PATIENCE.as_secs()),
    };
    complain(&format!(
        "warning: the store of large bodies cannot be used from here, so large mail may have to wait: {trouble}"
    ));
}

/// What to look at when the queue does not answer: mostly the wrong file, or a Redis that does not run.
fn unusable(file: &ConfigFile, config: &Config) -> String {
    let (path, url) = (file.path(), config.shown_redis());
    format!(
        "cannot use the queue at redis.url = {url} of {} (--config names another file, `staffetta check` tries all of it)",
        path.display()
    )
}

async fn begin(init: &arguments::Init) -> anyhow::Result<ExitCode> {
    let config = init.file.load(Service::Delivery)?;
    let name = &config.redis.name;
    let begun = staffetta_queue::begin(&(&config).into(), init.accept_loss).await?;
    say(&match begun {
        Beginning::New => format!("The queue \"{name}\" begins, empty."),
        Beginning::Extended => format!("The queue \"{name}\" goes on, with partitions that were not there."),
        Beginning::There => format!("The queue \"{name}\" is there already."),
    });
    if begun == Beginning::New && !init.accept_loss {
        complain(
            "if this Redis is not new, what it had is lost, and services that run refuse this queue until \
             `staffetta queue init --accept-loss` says that it is so",
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// A message in a list.
pub(super) enum Found<'a> {
    Entry(&'a Entry),
    Unreadable(&'a Unreadable),
}

impl Found<'_> {
    pub(super) fn id(&self) -> QueueId {
        match self {
            Self::Entry(entry) => entry.message.id,
            Self::Unreadable(message) => message.id,
        }
    }
}

/// Calls `visit` with every message that matches, a page at a time, oldest first.
pub(super) async fn for_each(
    queue: &Queue,
    filter: &Filter,
    mut visit: impl AsyncFnMut(Found<'_>),
) -> anyhow::Result<()> {
    let mut cursor = None;
    loop {
        let Page { entries, unreadable, next } = queue.list(filter, cursor, PAGE).await?;
        let mut unreadable = unreadable.iter().peekable();
        for entry in &entries {
            let made = entry.message.id.unix_millis();
            while let Some(message) = unreadable.next_if(|message| message.arrived < made) {
                visit(Found::Unreadable(message)).await;
            }
            visit(Found::Entry(entry)).await;
        }
        for message in unreadable {
            visit(Found::Unreadable(message)).await;
        }
        match next {
            Some(next) => cursor = Some(next),
            None => return Ok(()),
        }
    }
}

async fn list_messages(list: &arguments::List) -> anyhow::Result<ExitCode> {
    let (config, queue) = open_with(&list.file).await?;
    let mut why = Why::look(&config).await;
    let (mut messages, mut octets) = (0u64, 0u64);
    if !list.json {
        say(&format!("{:<16} {:>9} {:<20} Sender/recipients", "Queue id", "Size", "Arrived"));
    }
    let filter = filter(&list.selection);
    for_each(&queue, &filter, async |found| {
        messages += 1;
        octets += match found {
            Found::Entry(entry) => entry.message.size,
            Found::Unreadable(message) => message.size,
        };
        say(&render::found(&found, &why.of(&found).await, list.json));
    })
    .await?;
    match messages {
        _ if list.json => {}
        0 if filter == Filter::default() => say("The queue is empty."),
        0 => say("No message matches."),
        n => say(&format!("-- {} KiB in {n} messages.", octets.div_ceil(1024))),
    }
    warn_of_store(&queue).await;
    Ok(ExitCode::SUCCESS)
}

async fn show_message(show: &arguments::Show) -> anyhow::Result<ExitCode> {
    let (config, queue) = open_with(&show.file).await?;
    let mut why = Why::look(&config).await;
    let mut shown = None;
    let by_id = Filter { id: Some(show.id), ..Filter::default() };
    for_each(&queue, &by_id, async |found| {
        let text = render::found(&found, &why.of(&found).await, show.json);
        shown = Some(match found {
            Found::Entry(entry) if !show.json => format!("{text}\n{}", render::origin(entry)),
            _ => text,
        });
    })
    .await?;
    say(&shown.with_context(|| format!("{}: no such message", show.id))?);
    Ok(ExitCode::SUCCESS)
}

/// Why mail waits for destinations, as far as that can be known here.
pub(super) struct Why {
    all: Option<(Suspended, Sites)>,
}

impl Why {
    pub(super) async fn look(config: &Config) -> Self {
        let all = Suspended::look_if_possible(config).await.filter(|all| !all.is_empty());
        Self { all: all.zip(Sites::new(config).ok()) }
    }

    /// By destination.
    pub(super) async fn of(&mut self, found: &Found<'_>) -> HashMap<String, Standing> {
        let (Some((suspended, sites)), Found::Entry(entry)) = (&mut self.all, found) else { return HashMap::new() };
        let mut why = HashMap::new();
        // What waits for its next attempt has it no earlier than the others.
        let waits = |job: &&JobState| job.rests || matches!(job.place, Place::Waiting(_));
        for job in entry.jobs.iter().filter(waits) {
            let domain = job.destination.as_str();
            let standing = suspended.of(sites, domain, entry.message.submitter()).await;
            why.insert(domain.to_owned(), standing);
        }
        why
    }
}

fn filter(selection: &Selection) -> Filter {
    Filter {
        id: selection.id,
        destination: selection.domain.as_deref().map(destination),
        recipient: selection.recipient.clone(),
        sender: selection.sender.as_deref().map(sender),
        login: selection.login.clone(),
        older_than: selection.older_than,
    }
}

fn sender(text: &str) -> String {
    match text {
        "<>" => String::new(),
        text => text.strip_prefix('*').filter(|rest| rest.starts_with('@')).unwrap_or(text).to_owned(),
    }
}

fn destination(domain: &str) -> Destination {
    Destination::new(domain.to_ascii_lowercase())
}

/// Is it only that this program is too old for a message?
fn is_unreadable(error: &Error) -> bool {
    matches!(error, Error::Unreadable(..))
}
