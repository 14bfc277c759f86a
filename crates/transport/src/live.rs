//! The configuration in force: read again when its file changes and on SIGHUP, checked whole, and then swapped at once.
//!
//! A [`Keeper`] reads, a [`Live`] is what services look at. What takes effect at once is taken over; what needs a restart
//! stays as it was at the start and is named in one warning (`staffetta_config::Config::adopt`). A file with a mistake
//! changes nothing: each mistake is an error in the log, with file, line and key, and so is a file that is not there, or has
//! nothing in it. While it is refused it is looked at again every ten seconds, because what it names may come later than it
//! does. A file that is being written is left alone until it has been the same for a second.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use staffetta_config::{Config, Errors, Service, read_file};
use staffetta_telemetry as telemetry;
use tokio::sync::watch::{self, Receiver, Sender};
use tokio_util::sync::CancellationToken;

use crate::launch::warn;
use crate::reload;
use crate::shutdown::Hangup;

/// How long a file must have been as it is, unless somebody says that it is complete.
const SETTLED: Duration = Duration::from_secs(1);

/// The configuration in force, and those that will be. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Live {
    config: Receiver<Arc<Config>>,
    applied: Arc<Sender<u64>>,
}

impl Live {
    /// One that changes when something is sent.
    pub fn channel(config: Arc<Config>) -> (Sender<Arc<Config>>, Self) {
        let (sender, receiver) = watch::channel(config);
        (sender, Self { config: receiver, applied: Arc::new(watch::channel(0).0) })
    }

    /// How many have been applied by those who follow.
    pub fn applied(&self) -> Receiver<u64> {
        self.applied.subscribe()
    }

    /// The one in force.
    pub fn current(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// Calls `apply` with each that comes into force, until `shutdown`, or until none can come any more.
    pub async fn follow(mut self, mut apply: impl FnMut(&Config), shutdown: CancellationToken) {
        while let Some(Ok(())) = shutdown.run_until_cancelled(self.config.changed()).await {
            let config = Arc::clone(&self.config.borrow_and_update());
            apply(&config);
            self.applied.send_modify(|times| *times += 1);
        }
    }
}

impl From<Arc<Config>> for Live {
    /// One that stays as it is.
    fn from(config: Arc<Config>) -> Self {
        Self::channel(config).1
    }
}

/// Keeps a configuration in force that comes from a file.
#[derive(Debug)]
pub struct Keeper {
    file: PathBuf,
    service: Service,
    seen: Mutex<Seen>,
    sender: Sender<Arc<Config>>,
}

/// What the file was when it was last looked at.
#[derive(Debug)]
struct Seen {
    /// Absent: it could not be read.
    text: Option<Vec<u8>>,
    taken: bool,
}

impl Keeper {
    /// Of the configuration that `service` has just read from `file`.
    pub fn new(file: &Path, service: Service, config: Arc<Config>) -> (Self, Live) {
        let (sender, live) = Live::channel(config);
        // If it has changed since it was read, reading it once more does no harm.
        let seen = Mutex::new(Seen { text: None, taken: true });
        (Self { file: file.to_owned(), service, seen, sender }, live)
    }

    /// Reads again on SIGHUP and when the file has changed, until `shutdown`.
    pub async fn watch(self, hangup: Hangup, shutdown: CancellationToken) {
        let complain = |errors: &str| {
            for error in errors.lines() {
                tracing::error!(error, "the configuration is refused, the one before stays in use");
            }
        };
        reload::watch("settings", move |asked| self.reload(asked), complain, hangup, shutdown).await;
    }

    /// `asked`: also if the file is the same, for secrets in other files may not be. `Ok(true)`: something differs.
    fn reload(&self, asked: bool) -> Result<bool, Errors> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let looked = read_file(&self.file);
        let text = looked.as_ref().ok().cloned();
        if !asked && seen.taken && seen.text == text {
            return Ok(false);
        }
        if !asked && seen.text.is_some() && seen.text != text {
            std::thread::sleep(SETTLED);
        }
        let read = self.read(looked);
        if read_file(&self.file).ok() != text {
            // Somebody is writing; the next look finds what came of it.
            return Ok(false);
        }
        let was_refused = !std::mem::replace(&mut *seen, Seen { text, taken: read.is_ok() }).taken;
        telemetry::config_read(read.is_ok());
        let differs = read.map(|new| self.adopt(&new))?;
        if was_refused && !differs {
            tracing::info!("the configuration is good again, and says what is in use");
        }
        Ok(differs)
    }

    fn read(&self, looked: std::io::Result<Vec<u8>>) -> Result<Config, Errors> {
        match looked {
            Err(error) => Err(Errors::of_file(&self.file, format!("cannot be read: {error}"))),
            Ok(text) if is_blank(&text) => {
                Err(Errors::of_file(&self.file, "has no key in it, which nobody means who has a relay running"))
            }
            Ok(_) => Config::load_for(&self.file, self.service),
        }
    }

    fn adopt(&self, new: &Config) -> bool {
        let mut config = Config::clone(&self.sender.borrow());
        let change = config.adopt(new, self.service);
        if !change.waiting.is_empty() {
            tracing::warn!("needs a restart: {}", change.waiting.join(", "));
        }
        if !change.adopted.is_empty() {
            tracing::info!(keys = change.adopted.join(", "), "settings have changed");
            warn(&config, self.service);
            if let Err(error) = telemetry::set_level(&config.log.level) {
                tracing::error!(%error, "the level of the log stays as it was");
            }
            self.sender.send_replace(Arc::new(config));
        }
        !change.is_empty()
    }
}

/// Nothing but comments.
fn is_blank(text: &[u8]) -> bool {
    text.split(|&octet| octet == b'\n').all(|line| line.trim_ascii().is_empty() || line.trim_ascii().starts_with(b"#"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(path: &Path, size: &str, extra: &str) {
        let listener = "[[frontend.listener]]\nname = \"s\"\nbind = \"127.0.0.1:0\"\nkind = \"relay\"\ntls = \"off\"\n";
        let text = format!("hostname = \"mail.test\"\n{extra}[frontend]\nsize_limit = \"{size}\"\n{listener}");
        std::fs::write(path, text).unwrap();
    }

    fn keeper(path: &Path) -> (Keeper, Live) {
        let config = Arc::new(Config::load_for(path, Service::Frontend).unwrap());
        let (keeper, live) = Keeper::new(path, Service::Frontend, config);
        assert!(!keeper.reload(false).unwrap(), "it is the same");
        (keeper, live)
    }

    fn size(live: &Live) -> u64 {
        live.current().frontend.size_limit.0
    }

    #[test]
    fn a_file_that_is_refused_changes_nothing_and_is_looked_at_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, secret) = (folder.path().join("c.toml"), folder.path().join("redis"));
        let redis = format!("[redis]\nurl_file = {secret:?}\n");
        write(&path, "1MiB", "");
        let (keeper, live) = keeper(&path);
        write(&path, "2MiB", &redis);
        let refused = keeper.reload(false).unwrap_err().to_string();
        assert!(refused.contains("c.toml:3: redis.url_file: ") && !refused.contains('\n'), "{refused}");
        assert!(keeper.reload(false).is_err(), "it still is");
        assert_eq!(size(&live), 1 << 20);
        // What it names has come, and the file is the same.
        std::fs::write(&secret, "redis://127.0.0.1:6379").unwrap();
        assert!(keeper.reload(false).unwrap());
        assert!(!keeper.reload(false).unwrap());
        assert_eq!(size(&live), 2 << 20);
        std::fs::remove_file(&path).unwrap();
        assert!(keeper.reload(false).is_err());
        assert_eq!(size(&live), 2 << 20);
    }

    #[test]
    fn a_file_that_is_empty_or_still_being_written_is_not_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        write(&path, "1MiB", "");
        let (keeper, live) = keeper(&path);
        for nothing in ["", "\n", "# to come\n  \n#\n"] {
            std::fs::write(&path, nothing).unwrap();
            let refused = keeper.reload(true).unwrap_err().to_string();
            assert!(refused.contains("has no key in it"), "{refused}");
        }
        assert_eq!(size(&live), 1 << 20);
        // It has no [frontend] yet, and gets it while it is looked at.
        std::fs::write(&path, "hostname = \"mail.test\"\n").unwrap();
        let writer = path.clone();
        let writing = std::thread::spawn(move || {
            std::thread::sleep(SETTLED / 2);
            write(&writer, "3MiB", "");
        });
        assert!(!keeper.reload(false).unwrap());
        writing.join().unwrap();
        assert!(keeper.reload(false).unwrap());
        assert_eq!(size(&live), 3 << 20);
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o600.into()).unwrap();
        assert!(keeper.reload(true).unwrap_err().to_string().contains("not a file"));
    }

    #[test]
    fn what_needs_a_restart_stays_and_secrets_are_read_again_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let (path, secret) = (folder.path().join("c.toml"), folder.path().join("redis"));
        std::fs::write(&secret, "redis://a").unwrap();
        write(&path, "1MiB", &format!("[redis]\nurl_file = {secret:?}\n"));
        let (keeper, live) = keeper(&path);
        std::fs::write(&secret, "redis://b").unwrap();
        assert!(!keeper.reload(false).unwrap(), "the file is the same");
        assert!(keeper.reload(true).unwrap(), "a restart is wanted");
        assert_eq!(live.current().shown_redis(), "\"redis://a\"");
        assert!(!live.config.has_changed().unwrap(), "nothing to take over");
    }

    /// As Kubernetes exchanges what is mounted.
    #[tokio::test(start_paused = true)]
    async fn another_file_behind_the_same_links_comes_into_force_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, limit) in [("one", "1MiB"), ("two", "2MiB")] {
            std::fs::create_dir(at(version)).unwrap();
            write(&at(version).join("c.toml"), limit, "");
        }
        symlink("one", at("data")).unwrap();
        symlink("data/c.toml", at("c.toml")).unwrap();
        let (keeper, mut live) = keeper(&at("c.toml"));
        let stop = CancellationToken::new();
        let watching = tokio::spawn(keeper.watch(Hangup::subscribe().unwrap(), stop.clone()));
        symlink("two", at("next")).unwrap();
        std::fs::rename(at("next"), at("data")).unwrap();
        live.config.changed().await.unwrap();
        assert_eq!(size(&live), 2 << 20);
        stop.cancel();
        watching.await.unwrap();
    }
}
