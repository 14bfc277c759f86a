//! Where Dovecot listens for clients.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;

use super::{Kind, Wrong, quoted};

/// Octets of a path that fit into the address of a unix socket.
const MAX_PATH: usize = 107;

/// Where Dovecot listens for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DovecotAddress {
    /// A unix socket.
    Unix(PathBuf),
    /// An `inet_listener`.
    Tcp {
        /// A name or an address.
        host: String,
        /// Above 0.
        port: u16,
    },
}

impl fmt::Display for DovecotAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
        }
    }
}

/// A path, or `tcp:host:port`.
pub(crate) struct DovecotSocket;

impl Kind for DovecotSocket {
    type Value = DovecotAddress;
    const NOUN: &'static str = "the socket of a Dovecot auth service";

    fn allowed() -> String {
        "\"/path\", \"tcp:host:port\"".into()
    }

    fn parse(text: &str) -> Result<DovecotAddress, Wrong> {
        let parsed = match text.strip_prefix("tcp:") {
            Some(rest) => tcp(rest),
            None => unix(text),
        };
        parsed.ok_or_else(|| Wrong::not::<Self>(text))
    }

    fn show(value: &DovecotAddress) -> String {
        quoted(&value.to_string())
    }
}

fn unix(text: &str) -> Option<DovecotAddress> {
    let is_path = text.starts_with('/') && text.len() > 1 && text.len() <= MAX_PATH && !text.contains('\0');
    is_path.then(|| DovecotAddress::Unix(text.into()))
}

fn tcp(text: &str) -> Option<DovecotAddress> {
    let (host, port) = text.rsplit_once(':')?;
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| *port > 0 && is_number)?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').filter(|inner| inner.parse::<Ipv6Addr>().is_ok())?,
        None => Some(host).filter(|host| !host.is_empty() && host.chars().all(is_name))?,
    };
    Some(DovecotAddress::Tcp { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_a_path_or_a_host_with_a_port() {
        for text in [
            "/var/spool/postfix/private/auth",
            "tcp:127.0.0.1:12345",
            "tcp:dovecot.mail.svc:12345",
            "tcp:[2001:db8::1]:12345",
        ] {
            assert_eq!(DovecotSocket::parse(text).map(|address| address.to_string()), Ok(text.to_owned()), "{text}");
        }
        let long = format!("/{}", "a".repeat(MAX_PATH));
        for text in [
            "",
            "/",
            "auth",
            "inet:127.0.0.1:1",
            "tcp:",
            "tcp:host",
            "tcp::1",
            "tcp:host:",
            "tcp:host:0",
            "tcp:host:65536",
            "tcp:a b:1",
            "tcp:[x]:1",
            "tcp:2001:db8::1:12345",
            "tcp:host:+1",
            "/a\0b",
            &long,
        ] {
            assert!(DovecotSocket::parse(text).is_err(), "{text}");
        }
    }
}
