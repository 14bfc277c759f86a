//! A verifier of DKIM signatures, for tests: the whole message in memory, lists of lines, nothing shared with the signer.
//!
//! It knows what RFC 6376, 8301 and 8463 say of `c=relaxed/relaxed`, and refuses everything else.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, UnparsedPublicKey};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// A signature that verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the tags of RFC 6376")]
pub struct Signature {
    pub domain: String,
    pub selector: String,
    pub algorithm: String,
    /// The names under `h=`, in lower case.
    pub names: Vec<String>,
}

/// All signatures of a message, if each of them verifies. `record` answers for `selector._domainkey.domain`.
///
/// # Errors
/// Why the first one does not.
pub fn verify(message: &[u8], record: impl Fn(&str) -> Option<String>) -> Result<Vec<Signature>, String> {
    let end = find(message, b"\r\n\r\n").map_or(message.len(), |at| at + 2);
    let body = message.get(end + 2..).unwrap_or_default();
    let fields = fields(&message[..end])?;
    let ours = fields.iter().filter(|(name, _)| name == "dkim-signature");
    ours.map(|(_, value)| one(value, &fields, body, &record)).collect()
}

fn one(
    value: &[u8],
    fields: &[(String, Vec<u8>)],
    body: &[u8],
    record: &impl Fn(&str) -> Option<String>,
) -> Result<Signature, String> {
    let text = String::from_utf8(value.to_vec()).map_err(|error| error.to_string())?;
    let tag = |wanted: &str| tag(&text, wanted).ok_or_else(|| format!("no {wanted}= in {text}"));
    if (tag("v")?, tag("c")?) != ("1".into(), "relaxed/relaxed".into()) || self::tag(&text, "l").is_some() {
        return Err(format!("unexpected tags in {text}"));
    }
    let hash = BASE64_STANDARD.decode(tag("bh")?).map_err(|error| error.to_string())?;
    if digest(&SHA256, &relaxed_body(body)).as_ref() != hash {
        return Err("the body was changed".to_owned());
    }
    let names: Vec<String> = tag("h")?.split(':').map(str::to_lowercase).collect();
    let signed = signed_octets(&names, fields, &text);
    let (domain, selector, algorithm) = (tag("d")?, tag("s")?, tag("a")?);
    let record = record(&format!("{selector}._domainkey.{domain}")).ok_or("there is no record")?;
    let key = self::tag(&record, "p").and_then(|p| BASE64_STANDARD.decode(p).ok()).ok_or("a record without a key")?;
    let signature = BASE64_STANDARD.decode(tag("b")?).map_err(|error| error.to_string())?;
    let kind = self::tag(&record, "k").unwrap_or_else(|| "rsa".into());
    let verified = match (algorithm.as_str(), kind.as_str()) {
        ("rsa-sha256", "rsa") => {
            UnparsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, key).verify(&signed, &signature)
        }
        ("ed25519-sha256", "ed25519") => {
            UnparsedPublicKey::new(&ED25519, key).verify(digest(&SHA256, &signed).as_ref(), &signature)
        }
        _ => return Err(format!("{algorithm} with a key of the kind {kind}")),
    };
    verified.map_err(|_| format!("the signature of {selector} does not fit the header"))?;
    Ok(Signature { domain, selector, algorithm, names })
}

/// The fields named, each name taking the next one from below, and the signature without its `b=`.
fn signed_octets(names: &[String], fields: &[(String, Vec<u8>)], signature: &str) -> Vec<u8> {
    let mut left: Vec<_> = fields.iter().collect();
    let mut octets = Vec::new();
    for name in names {
        if let Some(at) = left.iter().rposition(|(field, _)| field == name) {
            let (name, value) = left.remove(at);
            octets.extend([name.as_bytes(), b":", &relaxed(value), b"\r\n"].concat());
        }
    }
    let without = |tag: &str| match tag.split_once('=') {
        Some((name, _)) if name.trim() == "b" => format!("{name}="),
        _ => tag.to_owned(),
    };
    let emptied: Vec<String> = signature.split(';').map(without).collect();
    octets.extend([b"dkim-signature:", &*relaxed(emptied.join(";").as_bytes())].concat());
    octets
}

fn tag(text: &str, wanted: &str) -> Option<String> {
    let tags = text.split(';').filter_map(|tag| tag.split_once('='));
    let value = tags.into_iter().find(|(name, _)| name.trim() == wanted)?.1;
    Some(value.split_whitespace().collect())
}

fn fields(header: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut fields: Vec<(String, Vec<u8>)> = Vec::new();
    for line in lines(header) {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            let (_, value) = fields.last_mut().ok_or("the header section begins with a blank")?;
            value.extend_from_slice(line);
            continue;
        }
        let colon = find(line, b":").ok_or_else(|| format!("no field: {:?}", String::from_utf8_lossy(line)))?;
        let name = String::from_utf8_lossy(&line[..colon]).trim_end().to_lowercase();
        fields.push((name, line[colon + 1..].to_vec()));
    }
    Ok(fields)
}

/// Without their ends; what has none at the end of the text is a line, too.
fn lines(mut text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while !text.is_empty() {
        let end = find(text, b"\r\n").unwrap_or(text.len());
        lines.push(&text[..end]);
        text = text.get(end + 2..).unwrap_or_default();
    }
    lines
}

fn blank(octet: &u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

fn relaxed(value: &[u8]) -> Vec<u8> {
    let words: Vec<&[u8]> = value.split(blank).filter(|word| !word.is_empty()).collect();
    words.join(&b' ')
}

fn relaxed_body(body: &[u8]) -> Vec<u8> {
    let line = |line: &[u8]| {
        let lead: &[u8] = if line.first().is_some_and(blank) { b" " } else { b"" };
        let text = relaxed(line);
        if text.is_empty() { text } else { [lead, &text].concat() }
    };
    let mut lines: Vec<_> = lines(body).into_iter().map(line).collect();
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines.into_iter().flat_map(|line| [line, b"\r\n".to_vec()].concat()).collect()
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// RFC 8463 appendix A.3.
    const EXAMPLE: &str = include_str!("dkim/rfc8463.eml");

    fn record(name: &str) -> Option<String> {
        match name {
            "brisbane._domainkey.football.example.com" => {
                Some("v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=".to_owned())
            }
            "test._domainkey.football.example.com" => Some(
                "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2j\
                 LQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3\
                 Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    #[test]
    fn rfc8463_a_3_verifies_and_no_change_of_it_does() {
        let example = EXAMPLE.replace('\n', "\r\n");
        let algorithms: Vec<_> = verify(example.as_bytes(), record).unwrap().into_iter().map(|s| s.algorithm).collect();
        assert_eq!(algorithms, ["ed25519-sha256", "rsa-sha256"]);
        for (part, other) in
            [("dinner", "lunch"), ("lost", "won"), ("t=1528637909", "t=1528637908"), ("suzie", "susie")]
        {
            verify(example.replace(part, other).as_bytes(), record).unwrap_err();
        }
        let elsewhere = |name: &str| record(name).map(|record| record.replace("11qY", "11qZ").replace("DkHl", "DkHm"));
        verify(example.as_bytes(), elsewhere).unwrap_err();
    }

    #[test]
    fn rfc6376_3_4_5_the_relaxed_forms() {
        assert_eq!(relaxed(b" Y\t\t Z  "), b"Y Z");
        assert_eq!(relaxed_body(b" C \r\nD \t E\r\n\r\n\r\n"), b" C\r\nD E\r\n");
        assert_eq!(relaxed_body(b"\r\n \r\n"), b"");
        assert_eq!(relaxed_body(b"a"), b"a\r\n");
    }
}
