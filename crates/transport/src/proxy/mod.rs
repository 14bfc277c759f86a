//! The PROXY protocol, versions 1 and 2, as its receiver: what a load balancer says of the client that it stands for
//! (HAProxy's `proxy-protocol.txt`).
//!
//! [`read`] takes the header off a fresh connection, and not one octet more: what follows it belongs to the TLS
//! handshake or to the SMTP session. [`parse`] is the pure part. Whoever may send a header may claim any address, so
//! callers read one only from networks that the operator names, and there always: a connection without it is refused.
//! [`announces`] tells the same header when it comes from somebody else.
//!
//! The destination address and all TLVs are skipped: nothing here depends on them.

mod v1;
mod v2;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// How long a proxy may take for its header. It is sent in one packet right after the connection is made.
pub const DEADLINE: Duration = Duration::from_secs(3);
/// Room for all that is looked at: the longest v1 line, a v2 header with the longest address block.
const ROOM: usize = 256;

/// Whom a proxy speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client with this address; IPv4-mapped ones are unwrapped.
    Client(SocketAddr),
    /// A client that the proxy cannot name: v1 `UNKNOWN`, a family that is not IP. Nothing is known of it, so that
    /// the proxy's own rights must not become its.
    Unknown,
    /// The proxy itself, such as its health check (v2 `LOCAL`).
    Proxy,
}

/// How far a header has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Good so far. Where the length is known already, so many octets are certainly missing; never 0.
    Partial(usize),
    /// The header takes this many octets, of which the last, TLVs, may not be there yet.
    Complete(Origin, usize),
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// What came is no header, or one that must be refused.
    #[error("malformed PROXY header: {0}")]
    Malformed(&'static str),
    /// The header was not complete in time.
    #[error("no PROXY header in {} s", DEADLINE.as_secs())]
    Late,
    /// The connection ended before its header did. A probe of the port does this, without having said anything.
    #[error("the connection ended before its PROXY header")]
    Lost(#[source] io::Error),
}

/// Looks at what came so far.
///
/// # Errors
/// As soon as an octet cannot belong to a good header: [`ProxyError::Malformed`].
pub fn parse(input: &[u8]) -> Result<Parsed, ProxyError> {
    if input.first() == v2::SIGNATURE.first() { v2::parse(input) } else { v1::parse(input) }
}

/// Is this the beginning of a header? For clients that have no business to send one.
pub fn announces(input: &[u8]) -> bool {
    input.starts_with(v1::PREFIX) || input.starts_with(&v2::SIGNATURE)
}

/// Takes the header off the connection, within [`DEADLINE`].
///
/// # Errors
/// Close the connection without a word then: whoever is there speaks another protocol.
pub async fn read(tcp: &mut TcpStream) -> Result<Origin, ProxyError> {
    read_within(tcp, DEADLINE).await
}

async fn read_within(tcp: &mut TcpStream, deadline: Duration) -> Result<Origin, ProxyError> {
    tokio::time::timeout(deadline, read_header(tcp)).await.unwrap_or(Err(ProxyError::Late))
}

async fn read_header(tcp: &mut TcpStream) -> Result<Origin, ProxyError> {
    let mut buffer = [0; ROOM];
    let mut have = 0;
    loop {
        // Looked at first and taken afterwards, because the end of a v1 header is only seen when it is there.
        let seen = have + tcp.peek(&mut buffer[have..]).await.map_err(ProxyError::Lost)?;
        if seen == have {
            return Err(ProxyError::Lost(io::ErrorKind::UnexpectedEof.into()));
        }
        match parse(&buffer[..seen])? {
            Parsed::Partial(_) => {
                tcp.read_exact(&mut buffer[have..seen]).await.map_err(ProxyError::Lost)?;
                have = seen;
            }
            Parsed::Complete(origin, length) => {
                skip(tcp, length - have).await.map_err(ProxyError::Lost)?;
                return Ok(origin);
            }
        }
    }
}

async fn skip(tcp: &mut TcpStream, mut rest: usize) -> io::Result<()> {
    let mut scratch = [0; ROOM];
    while rest > 0 {
        let piece = rest.min(ROOM);
        rest -= tcp.read_exact(&mut scratch[..piece]).await?;
    }
    Ok(())
}

fn client(ip: IpAddr, port: u16) -> Origin {
    Origin::Client(SocketAddr::new(ip.to_canonical(), port))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
