//! Of `[[delivery.route]]`: what does not go together, and what is never reached.

use staffetta_policy::routing::Via;
use staffetta_policy::tls::Level;

use super::Check;
use crate::kind::{Domains, Kind};
use crate::{Config, Route};

/// Notes what cannot be said together of one route.
pub(super) fn check(config: &Config, check: &mut Check<'_>) {
    for (index, route) in config.delivery.route.iter().enumerate() {
        let key = |name: &str| format!("delivery.route[{index}].{name}");
        // One for everything is not made by forgetting a line.
        if route.sender.is_none()
            && !check.reader.places.contains_key(&key("domain"))
            && !check.has_found(&key("sender"))
        {
            check.refuse(&key("domain"), "is missing, and so is sender", Domains::allowed());
        }
        match (&route.username, &route.password) {
            (Some(_), None) => check.refuse(&key("username"), "is set without a password", "password or password_file"),
            (None, Some(_)) => check.refuse(&key("password"), "is set without a username", "username"),
            _ => {}
        }
        if route.username.is_some() && route.tls == Some(Level::None) {
            let what = "is \"none\" together with a password, which never travels in clear";
            check.refuse(&key("tls"), what, "\"encrypt\", \"verify\"");
        }
        ways(route, &key, check);
    }
}

/// What the ways of a route can be asked for together.
fn ways(route: &Route, key: &dyn Fn(&str) -> String, check: &mut Check<'_>) {
    let via = &route.via;
    if via.iter().any(Via::is_lmtp) && !via.iter().all(Via::is_lmtp) {
        check.refuse(&key("via"), "has both LMTP and SMTP", "a list of one of the two");
    }
    if let Some(twice) = (1..via.len()).find(|&index| via[..index].contains(&via[index])) {
        check.refuse(&key("via"), format!("has \"{}\" twice", via[twice]), "each target once");
    }
    if via.iter().any(|via| matches!(via, Via::LmtpSocket(_))) {
        if route.username.is_some() {
            let what = "is set where via is a unix socket, which has no TLS";
            check.refuse(&key("username"), what, "leave it out, or another via");
        }
        if route.tls.is_some_and(|level| level >= Level::Encrypt) {
            let what = "asks for TLS where via is a unix socket, which has none";
            check.refuse(&key("tls"), what, "\"none\", \"may\", or leave it out");
        }
    }
    if route.tls == Some(Level::None) && via.iter().any(|via| matches!(via, Via::Smtp { implicit_tls: true, .. })) {
        let what = "is \"none\" where via is smtps://, which is never without TLS";
        check.refuse(&key("tls"), what, "\"encrypt\", \"verify\", or leave it out");
    }
}

/// Routes that no mail can take.
pub(super) fn unreachable(config: &Config) -> Vec<String> {
    let routes = &config.delivery.route;
    let covers = |earlier: &Route, later: &Route| {
        earlier.domain.covers(&later.domain)
            && match (&earlier.sender, &later.sender) {
                (None, _) => true,
                (Some(earlier), Some(later)) => earlier.cover(later),
                (Some(_), None) => false,
            }
    };
    let covered = |index: usize| routes[..index].iter().any(|earlier| covers(earlier, &routes[index]));
    let unreachable = (0..routes.len()).filter(|&index| covered(index));
    unreachable
        .map(|index| {
            let senders = if routes[index].sender.is_some() { " and senders" } else { "" };
            format!("delivery.route[{index}]: an earlier route matches the same domains{senders}")
        })
        .collect()
}
