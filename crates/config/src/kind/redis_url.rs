//! Where Redis is: its forms are known here, so that a slip is told with its place and not by a library, later.

use super::{Kind, Wrong, login, quoted};

/// Where Redis is.
pub(crate) struct RedisUrl;

impl Kind for RedisUrl {
    type Value = String;
    const NOUN: &'static str = "the URL of a Redis server";

    fn allowed() -> String {
        "\"redis://host:port\", \"rediss://host:port\", \"redis-sentinel://host:port,host:port/name\", \
         \"rediss-sentinel://host:port,host:port/name\", \"redis-cluster://host:port,host:port\", \
         \"rediss-cluster://host:port,host:port\", \"unix:/path\""
            .into()
    }

    fn parse(text: &str) -> Result<String, Wrong> {
        let misspelt =
            if text.starts_with("redis") && !text.starts_with("redis+") { login::problem(text) } else { None };
        if let Some(problem) = misspelt {
            return Err(Wrong::because::<Self>(text, problem));
        }
        let clean = !text.chars().any(|c| c.is_control() || c == ' ');
        if clean && is_known(text) { Ok(text.into()) } else { Err(Wrong::not::<Self>(text)) }
    }

    fn show(value: &String) -> String {
        quoted(value)
    }
}

fn is_known(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once(':') else { return false };
    match (scheme, rest.strip_prefix("//")) {
        ("unix", _) => rest.starts_with('/') && !rest.trim_start_matches('/').is_empty(),
        ("redis" | "rediss", Some(rest)) => {
            let rest = rest.split_once(['?', '#']).map_or(rest, |(rest, _)| rest);
            let (host, database) = after_login(rest);
            is_place(host) && database.is_none_or(is_database)
        }
        ("redis-sentinel" | "rediss-sentinel", Some(rest)) => {
            let (hosts, path) = after_login(rest);
            let path = path.unwrap_or_default();
            let (name, database) = path.split_once('/').map_or((path, None), |(name, number)| (name, Some(number)));
            !name.is_empty()
                && !name.contains(['?', '#', '%'])
                && hosts.split(',').all(is_place)
                && database.is_none_or(is_database)
        }
        ("redis-cluster" | "rediss-cluster", Some(rest)) => {
            let (hosts, path) = after_login(rest);
            hosts.split(',').all(is_place) && path.is_none_or(str::is_empty)
        }
        _ => false,
    }
}

/// The hosts, and what stands behind the first slash.
fn after_login(rest: &str) -> (&str, Option<&str>) {
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    rest.split_once('/').map_or((rest, None), |(hosts, path)| (hosts, Some(path)))
}

/// `host`, `host:port`, `[::1]`, `[::1]:port`.
pub(super) fn is_place(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((address, port))) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
            (address, if port.is_empty() { None } else { port.strip_prefix(':').or(Some("")) })
        }
        Some(_) => return false,
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    !host.is_empty() && port.is_none_or(|port| is_number(port) && port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// A number, or nothing.
fn is_database(text: &str) -> bool {
    text.is_empty() || is_number(text) && text.parse::<u16>().is_ok()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_known() {
        for url in [
            "redis://127.0.0.1:6379",
            "redis://[::1]:6379/0",
            "redis://redis",
            "rediss://u:p@h/0",
            "rediss://h:6380/#insecure",
            "redis://:s%40c%2Fret@h:1/15?protocol=resp3",
            "unix:/run/redis.sock",
            "unix:///run/redis.sock?db=1",
            "redis-sentinel://a:26379,b,[::1],[::2]:7/mymaster",
            "redis-sentinel://mail:s%2Fcret@a/mymaster/2",
            "rediss-sentinel://a,b:26379/mymaster",
            "redis-cluster://a,b",
            "rediss-cluster://mail:s%2Fcret@a:7000,[::1]:7001/",
        ] {
            assert!(RedisUrl::parse(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn what_cannot_be_opened_is_told_at_once() {
        for url in [
            "",
            "redis://",
            "redis:h",
            "redis+unix:/run/redis.sock",
            "http://h",
            "127.0.0.1:6379",
            "redis://a b",
            "redis://h\n",
            "redis://h:0",
            "redis://h:65536",
            "redis://h:port",
            "redis://h:",
            "redis://:6379",
            "redis://[::1",
            "redis://[h]:1",
            "redis://[::1]6379",
            "redis://h/x",
            "redis://h/99999999999",
            "redis://h/1/2",
            "unix:",
            "unix:/",
            "unix:run/redis.sock",
            "redis-sentinel://a:26379,b:26379",
            "redis-sentinel://a/",
            "redis-sentinel://a,/m",
            "redis-sentinel:///m",
            "redis-sentinel://a:port/m",
            "redis-sentinel://a/m/x",
            "redis-sentinel://a/m/999999",
            "redis-sentinel://a/m?x=y",
            "redis-sentinel://a/m#f",
            "redis-cluster://",
            "redis-cluster://a,",
            "redis-cluster://a:port",
            "redis-cluster://a/1",
            "redis-cluster://a/mymaster",
        ] {
            assert!(RedisUrl::parse(url).is_err(), "{url}");
        }
    }
}
