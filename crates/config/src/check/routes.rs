//! Of `[[delivery.route]]`: what does not go together, and what is never reached.

use staffetta_policy::routing::{Via, is_same_login};
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
            && route.login.is_none()
            && !check.reader.places.contains_key(&key("domain"))
            && !check.has_found(&key("sender"))
            && !check.has_found(&key("login"))
        {
            check.refuse(&key("domain"), "is missing, and so is sender", Domains::allowed());
        }
        login(route, &key, check);
        ways(route, &key, check);
    }
}

/// What belongs to a login, whose secret is a password or gets tokens.
fn login(route: &Route, key: &dyn Fn(&str) -> String, check: &mut Check<'_>) {
    // Frontends may not have the files of the secrets.
    let reads = check.reader.service.reads("delivery");
    let has_secret = route.password.is_some() || route.token_url.is_some() || check.has_found(&key("token_url"));
    if reads && route.username.is_some() && !has_secret {
        check.refuse(&key("username"), "is set without a password", "password, password_file or token_url");
    }
    if route.username.is_none() {
        let name =
            if route.password.is_some() { Some("password") } else { route.token_url.as_ref().map(|_| "token_url") };
        if let Some(name) = name {
            check.refuse(&key(name), "is set without a username", "username");
        }
    }
    if route.username.is_some() && route.tls == Some(Level::None) {
        let what = "is \"none\" together with a password, which never travels in clear";
        check.refuse(&key("tls"), what, "\"encrypt\", \"verify\"");
    }
    tokens(route, reads, key, check);
}

/// What a token is got with.
fn tokens(route: &Route, reads: bool, key: &dyn Fn(&str) -> String, check: &mut Check<'_>) {
    if route.token_url.is_none() {
        let parts = [
            ("client_id", route.client_id.is_some()),
            ("client_secret", route.client_secret.is_some()),
            ("refresh_token", route.refresh_token.is_some()),
            ("scope", route.scope.is_some()),
        ];
        if !check.has_found(&key("token_url"))
            && let Some((name, _)) = parts.into_iter().find(|(_, is_set)| *is_set)
        {
            check.refuse(&key(name), "is set without a token_url", "token_url, or leave it out");
        }
        return;
    }
    if route.password.is_some() {
        check.refuse(&key("password"), "is set together with token_url", "one of the two");
    }
    if route.client_id.is_none() {
        check.refuse(&key("token_url"), "is set without a client_id", "client_id");
    }
    let is_misspelt = ["client_secret", "refresh_token"].iter().any(|name| check.has_found(&key(name)));
    if reads && route.client_secret.is_none() && route.refresh_token.is_none() && !is_misspelt {
        let allowed = "refresh_token or refresh_token_file, client_secret or client_secret_file";
        check.refuse(&key("token_url"), "is set without a secret", allowed);
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
            && match (&earlier.login, &later.login) {
                (None, _) => true,
                (Some(earlier), Some(later)) => is_same_login(earlier, later),
                (Some(_), None) => false,
            }
    };
    let covered = |index: usize| routes[..index].iter().any(|earlier| covers(earlier, &routes[index]));
    let unreachable = (0..routes.len()).filter(|&index| covered(index));
    unreachable
        .map(|index| {
            let senders = if routes[index].sender.is_some() { " and senders" } else { "" };
            let login = if routes[index].login.is_some() { " of this login" } else { "" };
            format!("delivery.route[{index}]: an earlier route matches the same domains{senders}{login}")
        })
        .collect()
}
