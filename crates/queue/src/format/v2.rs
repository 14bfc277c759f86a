//! Version 2: numbered fields behind their length, then the prefix, then a small body.
//!
//! Numbers are never used again for something else. What is absent has its default.

use std::net::IpAddr;

use staffetta_mail::{Address, BodyType, Envelope, Notify, Recipient, Return, ReversePath, SpanContext, Status};

use super::fields::{
    Field, narrow, needed, optional, overlook, put, put_nested, put_number, put_numbers, take, take_field, take_number,
};
use super::{Draft, HEADER, Parsed, ReadError, State};
use crate::{Chunks, Codec, Destination, Kept, Origin};

const SENDER: u64 = needed(1);
const RECIPIENT: u64 = needed(2);
const BODY_TYPE: u64 = needed(3);
const RET: u64 = optional(4);
const ENVID: u64 = optional(5);
const LISTENER: u64 = optional(6);
const CLIENT: u64 = optional(7);
const HELO: u64 = optional(8);
const LOGIN: u64 = optional(9);
const SIZE: u64 = needed(10);
const ARRIVED: u64 = needed(11);
const LIFETIME: u64 = needed(12);
const DESTINATION: u64 = needed(13);
/// The job of each recipient; absent when there is one job.
const ASSIGNMENT: u64 = needed(14);
/// Count and size.
const CHUNKS: u64 = needed(15);
/// Octets of the prefix.
const PREFIX: u64 = needed(17);
/// Empty: it is there. Whoever does not know them would send the mail where it must not go.
const SMTPUTF8: u64 = needed(18);
const REQUIRE_TLS: u64 = needed(19);
/// Empty: it is there. Whoever does not know it sends long lines as they are.
const LONG_LINES: u64 = optional(20);
/// Count and size, in the store. (16 stood for one object and was never written.)
const OBJECTS: u64 = needed(21);
/// Empty: it is there. Whoever does not know it asks for more than need be.
const TLS_OPTIONAL: u64 = optional(22);
/// Empty: each piece, in Redis or in the store, is a frame of zstd.
const PACKED: u64 = needed(23);
/// Whoever does not know it leaves the count as it is: [`crate::readers`] sees to it that there is none.
const COUNTED_FOR: u64 = optional(24);
/// Trace and span that it was accepted in; absent when it is not traced.
const SPAN: u64 = optional(25);
/// The number of the move that has brought the body of `OBJECTS` to the store. Whoever does not know it looks elsewhere.
const OFFLOADED: u64 = needed(27);

/// In a recipient.
const ADDRESS: u64 = needed(1);
const NOTIFY: u64 = needed(2);
const ORCPT: u64 = optional(3);
const ALIAS: u64 = optional(4);

/// In a state.
const ATTEMPTS: u64 = needed(1);
const DELAY_NOTICED: u64 = optional(2);
const REMAINING: u64 = needed(3);
const REASON: u64 = optional(4);
const STATUS: u64 = optional(5);

pub(super) fn write_record(draft: &Draft<'_>, mut out: Vec<u8>) -> Vec<u8> {
    let start = out.len();
    write_head(draft, &mut out);
    let length = out.len() - start;
    put_number(&mut out, length as u64);
    // The length goes in front of what it counts.
    out[start..].rotate_left(length);
    out.extend_from_slice(draft.prefix);
    out.extend_from_slice(draft.inline);
    out
}

fn write_head(draft: &Draft<'_>, out: &mut Vec<u8>) {
    let (envelope, origin) = (draft.envelope, draft.origin);
    put(out, SENDER, envelope.sender.as_str().as_bytes());
    for recipient in &envelope.recipients {
        put_nested(out, RECIPIENT, |out| write_recipient(recipient, out));
    }
    if envelope.body == BodyType::EightBitMime {
        put_numbers(out, BODY_TYPE, [1]);
    }
    if let Some(ret) = envelope.ret {
        put_numbers(out, RET, [u64::from(ret == Return::Headers)]);
    }
    put_text(out, ENVID, envelope.envid.as_deref());
    put_text(out, LISTENER, Some(&origin.listener));
    match origin.client {
        Some(IpAddr::V4(ip)) => put(out, CLIENT, &ip.octets()),
        Some(IpAddr::V6(ip)) => put(out, CLIENT, &ip.octets()),
        None => {}
    }
    put_text(out, HELO, Some(&origin.helo));
    put_text(out, LOGIN, origin.login.as_deref());
    if let Some(span) = origin.span {
        put(out, SPAN, &span.octets());
    }
    put_numbers(out, SIZE, [draft.size]);
    put_numbers(out, ARRIVED, [draft.arrived]);
    put_numbers(out, LIFETIME, [draft.lifetime]);
    put_text(out, COUNTED_FOR, draft.counted_for);
    write_jobs(draft.destinations, draft.assignment, out);
    if let Some(Chunks { count, size, kept, codec }) = draft.body {
        put_numbers(out, if kept.is_in_store() { OBJECTS } else { CHUNKS }, [count.into(), size]);
        if let Kept::Offloaded(number) = kept {
            put(out, OFFLOADED, &number.to_be_bytes());
        }
        if codec == Codec::Zstd {
            put(out, PACKED, &[]);
        }
    }
    if !draft.prefix.is_empty() {
        put_numbers(out, PREFIX, [draft.prefix.len() as u64]);
    }
    let flags = [
        (envelope.smtputf8, SMTPUTF8),
        (envelope.require_tls, REQUIRE_TLS),
        (draft.long_lines, LONG_LINES),
        (envelope.tls_optional, TLS_OPTIONAL),
    ];
    for (flag, key) in flags {
        if flag {
            put(out, key, &[]);
        }
    }
}

fn write_jobs(destinations: &[Destination], assignment: &[u16], out: &mut Vec<u8>) {
    for destination in destinations {
        put(out, DESTINATION, destination.as_str().as_bytes());
    }
    if !assignment.is_empty() {
        put_numbers(out, ASSIGNMENT, assignment.iter().map(|job| u64::from(*job)));
    }
}

fn write_recipient(recipient: &Recipient, out: &mut Vec<u8>) {
    put(out, ADDRESS, recipient.address.as_str().as_bytes());
    if let Some(notify) = recipient.notify {
        let bits = u64::from(notify.success) | u64::from(notify.failure) << 1 | u64::from(notify.delay) << 2;
        put_numbers(out, NOTIFY, [bits]);
    }
    put_text(out, ORCPT, recipient.orcpt.as_deref());
    put_text(out, ALIAS, recipient.alias.as_ref().map(Address::as_str));
}

fn put_text(out: &mut Vec<u8>, key: u64, text: Option<&str>) {
    if let Some(text) = text {
        put(out, key, text.as_bytes());
    }
}

/// The head, and what is behind it.
fn parts(bytes: &[u8]) -> Result<(&[u8], &[u8]), ReadError> {
    let mut rest = bytes.get(HEADER..).ok_or(ReadError::Damaged("it is cut short"))?;
    let length = take_number(&mut rest)?;
    let head = take(&mut rest, length)?;
    Ok((head, rest))
}

pub(super) fn with_jobs(bytes: &[u8], destinations: &[Destination], assignment: &[u16]) -> Result<Vec<u8>, ReadError> {
    with_head(bytes, |old, head| {
        for field in old.iter().filter(|field| !matches!(field.key, DESTINATION | ASSIGNMENT)) {
            head.extend_from_slice(field.raw);
        }
        write_jobs(destinations, assignment, head);
    })
}

pub(super) fn with_offloaded_body(bytes: &[u8], number: u32) -> Result<Vec<u8>, ReadError> {
    with_head(bytes, |old, head| {
        for field in old {
            match field.key {
                CHUNKS => put(head, OBJECTS, field.octets),
                _ => head.extend_from_slice(field.raw),
            }
        }
        put(head, OFFLOADED, &number.to_be_bytes());
    })
}

/// The same record with another head: what `write` makes of the fields of the old one.
fn with_head(bytes: &[u8], write: impl FnOnce(&[Field<'_>], &mut Vec<u8>)) -> Result<Vec<u8>, ReadError> {
    let (mut old, rest) = parts(bytes)?;
    let mut head = Vec::with_capacity(2 * old.len() + 64);
    let mut fields = Vec::new();
    while !old.is_empty() {
        fields.push(take_field(&mut old)?);
    }
    write(&fields, &mut head);
    let mut out = bytes[..HEADER].to_vec();
    put_number(&mut out, head.len() as u64);
    Ok([out.as_slice(), &head, rest].concat())
}

pub(super) fn read_record(bytes: &[u8]) -> Result<Parsed, ReadError> {
    let (mut head, rest) = parts(bytes)?;
    let mut parsed = empty(bytes.len() - rest.len());
    let (mut packed, mut offloaded) = (false, None);
    while !head.is_empty() {
        match take_field(&mut head)? {
            Field { key: PACKED, .. } => packed = true,
            Field { key: OFFLOADED, octets, .. } => offloaded = Some(read_move(octets)?),
            field => read_field(&field, &mut parsed)?,
        }
    }
    if let Some(chunks) = &mut parsed.body {
        if packed {
            chunks.codec = Codec::Zstd;
        }
        if let Some(number) = offloaded {
            chunks.kept = Kept::Offloaded(number);
        }
    }
    Ok(parsed)
}

/// Nothing but the defaults.
fn empty(rest: usize) -> Parsed {
    Parsed {
        envelope: Envelope::new(ReversePath::Null, Vec::with_capacity(1)),
        origin: Origin { listener: String::new(), client: None, helo: String::new(), login: None, span: None },
        size: 0,
        long_lines: false,
        arrived: 0,
        lifetime: 0,
        counted_for: None,
        destinations: Vec::with_capacity(1),
        assignment: Vec::new(),
        body: None,
        prefix: 0,
        rest,
    }
}

fn read_field(field: &Field<'_>, parsed: &mut Parsed) -> Result<(), ReadError> {
    let (envelope, origin) = (&mut parsed.envelope, &mut parsed.origin);
    match field.key {
        SENDER if field.octets.is_empty() => {}
        SENDER => envelope.sender = ReversePath::Address(address(field.text()?)?),
        RECIPIENT => envelope.recipients.push(read_recipient(field.octets)?),
        BODY_TYPE => {
            envelope.body = match field.number()? {
                0 => BodyType::SevenBit,
                1 => BodyType::EightBitMime,
                _ => return Err(ReadError::Damaged("its body type is unknown")),
            };
        }
        RET => envelope.ret = Some(if field.number()? == 1 { Return::Headers } else { Return::Full }),
        ENVID => envelope.envid = Some(field.text()?.to_owned()),
        LISTENER => origin.listener = field.text()?.to_owned(),
        CLIENT => origin.client = read_ip(field.octets),
        HELO => origin.helo = field.text()?.to_owned(),
        LOGIN => origin.login = Some(field.text()?.to_owned()),
        SPAN => origin.span = SpanContext::from_octets(field.octets),
        SIZE => parsed.size = field.number()?,
        ARRIVED => parsed.arrived = field.number()?,
        LIFETIME => parsed.lifetime = field.number()?,
        COUNTED_FOR => parsed.counted_for = Some(field.text()?.to_owned()),
        LONG_LINES => parsed.long_lines = true,
        DESTINATION => parsed.destinations.push(Destination::new(field.text()?)),
        ASSIGNMENT => parsed.assignment = field.numbers()?.into_iter().map(narrow).collect::<Result<_, _>>()?,
        CHUNKS => parsed.body = Some(read_pieces(field, Kept::InRedis)?),
        OBJECTS => parsed.body = Some(read_pieces(field, Kept::InStore)?),
        PREFIX => parsed.prefix = narrow(field.number()?)?,
        SMTPUTF8 => envelope.smtputf8 = true,
        REQUIRE_TLS => envelope.require_tls = true,
        TLS_OPTIONAL => envelope.tls_optional = true,
        unknown => overlook(unknown)?,
    }
    Ok(())
}

fn read_recipient(mut octets: &[u8]) -> Result<Recipient, ReadError> {
    let (mut to, mut notify, mut orcpt, mut alias) = (None, None, None, None);
    while !octets.is_empty() {
        let field = take_field(&mut octets)?;
        match field.key {
            ADDRESS => to = Some(address(field.text()?)?),
            NOTIFY => {
                let bits = field.number()?;
                notify = Some(Notify { success: bits & 1 > 0, failure: bits & 2 > 0, delay: bits & 4 > 0 });
            }
            ORCPT => orcpt = Some(field.text()?.to_owned()),
            ALIAS => alias = Some(address(field.text()?)?),
            unknown => overlook(unknown)?,
        }
    }
    Ok(Recipient { address: to.ok_or(ReadError::Damaged("a recipient has no address"))?, notify, orcpt, alias })
}

fn read_ip(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

fn read_move(octets: &[u8]) -> Result<u32, ReadError> {
    octets.try_into().map(u32::from_be_bytes).map_err(|_| ReadError::Damaged("the number of a move has four octets"))
}

fn read_pieces(field: &Field<'_>, kept: Kept) -> Result<Chunks, ReadError> {
    let mut rest = field.octets;
    let (count, size) = (narrow(take_number(&mut rest)?)?, take_number(&mut rest)?);
    Ok(Chunks { kept, ..Chunks::in_redis(count, size) })
}

fn address(text: &str) -> Result<Address, ReadError> {
    text.parse().map_err(|_| ReadError::Damaged("an address is malformed"))
}

/// Behind a 0, which no state of version 1 begins with, and the version.
pub(super) fn write_state(state: &State) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + state.reason.len() + 2 * state.remaining.len() + state.unknown.len());
    out.extend_from_slice(&[0, 2]);
    put_numbers(&mut out, ATTEMPTS, [u64::from(state.attempts)]);
    if state.delay_noticed {
        put(&mut out, DELAY_NOTICED, &[]);
    }
    put_numbers(&mut out, REMAINING, state.remaining.iter().map(|index| u64::from(*index)));
    put(&mut out, REASON, state.reason.as_bytes());
    if let Some(status) = state.status {
        put_numbers(&mut out, STATUS, [status.class.into(), status.subject.into(), status.detail.into()]);
    }
    out.extend_from_slice(&state.unknown);
    out
}

pub(super) fn read_state(mut rest: &[u8]) -> Result<State, ReadError> {
    let mut state = State::default();
    while !rest.is_empty() {
        let field = take_field(&mut rest)?;
        match field.key {
            ATTEMPTS => state.attempts = narrow(field.number()?)?,
            DELAY_NOTICED => state.delay_noticed = true,
            REMAINING => state.remaining = field.numbers()?.into_iter().map(narrow).collect::<Result<_, _>>()?,
            REASON => field.text()?.clone_into(&mut state.reason),
            STATUS => state.status = read_status(&field)?,
            unknown => {
                overlook(unknown)?;
                state.unknown.extend_from_slice(field.raw);
            }
        }
    }
    Ok(state)
}

fn read_status(field: &Field<'_>) -> Result<Option<Status>, ReadError> {
    match field.numbers()?.as_slice() {
        [class, subject, detail, ..] => Ok(Some(Status::new(narrow(*class)?, narrow(*subject)?, narrow(*detail)?))),
        _ => Err(ReadError::Damaged("its status is cut short")),
    }
}
