//! Of `[[verp]]`: a key that can be guessed is worse than none, for anybody could speak for every recipient.

use secrecy::ExposeSecret;
use staffetta_policy::routing::Senders;

use super::{Check, SHORTEST_KEY};
use crate::Config;

/// What is to be done about complaints, and cannot be.
pub(super) fn idle(config: &Config) -> Option<String> {
    let missing = match config.delivery.suppress_complaints {
        true if config.frontend.complaints.is_empty() => "frontend.complaints",
        true if config.verp.is_empty() => "[[verp]]",
        _ => return None,
    };
    Some(format!("delivery.suppress_complaints has no effect without {missing}"))
}

/// Notes what is wrong with one table.
pub(super) fn check(config: &Config, check: &mut Check<'_>) {
    for (index, row) in config.verp.iter().enumerate() {
        let key = |name: &str| format!("verp[{index}].{name}");
        if row.sender == Senders::Null {
            let allowed = "addresses, such as \"*@news.example.org\"";
            check.refuse(&key("sender"), "is \"<>\": reports have no sender", allowed);
        }
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
