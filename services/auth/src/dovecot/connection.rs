//! One connection to Dovecot: made, greeted, and read line by line.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use staffetta_config::DovecotAddress;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::handshake::{Greeting, Handshake, HandshakeError};
use super::wire::{self, Line, Malformed};

/// The longest wait for a connection with its greeting.
const CONNECT: Duration = Duration::from_secs(2);

/// Octets of a line that we take. Challenges of GSSAPI are the longest.
const LINE_LIMIT: usize = 16_384;

/// Why there is no connection, or not any more.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// Dovecot is down, the path is wrong, we may not use it.
    #[error("no connection to Dovecot: {0}")]
    Connect(String),
    /// Something accepts, and says nothing.
    #[error("no greeting from Dovecot within {} s", CONNECT.as_secs())]
    NoGreeting,
    /// What it says is not for us.
    #[error("Dovecot's auth socket {0}")]
    Handshake(#[from] HandshakeError),
    /// It broke.
    #[error("the connection to Dovecot broke: {0}")]
    Broken(String),
    /// It was ended, as when Dovecot is restarted.
    #[error("Dovecot ended the connection")]
    Ended,
    /// Not the protocol.
    #[error("the connection to Dovecot is of no use: {0}")]
    Malformed(#[from] Malformed),
    /// Logins were asked for, and nothing at all came back.
    #[error("Dovecot gave no sign while logins waited")]
    Silent,
}

impl LinkError {
    /// The operator has to change something; waiting does not help.
    pub(super) fn is_permanent(&self) -> bool {
        matches!(self, Self::Handshake(_))
    }
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that has been greeted.
pub(super) struct Connection {
    pub(super) lines: Lines,
    pub(super) writer: WriteHalf<Box<dyn Stream>>,
    pub(super) greeting: Greeting,
}

impl Connection {
    /// Connects and hears the greeting, in time.
    pub(super) async fn open(address: &DovecotAddress) -> Result<Self, LinkError> {
        let connect = timeout(CONNECT, connect(address)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = connect.map_err(|error| LinkError::Connect(format!("{address}: {error}")))?;
        let (reader, mut writer) = tokio::io::split(stream);
        let (mut lines, mut handshake) = (Lines::new(reader), Handshake::default());
        let greeted = async {
            writer.write_all(&wire::greeting(std::process::id())).await.map_err(|error| broken(&error))?;
            loop {
                let line = lines.next().await?;
                if let Some(greeting) = handshake.on_line(Line::parse(line)?)? {
                    return Ok::<_, LinkError>(greeting);
                }
            }
        };
        match timeout(CONNECT, greeted).await.unwrap_or(Err(LinkError::NoGreeting)) {
            Ok(greeting) => Ok(Self { lines, writer, greeting }),
            Err(error @ LinkError::Handshake(_)) => Err(error),
            // A socket for look-ups hangs up on what a client says.
            Err(error) => Err(handshake.on_end().map_or(error, LinkError::Handshake)),
        }
    }
}

async fn connect(address: &DovecotAddress) -> io::Result<Box<dyn Stream>> {
    match address {
        DovecotAddress::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        DovecotAddress::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
    }
}

pub(super) fn broken(error: &io::Error) -> LinkError {
    LinkError::Broken(error.to_string())
}

/// Lines as they come.
pub(super) struct Lines {
    reader: ReadHalf<Box<dyn Stream>>,
    buffer: BytesMut,
    /// What the caller has had already.
    taken: usize,
}

impl Lines {
    fn new(reader: ReadHalf<Box<dyn Stream>>) -> Self {
        Self { reader, buffer: BytesMut::with_capacity(4096), taken: 0 }
    }

    /// The next line, without its end. A future that is dropped loses nothing.
    pub(super) async fn next(&mut self) -> Result<&[u8], LinkError> {
        let _ = self.buffer.split_to(std::mem::take(&mut self.taken));
        let mut seen = 0;
        loop {
            if let Some(at) = self.buffer[seen..].iter().position(|byte| *byte == b'\n') {
                let end = seen + at;
                self.taken = end + 1;
                return Ok(&self.buffer[..end]);
            }
            seen = self.buffer.len();
            if seen >= LINE_LIMIT {
                return Err(Malformed("a line that is too long").into());
            }
            self.buffer.reserve(1024);
            match self.reader.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(LinkError::Ended),
                Ok(_) => {}
                Err(error) => return Err(broken(&error)),
            }
        }
    }
}
