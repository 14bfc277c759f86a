//! A private Exim in a scratch folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use staffetta_testkit::certs::Leaf;
use staffetta_testkit::ports::Port;
use tempfile::TempDir;

use crate::peer::{Daemon, Kept, Peer, Power, unpacked};

/// It takes mail for anybody but nobody@example.com and delivers none: what it takes is kept in its queue.
const USUAL: &str = "\
exim_user = nobody
exim_group = nogroup
never_users =
keep_environment =
primary_hostname = mx.example.com
message_size_limit = 50M
chunking_advertise_hosts = *
dsn_advertise_hosts = *
queue_only
acl_smtp_rcpt = recipient
acl_smtp_data = accept
begin acl
recipient:
  deny recipients = nobody@example.com
       message = unknown here
  accept
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
    daemon: Daemon,
    folder: TempDir,
}

impl Exim {
    /// Starts it, with lines of the main section of its own.
    ///
    /// # Errors
    /// With its log, if it does not start.
    pub fn start(port: &Port, leaf: &Leaf, rules: &str) -> anyhow::Result<Self> {
        let program = unpacked("exim/usr/sbin/exim4", "test")?;
        let folder = tempfile::Builder::new().prefix("staffetta-exim").tempdir()?;
        let root = folder.path();
        let main = format!(
            "spool_directory = {0}/spool\nlog_file_path = {0}/%slog\npid_file_path = {0}/pid\n\
             tls_certificate = {0}/certificate\ntls_privatekey = {0}/key\nlocal_interfaces = 127.0.0.1.{1}\n\
             {rules}{USUAL}",
            root.display(),
            port.number(),
        );
        fs::write(root.join("exim.conf"), main)?;
        fs::create_dir(root.join("spool"))?;
        for (file, line) in [("passwd", STRANGER), ("group", "Debian-exim:x:65533:\n")] {
            fs::write(root.join(file), fs::read_to_string(format!("/etc/{file}"))? + line)?;
        }
        fs::copy(&leaf.certificate, root.join("certificate"))?;
        fs::copy(&leaf.key, root.join("key"))?;
        // The configuration stays root's, or it is not read.
        let ours = ["", "spool", "certificate", "key"].map(|name| root.join(name));
        let chown = Command::new("chown").arg("nobody:nogroup").args(ours).status()?;
        ensure!(chown.success(), "chown failed");
        let script = format!(
            "mount --bind {0}/passwd /etc/passwd\nmount --bind {0}/group /etc/group\n{1} -C {0}/exim.conf -bdf",
            root.display(),
            program.display(),
        );
        let daemon = Daemon::start(&script, root.join("daemon.log"), &[port]).with_context(|| logged(root))?;
        Ok(Self { folder, daemon })
    }

    /// The files with header and envelope of each message that it has taken.
    fn heads(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut heads = Vec::new();
        for file in fs::read_dir(self.folder.path().join("spool/input"))? {
            let path = file?.path();
            if path.to_string_lossy().ends_with("-H") {
                heads.push(path);
            }
        }
        Ok(heads)
    }
}

impl Peer for Exim {
    fn kept(&self) -> anyhow::Result<Vec<Kept>> {
        self.heads()?.iter().map(|head| read(head)).collect()
    }

    fn envelopes(&self) -> anyhow::Result<String> {
        self.heads()?.iter().map(|head| Ok(String::from_utf8_lossy(&fs::read(head)?).into_owned())).collect()
    }

    fn log(&self) -> String {
        logged(self.folder.path()) + &self.daemon.log()
    }

    fn power(&mut self) -> &mut dyn Power {
        &mut self.daemon
    }
}

fn logged(folder: &Path) -> String {
    ["mainlog", "paniclog"].map(|file| fs::read_to_string(folder.join(file)).unwrap_or_default()).concat()
}

/// A message of its queue ("Format of spool files" in Exim's specification).
fn read(head: &Path) -> anyhow::Result<Kept> {
    let text = fs::read_to_string(head)?;
    let (envelope, header) = text.split_once("\n\n").context("no header")?;
    // The recipients come last, each with what was said of it behind a space, and before them their number.
    let (_, recipients) = envelope.split_once("\nXX\n").context("no recipients")?;
    let recipients = recipients.lines().skip(1).filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    let mut content = fields(header)?.into_bytes();
    content.push(b'\n');
    let name = head.to_string_lossy();
    let data = fs::read(format!("{}-D", name.strip_suffix("-H").context("no head")?))?;
    // The first line is the name of the file.
    let first = data.iter().position(|octet| *octet == b'\n').context("no first line")?;
    content.extend_from_slice(data.get(first + 1..).unwrap_or_default());
    Ok(Kept { recipients, content })
}

/// The header: before each field are its length, a letter and spaces, and one of those that are removed is `*`.
fn fields(mut text: &str) -> anyhow::Result<String> {
    let mut fields = String::new();
    while !text.is_empty() {
        let digits = text.find(|letter: char| !letter.is_ascii_digit()).context("no letter")?;
        let (length, rest) = text.split_at(digits);
        let (letter, rest) = rest.split_at_checked(2).context("no field")?;
        let (field, rest) = rest.split_at_checked(length.parse()?).context("a short field")?;
        if !letter.starts_with('*') {
            fields.push_str(field);
        }
        text = rest;
    }
    Ok(fields)
}
