//! What is sent, and how it looks after the way.

use anyhow::{Context, ensure};

/// Everything that somebody between could take for something else, all of it allowed. Lines end with CRLF.
pub(crate) fn treacherous() -> Vec<u8> {
    let mut body = b".\r\n..\r\n.x\r\n\r\n.\r\n".to_vec();
    body.extend(b"From here\r\n>From there\r\nBDAT 0 LAST\r\nQUIT\r\nSubject: none\r\n");
    body.extend(b"blanks  \r\n\t\r\n \r\n");
    body.extend(0x80..=0xff_u8);
    body.extend("\r\nGr\u{fc}\u{df}e \u{20ac} \u{1f600}\r\n".bytes());
    // RFC 5321 section 4.5.3.1.6: 1000 octets with CRLF.
    body.extend([b'x'; 998]);
    body.extend(b"\r\n.");
    body.extend([b'.'; 997]);
    body.extend(b"\r\n\r\n\r\n");
    body
}

/// So many octets, in lines each of which is another one.
pub(crate) fn large(octets: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(octets);
    let mut line = 0_u64;
    while body.len() < octets {
        let dot = if line.is_multiple_of(2) { '.' } else { '-' };
        body.extend(format!("{dot}{line:076}\r\n").bytes());
        line += 1;
    }
    body
}

/// As content travels behind DATA (RFC 5321 section 4.5.2).
pub(crate) fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(content.len() + content.len() / 50);
    for line in content.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line);
    }
    stuffed
}

/// With line ends of Unix.
pub(crate) fn unix(content: &[u8]) -> Vec<u8> {
    content.iter().copied().filter(|octet| *octet != b'\r').collect()
}

/// What quoted-printable stands for (RFC 2045 section 6.7).
pub(crate) fn unquoted(text: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'=' {
            octets.push(*first);
        } else if let Some(behind) = rest.strip_prefix(b"\n") {
            rest = behind;
        } else {
            let (digits, behind) = rest.split_at_checked(2).context("an octet without digits")?;
            octets.push(u8::from_str_radix(std::str::from_utf8(digits)?, 16)?);
            rest = behind;
        }
    }
    Ok(octets)
}

/// Says where two contents part, not more of them than that.
pub(crate) fn ensure_same(came: &[u8], sent: &[u8]) -> anyhow::Result<()> {
    let parted = came.iter().zip(sent).position(|(came, sent)| came != sent);
    let at = parted.unwrap_or(came.len().min(sent.len()));
    let near = |content: &[u8]| {
        String::from_utf8_lossy(content.get(at..content.len().min(at + 200)).unwrap_or_default()).into_owned()
    };
    ensure!(
        came == sent,
        "{} octets of {} came, and from {at} on {:?} instead of {:?}",
        came.len(),
        sent.len(),
        near(came),
        near(sent)
    );
    Ok(())
}
