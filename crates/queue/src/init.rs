//! To make a queue on purpose, or to let one go on that has lost something: for operators' commands.

use std::sync::Arc;

use crate::address::Address;
use crate::clock::{Clock, wall};
use crate::connection::{self, RESPONSE_TIMEOUT};
use crate::partition::Partition;
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
    settings.check()?;
    let address = Address::parse(&settings.url)?;
    let live = connection::open(&address, RESPONSE_TIMEOUT).await.map_err(Error::Unavailable)?;
    let partitions: Arc<[Partition]> = (0..settings.partitions).map(Partition::new).collect();
    let settings = Arc::new(Settings { create: true, ..settings.clone() });
    let mut check = ServerCheck::new(settings, partitions, Arc::new(Clock::new(wall())));
    if accept_loss {
        check = check.accepting_loss();
    }
    Ok(match check.look(&live).await.map_err(Error::Unavailable)? {
        Marked::Before => Beginning::There,
        Marked::Further => Beginning::Extended,
        Marked::New => Beginning::New,
    })
}
