//! What the registry of the queue says, for all checks of a process. One node has it and reads it with each of its checks; the
//! others go by what was read last. Before it was read once nobody knows whose queue it is, and which partitions there are.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// How long a node waits for the one that has the registry.
const PATIENCE: Duration = Duration::from_secs(2);

/// The fields that are read: `partitions`, `id`, `name`, `after_loss`.
pub(crate) const FIELDS: [&str; 4] = ["partitions", "id", "name", "after_loss"];

/// As it was read.
pub(crate) type Fields = Arc<[Option<String>]>;

/// What is known of it.
#[derive(Default)]
pub(crate) struct Registry {
    last: watch::Sender<Option<Fields>>,
    seen: Mutex<Option<String>>,
}

impl Registry {
    /// It was read, and is that of our queue.
    pub(crate) fn tell(&self, fields: &Fields) {
        self.last.send_if_modified(|last| {
            let changed = last.as_ref() != Some(fields);
            if changed {
                *last = Some(fields.clone());
            }
            changed
        });
    }

    /// What was read last; waits a moment for somebody who reads it.
    pub(crate) async fn last(&self) -> Result<Fields, String> {
        let mut last = self.last.subscribe();
        let read = tokio::time::timeout(PATIENCE, last.wait_for(Option::is_some)).await;
        let read = read.ok().and_then(Result::ok).and_then(|fields| fields.clone());
        read.ok_or_else(|| "the server of the cluster that has {kq:cfg} was not reached yet".to_owned())
    }

    /// The id of the queue that this process knows.
    pub(crate) fn seen(&self) -> Option<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It is this one.
    pub(crate) fn see(&self, id: String) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
    }
}
