//! A private Postfix in a scratch folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use staffetta_testkit::certs::Leaf;
use staffetta_testkit::ports::Port;
use tempfile::TempDir;

use crate::peer::{Daemon, Kept, Peer, Power};

/// What `master` runs beside the listeners.
const SERVICES: &str = "\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
local unix - n n - - local
smtp unix - - n - - smtp
flush unix n - n 1000? 0 flush
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
error unix - - n - - error
retry unix - - n - - error
postlog unix-dgram n - n - 1 postlogd
proxymap unix - - n - - proxymap
";

/// What any of them needs. It delivers nothing: what it takes is kept in its queue, on hold.
const USUAL: &str = "\
compatibility_level = 3.6
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
smtpd_tls_security_level = may
smtpd_tls_received_header = yes
smtpd_end_of_data_restrictions = check_client_access static:HOLD
";

/// A Postfix; it ends with it.
pub struct Postfix {
    daemon: Daemon,
    folder: TempDir,
}

impl Postfix {
    /// Starts it with these listeners and the options of each, and lines of main.cf of its own.
    ///
    /// # Errors
    /// With its log, if it does not start.
    pub fn start(listeners: &[(&Port, String)], leaf: &Leaf, rules: &str) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("staffetta-postfix").tempdir()?;
        let root = folder.path();
        for directory in ["queue", "data"] {
            fs::create_dir(root.join(directory))?;
        }
        let chown = Command::new("chown").arg("postfix").arg(root.join("data")).status()?;
        ensure!(chown.success(), "chown failed");
        Command::new("chmod").arg("755").arg(root).status()?;
        let main = format!(
            "{USUAL}queue_directory = {0}/queue\ndata_directory = {0}/data\nmaillog_file = {0}/log\n\
             maillog_file_prefixes = /var, {0}\nsmtpd_tls_cert_file = {1}\nsmtpd_tls_key_file = {2}\n{rules}",
            root.display(),
            leaf.certificate.display(),
            leaf.key.display(),
        );
        fs::write(root.join("main.cf"), main)?;
        let mut master = SERVICES.to_owned();
        for (port, options) in listeners {
            master.push_str(&format!("127.0.0.1:{} inet n - n - - smtpd {options}\n", port.number()));
        }
        fs::write(root.join("master.cf"), master)?;
        let check = Command::new("postfix").arg("-c").arg(root).arg("check").output()?;
        ensure!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
        let ports: Vec<&Port> = listeners.iter().map(|(port, _)| *port).collect();
        let script = format!("/usr/lib/postfix/sbin/master -c {} -d", root.display());
        let daemon = Daemon::start(&script, root.join("master.log"), &ports).with_context(|| logged(root))?;
        Ok(Self { folder, daemon })
    }

    /// The queue files on hold, as postcat shows them.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn held(&self) -> anyhow::Result<Vec<String>> {
        self.files()?.iter().map(|file| self.text("-ebh", file)).collect()
    }

    fn files(&self) -> anyhow::Result<Vec<PathBuf>> {
        let files = fs::read_dir(self.folder.path().join("queue/hold"))?;
        files.map(|file| Ok(file?.path())).collect()
    }

    /// What postcat shows of a file with these options.
    fn postcat(&self, options: &str, file: &Path) -> anyhow::Result<Vec<u8>> {
        let shown = Command::new("postcat").arg("-c").arg(self.folder.path()).arg(options).arg(file).output()?;
        ensure!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
        Ok(shown.stdout)
    }

    fn text(&self, options: &str, file: &Path) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&self.postcat(options, file)?).into_owned())
    }
}

impl Peer for Postfix {
    fn kept(&self) -> anyhow::Result<Vec<Kept>> {
        let read = |file: &PathBuf| {
            let envelope = self.text("-e", file)?;
            let recipients = envelope.lines().filter_map(|line| line.strip_prefix("recipient: "));
            let recipients = recipients.map(str::to_owned).collect();
            Ok(Kept { recipients, content: self.postcat("-bh", file)? })
        };
        self.files()?.iter().map(read).collect()
    }

    fn envelopes(&self) -> anyhow::Result<String> {
        self.files()?.iter().map(|file| self.text("-e", file)).collect()
    }

    fn log(&self) -> String {
        logged(self.folder.path()) + &self.daemon.log()
    }

    fn power(&mut self) -> &mut dyn Power {
        &mut self.daemon
    }
}

fn logged(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}
