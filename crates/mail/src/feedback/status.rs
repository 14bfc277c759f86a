//! `message/delivery-status`: groups of fields, one for the message and one for each recipient (RFC 3464 section 2).

use std::str::FromStr;

use super::text_of;
use crate::{Address, RemoteReply, Status};

/// Recipients of one report that are looked at.
const MOST: usize = 10;

/// A recipient whom a message did not reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whom the report names.
    pub recipient: Option<Address>,
    /// Why, as a reply of a server: the code of one, or a code that says no more than the status does.
    pub reply: RemoteReply,
}

/// All in the fields of a report.
pub(super) fn failures(fields: &[u8]) -> Vec<Failure> {
    groups(fields).filter_map(failure).take(MOST).collect()
}

/// What stands between blank lines.
fn groups(fields: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = fields;
    std::iter::from_fn(move || {
        let mut end = 0;
        for line in rest.split_inclusive(|octet| *octet == b'\n') {
            if line.trim_ascii().is_empty() {
                let group = &rest[..end];
                rest = &rest[end + line.len()..];
                return Some(group);
            }
            end += line.len();
        }
        let last = std::mem::take(&mut rest);
        (!last.is_empty()).then_some(last)
    })
}

fn failure(group: &[u8]) -> Option<Failure> {
    if !text_of(group, b"Action")?.eq_ignore_ascii_case("failed") {
        return None;
    }
    let diagnostic = text_of(group, b"Diagnostic-Code").unwrap_or_default();
    let said = diagnostic.split_once(';').map_or("", |(_, said)| said.trim_start());
    let (code, said) = leading::<u16>(said);
    let (own, said) = leading::<Status>(said);
    let told = text_of(group, b"Status").and_then(|status| status.split(' ').next()?.parse::<Status>().ok());
    let status = match (told, own) {
        // Exim says no more there, whatever the server has said.
        (Some(told), Some(own)) if told.subject == 0 && own.class == told.class => own,
        (told, own) => told.or(own).filter(|status| status.class != 2)?,
    };
    let code = code.filter(|code| code / 100 == u16::from(status.class)).unwrap_or(u16::from(status.class) * 100 + 50);
    let reply = RemoteReply { code, status: Some(status), text: said.to_owned() };
    let recipient = text_of(group, b"Final-Recipient").or_else(|| text_of(group, b"Original-Recipient"));
    let recipient = recipient.and_then(|named| named.split_once(';')?.1.trim_matches([' ', '<', '>']).parse().ok());
    Some(Failure { recipient, reply })
}

/// A first word of this kind, and what stands behind it; replies have a hyphen behind codes.
fn leading<T: FromStr>(text: &str) -> (Option<T>, &str) {
    let (word, rest) = text.split_once([' ', '-']).unwrap_or((text, ""));
    word.parse().map_or((None, text), |value| (Some(value), rest.trim_start()))
}
