//! Version 1: one line of text (section 2.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::{Origin, Parsed, ProxyError, client};

pub(super) const PREFIX: &[u8] = b"PROXY ";
/// The longest line with its CRLF: `UNKNOWN` with two IPv6 addresses and ports.
const MAX: usize = 107;

pub(super) fn parse(input: &[u8]) -> Result<Parsed, ProxyError> {
    let common = input.len().min(PREFIX.len());
    if input[..common] != PREFIX[..common] {
        return Err(ProxyError::Malformed("it does not start with PROXY"));
    }
    let line = &input[..input.len().min(MAX)];
    let Some(end) = line.iter().position(|&b| b == b'\n') else {
        return unfinished(line);
    };
    // The first CR must be the one before the LF; anything else is not a line to everybody.
    if line[..end].iter().position(|&b| b == b'\r') != Some(end.wrapping_sub(1)) {
        return Err(ProxyError::Malformed("the line does not end in CRLF"));
    }
    let words = std::str::from_utf8(&line[PREFIX.len()..end - 1]).map_err(|_| ProxyError::Malformed("not ASCII"))?;
    Ok(Parsed::Complete(origin(words)?, end + 1))
}

fn unfinished(line: &[u8]) -> Result<Parsed, ProxyError> {
    match line.iter().position(|&b| b == b'\r') {
        Some(at) if at + 1 < line.len() => Err(ProxyError::Malformed("the line does not end in CRLF")),
        _ if line.len() == MAX => Err(ProxyError::Malformed("the line is too long")),
        Some(_) => Ok(Parsed::Partial(1)),
        None => Ok(Parsed::Partial(2)),
    }
}

/// What follows `PROXY `. Of `UNKNOWN` the rest must be ignored.
fn origin(words: &str) -> Result<Origin, ProxyError> {
    if words == "UNKNOWN" || words.starts_with("UNKNOWN ") {
        return Ok(Origin::Unknown);
    }
    let mut words = words.split(' ');
    let family = words.next();
    let [Some(source), Some(destination), Some(source_port), Some(destination_port), None] =
        std::array::from_fn(|_| words.next())
    else {
        return Err(ProxyError::Malformed("not a family, two addresses and two ports"));
    };
    let source = match family {
        Some("TCP4") => addresses::<Ipv4Addr>(source, destination)?,
        Some("TCP6") => addresses::<Ipv6Addr>(source, destination)?,
        _ => return Err(ProxyError::Malformed("neither TCP4 nor TCP6 nor UNKNOWN")),
    };
    port(destination_port)?;
    Ok(client(source, port(source_port)?))
}

/// Both must be of the family; the source is what counts.
fn addresses<A: FromStr + Into<IpAddr>>(source: &str, destination: &str) -> Result<IpAddr, ProxyError> {
    match (source.parse::<A>(), destination.parse::<A>()) {
        (Ok(source), Ok(_)) => Ok(source.into()),
        _ => Err(ProxyError::Malformed("not an address of its family")),
    }
}

/// 0 to 65535 without leading zeros.
fn port(text: &str) -> Result<u16, ProxyError> {
    let canonical = text == "0" || text.starts_with(|c: char| ('1'..='9').contains(&c));
    let port = text.parse().ok().filter(|_| canonical);
    port.ok_or(ProxyError::Malformed("not a port"))
}
