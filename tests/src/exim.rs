//! A private Exim in a scratch folder.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use staffetta_testkit::child::Running;
use staffetta_testkit::ports::Port;
use tempfile::TempDir;

use crate::SOON;

/// It takes mail for anybody and delivers none: what it takes is kept in its queue.
const USUAL: &str = "\
exim_user = nobody
exim_group = nogroup
never_users =
keep_environment =
primary_hostname = mx.example.com
chunking_advertise_hosts = *
tls_advertise_hosts =
queue_only
acl_smtp_rcpt = accept
acl_smtp_data = accept
begin acl
accept:
  accept
begin routers
all:
  driver = accept
  transport = nowhere
begin transports
nowhere:
  driver = appendfile
  file = /dev/null
";

/// The user whose name is compiled in is known only where it runs.
const STRANGER: &str = "Debian-exim:x:65533:65533::/nonexistent:/bin/false\n";

/// An Exim; it ends with it.
pub struct Exim {
    folder: TempDir,
    _daemon: Running,
}

impl Exim {
    /// Starts it, with lines of the main section of its own.
    ///
    /// # Errors
    /// With its log, if it does not start.
    pub fn start(port: &Port, rules: &str) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("staffetta-exim").tempdir()?;
        let root = folder.path();
        let main = format!(
            "spool_directory = {0}/spool\nlog_file_path = {0}/%slog\npid_file_path = {0}/pid\n\
             local_interfaces = 127.0.0.1.{1}\n{rules}{USUAL}",
            root.display(),
            port.number(),
        );
        fs::write(root.join("exim.conf"), main)?;
        fs::create_dir(root.join("spool"))?;
        for (file, line) in [("passwd", STRANGER), ("group", "Debian-exim:x:65533:\n")] {
            fs::write(root.join(file), fs::read_to_string(format!("/etc/{file}"))? + line)?;
        }
        // The configuration stays root's, or it is not read.
        let chown = Command::new("chown").arg("nobody:nogroup").arg(root).arg(root.join("spool")).status()?;
        ensure!(chown.success(), "chown failed");
        let script = format!(
            "mount --bind {0}/passwd /etc/passwd && mount --bind {0}/group /etc/group && exec {1} -C {0}/exim.conf -bdf",
            root.display(),
            program()?.display(),
        );
        let log = root.join("daemon.log");
        let daemon = Running::start("unshare", &["--mount", "sh", "-c", &script], &log)?;
        let exim = Self { folder, _daemon: daemon };
        let end = Instant::now() + SOON;
        while TcpStream::connect(port.address()).is_err() {
            ensure!(Instant::now() < end, "Exim does not listen: {}", exim.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(exim)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        let read = |file| fs::read_to_string(self.folder.path().join(file)).unwrap_or_default();
        ["daemon.log", "mainlog", "paniclog"].map(read).concat()
    }

    /// The bodies in its queue, with line ends of Unix.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn bodies(&self) -> anyhow::Result<Vec<String>> {
        let mut bodies = Vec::new();
        for file in fs::read_dir(self.folder.path().join("spool/input"))? {
            let path = file?.path();
            if path.to_string_lossy().ends_with("-D") {
                // The first line is the name of the file.
                let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
                bodies.push(text.split_once('\n').context("no first line")?.1.to_owned());
            }
        }
        Ok(bodies)
    }
}

/// Where `scripts/setup test` has unpacked it.
fn program() -> anyhow::Result<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|text| !text.is_empty()).map(PathBuf::from);
    let caches = || folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
    let cache = folder("STAFFETTA_CACHE").or_else(|| Some(caches()?.join("staffetta")));
    let program = cache.map(|cache| cache.join("exim/usr/sbin/exim4")).filter(|path| path.exists());
    program.context("no Exim: `scripts/setup test` unpacks it")
}
