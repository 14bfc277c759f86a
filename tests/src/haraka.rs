//! A private Haraka in a scratch folder.

use std::fs;
use std::path::Path;

use anyhow::Context;
use staffetta_testkit::certs::Leaf;
use staffetta_testkit::ports::Port;
use tempfile::TempDir;

use crate::peer::{Daemon, Kept, Peer, Power, unpacked};

/// It takes mail for anybody at example.com but nobody, and writes each message into a file, with its recipients as fields.
const PLUGINS: &str = "tls\nrefuse\nrecord_envelope_addresses\nrcpt_to.in_host_list\nqueue/test\n";
const REFUSE: &str = "exports.hook_rcpt = (next, connection, [to]) =>\n  \
                      to.user === 'nobody' ? next(DENY, 'unknown here') : next()\n";
/// With its usual `data_line_length` of 992 it breaks lines that are allowed: 998 octets, CRLF, and a dot that is doubled.
const CONNECTION: &str = "[main]\n[haproxy]\n[headers]\nmax_lines=1000\nmax_received=100\n[max]\nbytes=52428800\n\
                          mime_parts=1000\nline_length=512\ndata_line_length=1001\n[message]\n[uuid]\n";

/// A Haraka; it ends with it.
pub struct Haraka {
    daemon: Daemon,
    folder: TempDir,
}

impl Haraka {
    /// Starts it.
    ///
    /// # Errors
    /// With its log, if it does not start.
    pub fn start(port: &Port, leaf: &Leaf) -> anyhow::Result<Self> {
        let program = unpacked("haraka/node_modules/Haraka/bin/haraka", "peers")?;
        let folder = tempfile::Builder::new().prefix("staffetta-haraka").tempdir()?;
        let root = folder.path();
        for directory in ["config", "plugins", "mail"] {
            fs::create_dir(root.join(directory))?;
        }
        fs::write(root.join("plugins/refuse.js"), REFUSE)?;
        let settings = [
            ("me", "mx.example.com\n".to_owned()),
            ("host_list", "example.com\n".to_owned()),
            ("plugins", PLUGINS.to_owned()),
            ("connection.ini", CONNECTION.to_owned()),
            ("log.ini", "[main]\nlevel=notice\nformat=default\n".to_owned()),
            ("smtp.ini", format!("listen=127.0.0.1:{}\n", port.number())),
            ("tls.ini", format!("key={}\ncert={}\n", leaf.key.display(), leaf.certificate.display())),
        ];
        for (file, text) in settings {
            fs::write(root.join("config").join(file), text)?;
        }
        let script = format!("TMPDIR={0}/mail node {1} -c {0}", root.display(), program.display());
        let daemon = Daemon::start(&script, root.join("log"), &[port])?;
        Ok(Self { folder, daemon })
    }
}

/// Its file of a message. `None` while nothing is in it.
fn read(file: &Path) -> anyhow::Result<Option<Kept>> {
    let mut content = fs::read(file)?;
    content.retain(|octet| *octet != b'\r');
    let header = content.split(|octet| *octet == b'\n').take_while(|line| !line.is_empty());
    let recipients = header.filter_map(|line| line.strip_prefix(b"X-Envelope-To: "));
    let recipients = recipients.map(|recipient| Ok(std::str::from_utf8(recipient)?.to_owned()));
    let recipients = recipients.collect::<anyhow::Result<Vec<String>>>().context("a recipient")?;
    Ok((!recipients.is_empty()).then_some(Kept { recipients, content }))
}

impl Peer for Haraka {
    fn kept(&self) -> anyhow::Result<Vec<Kept>> {
        let mut kept = Vec::new();
        for file in fs::read_dir(self.folder.path().join("mail"))? {
            kept.extend(read(&file?.path())?);
        }
        Ok(kept)
    }

    fn log(&self) -> String {
        self.daemon.log()
    }

    fn power(&mut self) -> &mut dyn Power {
        &mut self.daemon
    }
}
