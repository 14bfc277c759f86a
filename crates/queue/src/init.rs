//! To make a queue on purpose, or to let one go on that has lost something, and what to set before: for operators' commands.

use std::sync::Arc;

use redis::{Pipeline, Value};

use crate::address::Address;
use crate::clock::{Clock, wall};
use crate::connection::{self, RESPONSE_TIMEOUT};
use crate::gate::{self, ServerFacts};
use crate::live::Live;
use crate::partition::REGISTRY_SLOT;
use crate::partitions::{Count, Partitions, Share};
use crate::registry::Registry;
use crate::server_check::{Marked, Need, ServerCheck};
use crate::slot::Table;
use crate::{Error, Settings};

/// What was found, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// There was none: it begins empty.
    New,
    /// It goes on, with partitions that are new or begin anew.
    Extended,
    /// It was there, whole.
    There,
}

/// Makes the queue in a Redis that has none, whatever [`Settings::create`] says. With `accept_loss`, one goes on that has lost
/// partitions, and services that knew another take this one.
///
/// # Errors
/// Redis is away or not fit, has the queue of another cluster, or something is lost that is not accepted to be.
pub async fn begin(settings: &Settings, accept_loss: bool) -> Result<Beginning, Error> {
    let site = Site::find(Settings { create: true, ..settings.clone() }).await?;
    let (_, live) = site.open(site.home()).await?;
    let mut check = site.check(site.home());
    if accept_loss {
        check = check.accepting_loss();
    }
    Ok(match check.look(&live, Need::Durable).await.map_err(Error::Unavailable)? {
        Marked::Before | Marked::Absent => Beginning::There,
        Marked::Further => Beginning::Extended,
        Marked::New => Beginning::New,
    })
}

/// Is there a queue? Nothing is made or changed. In a cluster every server is looked at.
///
/// # Errors
/// Redis is away or not fit, has the queue of another cluster, or something is lost.
pub async fn exists(settings: &Settings) -> Result<bool, Error> {
    let site = Site::find(settings.clone().only_looking()).await?;
    for number in site.servers() {
        let (place, live) = site.open(number).await?;
        let check = site.check(number);
        let says = |reason| Error::Unavailable(if site.is_one() { reason } else { format!("{place}: {reason}") });
        if check.look(&live, Need::Durable).await.map_err(says)? == Marked::Absent {
            return Ok(false);
        }
        check.probe(&live, Need::Durable).await.map_err(says)?;
    }
    Ok(true)
}

/// All servers of a queue, for somebody who comes to look.
struct Site {
    settings: Arc<Settings>,
    address: Address,
    table: Arc<Table>,
    registry: Arc<Registry>,
    count: Arc<Count>,
}

impl Site {
    async fn find(settings: Settings) -> Result<Self, Error> {
        settings.check()?;
        let address = Address::parse(&settings)?;
        let table = match address.cluster() {
            None => Table::of_one(),
            Some(cluster) => cluster.table().await.map_err(Error::Unavailable)?,
        };
        let count = Arc::new(Count::new(settings.partitions));
        Ok(Self { settings: Arc::new(settings), address, table: Arc::new(table), registry: Arc::default(), count })
    }

    fn is_one(&self) -> bool {
        self.address.cluster().is_none()
    }

    /// The number of the one with the registry.
    fn home(&self) -> u16 {
        self.table.node(*REGISTRY_SLOT)
    }

    /// The numbers of all, the one with the registry first: the others go by what it says.
    fn servers(&self) -> Vec<u16> {
        let mut all = vec![self.home()];
        if let Some(cluster) = self.address.cluster() {
            all.extend(cluster.map().shards().map(|(number, _)| number).filter(|number| *number != self.home()));
        }
        all
    }

    /// A connection, and where it leads.
    async fn open(&self, number: u16) -> Result<(String, Live), Error> {
        let opened = connection::open_named(&self.address.of_shard(number), RESPONSE_TIMEOUT).await;
        opened.map_err(|trouble| Error::Unavailable(trouble.into()))
    }

    fn check(&self, number: u16) -> ServerCheck {
        let all = Arc::new(Partitions::new());
        let share = Share::new(all, self.count.clone(), self.table.clone(), number);
        let (clock, cluster) = (Arc::new(Clock::new(wall())), self.address.cluster().cloned());
        ServerCheck::new(self.settings.clone(), share, clock, self.registry.clone(), cluster)
    }
}

/// What its operator should set in the server, beyond what services insist on: one line each. `largest`: octets of the largest
/// message.
///
/// # Errors
/// Redis is away.
pub async fn advice(settings: &Settings, largest: u64) -> Result<Vec<String>, Error> {
    let site = Site::find(settings.clone()).await?;
    let mut all = Vec::new();
    for number in site.servers() {
        let (place, live) = site.open(number).await?;
        let mut pipeline = Pipeline::new();
        ServerFacts::ask(&mut pipeline);
        let mut answers = live.send(&pipeline).await?.into_iter();
        let info = answers.next().unwrap_or(Ok(Value::Nil))?;
        // CONFIG may be forbidden.
        let config = answers.next().and_then(Result::ok).unwrap_or(Value::Nil);
        let facts = ServerFacts::read(&info, &config);
        let lines = gate::advice(&facts, settings.durability, largest, settings.max_memory_ratio).into_iter();
        all.extend(lines.map(|line| if site.is_one() { line } else { format!("{place}: {line}") }));
    }
    Ok(all)
}
