//! What is made of files and made anew when they change: certificates, keys. What cannot be used never replaces what can.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use crate::shutdown::Hangup;

/// How often the files are compared with what is in use.
const POLL: Duration = Duration::from_secs(10);

/// What is in use, and the contents that it was made of.
pub struct Reloaded<C, T> {
    /// What the files held when they were last looked at, good or bad, so that a bad one is reported once.
    seen: Mutex<C>,
    current: ArcSwap<T>,
}

impl<C: PartialEq, T> Reloaded<C, T> {
    /// Of contents that were read now.
    ///
    /// # Errors
    /// Of `make`.
    pub fn new<E>(contents: C, make: impl FnOnce(&C) -> Result<T, E>) -> Result<Self, E> {
        let current = ArcSwap::from_pointee(make(&contents)?);
        Ok(Self { seen: Mutex::new(contents), current })
    }

    /// What is in use.
    pub fn current(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// The same for a short look.
    pub fn look(&self) -> arc_swap::Guard<Arc<T>> {
        self.current.load()
    }

    /// Reads the files again. `Ok(true)`: they changed and are in use now.
    ///
    /// # Errors
    /// Of `read` and `make`; everything stays as it was.
    pub fn reload<E>(
        &self,
        read: impl FnOnce() -> Result<C, E>,
        make: impl FnOnce(&C) -> Result<T, E>,
    ) -> Result<bool, E> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let contents = read()?;
        if *seen == contents {
            return Ok(false);
        }
        let made = make(&contents);
        *seen = contents;
        self.current.store(Arc::new(made?));
        Ok(true)
    }
}

/// Calls `reload` on SIGHUP and every ten seconds, until `shutdown`; it is told whether somebody has asked for it. `what` is
/// for the log; `complain` gets a failure once for as long as it stays the same, and at each SIGHUP.
pub async fn watch<E>(
    what: &'static str,
    reload: impl Fn(bool) -> Result<bool, E> + Send + Sync + 'static,
    complain: fn(&str),
    mut hangup: Hangup,
    shutdown: CancellationToken,
) where
    E: std::fmt::Display + Send + 'static,
{
    let reload = Arc::new(reload);
    let mut last = None;
    loop {
        let asked = tokio::select! {
            () = shutdown.cancelled() => return,
            () = hangup.wait() => true,
            () = tokio::time::sleep(POLL) => false,
        };
        let reload = Arc::clone(&reload);
        match tokio::task::spawn_blocking(move || reload(asked)).await {
            Ok(Ok(true)) => tracing::info!("{what} reloaded"),
            Ok(Ok(false)) if asked => tracing::info!("{what} have not changed"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => {
                let text = error.to_string();
                if asked || last.as_ref() != Some(&text) {
                    complain(&text);
                }
                last = Some(text);
            }
            Err(error) => tracing::error!(%error, "the reload of the {what} failed"),
        }
    }
}
