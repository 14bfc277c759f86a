//! For `staffetta check`: can the store be used at all, and is it the queue's?

use std::path::Path;

use staffetta_store::Store;

use super::mark::{NONE_HERE, UNUSED};
use crate::{Queue, Settings};

/// What is wrong with a store, or may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreTrouble {
    /// What cannot be done.
    Unfit(String),
    /// What may be right.
    Doubtful(String),
}

/// Puts an object into the store of these settings, reads it and deletes it.
///
/// # Errors
/// What is wrong with it.
pub async fn try_store(settings: &Settings) -> Result<(), StoreTrouble> {
    let Some(url) = &settings.spool else { return Ok(()) };
    let unfit = |error: &dyn std::fmt::Display| StoreTrouble::Unfit(error.to_string());
    let store = Store::existing(url, std::env::vars()).map_err(|error| unfit(&error))?;
    if let Some(path) = url.strip_prefix("file://")
        && !Path::new(path).exists()
    {
        let what = format!("there is no directory {path}: the service that starts first makes it, if it may");
        return Err(StoreTrouble::Doubtful(what));
    }
    let name = format!("trial-{:016x}", rand::random::<u64>());
    store.try_out("", &name, 7).await.map_err(|fault| unfit(&fault))
}

/// Is it the one that the queue uses? `queue` was opened with the same settings, [only to look](Settings::only_looking).
///
/// # Errors
/// Why not, as far as can be told.
pub async fn compare_store(queue: &Queue) -> Result<(), StoreTrouble> {
    let Some(spool) = queue.spool() else {
        return match queue.has_store().await {
            Ok(true) => Err(StoreTrouble::Unfit(NONE_HERE.to_owned())),
            // A Redis that does not answer is no trouble of a store.
            Ok(false) | Err(_) => Ok(()),
        };
    };
    match spool.home().await {
        Err(_) if spool.trouble().as_deref() == Some(UNUSED) => Ok(()),
        Err(fault) => Err(StoreTrouble::Unfit(fault.to_string())),
        Ok(_) => Ok(()),
    }
}
