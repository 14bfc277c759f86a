//! Whole messages, before and after.

use super::*;

const SEVEN: Needs = Needs { seven_bit: true, short_lines: true };
const SHORT: Needs = Needs { seven_bit: false, short_lines: true };

/// Cut into pieces of this many octets.
fn converted_in(message: &[u8], needs: Needs, octets: usize) -> Result<String, Unconvertible> {
    let mut survey = Survey::new(needs);
    message.chunks(octets).for_each(|piece| survey.update(piece));
    let mut converter = Converter::new(survey.finish()?);
    let mut out: Vec<u8> = message.chunks(octets).flat_map(|piece| converter.update(piece)).collect();
    out.extend(converter.finish());
    Ok(String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// However it is cut.
fn converted(message: &str, needs: Needs) -> Result<String, Unconvertible> {
    let whole = converted_in(message.as_bytes(), needs, usize::MAX);
    for octets in [1, 2, 3, 7, 600] {
        assert_eq!(converted_in(message.as_bytes(), needs, octets), whole, "{octets}");
    }
    whole
}

fn crlf(text: &str) -> String {
    text.replace('\n', "\r\n")
}

#[test]
fn rfc6152_3_text_becomes_quoted_printable_and_says_so() {
    for (before, after) in [
        (
            "Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\na\u{e9} = b \n.\n",
            "Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\na=C3=A9 =3D b=20\n.\n",
        ),
        // Nobody says what it is.
        (
            "Subject: x\n\n\u{e9}",
            "Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=unknown-8bit\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A9",
        ),
        // It says what it does not need, and once too often.
        (
            "Content-Transfer-Encoding: 8bit\nMIME-Version: 1.0\nContent-transfer-encoding: 8bit\n\nplain\n",
            "Content-Transfer-Encoding: 7bit\nMIME-Version: 1.0\n\nplain\n",
        ),
        ("Subject: x\n\nplain\n", "Subject: x\n\nplain\n"),
        ("Subject: x\n", "Subject: x\n"),
    ] {
        assert_eq!(converted(&crlf(before), SEVEN), Ok(crlf(after)), "{before}");
    }
}

#[test]
fn rfc2045_6_4_only_what_is_not_made_of_parts_is_encoded_and_messages_with_utf_8_as_a_whole() {
    let before = "MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=\"out\"
Content-Transfer-Encoding: 8bit

preamble
--out
Content-Type: multipart/alternative; boundary=out-in

--out-in

caf\u{e9}
--out-in
Content-Type: text/html
Content-Transfer-Encoding: base64

Y2Fm
--out-in-- 
--out
Content-Type: message/rfc822
Content-Transfer-Encoding: 8bit

Subject: inner
Content-Type: text/plain

caf\u{e9}
--out-in is no boundary here
--out
Content-Type: message/global
Content-Transfer-Encoding: 8bit

Subject: caf\u{e9}

--out-in
--out
Content-Type: application/octet-stream

plain
--out--
epilogue
";
    let after = "MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=\"out\"
Content-Transfer-Encoding: 7bit

preamble
--out
Content-Type: multipart/alternative; boundary=out-in

--out-in
Content-Transfer-Encoding: quoted-printable

caf=C3=A9
--out-in
Content-Type: text/html
Content-Transfer-Encoding: base64

Y2Fm
--out-in-- 
--out
Content-Type: message/rfc822
Content-Transfer-Encoding: 7bit

Subject: inner
Content-Type: text/plain
Content-Transfer-Encoding: quoted-printable

caf=C3=A9
--out-in is no boundary here
--out
Content-Type: message/global
Content-Transfer-Encoding: quoted-printable

Subject: caf=C3=A9

--out-in
--out
Content-Type: application/octet-stream

plain
--out--
epilogue
";
    assert_eq!(converted(&crlf(before), SEVEN), Ok(crlf(after)));
}

#[test]
fn what_cannot_be_encoded_is_a_reason_to_give_up() {
    let signed = "Content-Type: multipart/signed; boundary=s\n\n--s\n\n\u{e9}\n--s\n\nsignature\n--s--\n";
    let within = format!("Content-Type: multipart/mixed; boundary=m\n\n--m\n{signed}--m--\n");
    for (message, problem) in [
        ("Subject: \u{e9}\n\nx\n", Unconvertible::Header),
        (
            "Content-Type: multipart/mixed; boundary=m\n\n--m\nContent-Disposition: \u{e9}\n\nx\n--m--\n",
            Unconvertible::Header,
        ),
        ("Content-Type: message/rfc822\n\nSubject: \u{e9}\n\nx\n", Unconvertible::Header),
        (signed, Unconvertible::Signed),
        (&within, Unconvertible::Signed),
        ("Content-Type: multipart/mixed; boundary=m\n\n\u{e9}\n--m--\n", Unconvertible::Misplaced),
        ("Content-Type: multipart/mixed; boundary=m\n\n--m--\n\u{e9}\n", Unconvertible::Misplaced),
        ("Content-Transfer-Encoding: base64\n\n\u{e9}\n", Unconvertible::Misplaced),
        ("Content-Type: message/partial\n\n\u{e9}\n", Unconvertible::Misplaced),
    ] {
        assert_eq!(converted(&crlf(message), SEVEN), Err(problem), "{message}");
        assert_eq!(converted(&crlf(message), SHORT), Ok(crlf(message)), "nothing to do: {message}");
    }
}

#[test]
fn rfc5322_2_1_1_long_lines_become_quoted_printable_or_are_folded() {
    let (fits, long) = ("x".repeat(998), "y".repeat(999));
    let message = format!("Subject: {long}\n\n{fits}\n");
    let folded = format!("Subject: {}\n {}\n\n{fits}\n", "y".repeat(989), "y".repeat(10));
    assert_eq!(converted(&crlf(&message), SHORT), Ok(crlf(&folded)));

    let after = converted(&crlf(&format!("Subject: x\n\n{long}\nz\n")), SHORT).unwrap_or_default();
    let (header, body) = after.split_once("\r\n\r\n").unwrap_or_default();
    assert!(header.ends_with("charset=us-ascii\r\nContent-Transfer-Encoding: quoted-printable"), "{header}");
    assert_eq!(body.replace("=\r\n", ""), format!("{long}\r\nz\r\n"));
    assert!(after.lines().all(|line| line.len() <= 76), "{after}");

    // What is encoded is folded, what is signed is not.
    let (base64, signed) = ("Content-Transfer-Encoding: base64\n\n", "Content-Type: multipart/signed; boundary=s\n\n");
    let after = converted(&crlf(&format!("{base64}{long}\n")), SHORT);
    assert_eq!(after, Ok(crlf(&format!("{base64}{}\n y\n", "y".repeat(998)))));
    let message = crlf(&format!("{signed}--s\n\n{long}\n--s--\n"));
    assert_eq!(converted(&message, SEVEN), Ok(message));
    // A character is not cut through.
    let message = format!("{base64}{}\u{e9}\n", "x".repeat(997));
    assert_eq!(converted(&crlf(&message), SHORT), Ok(crlf(&format!("{base64}{}\n \u{e9}\n", "x".repeat(997)))));
}

#[test]
fn rfc2045_6_7_lines_of_quoted_printable() {
    for (before, after) in
        [("a\tb \t", "a\tb =09"), ("a \r\nb", "a=20\r\nb"), ("a\rb\n", "a=0Db=0A"), ("a \r\r\n", "a=20=0D\r\n")]
    {
        let mut out = Vec::new();
        let mut quoted = quoted::Quoted::default();
        quoted.update(before.as_bytes(), &mut out);
        quoted.finish(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), after, "{before:?}");
    }
    // A soft line break makes no boundary.
    let message =
        crlf(&format!("Content-Type: multipart/mixed; boundary=m\n\n--m\n\n{}\u{e9}\n--m--\n", "x--m".repeat(60)));
    let after = converted(&message, SEVEN).unwrap_or_default();
    assert_eq!(after.matches("\r\n--m").count(), 2, "{after}");
}

#[test]
fn long_lines_are_noticed_however_they_are_cut() {
    for (text, is_long) in [
        (format!("{}\r\n", "x".repeat(998)), false),
        (format!("{}\r\n", "x".repeat(999)), true),
        (format!("a\r\n{}\r\n\r\nb", "x".repeat(999)), true),
        (format!("{0}\r\n{0}\r\n{0}", "x".repeat(998)), false),
        ("x".repeat(1_500), true),
        ("x\r\n".repeat(1_000), false),
        (String::new(), false),
    ] {
        for octets in [1, 3, 998, 999, 1_000, 1_001, 65_536] {
            let mut lengths = LineLengths::default();
            text.as_bytes().chunks(octets).for_each(|piece| lengths.update(piece));
            assert_eq!(lengths.is_long(), is_long, "{octets} {}", text.len());
        }
    }
}

/// Pieces of which messages are made, good ones and bad ones.
const PIECES: &[&str] = &[
    "\r\n",
    "\r\n\r\n",
    "--b",
    "--b--",
    "--c\r\n",
    "Content-Type: multipart/mixed; boundary=b\r\n",
    "Content-Type: multipart/digest;\r\n boundary=\"c\"\r\n",
    "Content-Type: message/rfc822\r\n",
    "Content-Type: text/plain\r\n",
    "Content-Transfer-Encoding: 8bit\r\n",
    "Content-Transfer-Encoding: base64\r\n",
    "\u{e9}",
    " \t",
    "=",
    "-",
    "text",
];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// What comes out has seven bits and short lines, whatever came in and however it was cut, or it is said that it has not.
    #[test]
    fn what_is_converted_can_be_taken(
        pieces in proptest::collection::vec((0..PIECES.len(), 1..3_usize, proptest::bool::weighted(0.05)), 0..40),
    ) {
        let piece = |(piece, times, long): &(usize, usize, bool)| PIECES[*piece].repeat(if *long { 400 } else { *times });
        let message: String = pieces.iter().map(piece).collect();
        if let Ok(text) = converted(&message, SEVEN) {
            proptest::prop_assert!(text.is_ascii());
            let longest = text.split("\r\n").map(str::len).max();
            proptest::prop_assert!(longest <= Some(998), "{:?}", longest);
        }
        let _ = converted(&message, SHORT);
    }
}
