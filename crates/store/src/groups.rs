//! Which groups there are: for whoever looks for those that nobody knows of.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::stream::{BoxStream, try_unfold};
use futures_util::{StreamExt, TryStreamExt};

use crate::{Fault, Store, fault};

/// A group that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// When something in it was written, by the clock of the store.
    pub written: SystemTime,
}

impl Store {
    /// All groups below `under`, as they are listed: a page at a time is held, however many there are. A group may be told
    /// twice.
    ///
    /// # Errors
    /// The store cannot be used.
    pub async fn groups(&self, under: &str) -> Result<BoxStream<'static, Result<Group, Fault>>, Fault> {
        let opened = self.opened().await?;
        if let Some(directory) = &opened.directory {
            return directory_groups(directory.at(under)).await;
        }
        let at = opened.at(under);
        let depth = at.parts().count();
        let mut last = String::new();
        let objects = opened.objects.list(Some(&at)).map_err(|error| fault(&error));
        let groups = objects.try_filter_map(move |object| {
            let mut parts = object.location.parts().skip(depth).map(|part| part.as_ref().to_owned());
            let found = match (parts.next(), parts.next()) {
                (Some(name), Some(_)) if name != last => {
                    last.clone_from(&name);
                    let since = u64::try_from(object.last_modified.timestamp_millis()).unwrap_or_default();
                    Some(Group { name, written: UNIX_EPOCH + Duration::from_millis(since) })
                }
                _ => None,
            };
            std::future::ready(Ok(found))
        });
        Ok(groups.boxed())
    }
}

/// Each is a directory; what was written last in it has changed it.
async fn directory_groups(path: std::path::PathBuf) -> Result<BoxStream<'static, Result<Group, Fault>>, Fault> {
    let failed = {
        let shown = path.display().to_string();
        move |error: std::io::Error| Fault::Away(format!("{shown}: {error}"))
    };
    let entries = match tokio::fs::read_dir(&path).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(futures_util::stream::empty().boxed()),
        Err(error) => return Err(failed(error)),
    };
    let groups = try_unfold((entries, failed), |(mut entries, failed)| async move {
        loop {
            let Some(entry) = entries.next_entry().await.map_err(&failed)? else { return Ok(None) };
            // One that is deleted meanwhile is none.
            let Ok(facts) = entry.metadata().await else { continue };
            if let (true, Ok(name)) = (facts.is_dir(), entry.file_name().into_string()) {
                let written = facts.modified().map_err(&failed)?;
                return Ok(Some((Group { name, written }, (entries, failed))));
            }
        }
    });
    Ok(groups.boxed())
}
