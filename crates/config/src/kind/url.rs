//! URLs, checked by scheme; what stands behind the scheme is the business of the library that opens it.

use super::web::host_and_port;
use super::{Kind, Wrong, login, quoted};

/// Implements [`Kind`] for a URL with one of some beginnings.
macro_rules! url {
    ($(#[$doc:meta])* $name:ident, $noun:literal, $allowed:literal, [$($start:literal),+] $(, $look:expr)?) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl Kind for $name {
            type Value = String;
            const NOUN: &'static str = $noun;

            fn allowed() -> String {
                $allowed.into()
            }

            fn parse(text: &str) -> Result<String, Wrong> {
                $(if let Some(problem) = $look(text) {
                    return Err(Wrong::because::<Self>(text, problem));
                })?
                let clean = !text.chars().any(|c| c.is_control() || c == ' ');
                let known = [$($start),+].iter().any(|start| text.len() > start.len() && text.starts_with(start));
                if clean && known { Ok(text.into()) } else { Err(Wrong::not::<Self>(text)) }
            }

            fn show(value: &String) -> String {
                quoted(value)
            }
        }
    };
}

url!(
    /// Where the accounts are.
    SqlUrl,
    "the URL of a database",
    "\"sqlite:///path\", \"postgres://user:password@host/database\", \"mysql://user:password@host/database\"",
    ["sqlite:", "postgres://", "postgresql://", "mysql://", "mariadb://"],
    of_a_server
);
url!(
    /// Where large bodies go.
    SpoolUrl,
    "the URL of a store",
    "\"file:///path\", \"s3://bucket/prefix\", \"gs://bucket/prefix\", \"az://container/prefix\"",
    ["file:///", "s3://", "gs://", "az://"],
    of_a_store
);
url!(
    /// Where the auth service is.
    AuthUrl,
    "the URL of the auth service",
    "\"http://host:port\", or \"https://host:port\" together with [rpc]",
    ["http://", "https://"]
);

url!(
    /// Where spans go.
    CollectorUrl,
    "the URL of a collector",
    "\"http://host:4317\", \"https://host:4317\"",
    ["http://", "https://"],
    of_a_collector
);

/// gRPC has a path of its own, and keys belong into no URL.
fn of_a_collector(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.trim_end_matches('/');
    let wrong = match ['/', '?', '#', '@'].into_iter().find(|part| authority.contains(*part)) {
        Some(part) => format!("has a {part:?}"),
        None if host_and_port(authority, 4317).is_none() => "names no host, or no port that there is".to_owned(),
        None => return None,
    };
    Some(format!("{wrong}: OTLP over gRPC needs a host and a port"))
}

/// A path may have any of these characters.
fn of_a_server(url: &str) -> Option<String> {
    if url.starts_with("sqlite:") { None } else { login::problem(url) }
}

/// Keys of an object store come from the environment: in a URL they would be in logs.
fn of_a_store(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let place = if url.starts_with("file:") { rest } else { rest.trim_start_matches('/') };
    if place.is_empty() || place == "/" {
        return Some("names no place".to_owned());
    }
    let part = ['?', '#', '@'].into_iter().find(|part| !url.starts_with("file:") && rest.contains(*part))?;
    Some(format!("has a {part:?}: keys and options of a store come from the environment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_checked() {
        for text in ["sqlite::memory:", "sqlite:///a@b/100%", "postgres://u:p@h/d", "mysql://h/d"] {
            assert!(SqlUrl::parse(text).is_ok(), "{text}");
        }
        for text in ["file:///var/lib/spool", "file:///a?b@c", "s3://bucket", "s3://bucket/a/b", "gs://b/p", "az://c/p"]
        {
            assert!(SpoolUrl::parse(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "/var",
            "file://",
            "file:///",
            "file://a/b",
            "s3://",
            "s3:///",
            "s3://k:s@b",
            "s3://b/p?key=s",
            "http://h",
        ] {
            assert!(SpoolUrl::parse(text).is_err(), "{text}");
        }
        for text in ["", "sqlite:", "http://h", "mysql://a b", "mysql://h\n", "mysql://u:a/b@h/d"] {
            assert!(SqlUrl::parse(text).is_err(), "{text}");
        }
    }
}
