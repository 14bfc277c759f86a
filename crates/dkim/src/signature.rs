//! The DKIM-Signature field (RFC 6376 section 3.5).

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::{Digest, Row, header};

const NAME: &str = "DKIM-Signature";
/// Where a line of names or of base64 ends; RFC 5322 section 2.1.1 wants 78 at most.
const WIDTH: usize = 72;

/// The library could not sign. It says no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message could not be signed")]
pub struct Unsigned;

impl Digest {
    /// The fields that go in front of the message: one for each row, each ended by CRLF. `now`: seconds since the Unix epoch.
    ///
    /// # Errors
    /// [`Unsigned`]; with it there is no signature at all.
    pub fn sign(&self, rows: &[Row], now: u64) -> Result<Vec<u8>, Unsigned> {
        let mut fields = Vec::with_capacity(rows.len() * 1024);
        for row in rows {
            let mut value = self.unsigned(row, now);
            let mut signed = self.header.clone();
            signed.extend_from_slice(b"dkim-signature:");
            header::relax_value(value.as_bytes(), &mut signed);
            let signature = row.key.sign(&signed).map_err(|_| Unsigned)?;
            fold(&BASE64_STANDARD.encode(signature), &mut value);
            fields.extend_from_slice(NAME.as_bytes());
            fields.push(b':');
            fields.extend_from_slice(value.as_bytes());
            fields.extend_from_slice(b"\r\n");
        }
        Ok(fields)
    }

    /// The value up to the empty `b=`.
    fn unsigned(&self, row: &Row, now: u64) -> String {
        let Row { domain, selector, key } = row;
        let algorithm = key.algorithm().name();
        let mut value =
            format!(" v=1; a={algorithm}; c=relaxed/relaxed;\r\n\td={domain}; s={selector}; t={now};\r\n\th=");
        let mut width = 2;
        for (index, name) in self.names.iter().enumerate() {
            if index > 0 {
                value.push(':');
            }
            if width + name.len() > WIDTH {
                value.push_str("\r\n\t");
                width = 0;
            }
            value.push_str(name);
            width += name.len() + 1;
        }
        value.push_str(";\r\n\tbh=");
        value.push_str(&BASE64_STANDARD.encode(self.body));
        value.push_str(";\r\n\tb=");
        value
    }
}

/// Appends base64 in lines.
fn fold(text: &str, value: &mut String) {
    for at in (0..text.len()).step_by(WIDTH) {
        if at > 0 {
            value.push_str("\r\n\t");
        }
        value.push_str(&text[at..text.len().min(at + WIDTH)]);
    }
}
