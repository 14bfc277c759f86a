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
        for (name, is_given, action) in
            [("rate", rule.rate.is_some(), Action::Slow), ("connections", rule.connections.is_some(), Action::Fewer)]
        {
            let key = format!("{path}{name}");
            if rule.action == action && !is_given {
                check.refuse(&key, "is missing", format!("how much is left, with action = \"{action}\""));
            } else if rule.action != action && is_given {
                let what = format!("has no effect without action = \"{action}\"");
                check.refuse(&key, what, "neither, or both");
            }
        }
    }
}
