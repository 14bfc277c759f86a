//! Of `[[delivery.rule]]`: what an action needs, and what it has no use for.

use super::Check;
use crate::{Action, Config};

/// Notes what cannot be said of rules.
pub(super) fn check(config: &Config, check: &mut Check<'_>) {
    for (index, rule) in config.delivery.rule.iter().enumerate() {
        let path = format!("delivery.rule[{index}].");
        if check.has_found(&path) {
            continue;
        }
        for (name, is_given, action, example) in [
            ("rate", rule.rate.is_some(), Action::Slow, "how many messages are left to it, such as \"10/1m\""),
            ("connections", rule.connections.is_some(), Action::Fewer, "how many are left to it, such as 1"),
        ] {
            let key = format!("{path}{name}");
            if rule.action == action && !is_given {
                check.refuse(&key, format!("is missing, with action = \"{action}\""), example);
            } else if rule.action != action && is_given {
                let what = format!("has no effect without action = \"{action}\"");
                check.refuse(&key, what, "that action with it, or the key not at all");
            }
        }
    }
}
