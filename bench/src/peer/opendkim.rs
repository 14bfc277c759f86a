//! OpenDKIM, which signs for Postfix as a milter.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::SIGNER;
use crate::child::{Child, free_ports};

/// Returns when it takes connections, with its port.
pub(super) async fn start(scratch: &Path, key: &Path) -> Result<(Child, u16)> {
    let [port] = free_ports().await?;
    let (file, (domain, selector)) = (scratch.join("opendkim.conf"), SIGNER);
    let text = format!(
        "\
Mode s
Domain {domain}
Selector {selector}
KeyFile {}
RequireSafeKeys no
Socket inet:{port}@127.0.0.1
Canonicalization relaxed/relaxed
SignatureAlgorithm rsa-sha256
InternalHosts 127.0.0.1
Syslog no
",
        key.display()
    );
    fs::write(&file, text)?;
    let mut command = Command::new("opendkim");
    command.arg("-f").arg("-x").arg(&file);
    let mut child = Child::start("opendkim", scratch, command).context("scripts/setup bench installs it")?;
    child.listens(port).await?;
    Ok((child, port))
}
