//! The second part: `message/delivery-status` (RFC 3464 section 2).

use super::text::{date, field, from_xtext, typed_address};
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
pub(super) fn write(kind: Kind, notice: &Notice<'_>, out: &mut String) {
    field("Reporting-MTA", &format!("dns; {}", notice.hostname), out);
    if let Some(envid) = notice.envid {
        field("Original-Envelope-Id", &from_xtext(envid), out);
    }
    field("X-Staffetta-Queue-ID", &notice.id.to_string(), out);
    field("X-Staffetta-Sender", &typed_address(notice.sender.as_str()), out);
    field("Arrival-Date", &date(notice.arrived), out);
    for fate in notice.fates {
        out.push_str("\r\n");
        recipient(kind, notice, fate, out);
    }
}

fn recipient(kind: Kind, notice: &Notice<'_>, fate: &Fate<'_>, out: &mut String) {
    if let Some((kind, address)) = fate.recipient.orcpt.as_deref().and_then(|orcpt| orcpt.split_once(';')) {
        field("Original-Recipient", &format!("{kind};{}", from_xtext(address)), out);
    }
    field("Final-Recipient", &typed_address(fate.recipient.address.as_str()), out);
    field("Action", kind.action(), out);
    field("Status", &fate.status.to_string(), out);
    if let Some(remote) = fate.remote {
        field("Remote-MTA", &format!("dns; {remote}"), out);
    }
    match fate.reply {
        Some(reply) => field("Diagnostic-Code", &format!("smtp; {reply}"), out),
        None => field("Diagnostic-Code", &format!("X-Staffetta; {}", fate.text), out),
    }
    field("Last-Attempt-Date", &date(notice.now), out);
    if let Kind::Delayed { retry_until } = kind {
        field("Will-Retry-Until", &date(retry_until), out);
    }
}
