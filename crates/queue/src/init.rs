//! To make a queue on purpose, or to let one go on that has lost something, and what to set before: for operators' commands.

use std::sync::Arc;

use redis::{Pipeline, Value};

use crate::address::Address;
use crate::clock::{Clock, wall};
use crate::connection::{self, RESPONSE_TIMEOUT};
use crate::gate::{self, ServerFacts};
use crate::live::Live;
use crate::partitions::{Partitions, Share};
use crate::server_check::{Marked, ServerCheck};
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
    let live = connect(settings).await?;
    let mut check = check(Settings { create: true, ..settings.clone() });
    if accept_loss {
        check = check.accepting_loss();
    }
    Ok(match check.look(&live).await.map_err(Error::Unavailable)? {
        Marked::Before | Marked::Absent => Beginning::There,
        Marked::Further => Beginning::Extended,
        Marked::New => Beginning::New,
    })
}

/// Is there a queue? Nothing is made or changed.
///
/// # Errors
/// Redis is away or not fit, has the queue of another cluster, or something is lost.
pub async fn exists(settings: &Settings) -> Result<bool, Error> {
    let live = connect(settings).await?;
    let check = check(settings.clone().only_looking());
    if check.look(&live).await.map_err(Error::Unavailable)? == Marked::Absent {
        return Ok(false);
    }
    check.probe(&live).await.map(|()| true).map_err(Error::Unavailable)
}

fn check(settings: Settings) -> ServerCheck {
    let partitions = Share::new(Arc::new(Partitions::new()), 0, settings.partitions);
    ServerCheck::new(Arc::new(settings), partitions, Arc::new(Clock::new(wall())))
}

/// What its operator should set in the server, beyond what services insist on: one line each. `largest`: octets of the largest
/// message.
///
/// # Errors
/// Redis is away.
pub async fn advice(settings: &Settings, largest: u64) -> Result<Vec<String>, Error> {
    let live = connect(settings).await?;
    let mut pipeline = Pipeline::new();
    ServerFacts::ask(&mut pipeline);
    let mut answers = live.send(&pipeline).await?.into_iter();
    let info = answers.next().unwrap_or(Ok(Value::Nil))?;
    // CONFIG may be forbidden.
    let config = answers.next().and_then(Result::ok).unwrap_or(Value::Nil);
    let facts = ServerFacts::read(&info, &config);
    Ok(gate::advice(&facts, settings.durability, largest, settings.max_memory_ratio))
}

async fn connect(settings: &Settings) -> Result<Live, Error> {
    settings.check()?;
    let address = Address::parse(settings)?;
    connection::open(&address, RESPONSE_TIMEOUT).await.map_err(Error::Unavailable)
}
