//! The text of a message: lines end in CRLF, whom its header names, what a message must have and this one lacks.
//!
//! The header section ends before the first line that is no field, as everywhere here; a blank line is put there if there
//! is none. A first line `From x …` of a mailbox file goes.

use jiff::Timestamp;
use rand::RngExt;
use staffetta_mail::trace::date;
use staffetta_mail::{Address, ReversePath, mailbox};

/// Fields that name recipients.
const RECIPIENTS: [&str; 3] = ["to", "cc", "bcc"];

/// A text as header fields and body.
#[derive(Debug)]
pub(super) struct Message<'a> {
    /// Whole fields, with the lines that continue them.
    fields: Vec<&'a [u8]>,
    body: &'a [u8],
}

/// With what a message is completed.
pub(super) struct Draft<'a> {
    pub(super) hostname: &'a str,
    pub(super) sender: &'a ReversePath,
    /// Of whoever sends.
    pub(super) name: Option<&'a str>,
    pub(super) uid: u32,
}

/// Where the line begins that is a dot alone.
pub(super) fn lone_dot(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    for line in text.split_inclusive(|&octet| octet == b'\n') {
        if matches!(line, b"." | b".\n" | b".\r\n") {
            return Some(at);
        }
        at += line.len();
    }
    None
}

impl<'a> Message<'a> {
    /// Of any text.
    pub(super) fn read(text: &'a [u8]) -> Self {
        let mut rest = text;
        if rest.starts_with(b"From ") {
            rest = &rest[line_length(rest)..];
        }
        let mut fields = Vec::new();
        while name(rest).is_some() {
            let mut end = line_length(rest);
            while matches!(rest.get(end), Some(b' ' | b'\t')) {
                end += line_length(&rest[end..]);
            }
            let (field, behind) = rest.split_at(end);
            fields.push(field);
            rest = behind;
        }
        let blank = if rest.starts_with(b"\r\n") { 2 } else { usize::from(rest.starts_with(b"\n")) };
        Self { fields, body: &rest[blank..] }
    }

    /// Whom To, Cc and Bcc name; a name without a domain is one of `hostname`.
    ///
    /// # Errors
    /// Names the field that cannot be understood.
    pub(super) fn recipients(&self, hostname: &str) -> Result<Vec<Address>, String> {
        let mut all = Vec::new();
        for field in self.fields.iter().filter(|field| RECIPIENTS.contains(&named(field).as_str())) {
            let text = String::from_utf8_lossy(field);
            let value = text.split_once(':').map_or("", |(_, value)| value);
            let wrong = || format!("the recipients cannot be understood: {}", text.trim());
            all.extend(mailbox::recipients(value, hostname).ok_or_else(wrong)?);
        }
        Ok(all)
    }

    /// The message as it is sent: without Bcc, with the fields that it must have.
    pub(super) fn complete(&self, draft: &Draft<'_>) -> Vec<u8> {
        let now = Timestamp::now();
        let has = |wanted: &str| self.fields.iter().any(|field| named(field) == wanted);
        let (host, uid) = (draft.hostname, draft.uid);
        let mut out =
            format!("Received: by {host} (Staffetta sendmail, from userid {uid});\r\n\t{}\r\n", date(now)).into_bytes();
        for field in self.fields.iter().filter(|field| named(field) != "bcc") {
            append(&mut out, field);
        }
        if !has("from") {
            out.extend(from(draft).into_bytes());
        }
        if !has("date") {
            out.extend(format!("Date: {}\r\n", date(now)).into_bytes());
        }
        if !has("message-id") {
            let unique: u64 = rand::rng().random();
            out.extend(format!("Message-ID: <{}.{unique:016x}@{host}>\r\n", now.as_millisecond()).into_bytes());
        }
        out.extend(b"\r\n");
        append(&mut out, self.body);
        out
    }
}

fn from(draft: &Draft<'_>) -> String {
    let Some(address) = draft.sender.address() else {
        return format!("From: MAILER-DAEMON@{} (Mail Delivery System)\r\n", draft.hostname);
    };
    let word = |name: &str| {
        name.chars().filter(|c| !c.is_control()).collect::<String>().replace('\\', "\\\\").replace('"', "\\\"")
    };
    match draft.name.map(word).filter(|name| !name.is_empty() && name.is_ascii()) {
        Some(name) => format!("From: \"{name}\" <{address}>\r\n"),
        None => format!("From: {address}\r\n"),
    }
}

/// With its line end; of the last line, what there is.
fn line_length(text: &[u8]) -> usize {
    text.iter().position(|&octet| octet == b'\n').map_or(text.len(), |at| at + 1)
}

/// The name of the field that begins here (RFC 5322 section 2.2), if one does.
fn name(line: &[u8]) -> Option<&[u8]> {
    let colon = line.iter().position(|&octet| octet == b':')?;
    let name = line[..colon].trim_ascii_end();
    (!name.is_empty() && name.iter().all(u8::is_ascii_graphic)).then_some(name)
}

/// The same in lower case.
fn named(field: &[u8]) -> String {
    String::from_utf8_lossy(name(field).unwrap_or_default()).to_ascii_lowercase()
}

/// Whole lines, each with CRLF.
fn append(out: &mut Vec<u8>, text: &[u8]) {
    for line in text.split_inclusive(|&octet| octet == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        out.extend(line.strip_suffix(b"\r").unwrap_or(line));
        out.extend(b"\r\n");
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn completed(text: &str) -> String {
        let sender = ReversePath::Address("john@mail.test".parse().unwrap());
        let draft = Draft { hostname: "mail.test", sender: &sender, name: Some("J. \"D\" Doe"), uid: 7 };
        String::from_utf8(Message::read(text.as_bytes()).complete(&draft)).unwrap()
    }

    fn recipients(text: &str) -> Result<Vec<String>, String> {
        let found = Message::read(text.as_bytes()).recipients("mail.test")?;
        Ok(found.iter().map(|address| address.as_str().to_owned()).collect())
    }

    #[test]
    fn rfc5322_3_6_what_is_missing_is_added_and_what_is_there_stays() {
        let bare = completed("Subject: x\n\nbody\n");
        let (header, body) = bare.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "body\r\n");
        for field in [
            "Received: by mail.test (Staffetta sendmail, from userid 7);\r\n\t",
            "\r\nSubject: x\r\n",
            "\r\nFrom: \"J. \\\"D\\\" Doe\" <john@mail.test>\r\n",
            "\r\nDate: ",
            "\r\nMessage-ID: <",
        ] {
            assert!(header.contains(field), "{field}: {header}");
        }
        let whole = completed("from : a@b\r\nDATE: x\nMessage-Id: <m>\n\n");
        assert!(whole.ends_with(" +0000\r\nfrom : a@b\r\nDATE: x\r\nMessage-Id: <m>\r\n\r\n"), "{whole}");
    }

    #[test]
    fn lines_end_in_crlf_and_a_header_is_there_whatever_comes() {
        for (text, end) in [
            ("hello\nworld", "\r\n\r\nhello\r\nworld\r\n"),
            ("", "\r\n\r\n"),
            ("\n\n.\n", "\r\n\r\n\r\n.\r\n"),
            ("Subject: x\nno field\n", "\r\nSubject: x\r\nFrom:"),
            ("From john Mon Nov 30\nSubject: x\r\n\r\ny\r\n", "\r\n\r\ny\r\n"),
            ("see http://x.test\n", "\r\n\r\nsee http://x.test\r\n"),
        ] {
            let text = completed(text);
            assert!(text.contains(end) && !text.replace("\r\n", "").contains(['\r', '\n']), "{end:?}: {text:?}");
            assert!(!text.contains("From john"), "{text}");
        }
    }

    #[test]
    fn the_header_names_recipients_and_bcc_goes_with_all_its_lines() {
        let text = "To: \"Doe, J\" <a@x.test>,\n root\nCC: Team: b@x.test, c@x.test;\nBcc: secret@x.test,\n\tother@x.test\n\nTo: no@x.test\n";
        let expected = ["a@x.test", "root@mail.test", "b@x.test", "c@x.test", "secret@x.test", "other@x.test"];
        assert_eq!(recipients(text).unwrap(), expected);
        let sent = completed(text);
        assert!(!sent.contains("secret") && !sent.contains("other@") && sent.contains("To: no@x.test\r\n"), "{sent}");
        assert_eq!(recipients("To: undisclosed-recipients:;\n\n").unwrap(), Vec::<String>::new());
        assert!(recipients("To: a b c\n\n").unwrap_err().ends_with("To: a b c"));
    }

    #[test]
    fn a_dot_alone_is_found() {
        for (text, at) in
            [(".\n", Some(0)), ("a\r\n.\r\nb", Some(3)), ("a\n.", Some(2)), ("a\n..\n. \n", None), ("", None)]
        {
            assert_eq!(lone_dot(text.as_bytes()), at, "{text:?}");
        }
    }
}
