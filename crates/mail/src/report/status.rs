//! The second part: `message/delivery-status` (RFC 3464 section 2), or its international kin (RFC 6533 section 4).

use super::text::{Charset, date, from_xtext};
use super::{Fate, Kind, Notice};

impl Kind {
    /// RFC 3464 section 2.3.3.
    const fn action(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed { .. } => "delayed",
            Self::Relayed => "relayed",
            Self::Delivered => "delivered",
        }
    }
}

/// Writes the fields of the message, then a group for each recipient.
pub(super) fn write(kind: Kind, notice: &Notice<'_>, charset: Charset, out: &mut String) {
    let mut field = |name, value: &str| charset.field(name, value, out);
    field("Reporting-MTA", &format!("dns; {}", notice.hostname));
    if let Some(envid) = notice.envid {
        field("Original-Envelope-Id", &from_xtext(envid));
    }
    field("X-Staffetta-Queue-ID", &notice.id.to_string());
    field("X-Staffetta-Sender", &charset.typed_address(notice.sender.as_str()));
    field("Arrival-Date", &date(notice.arrived));
    for fate in notice.fates {
        out.push_str("\r\n");
        recipient(kind, notice, fate, charset, out);
    }
}

fn recipient(kind: Kind, notice: &Notice<'_>, fate: &Fate<'_>, charset: Charset, out: &mut String) {
    let mut field = |name, value: &str| charset.field(name, value, out);
    if let Some((kind, address)) = fate.recipient.orcpt.as_deref().and_then(|orcpt| orcpt.split_once(';')) {
        field("Original-Recipient", &charset.original_address(kind, address));
    }
    field("Final-Recipient", &charset.typed_address(fate.recipient.address.as_str()));
    field("Action", kind.action());
    field("Status", &fate.status.to_string());
    if let Some(remote) = fate.remote {
        field("Remote-MTA", &format!("dns; {remote}"));
    }
    let diagnostic = match fate.reply {
        Some(reply) => format!("smtp; {reply}"),
        None => format!("X-Staffetta; {}", fate.text),
    };
    // What was said stays ASCII also where addresses need not.
    field("Diagnostic-Code", &Charset::Ascii.clean(&diagnostic));
    field("Last-Attempt-Date", &date(notice.now));
    if let Kind::Delayed { retry_until } = kind {
        field("Will-Retry-Until", &date(retry_until));
    }
}
