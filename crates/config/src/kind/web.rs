//! Addresses of web servers, and where the keys of an identity provider are.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use super::{Kind, Wrong, quoted};

/// The address of something on a web server, without user, password and fragment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WebUrl {
    /// `https://`. In the clear is only what stays on this machine, and only where a key allows that.
    pub encrypted: bool,
    /// A name or an address; one of IPv6 has no brackets here.
    pub host: String,
    /// 443 if the text has none; 80 in the clear.
    pub port: u16,
    /// Path and query, from the slash on.
    pub path: String,
}

/// Where the keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file on this machine.
    File(PathBuf),
    /// On the provider's web server.
    Url(WebUrl),
}

impl WebUrl {
    /// Host and port as the `Host` field has them (RFC 9110 section 7.2).
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == default_port(self.encrypted) { host } else { format!("{host}:{}", self.port) }
    }

    /// `https://` and what follows.
    pub fn https(text: &str) -> Option<Self> {
        Self::read(true, text.strip_prefix("https://")?)
    }

    /// In the clear, and on this machine.
    fn local(text: &str) -> Option<Self> {
        let url = Self::read(false, text.strip_prefix("http://")?)?;
        let is_here = url.host == "localhost" || url.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        is_here.then_some(url)
    }

    /// What follows the scheme.
    fn read(encrypted: bool, rest: &str) -> Option<Self> {
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) || rest.contains('#') {
            return None;
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = host_and_port(authority, default_port(encrypted))?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        Some(Self { encrypted, host: host.to_ascii_lowercase(), port, path: format!("{slash}{path}") })
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.encrypted { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url(url) => url.fmt(f),
        }
    }
}

const fn default_port(encrypted: bool) -> u16 {
    if encrypted { 443 } else { 80 }
}

/// Of what stands between the slashes and the path; an address of IPv6 has no brackets any more.
pub(super) fn host_and_port(authority: &str, default: u16) -> Option<(&str, u16)> {
    let is_host = |host: &str| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    };
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        let port = if port.is_empty() { default } else { number(port.strip_prefix(':')?)? };
        return host.parse::<Ipv6Addr>().is_ok().then_some((host, port));
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, number(port)?),
        None => (authority, default),
    };
    is_host(host).then_some((host, port))
}

fn number(port: &str) -> Option<u16> {
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    port.parse().ok().filter(|port| *port > 0 && is_number)
}

/// What a message may show of a text that was meant as an address.
fn without_password(text: &str) -> Cow<'_, str> {
    text.rsplit_once('@').map_or(text.into(), |(_, rest)| format!("…@{rest}").into())
}

/// `https://host/path`
pub(crate) struct WebAddress;

impl Kind for WebAddress {
    type Value = WebUrl;
    const NOUN: &'static str = "the https:// address of a web server";

    fn allowed() -> String {
        "\"https://host/path\"".into()
    }

    fn parse(text: &str) -> Result<WebUrl, Wrong> {
        WebUrl::https(text).ok_or_else(|| Wrong::not::<Self>(&without_password(text)))
    }

    fn show(value: &WebUrl) -> String {
        quoted(&value.to_string())
    }
}

/// `https://host/path`, or `http://` to this machine.
pub(crate) struct TokenAddress;

impl Kind for TokenAddress {
    type Value = WebUrl;
    const NOUN: &'static str = "the https:// address of a web server, or an http:// one of this machine";

    fn allowed() -> String {
        "\"https://host/path\", \"http://127.0.0.1:port/path\"".into()
    }

    fn parse(text: &str) -> Result<WebUrl, Wrong> {
        let url = WebUrl::https(text).or_else(|| WebUrl::local(text));
        url.ok_or_else(|| Wrong::not::<Self>(&without_password(text)))
    }

    fn show(value: &WebUrl) -> String {
        quoted(&value.to_string())
    }
}

/// A path, or `https://host/path`.
pub(crate) struct KeyPlace;

impl Kind for KeyPlace {
    type Value = KeySource;
    const NOUN: &'static str = "a place of keys";

    fn allowed() -> String {
        "\"/path\", \"https://host/path\"".into()
    }

    fn parse(text: &str) -> Result<KeySource, Wrong> {
        let url = || WebUrl::https(text).map(KeySource::Url);
        let is_path = text.starts_with('/') && text.len() > 1 && !text.contains('\0');
        let source = if is_path { Some(KeySource::File(text.into())) } else { url() };
        source.ok_or_else(|| Wrong::not::<Self>(&without_password(text)))
    }

    fn show(value: &KeySource) -> String {
        quoted(&value.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_a_port_and_a_path() {
        for (text, host, port, path, shown) in [
            ("https://id.example.org", "id.example.org", 443, "/", "https://id.example.org/"),
            ("https://ID.example.org/keys?v=2", "id.example.org", 443, "/keys?v=2", "https://id.example.org/keys?v=2"),
            ("https://keycloak:8443/a", "keycloak", 8443, "/a", "https://keycloak:8443/a"),
            ("https://127.0.0.1:443?x", "127.0.0.1", 443, "/?x", "https://127.0.0.1/?x"),
            ("https://[2001:db8::1]:8443/a", "2001:db8::1", 8443, "/a", "https://[2001:db8::1]:8443/a"),
            ("https://[::1]/a", "::1", 443, "/a", "https://[::1]/a"),
        ] {
            let url = WebUrl { encrypted: true, host: host.to_owned(), port, path: path.to_owned() };
            assert_eq!(WebAddress::parse(text), Ok(url.clone()), "{text}");
            assert_eq!(url.to_string(), shown);
        }
        for text in [
            "",
            "http://host/",
            "https://",
            "https:///keys",
            "https://user:x@host/",
            "https://user@host/",
            "https://host:0/",
            "https://host:65536/",
            "https://host:+1/",
            "https://host:/",
            "https://[x]/",
            "https://[::1]8443/",
            "https://2001:db8::1/",
            "https://host/a b",
            "https://host/a\r\nb",
            "https://host/ä",
            "https://host/#a",
        ] {
            assert!(WebAddress::parse(text).is_err(), "{text}");
        }
        for wrong in
            [WebAddress::parse("https://u:secret@host/").err(), KeyPlace::parse("https://u:secret@host/").err()]
        {
            assert!(wrong.is_some_and(|wrong| wrong.value == "\"…@host/\""));
        }
    }

    #[test]
    fn in_the_clear_is_only_this_machine() {
        for (text, shown) in [
            ("https://id.example.org/token", "https://id.example.org/token"),
            ("http://127.0.0.1:8080/token", "http://127.0.0.1:8080/token"),
            ("http://LOCALHOST", "http://localhost/"),
            ("http://[::1]:80/a", "http://[::1]/a"),
        ] {
            assert_eq!(TokenAddress::parse(text).map(|url| url.to_string()), Ok(shown.to_owned()));
        }
        for text in
            ["http://id.example.org/", "http://192.0.2.1/", "http://localhost.example.org/", "http://u:p@[::1]/"]
        {
            assert!(TokenAddress::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_are_in_a_file_or_on_a_web_server() {
        for text in ["/etc/staffetta/jwks.json", "https://id.example.org/keys"] {
            assert_eq!(KeyPlace::parse(text).map(|source| source.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "/", "jwks.json", "http://id.example.org/keys", "/a\0b"] {
            assert!(KeyPlace::parse(text).is_err(), "{text}");
        }
    }
}
