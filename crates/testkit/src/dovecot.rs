//! A real Dovecot, of which only the auth service is used, in a scratch folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::child::Running;

/// The longest wait for its start and its end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A Dovecot; it and its processes end with it.
pub struct Dovecot {
    folder: TempDir,
    settings: String,
    running: Option<Running>,
}

impl Dovecot {
    /// Starts it with these mechanisms (`"plain login"`) and users (lines of a passwd-file: `john@example.org:{PLAIN}x`).
    /// `settings` are lines of its configuration that come last.
    ///
    /// # Errors
    /// If it is not installed or does not start.
    pub fn start(mechanisms: &str, users: &[&str], settings: &str) -> anyhow::Result<Self> {
        // Short: the path of a socket has at most 107 octets.
        let folder = tempfile::Builder::new().prefix("dv").tempdir()?;
        // Its processes run as users of their own.
        ensure!(Command::new("chmod").arg("755").arg(folder.path()).status()?.success(), "chmod failed");
        let settings = format!("auth_mechanisms = {mechanisms}\n{settings}\n");
        let mut dovecot = Self { folder, settings, running: None };
        dovecot.users(users)?;
        dovecot.up()?;
        Ok(dovecot)
    }

    /// Replaces the users.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn users(&self, lines: &[&str]) -> anyhow::Result<()> {
        // By rename, so that it never reads half of it.
        let new = self.folder.path().join("users.new");
        fs::write(&new, lines.join("\n") + "\n")?;
        Ok(fs::rename(new, self.folder.path().join("users"))?)
    }

    /// Adds a line to its configuration, for the next start. The last one of a setting counts.
    pub fn configure(&mut self, line: &str) {
        self.settings.push_str(line);
        self.settings.push('\n');
    }

    /// Starts it again after [`Dovecot::kill`] or [`Dovecot::stop`].
    ///
    /// # Errors
    /// With its log, if it does not start.
    pub fn up(&mut self) -> anyhow::Result<()> {
        let config = self.folder.path().join("dovecot.conf");
        fs::write(&config, self.configuration()?)?;
        let arguments = ["-F".as_ref(), "-c".as_ref(), config.as_os_str()];
        let program =
            ["/usr/sbin/dovecot", "/usr/local/sbin/dovecot"].into_iter().find(|path| Path::new(path).exists());
        let running = Running::start(program.unwrap_or("dovecot"), &arguments, &self.folder.path().join("out"))
            .context("Dovecot is needed for this test; scripts/setup installs it")?;
        let running = self.running.insert(running);
        let end = Instant::now() + PATIENCE;
        while std::os::unix::net::UnixStream::connect(self.folder.path().join("auth")).is_err() {
            if Instant::now() > end || !running.is_running() {
                bail!("Dovecot does not answer: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The socket for clients.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("auth")
    }

    /// Its master process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(Running::pid)
    }

    /// A socket for look-ups of users, which is not for clients.
    pub fn user_socket(&self) -> PathBuf {
        self.folder.path().join("auth-userdb")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        read("log") + &read("out")
    }

    /// Kills it and all its processes at once, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            // It starts no other meanwhile, and none of them learns of its end.
            let _ = running.signal(Signal::STOP);
            signal(&children(running.pid()), Signal::KILL);
            running.kill();
        }
    }

    /// Lets its processes stand still, or go on.
    pub fn signal(&self, sign: Signal) {
        if let Some(running) = &self.running {
            signal(&children(running.pid()), sign);
        }
    }

    /// Ends it as an operator does. Its auth process stays until its last client has gone.
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut running) = self.running.take() {
            running.signal(Signal::TERM)?;
            running.wait(PATIENCE)?;
        }
        Ok(())
    }

    fn configuration(&self) -> anyhow::Result<String> {
        let root = self.folder.path().display();
        let mut text = format!(
            "base_dir = {root}/run\nstate_dir = {root}/state\nlog_path = {root}/log\nprotocols =\nssl = no\n\
             auth_verbose = yes\nauth_failure_delay = 0\n\
             passdb {{\n  driver = passwd-file\n  args = {root}/users\n}}\n\
             userdb {{\n  driver = static\n  args = uid=nobody gid=nogroup home=/tmp\n}}\n\
             service auth {{\n  unix_listener {root}/auth {{\n    mode = 0666\n  }}\n  unix_listener \
             {root}/auth-userdb {{\n    mode = 0666\n  }}\n}}\nservice anvil {{\n  chroot =\n}}\n",
        );
        if !rustix::process::geteuid().is_root() {
            let said = Command::new("id").arg("-un").output()?;
            let user = String::from_utf8_lossy(&said.stdout).trim().to_owned();
            text.push_str(&format!("default_internal_user = {user}\ndefault_login_user = {user}\n"));
        }
        Ok(text + &self.settings)
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        self.kill();
    }
}

fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn signal(pids: &[u32], signal: Signal) {
    for pid in pids.iter().filter_map(|pid| i32::try_from(*pid).ok().and_then(Pid::from_raw)) {
        // One that is gone needs none.
        let _ = kill_process(pid, signal);
    }
}
