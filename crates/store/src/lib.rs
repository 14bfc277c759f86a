//! Where bodies lie that are too large for Redis: a directory, S3, Google Cloud Storage or Azure, behind one handle.
//!
//! Objects are small (a piece of a body), are written once and as a whole, and are read as a whole: no store makes a
//! difference there. They lie in groups, one a message, `<under>/<group>/<name>`, and a group goes as a whole. What a name
//! means is the queue's business.
//!
//! A directory is written with fsync, of files and of directories, before a put counts; object stores keep what they have
//! confirmed. Every call has a deadline, and is tried again within it a few times. Nothing here asks twice whether something was done: all
//! calls may be repeated.
//!
//! Who may use an object store is said by the environment (`AWS_…`, `GOOGLE_…`, `AZURE_…`), as its own tools read it, and never by
//! the URL.

mod directory;
mod groups;
mod metrics;
mod open;

use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use tokio::sync::{OnceCell, Semaphore};

use crate::directory::Directory;
pub use crate::groups::Group;
use crate::metrics::Act;
pub use crate::metrics::describe_metrics;
pub use crate::open::BadUrl;

/// How long one object may take, with all tries. Clients of the relay wait meanwhile, for minutes if need be.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long a whole group may take to be deleted or looked at.
const GROUP_DEADLINE: Duration = Duration::from_secs(60);
/// Calls of a directory that have not ended: puts, and all others, so that a disk that hangs when it is written to can be read. A
/// file system that hangs keeps a thread for each, whether anybody still waits for it or not.
const PUTS: usize = 32;
const OTHERS: usize = 64;
/// The largest object that is read: far above what is written.
const LARGEST: u64 = 64 << 20;

/// Why something could not be had or kept.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The store answers, and it is not there.
    #[error("there is no object {0}")]
    Missing(String),
    /// The store cannot be used now: it is away, full, or does not let us.
    #[error("{0}")]
    Away(String),
}

/// A store. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inside>);

struct Inside {
    place: open::Place,
    /// Is a directory made that is not there?
    makes: bool,
    /// Made at the first use: a directory may not be mounted yet when a service starts.
    opened: OnceCell<Opened>,
    /// [`PUTS`] and [`OTHERS`] of them.
    puts: Arc<Semaphore>,
    others: Arc<Semaphore>,
}

struct Opened {
    objects: Arc<dyn ObjectStore>,
    /// In front of every name.
    base: Path,
    /// The store is a directory.
    directory: Option<Directory>,
}

impl Store {
    /// By its URL: `file:///path`, `s3://bucket/prefix`, `gs://…`, `az://container/prefix`. `variables`: those of the environment.
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// The URL is none of these.
    pub fn open(url: &str, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, BadUrl> {
        Ok(Self::at(open::Place::parse(url, variables)?, true))
    }

    /// The same, for somebody who comes to look: a directory that is not there is not made.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn existing(url: &str, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, BadUrl> {
        Ok(Self::at(open::Place::parse(url, variables)?, false))
    }

    fn at(place: open::Place, makes: bool) -> Self {
        let turns = |count| Arc::new(Semaphore::new(count));
        Self(Arc::new(Inside { place, makes, opened: OnceCell::new(), puts: turns(PUTS), others: turns(OTHERS) }))
    }

    /// Its URL, for people.
    pub fn url(&self) -> &str {
        self.0.place.url()
    }

    /// Keeps an object; it is durable when this returns. One of the same name is replaced.
    ///
    /// # Errors
    /// The store cannot be used. Whether the object is there is not known.
    pub async fn put(&self, name: &str, octets: Bytes) -> Result<(), Fault> {
        let (store, name, size) = (self.clone(), name.to_owned(), octets.len());
        let put = async move {
            let opened = store.opened().await?;
            let put = opened.objects.put(&opened.at(&name), PutPayload::from_bytes(octets)).await;
            put.map(drop).map_err(|error| fault(&error))
        };
        self.counted(&self.0.puts, DEADLINE, Act::Put, size, put).await
    }

    /// The octets of an object.
    ///
    /// # Errors
    /// It is not there, or the store cannot be used.
    pub async fn get(&self, name: &str) -> Result<Bytes, Fault> {
        let began = Instant::now();
        let (store, name) = (self.clone(), name.to_owned());
        let get = async move {
            let opened = store.opened().await?;
            let found = opened.objects.get(&opened.at(&name)).await.map_err(|error| fault(&error))?;
            let size = found.meta.size;
            if size > LARGEST {
                return Err(Fault::Away(format!("{name} has {size} octets, which is nothing of ours")));
            }
            // At once as large as it becomes: what is collected first and copied then takes twice as much.
            let mut octets = BytesMut::with_capacity(usize::try_from(size).unwrap_or_default());
            let mut parts = found.into_stream();
            while let Some(part) = parts.try_next().await.map_err(|error| fault(&error))? {
                octets.extend_from_slice(&part);
            }
            if octets.len() as u64 == size {
                Ok(octets.freeze())
            } else {
                Err(Fault::Away(format!("{name} broke off")))
            }
        };
        let found = self.within(&self.0.others, DEADLINE, get).await;
        metrics::done(Act::Get, began, found.as_ref().map(Bytes::len));
        found
    }

    /// Deletes a group, with all that is in it. That there is none is as good.
    ///
    /// # Errors
    /// The store cannot be used; some of it may be deleted.
    pub async fn remove_group(&self, under: &str, group: &str) -> Result<(), Fault> {
        let (store, under, group) = (self.clone(), under.to_owned(), group.to_owned());
        let remove = async move {
            let opened = store.opened().await?;
            if let Some(directory) = &opened.directory {
                return directory.remove(&under, &group).await;
            }
            let names = opened.objects.list(Some(&opened.at(&format!("{under}/{group}"))));
            let names = names.map_ok(|object| object.location).boxed();
            let mut gone = opened.objects.delete_stream(names);
            while let Some(one) = gone.next().await {
                match one {
                    Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(fault(&error)),
                }
            }
            Ok(())
        };
        self.counted(&self.0.others, GROUP_DEADLINE, Act::Delete, 0, remove).await
    }

    /// How many objects a group has.
    ///
    /// # Errors
    /// The store cannot be used.
    pub async fn count(&self, under: &str, group: &str) -> Result<u64, Fault> {
        let (store, group) = (self.clone(), format!("{under}/{group}"));
        let count = async move {
            let opened = store.opened().await?;
            let names = opened.objects.list(Some(&opened.at(&group)));
            names.try_fold(0, |count, _| ready(Ok(count + 1))).await.map_err(|error| fault(&error))
        };
        self.within(&self.0.others, GROUP_DEADLINE, count).await
    }

    /// Puts an object of so many octets, reads it and deletes it: may all of that be done?
    ///
    /// # Errors
    /// What may not.
    pub async fn try_out(&self, under: &str, chance: &str, octets: usize) -> Result<(), Fault> {
        let name = format!("{under}/{chance}/0");
        let failed = |verb: &str, fault: Fault| Fault::Away(format!("failed to {verb} an object: {fault}"));
        self.put(&name, vec![b't'; octets].into()).await.map_err(|fault| failed("write", fault))?;
        let read = self.get(&name).await.map_err(|fault| failed("read", fault));
        let removed = self.remove_group(under, chance).await.map_err(|fault| failed("delete", fault));
        read.and(removed)
    }

    async fn opened(&self) -> Result<&Opened, Fault> {
        self.0.opened.get_or_try_init(|| self.0.place.open(self.0.makes)).await
    }

    /// Waits for a call, but not longer than this. One of a directory has its turn until it has ended.
    async fn within<T: Send + 'static>(
        &self,
        turns: &Arc<Semaphore>,
        limit: Duration,
        call: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        let ended = async {
            if !self.0.place.is_directory() {
                return call.await;
            }
            let turn = turns.clone().acquire_owned().await;
            let begun = tokio::spawn(async move {
                let _turn = turn;
                call.await
            });
            begun.await.unwrap_or_else(|error| Err(Fault::Away(error.to_string())))
        };
        let late = |_| Err(Fault::Away(format!("no answer within {} s", limit.as_secs())));
        tokio::time::timeout(limit, ended).await.unwrap_or_else(late)
    }

    /// The same, counted.
    async fn counted(
        &self,
        turns: &Arc<Semaphore>,
        limit: Duration,
        act: Act,
        octets: usize,
        call: impl Future<Output = Result<(), Fault>> + Send + 'static,
    ) -> Result<(), Fault> {
        let began = Instant::now();
        let done = self.within(turns, limit, call).await;
        metrics::done(act, began, done.as_ref().map(|()| octets));
        done
    }
}

impl Opened {
    fn at(&self, name: &str) -> Path {
        self.base.parts().chain(Path::from(name).parts()).collect()
    }
}

/// Octets of a line about a fault: stores answer with pages.
const TOLD: usize = 400;

fn fault(error: &object_store::Error) -> Fault {
    match error {
        object_store::Error::NotFound { path, .. } => Fault::Missing(path.clone()),
        error => Fault::Away(told(error)),
    }
}

/// An error in one line, with its causes, and without the queries of URLs: a signature may be in one.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let unsigned = words.iter().map(|word| match word.split_once('?') {
        Some((before, _)) if word.contains("://") => before,
        _ => word,
    });
    let mut line = unsigned.collect::<Vec<_>>().join(" ");
    if line.len() > TOLD {
        let end = (0..=TOLD).rev().find(|&end| line.is_char_boundary(end)).unwrap_or(0);
        line.truncate(end);
    }
    line
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Said(&'static str, #[source] Option<Box<Said>>);

    #[test]
    fn a_fault_is_told_in_one_line_with_its_causes_and_without_signatures() {
        let cause = Said("error for url (https://a.blob/c/p?sv=1&sig=abc)", Some(Box::new(Said("timed\n out", None))));
        let text = told(&Said("failed to put", Some(Box::new(cause))));
        assert_eq!(text, "failed to put: error for url (https://a.blob/c/p timed out");
        assert_eq!(told(&Said(Box::leak("\u{e9}".repeat(400).into_boxed_str()), None)).len(), TOLD);
    }
    const MOMENT: Duration = Duration::from_millis(200);

    /// Calls that hang have all turns of their kind; those of the other kind go on.
    #[tokio::test]
    async fn a_directory_that_hangs_when_it_is_written_to_can_be_read_and_the_other_way_round() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("file://{}", folder.path().display()), []).unwrap();
        store.put("q/a/0", "x".into()).await.unwrap();

        let puts = store.0.puts.clone().acquire_many_owned(PUTS as u32).await.unwrap();
        assert!(tokio::time::timeout(MOMENT, store.put("q/a/1", "y".into())).await.is_err());
        assert_eq!((store.get("q/a/0").await.unwrap(), store.count("q", "a").await.unwrap()), ("x".into(), 1));
        drop(puts);

        let others = store.0.others.clone().acquire_many_owned(OTHERS as u32).await.unwrap();
        assert!(tokio::time::timeout(MOMENT, store.get("q/a/0")).await.is_err());
        store.put("q/a/1", "y".into()).await.unwrap();
        drop(others);
        store.remove_group("q", "a").await.unwrap();
    }
}
