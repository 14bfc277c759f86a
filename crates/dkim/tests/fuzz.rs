//! Mutated messages: what must hold of an author and of a signature whatever the header looks like.

#![expect(clippy::unwrap_used, reason = "tests")]

use staffetta_dkim::author::{self, Author};
use staffetta_dkim::{Algorithm, Draft, Key, Row, record};
use staffetta_testkit::dkim::verify;
use staffetta_testkit::fuzz::fuzz;

const WORDS: &[&[u8]] = &[
    b"From: ",
    b"from :",
    b"\r\nFrom: a@b.test\r\n",
    b"To:",
    b"Subject: \t",
    b"List-Id: x\r\n",
    b"DKIM-Signature: v=1; b=",
    b"\r\n ",
    b"\r\n\t\r\n",
    b"\r\n\r\n",
    b"\r\n",
    b" \t ",
    b"<a@b.test>",
    b"(",
    b")",
    b"\"",
    b"\\",
    b",",
    b";",
    b"@",
    b":",
    b"\xff",
    b"\xc3\xbc",
];

/// Intake lets no bare CR or LF through, and puts a Received field in front.
fn as_stored(input: &[u8]) -> Vec<u8> {
    let mut stored = b"Received: from a\r\n\tby b\r\n".to_vec();
    for &octet in input {
        match octet {
            b'\r' => {}
            b'\n' => stored.extend_from_slice(b"\r\n"),
            _ => stored.push(octet),
        }
    }
    stored
}

#[test]
fn whatever_is_signed_verifies_however_it_is_cut_and_its_author_is_found_the_same_way() {
    let (key, _) = Key::generate(Algorithm::Ed25519).unwrap();
    let record = record(&key).unwrap();
    let rows = [Row { domain: "example.org".into(), selector: "s".into(), key }];
    fuzz("header", WORDS, |input| {
        let message = as_stored(input);
        let sign = |pieces: &[&[u8]]| {
            let mut draft = Draft::default();
            pieces.iter().for_each(|piece| draft.update(piece).unwrap());
            draft.finish().unwrap()
        };
        let whole = sign(&[&message]);
        let cut = input.len() * 7 % message.len();
        assert_eq!(sign(&[&message[..cut], &message[cut..]]), whole, "cut at {cut}");

        let author = author::find(&message, true);
        for end in [cut, message.len() / 2] {
            let early = author::find(&message[..end], false);
            let whole_lines = message[..end].ends_with(b"\n");
            assert!(!whole_lines || early == Author::Unknown || early == author, "{early:?} {author:?}");
        }

        let signatures = whole.sign(&rows, 1).unwrap();
        let end: &[u8] = if message.ends_with(b"\r\n") { b"" } else { b"\r\n" };
        // What the far host makes of a header section that ends without a blank line is its own affair: here it must be one
        // that ends with one, or with the message. And a signature that was there may be as broken as it likes.
        let sent = [&signatures[..], &message, end].concat();
        match verify(&sent, |_| Some(record.clone())) {
            Ok(found) => assert!(!found.is_empty()),
            Err(reason) => assert!(has_odd_line(&message) || has_other_signature(&message), "{reason}"),
        }
    });
}

fn header_lines(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    message
        .split(|&octet| octet == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .take_while(|line| !line.is_empty())
}

/// A line that is neither a field nor more of one, or a field name that only one of the two readers takes for one.
fn has_odd_line(message: &[u8]) -> bool {
    header_lines(message).any(|line| {
        let name = line.split(|&octet| octet == b':').next().unwrap_or_default().trim_ascii_end();
        let is_name = (1..=128).contains(&name.len()) && name.iter().all(|octet| (33..=126).contains(octet));
        let is_good = line.starts_with(b" ") || line.starts_with(b"\t") || (line.contains(&b':') && is_name);
        !is_good
    })
}

fn has_other_signature(message: &[u8]) -> bool {
    header_lines(message).any(|line| line.to_ascii_lowercase().starts_with(b"dkim-signature"))
}
