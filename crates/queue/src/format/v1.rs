//! Version 1: the postcard form of these structs, by position. It cannot grow: a field more is another layout.

use serde::{Deserialize, Serialize};
use staffetta_mail as mail;

use super::{Draft, HEADER, Parsed, ReadError};
use crate::{Chunks, Codec, Destination, Kept, Origin};

#[derive(Serialize, Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    sender: Sender<'a>,
    recipients: Vec<Recipient<'a>>,
    body: Body,
    ret: Option<Return>,
    envid: Option<&'a str>,
    listener: &'a str,
    client: Option<std::net::IpAddr>,
    helo: &'a str,
    login: Option<&'a str>,
    size: u64,
    arrived: u64,
    lifetime: u64,
    destinations: Vec<&'a str>,
    assignment: Vec<u16>,
    /// 0: the body follows.
    chunks: u32,
}

#[derive(Serialize, Deserialize)]
enum Sender<'a> {
    Null,
    Address(&'a str),
}

#[derive(Serialize, Deserialize)]
struct Recipient<'a> {
    address: &'a str,
    /// Success, failure, delay.
    notify: Option<(bool, bool, bool)>,
    orcpt: Option<&'a str>,
}

#[derive(Serialize, Deserialize)]
enum Body {
    SevenBit,
    EightBitMime,
}

#[derive(Serialize, Deserialize)]
enum Return {
    Full,
    Headers,
}

#[derive(Serialize, Deserialize)]
struct State<'a> {
    attempts: u32,
    delay_noticed: bool,
    remaining: Vec<u32>,
    reason: &'a str,
    status: Option<(u8, u16, u16)>,
}

/// Only bodies in Redis, as they are, and a prefix only where the body follows at once.
pub(super) fn can_say(draft: &Draft<'_>) -> bool {
    let plain = |chunks: Chunks| chunks.kept == Kept::InRedis && chunks.codec == Codec::Plain;
    draft.body.is_none_or(|chunks| plain(chunks) && draft.prefix.is_empty())
}

pub(super) fn write_record(draft: &Draft<'_>, out: Vec<u8>) -> Vec<u8> {
    let (envelope, origin) = (draft.envelope, draft.origin);
    let record = Record {
        sender: match &envelope.sender {
            mail::ReversePath::Null => Sender::Null,
            mail::ReversePath::Address(address) => Sender::Address(address.as_str()),
        },
        recipients: envelope.recipients.iter().map(Recipient::of).collect(),
        body: match envelope.body {
            mail::BodyType::SevenBit => Body::SevenBit,
            mail::BodyType::EightBitMime => Body::EightBitMime,
        },
        ret: envelope.ret.map(|ret| match ret {
            mail::Return::Full => Return::Full,
            mail::Return::Headers => Return::Headers,
        }),
        envid: envelope.envid.as_deref(),
        listener: &origin.listener,
        client: origin.client,
        helo: &origin.helo,
        login: origin.login.as_deref(),
        size: draft.size,
        arrived: draft.arrived,
        lifetime: draft.lifetime,
        destinations: draft.destinations.iter().map(Destination::as_str).collect(),
        assignment: draft.assignment.to_vec(),
        chunks: draft.body.map_or(0, |chunks| chunks.count),
    };
    // Writing into a Vec cannot fail, and no type here refuses to be serialised.
    let mut out = postcard::to_extend(&record, out).unwrap_or_default();
    out.extend_from_slice(draft.prefix);
    out.extend_from_slice(draft.inline);
    out
}

/// The record, and what is behind it.
fn parts(bytes: &[u8]) -> Result<(Record<'_>, &[u8]), ReadError> {
    let head = bytes.get(HEADER..).ok_or(ReadError::Damaged("it is cut short"))?;
    postcard::take_from_bytes(head).map_err(|_| ReadError::Damaged("it is no record of format 1"))
}

pub(super) fn with_jobs(bytes: &[u8], destinations: &[Destination], assignment: &[u16]) -> Result<Vec<u8>, ReadError> {
    let (mut record, body) = parts(bytes)?;
    record.destinations = destinations.iter().map(Destination::as_str).collect();
    record.assignment = assignment.to_vec();
    // Writing into a Vec cannot fail, and no type here refuses to be serialised.
    let mut out = postcard::to_extend(&record, bytes[..HEADER].to_vec()).unwrap_or_default();
    out.extend_from_slice(body);
    Ok(out)
}

pub(super) fn read_record(bytes: &[u8]) -> Result<Parsed, ReadError> {
    let (record, body) = parts(bytes)?;
    Ok(Parsed {
        envelope: mail::Envelope {
            sender: match record.sender {
                Sender::Null => mail::ReversePath::Null,
                Sender::Address(text) => mail::ReversePath::Address(address(text)?),
            },
            recipients: record.recipients.into_iter().map(Recipient::read).collect::<Result<_, _>>()?,
            body: match record.body {
                Body::SevenBit => mail::BodyType::SevenBit,
                Body::EightBitMime => mail::BodyType::EightBitMime,
            },
            ret: record.ret.map(|ret| match ret {
                Return::Full => mail::Return::Full,
                Return::Headers => mail::Return::Headers,
            }),
            envid: record.envid.map(str::to_owned),
            smtputf8: false,
            require_tls: false,
            tls_optional: false,
        },
        origin: Origin {
            listener: record.listener.to_owned(),
            client: record.client,
            helo: record.helo.to_owned(),
            login: record.login.map(str::to_owned),
            span: None,
        },
        size: record.size,
        long_lines: false,
        arrived: record.arrived,
        lifetime: record.lifetime,
        counted_for: None,
        destinations: record.destinations.into_iter().map(Destination::new).collect(),
        assignment: record.assignment,
        body: (record.chunks > 0).then(|| Chunks::in_redis(record.chunks, record.size)),
        prefix: 0,
        rest: bytes.len() - body.len(),
    })
}

pub(super) fn write_state(state: &super::State) -> Vec<u8> {
    let state = State {
        attempts: state.attempts,
        delay_noticed: state.delay_noticed,
        remaining: state.remaining.clone(),
        reason: &state.reason,
        status: state.status.map(|status| (status.class, status.subject, status.detail)),
    };
    postcard::to_stdvec(&state).unwrap_or_default()
}

pub(super) fn read_state(bytes: &[u8]) -> Result<super::State, ReadError> {
    let damaged = |_| ReadError::Damaged("its state is no state of format 1");
    let state: State<'_> = postcard::from_bytes(bytes).map_err(damaged)?;
    Ok(super::State {
        attempts: state.attempts,
        delay_noticed: state.delay_noticed,
        remaining: state.remaining,
        reason: state.reason.to_owned(),
        status: state.status.map(|(class, subject, detail)| mail::Status::new(class, subject, detail)),
        unknown: Vec::new(),
    })
}

impl<'a> Recipient<'a> {
    fn of(recipient: &'a mail::Recipient) -> Self {
        Self {
            address: recipient.address.as_str(),
            notify: recipient.notify.map(|notify| (notify.success, notify.failure, notify.delay)),
            orcpt: recipient.orcpt.as_deref(),
        }
    }

    fn read(self) -> Result<mail::Recipient, ReadError> {
        let notify = self.notify.map(|(success, failure, delay)| mail::Notify { success, failure, delay });
        let orcpt = self.orcpt.map(str::to_owned);
        Ok(mail::Recipient { notify, orcpt, ..mail::Recipient::new(address(self.address)?) })
    }
}

fn address(text: &str) -> Result<mail::Address, ReadError> {
    text.parse().map_err(|_| ReadError::Damaged("an address is malformed"))
}
