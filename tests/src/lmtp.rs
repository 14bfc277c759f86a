//! A private Dovecot that takes mail by LMTP.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use staffetta_testkit::certs::Leaf;
use staffetta_testkit::dovecot::Dovecot;
use staffetta_testkit::ports::Port;
use tempfile::TempDir;

use crate::peer::{Kept, Peer, Power, maildirs};

/// Who writes the maildirs; testkit's Dovecot has all mail belong to nobody.
const OWNER_ID: u32 = 65534;

/// A Dovecot that knows some users of example.com, and listens on a socket and a port; it ends with it.
pub struct DovecotLmtp {
    dovecot: Dovecot,
    folder: TempDir,
}

impl DovecotLmtp {
    /// Starts it with these users, addresses at example.com.
    ///
    /// # Errors
    /// With its log, if it does not start.
    pub fn start(port: &Port, leaf: &Leaf, users: &[String]) -> anyhow::Result<Self> {
        ensure!(Path::new("/usr/lib/dovecot/lmtp").exists(), "no LMTP of Dovecot: `scripts/setup peers` brings it");
        // Short: the path of a socket has at most 107 octets.
        let folder = tempfile::Builder::new().prefix("lm").tempdir()?;
        let root = folder.path();
        fs::create_dir(root.join("mail"))?;
        for path in [root.to_owned(), root.join("mail")] {
            chown(path, Some(OWNER_ID), None)?;
        }
        let settings = format!(
            "protocols = lmtp\nhostname = mx.example.com\nmail_location = maildir:{root}/mail/%n\n\
             ssl = yes\nssl_cert = <{certificate}\nssl_key = <{key}\n\
             service lmtp {{\n  unix_listener {root}/lmtp {{\n    mode = 0666\n  }}\n  \
             inet_listener lmtp {{\n    address = 127.0.0.1\n    port = {port}\n  }}\n}}",
            root = root.display(),
            certificate = leaf.certificate.display(),
            key = leaf.key.display(),
            port = port.number(),
        );
        let users: Vec<String> = users.iter().map(|user| format!("{user}:{{PLAIN}}summersun")).collect();
        let users: Vec<&str> = users.iter().map(String::as_str).collect();
        let dovecot = Dovecot::start("plain", &users, &settings)?;
        Ok(Self { folder, dovecot })
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("lmtp")
    }
}

impl Peer for DovecotLmtp {
    fn kept(&self) -> anyhow::Result<Vec<Kept>> {
        maildirs(&self.folder.path().join("mail"))
    }

    fn log(&self) -> String {
        self.dovecot.log()
    }

    fn power(&mut self) -> &mut dyn Power {
        &mut self.dovecot
    }
}

impl Power for Dovecot {
    fn kill(&mut self) {
        Self::kill(self);
    }

    fn up(&mut self) -> anyhow::Result<()> {
        Self::up(self)
    }
}
