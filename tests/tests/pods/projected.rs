//! The files of a ConfigMap or a Secret as a pod sees them: each name is a link into `..data`, which is a link to the folder of
//! one moment. A change makes a folder beside it and puts one link into the place of the other, so that all files change together.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;

use anyhow::Context;
use serde_json::Value;

/// Contents by name.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// `fsGroup` of our pods.
pub(crate) const GROUP: u32 = 65532;

/// One volume of one pod.
pub(crate) struct Projected {
    /// On the side of the kubelet.
    pub(crate) folder: PathBuf,
    /// `ConfigMap` or `Secret`, and its name.
    pub(crate) of: (&'static str, String),
    mode: u32,
    /// Which keys, and their paths; without it all by their names.
    items: Option<Vec<(String, String)>>,
    moment: u32,
}

impl Projected {
    /// As the volume's `configMap` or `secret` says.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn new(
        folder: PathBuf,
        of: (&'static str, String),
        source: &Value,
        files: &Files,
    ) -> anyhow::Result<Self> {
        let mode = source["defaultMode"].as_u64().map_or(0o644, |mode| mode as u32);
        let items = source["items"].as_array().map(|items| items.iter().filter_map(pair).collect());
        fs::create_dir_all(&folder)?;
        let mut projected = Self { folder, of, mode, items, moment: 0 };
        projected.change(files)?;
        Ok(projected)
    }

    /// Other contents from now on.
    ///
    /// # Errors
    /// A key that an item names is not there; of the file system.
    pub(crate) fn change(&mut self, files: &Files) -> anyhow::Result<()> {
        self.moment += 1;
        let (old, new) = (format!("..{}", self.moment - 1), format!("..{}", self.moment));
        fs::create_dir(self.folder.join(&new))?;
        let all = || files.keys().map(|key| (key.clone(), key.clone())).collect();
        for (key, path) in self.items.clone().unwrap_or_else(all) {
            let file = self.folder.join(&new).join(&path);
            fs::write(&file, files.get(&key).with_context(|| format!("{:?} has no {key}", self.of))?)?;
            fs::set_permissions(&file, Permissions::from_mode(self.mode))?;
            chown(&file, Some(0), Some(GROUP))?;
            match symlink(format!("..data/{path}"), self.folder.join(&path)) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
                _ => {}
            }
        }
        symlink(&new, self.folder.join("..next"))?;
        fs::rename(self.folder.join("..next"), self.folder.join("..data"))?;
        match fs::remove_dir_all(self.folder.join(old)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn pair(item: &Value) -> Option<(String, String)> {
    Some((item["key"].as_str()?.to_owned(), item["path"].as_str()?.to_owned()))
}
