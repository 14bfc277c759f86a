//! The DKIM keys of the configuration: read from their files at the start, and again when these change.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use staffetta_config::{Dkim, read_file};
use staffetta_dkim::{Key, KeyError, Keyring, Row};
use staffetta_transport::reload::{self, Reloaded};
use staffetta_transport::shutdown::Hangup;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// See the [module](self).
pub(crate) struct Keys {
    rows: Vec<Dkim>,
    ring: Reloaded<Vec<Zeroizing<Vec<u8>>>, Keyring>,
}

/// Why a key cannot be used. Nothing of the file is in it.
#[derive(Debug)]
pub(crate) enum BadKey {
    Unreadable(PathBuf, std::io::Error),
    Useless(PathBuf, KeyError),
}

impl std::fmt::Display for BadKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable(path, error) => write!(f, "{} cannot be read: {error}", path.display()),
            Self::Useless(path, error) => write!(f, "{} {error}", path.display()),
        }
    }
}

impl std::error::Error for BadKey {}

impl Keys {
    /// Reads all keys; any that cannot be used is an error.
    pub(crate) fn load(rows: &[Dkim]) -> Result<Self, BadKey> {
        let ring = Reloaded::new(read_all(rows)?, |contents| ring(rows, contents))?;
        Ok(Self { rows: rows.to_vec(), ring })
    }

    /// The keys in use.
    pub(crate) fn ring(&self) -> Arc<Keyring> {
        self.ring.current()
    }

    /// Is there none, now and later?
    pub(crate) fn are_none(&self) -> bool {
        self.rows.is_empty()
    }

    /// Looks at the files again. `Ok(true)`: they changed and are in use now. On an error everything stays as it was.
    fn reload(&self) -> Result<bool, BadKey> {
        self.ring.reload(|| read_all(&self.rows), |contents| ring(&self.rows, contents))
    }

    /// Reloads on SIGHUP and whenever the content of a file changes, until `shutdown`. Failures are logged, once for each
    /// content.
    pub(crate) async fn watch(self: Arc<Self>, hangup: Hangup, shutdown: CancellationToken) {
        let complain = |error: &str| tracing::warn!(error, "keeping the DKIM keys in use");
        reload::watch("DKIM keys", move |_| self.reload(), complain, hangup, shutdown).await;
    }
}

fn read_all(rows: &[Dkim]) -> Result<Vec<Zeroizing<Vec<u8>>>, BadKey> {
    let read = |path: &Path| read_file(path).map_err(|error| BadKey::Unreadable(path.to_owned(), error));
    rows.iter().map(|row| read(&row.key).map(Zeroizing::new)).collect()
}

fn ring(rows: &[Dkim], contents: &[Zeroizing<Vec<u8>>]) -> Result<Keyring, BadKey> {
    let row = |(row, pem): (&Dkim, &Zeroizing<Vec<u8>>)| {
        let key = Key::from_pem(pem).map_err(|error| BadKey::Useless(row.key.clone(), error))?;
        Ok(Row { domain: row.domain.clone(), selector: row.selector.clone(), key })
    };
    rows.iter().zip(contents).map(row).collect::<Result<_, _>>().map(Keyring::new)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use staffetta_dkim::Algorithm;

    use super::*;

    fn public(keys: &Keys) -> Vec<u8> {
        keys.ring().of("example.org").unwrap()[0].key.public().unwrap()
    }

    #[test]
    fn a_reload_takes_good_files_and_keeps_the_last_good_keys_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let rows = [Dkim { domain: "example.org".into(), selector: "s".into(), key: path.clone() }];
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        let renew = || write(&Key::generate(Algorithm::Ed25519).unwrap().1);
        assert!(Keys::load(&rows).err().unwrap().to_string().contains("key.pem cannot be read: No such file"));
        renew();
        let keys = Keys::load(&rows).unwrap();
        let first = public(&keys);
        assert!(!keys.reload().unwrap());

        renew();
        assert!(keys.reload().unwrap());
        let second = public(&keys);
        assert_ne!(first, second);

        write("rubbish");
        assert!(keys.reload().unwrap_err().to_string().ends_with("key.pem holds no private key in PEM form"));
        assert!(!keys.reload().unwrap(), "reported once");
        assert_eq!(public(&keys), second);
        std::fs::remove_file(&path).unwrap();
        assert!(keys.reload().is_err());
        assert_eq!(public(&keys), second);
        renew();
        assert!(keys.reload().unwrap());
        assert_ne!(public(&keys), second);
    }
}
