//! Version 2: binary (section 2.2).
//!
//! ```text
//!  0          12          13             14       16
//!  signature │ 2 · command │ family · type │ length │ addresses │ TLVs …
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Origin, Parsed, ProxyError, client};

pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Up to and with the length.
const FIXED: usize = 16;

pub(super) fn parse(input: &[u8]) -> Result<Parsed, ProxyError> {
    let common = input.len().min(SIGNATURE.len());
    if input[..common] != SIGNATURE[..common] {
        return Err(ProxyError::Malformed("neither version 1 nor version 2"));
    }
    let command = input.get(12).copied().map(Command::read).transpose()?;
    let family = input.get(13).copied().map(Family::read).transpose()?;
    let (Some(command), Some(family), Some(&[high, low])) = (command, family, input.get(14..FIXED)) else {
        return Ok(Parsed::Partial(FIXED - input.len()));
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let total = FIXED + length;
    // Of LOCAL everything behind the length is skipped, whatever it says.
    let needed = if command == Command::Local { 0 } else { family.octets() };
    if length < needed {
        return Err(ProxyError::Malformed("the address block is too short"));
    }
    let Some(block) = input.get(FIXED..FIXED + needed) else {
        return Ok(Parsed::Partial(total - input.len()));
    };
    let origin = if command == Command::Local { Origin::Proxy } else { family.origin(block) };
    Ok(Parsed::Complete(origin, total))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Command {
    Local,
    Proxy,
}

impl Command {
    fn read(octet: u8) -> Result<Self, ProxyError> {
        match (octet >> 4, octet & 0xf) {
            (2, 0) => Ok(Self::Local),
            (2, 1) => Ok(Self::Proxy),
            (2, _) => Err(ProxyError::Malformed("unknown command")),
            _ => Err(ProxyError::Malformed("unknown version")),
        }
    }
}

#[derive(Clone, Copy)]
enum Family {
    Unspecified,
    Tcp4,
    Tcp6,
    Unix,
}

impl Family {
    /// Datagrams never come over a connection of ours.
    fn read(octet: u8) -> Result<Self, ProxyError> {
        match octet {
            0x00 => Ok(Self::Unspecified),
            0x11 => Ok(Self::Tcp4),
            0x21 => Ok(Self::Tcp6),
            0x31 => Ok(Self::Unix),
            _ => Err(ProxyError::Malformed("unknown family or no stream")),
        }
    }

    /// Least length of the address block.
    const fn octets(self) -> usize {
        match self {
            Self::Unspecified => 0,
            Self::Tcp4 => 12,
            Self::Tcp6 => 36,
            Self::Unix => 216,
        }
    }

    /// Source, destination, source port, destination port.
    fn origin(self, block: &[u8]) -> Origin {
        match self {
            Self::Tcp4 => {
                let mut ip = [0; 4];
                ip.copy_from_slice(&block[..4]);
                client(IpAddr::V4(Ipv4Addr::from(ip)), port(&block[8..]))
            }
            Self::Tcp6 => {
                let mut ip = [0; 16];
                ip.copy_from_slice(&block[..16]);
                client(IpAddr::V6(Ipv6Addr::from(ip)), port(&block[32..]))
            }
            Self::Unspecified | Self::Unix => Origin::Unknown,
        }
    }
}

fn port(octets: &[u8]) -> u16 {
    u16::from_be_bytes([octets[0], octets[1]])
}
