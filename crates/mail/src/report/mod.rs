//! Delivery status notifications: multipart/report as RFC 3464 and RFC 6522 define it, and as RFC 6533 does for mail with UTF-8 in
//! its addresses and header fields.
//!
//! One [`Notice`] says what happened to some recipients of one message; [`failure`], [`delay`], [`relayed`] and
//! [`delivered`] make a complete message of it, to be sent from `<>` to the sender. Whether somebody wants to hear of
//! it (NOTIFY, a null sender) is the caller's question: [`crate::Recipient::wants_failure`] and its kin.
//!
//! The report has three parts: plain words, `message/delivery-status`, and the message or its header section, unless that
//! is withheld. All lines end in CRLF and have at most 998 octets. Texts of remote servers and addresses are made printable and
//! folded before they go in, so that nothing in them can add a field, a part or a line. They are ASCII, with escapes for the
//! rest, unless the report goes to an address in UTF-8 and so by SMTPUTF8 anyway.

mod original;
mod status;
mod text;

use crate::{Address, BodyType, QueueId, Recipient, RemoteReply, Return, Status};

pub use original::Original;

use text::{Charset, date};

/// Milliseconds since the Unix epoch.
pub type UnixMillis = u64;

/// What is to be reported about one message.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    /// The name of this system.
    pub hostname: &'a str,
    /// To whom: the sender of the message.
    pub sender: &'a Address,
    /// The name of the message.
    pub id: QueueId,
    /// When the message was accepted.
    pub arrived: UnixMillis,
    /// Now.
    pub now: UnixMillis,
    /// Makes the Message-ID and the boundary unique; random, or a counter.
    pub unique: u64,
    /// `ENVID=` of the message, in xtext.
    pub envid: Option<&'a str>,
    /// `RET=` of the message.
    pub ret: Option<Return>,
    /// `SMTPUTF8` of the message: whoever sent it knows the types of RFC 6533.
    pub smtputf8: bool,
    /// What happened to whom; not empty.
    pub fates: &'a [Fate<'a>],
    /// The message.
    pub original: Original<'a>,
}

/// What happened to one recipient.
#[derive(Clone, Copy, Debug)]
pub struct Fate<'a> {
    /// Whom.
    pub recipient: &'a Recipient,
    /// The status that the report gives.
    pub status: Status,
    /// The line that the log has, in words.
    pub text: &'a str,
    /// The host that replied, if one did.
    pub remote: Option<&'a str>,
    /// What it replied.
    pub reply: Option<&'a RemoteReply>,
}

/// A report, ready to be queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The whole message.
    pub content: Vec<u8>,
    /// 8BITMIME if it has octets above 127.
    pub body: BodyType,
}

/// The message will not reach these recipients.
pub fn failure(notice: &Notice<'_>) -> Report {
    build(Kind::Failed, notice)
}

/// The message is late; it is tried until `retry_until`.
pub fn delay(notice: &Notice<'_>, retry_until: UnixMillis) -> Report {
    build(Kind::Delayed { retry_until }, notice)
}

/// The message was passed to a system that does not report success itself (RFC 3461 section 5.2.2).
pub fn relayed(notice: &Notice<'_>) -> Report {
    build(Kind::Relayed, notice)
}

/// The message is in the recipients' mailboxes.
pub fn delivered(notice: &Notice<'_>) -> Report {
    build(Kind::Delivered, notice)
}

/// What the report is about; the same for all its recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Failed,
    Delayed { retry_until: UnixMillis },
    Relayed,
    Delivered,
}

impl Kind {
    const fn subject(self) -> &'static str {
        match self {
            Self::Failed => "Undelivered Mail Returned to Sender",
            Self::Delayed { .. } => "Delayed Mail (still being retried)",
            Self::Relayed | Self::Delivered => "Successful Mail Delivery Report",
        }
    }

    /// Only a failure returns the message (RFC 3461 section 6.2 lets others return its header section).
    const fn may_return_all(self) -> bool {
        matches!(self, Self::Failed)
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Failed => {
                "I'm sorry to have to inform you that your message could not be\r\n\
                 delivered to one or more recipients. It will not be tried again.\r\n"
            }
            Self::Delayed { .. } => {
                "####################################################################\r\n\
                 # THIS IS A WARNING ONLY.  YOU DO NOT NEED TO RESEND YOUR MESSAGE. #\r\n\
                 ####################################################################\r\n\
                 \r\n\
                 Your message could not be delivered yet. It is still being tried.\r\n"
            }
            Self::Relayed => {
                "Your message was passed on to the systems below. They do not send\r\n\
                 reports of success, so you may hear no more of it.\r\n"
            }
            Self::Delivered => "Your message was successfully delivered to the recipients below.\r\n",
        }
    }
}

/// The types of the parts, and what they are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// RFC 3464. That an alias led to an address in UTF-8 is no reason for another one: its sender may not know RFC 6533.
    Plain,
    /// The types of RFC 6533 section 4. Still in ASCII, so that every server on the way back takes it.
    Global,
    /// The same in UTF-8.
    InUtf8,
}

impl Form {
    fn of(notice: &Notice<'_>) -> Self {
        match (notice.sender.as_str().is_ascii(), notice.smtputf8) {
            (false, _) => Self::InUtf8,
            (true, true) => Self::Global,
            (true, false) => Self::Plain,
        }
    }

    const fn charset(self) -> Charset {
        match self {
            Self::Plain | Self::Global => Charset::Ascii,
            Self::InUtf8 => Charset::Utf8,
        }
    }

    /// Of the second part, and of `report-type` (RFC 6522 section 3).
    const fn status(self) -> &'static str {
        match self {
            Self::Plain => "delivery-status",
            Self::Global | Self::InUtf8 => "global-delivery-status",
        }
    }

    /// Of the third part.
    const fn returned(self, whole: bool) -> &'static str {
        match (self, whole) {
            (Self::Plain, true) => "message/rfc822",
            (Self::Plain, false) => "text/rfc822-headers",
            (Self::Global | Self::InUtf8, true) => "message/global",
            (Self::Global | Self::InUtf8, false) => "message/global-headers",
        }
    }
}

/// Puts the parts together.
fn build(kind: Kind, notice: &Notice<'_>) -> Report {
    let form = Form::of(notice);
    let returned = original::part(notice, kind.may_return_all());
    let words = human(kind, notice, form.charset(), returned.whole);
    let mut status = String::new();
    status::write(kind, notice, form.charset(), &mut status);
    let boundary = boundary(notice, &returned.content);
    let is_ascii = words.is_ascii() && status.is_ascii() && returned.content.is_ascii();
    let mut out = head(kind, notice, form, &boundary, transfer(is_ascii)).into_bytes();
    let text = if words.is_ascii() { "text/plain; charset=us-ascii" } else { "text/plain; charset=utf-8" };
    part(&boundary, "Notification", text, words.as_bytes(), &mut out);
    part(&boundary, "Delivery report", &format!("message/{}", form.status()), status.as_bytes(), &mut out);
    if !notice.original.is_withheld() {
        let what = if returned.whole { "Undelivered Message" } else { "Message Headers" };
        part(&boundary, what, form.returned(returned.whole), &returned.content, &mut out);
    }
    out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    let body = if is_ascii { BodyType::SevenBit } else { BodyType::EightBitMime };
    Report { content: out, body }
}

/// Of a body with these octets (RFC 2045 section 6.2).
const fn transfer(is_ascii: bool) -> &'static str {
    if is_ascii { "7bit" } else { "8bit" }
}

/// The header section of the report.
fn head(kind: Kind, notice: &Notice<'_>, form: Form, boundary: &str, transfer: &str) -> String {
    let Notice { id, unique, sender, .. } = notice;
    let hostname = Charset::Ascii.clean(notice.hostname);
    let (subject, report) = (kind.subject(), form.status());
    let date = date(notice.now);
    format!(
        "From: MAILER-DAEMON@{hostname} (Mail Delivery System)\r\n\
         To: {sender}\r\n\
         Subject: {subject}\r\n\
         Date: {date}\r\n\
         Message-ID: <{id}.{unique:x}@{hostname}>\r\n\
         Auto-Submitted: auto-replied\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type={report};\r\n\
         \tboundary=\"{boundary}\"\r\n\
         Content-Transfer-Encoding: {transfer}\r\n\
         \r\n\
         This is a MIME-encapsulated message.\r\n"
    )
}

/// Appends a part.
fn part(boundary: &str, description: &str, media: &str, content: &[u8], out: &mut Vec<u8>) {
    let transfer = transfer(content.is_ascii());
    let head = format!(
        "\r\n--{boundary}\r\n\
         Content-Description: {description}\r\n\
         Content-Type: {media}\r\n\
         Content-Transfer-Encoding: {transfer}\r\n\
         \r\n"
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(content);
}

/// The part for people.
fn human(kind: Kind, notice: &Notice<'_>, charset: Charset, whole: bool) -> String {
    let hostname = Charset::Ascii.clean(notice.hostname);
    let mut out = format!("This is the mail system at host {hostname}.\r\n\r\n{}\r\n", kind.words());
    if let Kind::Delayed { retry_until } = kind {
        out.push_str(&format!("It will be tried until {}.\r\n\r\n", date(retry_until)));
    }
    let attached = match whole {
        true => "The message is attached.",
        false if notice.original.is_withheld() => "The message is not attached.",
        false => "Its header section is attached.",
    };
    out.push_str(&format!(
        "{attached} For help, please write to postmaster@{hostname} and\r\ninclude this report.\r\n"
    ));
    for fate in notice.fates {
        out.push_str("\r\n");
        charset.wrap(&format!("<{}>: {}", charset.address(fate.recipient.address.as_str()), fate.text), &mut out);
    }
    out
}

/// A boundary that does not occur in the returned message, whatever that is.
fn boundary(notice: &Notice<'_>, returned: &[u8]) -> String {
    let mut number = notice.unique;
    loop {
        let boundary = format!("{}.{number:x}/staffetta", notice.id);
        if memchr::memmem::find(returned, boundary.as_bytes()).is_none() {
            return boundary;
        }
        number = number.wrapping_add(1);
    }
}

/// Recipients that a report about a stranger's message names.
const NAMED: usize = 10;

/// Those whom a report about a stranger's message names, without what the stranger added to them.
pub fn bare<'a>(recipients: impl Iterator<Item = &'a Recipient>) -> Vec<Recipient> {
    recipients.take(NAMED).map(|recipient| Recipient::new(recipient.address.clone())).collect()
}

#[cfg(test)]
mod tests;
