//! The record of a key in the DNS (RFC 6376 section 3.6.1): as it should be, and as it is.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::{Key, Unsigned};

/// Most octets of a string of a TXT record.
const STRING: usize = 255;

/// Under which name the key is published.
pub fn record_name(selector: &str, domain: &str) -> String {
    format!("{selector}._domainkey.{domain}")
}

/// The text of the record that publishes a key.
///
/// # Errors
/// [`Unsigned`] if the library does not give the public key.
pub fn record(key: &Key) -> Result<String, Unsigned> {
    let public = key.public().map_err(|_| Unsigned)?;
    Ok(format!("v=DKIM1; k={}; p={}", key.algorithm().key_type(), BASE64_STANDARD.encode(public)))
}

/// The same in pieces that fit into a TXT record, which verifiers put together again without anything in between.
pub fn strings(record: &str) -> Vec<&str> {
    (0..record.len()).step_by(STRING).map(|at| &record[at..record.len().min(at + STRING)]).collect()
}

/// What the DNS says of a key of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Our key.
    Matches,
    /// There is no such record.
    Missing,
    /// Several records: which one counts is undefined (RFC 6376 section 3.6.2.2).
    Several,
    /// Another key.
    Differs,
    /// The record withdraws the key.
    Revoked,
    /// Verifiers will not take it for a record of ours. Completes "the record …".
    Unusable(&'static str),
}

/// Is it this key that is published? `records`: what is found under its name, each put together of its strings.
///
/// # Errors
/// [`Unsigned`] if the library does not give the public key.
pub fn compare(records: &[String], key: &Key) -> Result<Answer, Unsigned> {
    let text = match records {
        [] => return Ok(Answer::Missing),
        [one] => one,
        _ => return Ok(Answer::Several),
    };
    let ours = key.public().map_err(|_| Unsigned)?;
    Ok(match read(text, key.algorithm().key_type()) {
        Ok(public) if public.is_empty() => Answer::Revoked,
        Ok(public) if public == ours => Answer::Matches,
        Ok(_) => Answer::Differs,
        Err(reason) => Answer::Unusable(reason),
    })
}

/// The public key of a record for this kind of key, or what is wrong with it.
fn read(text: &str, kind: &str) -> Result<Vec<u8>, &'static str> {
    let mut public = None;
    let mut published = "rsa";
    for (index, tag) in text.split(';').enumerate() {
        let Some((name, value)) = tag.split_once('=') else {
            if tag.trim().is_empty() {
                continue;
            }
            return Err("is no list of tags");
        };
        let value = value.trim();
        let list = |wanted: &str| value.split(':').any(|item| item.trim() == wanted);
        match name.trim() {
            "v" if index > 0 || value != "DKIM1" => return Err("does not begin with v=DKIM1"),
            "k" => published = value,
            "h" if !list("sha256") => return Err("does not allow sha256 (h=)"),
            "s" if !list("*") && !list("email") => return Err("is not for mail (s=)"),
            "p" => public = Some(value.split_ascii_whitespace().collect::<String>()),
            _ => {}
        }
    }
    if published != kind {
        return Err("is for another kind of key (k=)");
    }
    let public = public.ok_or("has no key (p=)")?;
    BASE64_STANDARD.decode(public).map_err(|_| "has a key that is not base64 (p=)")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_record_is_cut_into_strings_that_fit() {
        let record = record(&testing::rsa()).unwrap();
        assert!(record.starts_with("v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA"), "{record}");
        let strings = strings(&record);
        assert_eq!((strings.len(), strings[0].len()), (2, 255));
        assert_eq!(strings.concat(), record);
        assert_eq!(record_name("s2026", "example.org"), "s2026._domainkey.example.org");
    }

    #[test]
    fn what_is_published_is_compared_as_verifiers_read_it() {
        let key = testing::ed25519();
        let ours = record(&key).unwrap();
        let p = ours.split_once("p=").unwrap().1;
        for (text, expected) in [
            (ours.clone(), Answer::Matches),
            (format!("k=ed25519;p={p};t=s;"), Answer::Matches),
            (
                format!(" v = DKIM1 ; h=sha1:sha256; s=*; n=a note; k=ed25519 ; p={} {} ", &p[..9], &p[9..]),
                Answer::Matches,
            ),
            ("v=DKIM1; k=ed25519; p=".to_owned(), Answer::Revoked),
            ("v=DKIM1; k=ed25519; p=AAAA".to_owned(), Answer::Differs),
            (format!("v=DKIM1; p={p}"), Answer::Unusable("is for another kind of key (k=)")),
            (format!("v=DKIM2; k=ed25519; p={p}"), Answer::Unusable("does not begin with v=DKIM1")),
            (format!("k=ed25519; v=DKIM1; p={p}"), Answer::Unusable("does not begin with v=DKIM1")),
            (format!("v=DKIM1; k=ed25519; h=sha1; p={p}"), Answer::Unusable("does not allow sha256 (h=)")),
            (format!("v=DKIM1; k=ed25519; s=tlsrpt; p={p}"), Answer::Unusable("is not for mail (s=)")),
            ("v=DKIM1; k=ed25519; p=!".to_owned(), Answer::Unusable("has a key that is not base64 (p=)")),
            ("v=DKIM1; k=ed25519".to_owned(), Answer::Unusable("has no key (p=)")),
            ("hello".to_owned(), Answer::Unusable("is no list of tags")),
        ] {
            assert_eq!(compare(std::slice::from_ref(&text), &key), Ok(expected), "{text}");
        }
        assert_eq!(compare(&[], &key), Ok(Answer::Missing));
        assert_eq!(compare(&[ours.clone(), ours], &key), Ok(Answer::Several));
    }
}
