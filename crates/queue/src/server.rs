//! A Redis server of our own: a `redis-server` or `valkey-server` child for `staffetta up` and for tests.
//!
//! It listens on a unix socket in its directory (and on a TCP port if asked), keeps an append-only file that is synced
//! before every reply, and never evicts: what the durability gate asks for. Where `setpriv` exists the child gets
//! SIGTERM when the *thread* that called [`LocalServer::start`] ends, so it does not outlive a crashed parent; call
//! `start` from a thread that lives as long as the server is needed. The functions here block for some 20 ms.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longest path of a unix socket on Linux, without the final NUL.
const MAX_SOCKET_PATH: usize = 107;
/// How long a server may take to load its data.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it may take to end in an orderly way. All that it has answered is in its file, also if it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A running server; killed when dropped. Its data stays in the directory.
#[derive(Debug)]
pub struct LocalServer {
    program: PathBuf,
    dir: PathBuf,
    socket: PathBuf,
    options: Options,
    child: Child,
}

/// What may differ from the default server.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Also listen on 127.0.0.1 at this port.
    pub port: Option<u16>,
    /// More settings, as in `redis.conf`: name and value; they win over the defaults.
    pub settings: Vec<(String, String)>,
}

impl LocalServer {
    /// Starts a server on `dir` (created if missing) and waits until it answers.
    ///
    /// # Errors
    /// No server program in `PATH`, a server that already runs on this directory, or the program's own reason to end.
    pub fn start(dir: &Path) -> io::Result<Self> {
        Self::start_with(dir, Options::default())
    }

    /// The same, with settings of one's own.
    ///
    /// # Errors
    /// As [`LocalServer::start`].
    pub fn start_with(dir: &Path, options: Options) -> io::Result<Self> {
        let program = find(&["redis-server", "valkey-server"]).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "neither redis-server nor valkey-server is in PATH")
        })?;
        std::fs::create_dir_all(dir)?;
        let dir = dir.canonicalize()?;
        let socket = socket_path(&dir);
        if UnixStream::connect(&socket).is_ok() {
            let text = format!("a server already listens on {}", socket.display());
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        let child = spawn(&program, &dir, &socket, &options)?;
        let mut server = Self { program, dir, socket, options, child };
        server.wait_ready()?;
        Ok(server)
    }

    /// For [`crate::Settings::url`].
    pub fn url(&self) -> String {
        format!("unix:{}", self.socket.display())
    }

    /// The unix socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The process id of the server.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the server as a crash does (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// Of the system; none if it has ended already.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Starts the server again on the same directory, after [`LocalServer::kill`] or instead of a running one.
    ///
    /// # Errors
    /// As [`LocalServer::start`].
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill()?;
        self.child = spawn(&self.program, &self.dir, &self.socket, &self.options)?;
        self.wait_ready()
    }

    /// Starts the server again if it has ended by itself, and says how it ended. Does not wait until it answers.
    ///
    /// # Errors
    /// Of the system.
    pub fn revive(&mut self) -> io::Result<Option<String>> {
        let Some(end) = self.ended()? else { return Ok(None) };
        self.child = spawn(&self.program, &self.dir, &self.socket, &self.options)?;
        Ok(Some(end))
    }

    /// Ends the server in an orderly way (SIGTERM) and waits until it is gone. One that hangs is killed after some seconds.
    ///
    /// # Errors
    /// Of the system.
    pub fn stop(mut self) -> io::Result<()> {
        let end = Instant::now() + STOP_TIMEOUT;
        if self.child.try_wait()?.is_none()
            && let Some(pid) = Pid::from_raw(self.child.id().cast_signed())
        {
            kill_process(pid, Signal::TERM)?;
        }
        while self.child.try_wait()?.is_none() {
            if Instant::now() >= end {
                return self.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn wait_ready(&mut self) -> io::Result<()> {
        let end = Instant::now() + START_TIMEOUT;
        loop {
            if answers(&self.socket) {
                return Ok(());
            }
            if let Some(end) = self.ended()? {
                return Err(io::Error::other(end));
            }
            if Instant::now() >= end {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the Redis server does not answer"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// How it ended, if it has.
    fn ended(&mut self) -> io::Result<Option<String>> {
        let status = self.child.try_wait()?;
        Ok(status.map(|status| format!("{} ended with {status}: {}", self.program.display(), self.last_words())))
    }

    /// The end of the log, which says why a server did not start.
    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.dir.join("redis.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        // The process may be gone already; there is nobody to tell.
        let _ = self.kill();
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn spawn(program: &Path, dir: &Path, socket: &Path, options: &Options) -> io::Result<Child> {
    let mut command = match find(&["setpriv"]) {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "TERM"]).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.args(arguments(dir, socket, options));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir(dir);
    // Ctrl-C is for us: services that drain still need it.
    command.process_group(0).spawn()
}

fn arguments(dir: &Path, socket: &Path, options: &Options) -> Vec<OsString> {
    let port = options.port.unwrap_or(0).to_string();
    let mut arguments: Vec<OsString> = vec!["--dir".into(), dir.into(), "--unixsocket".into(), socket.into()];
    for (name, value) in [
        ("port", port.as_str()),
        ("bind", "127.0.0.1"),
        ("unixsocketperm", "700"),
        ("daemonize", "no"),
        ("logfile", "redis.log"),
        ("save", ""),
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("no-appendfsync-on-rewrite", "no"),
        ("auto-aof-rewrite-percentage", "200"),
        ("maxmemory-policy", "noeviction"),
    ]
    .into_iter()
    .chain(options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    {
        arguments.push(format!("--{name}").into());
        arguments.push(value.into());
    }
    arguments
}

/// In the directory, or in the system's temporary directory when the path is too long for a socket.
fn socket_path(dir: &Path) -> PathBuf {
    let socket = dir.join("redis.sock");
    if socket.as_os_str().len() <= MAX_SOCKET_PATH {
        return socket;
    }
    // FNV-1a: the same directory must give the same name in every process.
    let hash = dir
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    std::env::temp_dir().join(format!("staffetta-{hash:016x}.sock"))
}

fn answers(socket: &Path) -> bool {
    let ping = || -> io::Result<bool> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut reply = [0; 7];
        stream.read_exact(&mut reply)?;
        Ok(&reply == b"+PONG\r\n")
    };
    ping().unwrap_or(false)
}

fn find(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name))).find(|candidate| candidate.is_file())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn data_survives_a_kill_and_a_second_server_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut server = LocalServer::start(dir.path()).unwrap();
        assert_eq!(LocalServer::start(dir.path()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let client = redis::Client::open(server.url()).unwrap();
        let mut connection = client.get_connection().unwrap();
        redis::cmd("SET").arg("k").arg("v").exec(&mut connection).unwrap();
        server.kill().unwrap();
        server.restart().unwrap();
        let value: String = redis::cmd("GET").arg("k").query(&mut client.get_connection().unwrap()).unwrap();
        assert_eq!(value, "v");
        server.stop().unwrap();
        assert!(client.get_connection().is_err());
    }

    #[test]
    fn a_server_that_hangs_is_killed_and_keeps_its_data() {
        let dir = tempfile::tempdir().unwrap();
        let server = LocalServer::start(dir.path()).unwrap();
        let client = redis::Client::open(server.url()).unwrap();
        redis::cmd("SET").arg("k").arg("v").exec(&mut client.get_connection().unwrap()).unwrap();
        kill_process(Pid::from_raw(server.pid().cast_signed()).unwrap(), Signal::STOP).unwrap();
        server.stop().unwrap();
        let server = LocalServer::start(dir.path()).unwrap();
        let value: String = redis::cmd("GET").arg("k").query(&mut client.get_connection().unwrap()).unwrap();
        assert_eq!(value, "v");
        server.stop().unwrap();
    }

    #[test]
    fn a_server_that_cannot_start_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { port: None, settings: vec![("maxmemory-policy".into(), "nonsense".into())] };
        let error = LocalServer::start_with(dir.path(), options).unwrap_err();
        assert!(error.to_string().contains("ended with"), "{error}");
    }

    #[test]
    fn a_directory_with_a_long_name_gets_a_socket_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("d".repeat(120));
        let server = LocalServer::start(&long).unwrap();
        assert!(server.socket().as_os_str().len() <= MAX_SOCKET_PATH);
    }
}
