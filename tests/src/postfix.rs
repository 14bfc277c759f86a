//! A private Postfix in a scratch folder.

use std::fs;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;
use staffetta_testkit::certs::Leaf;
use staffetta_testkit::child::Running;
use staffetta_testkit::ports::Port;
use tempfile::TempDir;

use crate::SOON;

/// What `master` runs beside the listeners.
const SERVICES: &str = "\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
local unix - n n - - local
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
    folder: TempDir,
    _master: Running,
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
        let master = Running::start(
            "/usr/lib/postfix/sbin/master",
            &["-c".as_ref(), root.as_os_str(), "-d".as_ref()],
            &root.join("master.log"),
        )?;
        let postfix = Self { folder, _master: master };
        let end = Instant::now() + SOON;
        while !listeners.iter().all(|(port, _)| TcpStream::connect(port.address()).is_ok()) {
            ensure!(Instant::now() < end, "Postfix does not listen: {}", postfix.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(postfix)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The queue files on hold, as postcat shows them.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn held(&self) -> anyhow::Result<Vec<String>> {
        let mut messages = Vec::new();
        for file in fs::read_dir(self.folder.path().join("queue/hold"))? {
            let path = file?.path();
            let shown = Command::new("postcat").arg("-c").arg(self.folder.path()).arg(&path).output()?;
            messages.push(String::from_utf8_lossy(&shown.stdout).into_owned());
        }
        Ok(messages)
    }
}
