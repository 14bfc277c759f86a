//! Of `[[delivery.source]]`: pools that nobody has described, and addresses that are there twice.

use super::Check;
use crate::Config;

/// Notes what cannot be said of sources.
pub(super) fn check(config: &Config, check: &mut Check<'_>) {
    let delivery = &config.delivery;
    let mut names: Vec<&str> = delivery.source.iter().map(|source| source.pool.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let allowed = if names.is_empty() { "a [[delivery.source]] with this pool".to_owned() } else { names.join(", ") };
    let routes = delivery.route.iter().enumerate();
    let used = routes.map(|(index, route)| (format!("delivery.route[{index}].source"), &route.source));
    for (key, name) in used.chain([("delivery.default_source".to_owned(), &delivery.default_source)]) {
        if let Some(name) = name.as_deref().filter(|name| !names.contains(name) && !check.has_found("delivery.source"))
        {
            check.refuse(&key, format!("names the pool {name}, which has no address"), allowed.as_str());
        }
    }
    for (index, source) in delivery.source.iter().enumerate() {
        let is_same = |other: &crate::Source| (&other.pool, other.address) == (&source.pool, source.address);
        if delivery.source[..index].iter().any(is_same) {
            let what = format!("{} is in the pool {} already", source.address, source.pool);
            check.refuse(
                &format!("delivery.source[{index}].address"),
                what,
                "each address once; weight gives it a larger share",
            );
        }
    }
}
