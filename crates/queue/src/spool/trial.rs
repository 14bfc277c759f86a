//! For `staffetta check`: can the store be used at all?

use std::path::Path;

use staffetta_store::Store;

use crate::Settings;

/// Puts an object into the store of these settings, reads it and deletes it. Whether it is the one that other services use is
/// seen at start.
///
/// # Errors
/// What cannot be done.
pub async fn try_store(settings: &Settings) -> Result<(), String> {
    let Some(url) = &settings.spool else { return Ok(()) };
    let store = Store::open(url, std::env::vars()).map_err(|error| error.to_string())?;
    // The service that starts first makes a directory, and then it is its user's.
    if url.strip_prefix("file://").is_some_and(|path| !Path::new(path).exists()) {
        return Ok(());
    }
    let name = format!("trial-{:016x}", rand::random::<u64>());
    store.try_out("", &name).await.map_err(|fault| fault.to_string())
}
