//! Of `[[verp]]`: a key that can be guessed is worse than none, for anybody could speak for every recipient.

use secrecy::ExposeSecret;
use staffetta_policy::routing::{Pattern, Senders};

use super::{Check, SHORTEST_KEY};
use crate::Config;

/// What cannot come, or will have no effect; one line each.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let frontend = &config.frontend;
    let is_taken = |domain: &str| {
        frontend.relay_domains_from_auth
            || frontend.relay_domains.iter().any(|known| known.eq_ignore_ascii_case(domain))
    };
    let of_verp = config.verp.iter().enumerate().filter_map(|(index, row)| {
        let domain = match &row.sender {
            Senders::Address(address) => address.domain_key()?,
            Senders::Domain(Pattern::Exact(domain)) => domain.clone(),
            _ => return None,
        };
        Some((format!("verp[{index}].sender: bounces"), domain))
    });
    let of_complaints = frontend
        .complaints
        .iter()
        .filter_map(|to| Some(("frontend.complaints: complaints".to_owned(), to.domain_key()?)));
    let lost = of_verp.chain(of_complaints).filter(|(_, domain)| !is_taken(domain));
    let lost =
        lost.map(|(what, domain)| format!("{what} for {domain} are not taken: it is not in frontend.relay_domains"));
    lost.chain(idle(config)).collect()
}

/// What is to be done about complaints, and cannot be.
fn idle(config: &Config) -> Option<String> {
    let missing = match config.delivery.suppress_complaints {
        true if config.frontend.complaints.is_empty() => "frontend.complaints",
        true if !config.verp.iter().any(|row| row.suppress) => "suppress = true in a [[verp]]",
        _ => return None,
    };
    Some(format!("delivery.suppress_complaints has no effect without {missing}"))
}

/// Notes what is wrong with one table.
pub(super) fn check(config: &Config, check: &mut Check<'_>) {
    for (index, row) in config.verp.iter().enumerate() {
        let key = |name: &str| format!("verp[{index}].{name}");
        match &row.key {
            // The auth service may not have the file.
            None if check.reader.service.reads("verp") && !check.has_found(&key("key")) => {
                check.refuse(&key("sender"), "is set without a key", "key or key_file beside it");
            }
            Some(secret) if secret.expose_secret().len() < SHORTEST_KEY => {
                check.refuse(&key("key"), "is too short to be a secret", "16 characters or more");
            }
            _ => {}
        }
    }
}
