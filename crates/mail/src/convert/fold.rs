//! Lines that are too long, broken by CRLF and a blank (Postfix: `smtp_line_length_limit`).

/// Octets of the longest line, its end not counted (RFC 5322 section 2.1.1).
pub(super) const MAX_LINE: usize = 998;
/// Octets of the longest character in UTF-8.
const MAX_CHARACTER: usize = 4;

/// Where the line is.
#[derive(Debug, Default)]
pub(super) struct Fold {
    column: usize,
}

impl Fold {
    /// The next octets; a character of UTF-8 is not cut through.
    pub(super) fn update(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        for &octet in octets {
            match octet {
                b'\n' => self.column = 0,
                b'\r' => {}
                _ => {
                    let room = MAX_LINE - self.column;
                    if room == 0 || octet >= 0xc0 && room < MAX_CHARACTER {
                        out.extend_from_slice(b"\r\n ");
                        self.column = 1;
                    }
                    self.column += 1;
                }
            }
            out.push(octet);
        }
    }
}
