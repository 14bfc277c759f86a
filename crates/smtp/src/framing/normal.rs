//! Bare LF to CRLF, for content whose line ends are not all CRLF. Nothing bare is ever handed on: what is stored is what
//! the next hop sees, and it must see the same lines that we saw (CVE-2023-51764).

use bytes::{BufMut, Bytes, BytesMut};

/// The content with each bare LF as CRLF; `after_cr`: what came before ended in CR.
pub(crate) fn with_crlf(after_cr: bool, content: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(content.len() + content.len() / 16 + 16);
    let (mut from, mut before) = (0, if after_cr { b'\r' } else { 0 });
    for at in memchr::memchr_iter(b'\n', content) {
        if at > 0 {
            before = content[at - 1];
        }
        out.put_slice(&content[from..at]);
        out.put_slice(if before == b'\r' { b"\n" } else { b"\r\n" });
        from = at + 1;
        before = b'\n';
    }
    out.put_slice(&content[from..]);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_ends_in_crlf_however_it_is_cut() {
        let text = b"\na\r\nb\n\n.\nc\r\n\r\nd\n";
        let whole = b"\r\na\r\nb\r\n\r\n.\r\nc\r\n\r\nd\r\n";
        assert_eq!(&with_crlf(false, text)[..], whole);
        for cut in 0..=text.len() {
            let (first, second) = text.split_at(cut);
            let halves = [with_crlf(false, first), with_crlf(first.ends_with(b"\r"), second)].concat();
            assert_eq!(halves, whole, "{cut}");
        }
        assert_eq!(&with_crlf(true, b"\nx")[..], b"\nx");
    }
}
