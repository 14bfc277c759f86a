//! A directory as a store: what only a file system needs.

use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;

use crate::Fault;

/// Nobody else's business.
const MODE: u32 = 0o700;

pub(crate) struct Directory {
    root: PathBuf,
}

impl Directory {
    /// With `makes`, it is made if it is not there.
    pub(crate) async fn open(path: &str, makes: bool) -> Result<(Self, Arc<dyn ObjectStore>), Fault> {
        let root = PathBuf::from(path);
        let opened = tokio::task::spawn_blocking(move || {
            let failed = |what: &dyn std::fmt::Display| Fault::Away(format!("{}: {what}", root.display()));
            if makes {
                let made = std::fs::DirBuilder::new().recursive(true).mode(MODE).create(&root);
                made.map_err(|error| failed(&error))?;
            } else if !root.is_dir() {
                return Err(failed(&"there is no such directory"));
            }
            let objects = LocalFileSystem::new_with_prefix(&root).map_err(|error| failed(&error))?;
            // Without it a put would count before it is on the disk.
            let objects = objects.with_fsync(true);
            Ok((Self { root }, Arc::new(objects) as Arc<dyn ObjectStore>))
        });
        opened.await.unwrap_or_else(|error| Err(Fault::Away(error.to_string())))
    }

    pub(crate) fn at(&self, under: &str) -> PathBuf {
        self.root.join(Path::new(under))
    }

    /// With whatever a put that was killed has left in it, which is listed nowhere.
    pub(crate) async fn remove(&self, under: &str, group: &str) -> Result<(), Fault> {
        let path = self.at(under).join(group);
        match tokio::fs::remove_dir_all(&path).await {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.failed(&path, &error)),
            _ => Ok(()),
        }
    }

    pub(crate) fn failed(&self, path: &Path, error: &std::io::Error) -> Fault {
        Fault::Away(format!("{}: {error}", path.display()))
    }
}
