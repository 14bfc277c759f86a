//! A private OpenSMTPD in a scratch folder.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use anyhow::Context;
use staffetta_testkit::certs::Leaf;
use staffetta_testkit::ports::Port;
use tempfile::TempDir;

use crate::peer::{Daemon, Kept, Peer, Power, maildirs, unpacked};

/// The users whose names are compiled in are known only where it runs.
const STRANGERS: &str = "opensmtpd:x:65531:65531::/var/lib/opensmtpd/empty:/bin/false\n\
                         opensmtpq:x:65532:65532::/var/lib/opensmtpd/empty:/bin/false\n";
const GROUPS: &str = "opensmtpd:x:65531:\nopensmtpq:x:65532:\n";
/// Who writes the maildirs.
const OWNER: &str = "nobody";
const OWNER_ID: u32 = 65534;

/// An OpenSMTPD; it ends with it. Mail for example.com goes into maildirs, but that for later@ stays in the queue, where
/// its envelope can be read, and nobody@ is refused. Debian's version 6.8 offers STARTTLS, and cannot do it since OpenSSL 3.
pub struct OpenSmtpd {
    daemon: Daemon,
    folder: TempDir,
}

impl OpenSmtpd {
    /// Starts it.
    ///
    /// # Errors
    /// With its log, if it does not start.
    pub fn start(port: &Port, leaf: &Leaf) -> anyhow::Result<Self> {
        let program = unpacked("opensmtpd/usr/sbin/smtpd", "peers")?;
        let programs = program.ancestors().nth(2).context("no folder of programs")?.join("libexec");
        let folder = tempfile::Builder::new().prefix("staffetta-opensmtpd").tempdir()?;
        let root = folder.path();
        fs::write(root.join("smtpd.conf"), configuration(root, port, leaf))?;
        for (file, lines) in [("passwd", STRANGERS), ("group", GROUPS)] {
            fs::write(root.join(file), fs::read_to_string(format!("/etc/{file}"))? + lines)?;
        }
        for directory in ["spool/smtpd", "lib/opensmtpd/empty", "run", "mail"] {
            fs::create_dir_all(root.join(directory))?;
        }
        for directory in ["", "spool/smtpd"] {
            fs::set_permissions(root.join(directory), fs::Permissions::from_mode(0o711))?;
        }
        chown(root.join("mail"), Some(OWNER_ID), None)?;
        // The places that are compiled in are in the folder.
        let mut script = String::new();
        for (ours, theirs) in
            [("passwd", "/etc/passwd"), ("group", "/etc/group"), ("spool", "/var/spool"), ("lib", "/var/lib")]
        {
            script.push_str(&format!("mount --bind {}/{ours} {theirs}\n", root.display()));
        }
        script.push_str(&format!(
            "mount --bind {0}/run /run\nmount --bind {1} /usr/libexec\n{2} -d -f {0}/smtpd.conf",
            root.display(),
            programs.display(),
            program.display(),
        ));
        let daemon = Daemon::start(&script, root.join("log"), &[port])?;
        Ok(Self { folder, daemon })
    }
}

fn configuration(root: &Path, port: &Port, leaf: &Leaf) -> String {
    format!(
        "pki mx.example.com cert \"{certificate}\"\n\
         pki mx.example.com key \"{key}\"\n\
         smtp max-message-size \"50M\"\n\
         table owner {{ \"@\" = \"{OWNER}\" }}\n\
         listen on 127.0.0.1 port {port} hostname mx.example.com tls pki mx.example.com\n\
         action \"keep\" maildir \"{root}/mail/%{{rcpt.user}}\" virtual <owner>\n\
         action \"wait\" relay host smtp://127.0.0.1:9\n\
         match from any for rcpt-to \"nobody@example.com\" reject\n\
         match from any for rcpt-to \"later@example.com\" action \"wait\"\n\
         match from any for domain \"example.com\" action \"keep\"\n",
        certificate = leaf.certificate.display(),
        key = leaf.key.display(),
        port = port.number(),
        root = root.display(),
    )
}

impl Peer for OpenSmtpd {
    fn kept(&self) -> anyhow::Result<Vec<Kept>> {
        maildirs(&self.folder.path().join("mail"))
    }

    fn envelopes(&self) -> anyhow::Result<String> {
        let mut envelopes = String::new();
        // queue/30/305a8000/305a80002e7f42a3: a file for each recipient, beside the message.
        for bucket in fs::read_dir(self.folder.path().join("spool/smtpd/queue"))? {
            for message in fs::read_dir(bucket?.path())? {
                for file in fs::read_dir(message?.path())? {
                    let file = file?;
                    if file.file_name() != "message" {
                        envelopes.push_str(&fs::read_to_string(file.path())?);
                    }
                }
            }
        }
        Ok(envelopes)
    }

    fn log(&self) -> String {
        self.daemon.log()
    }

    fn power(&mut self) -> &mut dyn Power {
        &mut self.daemon
    }
}
