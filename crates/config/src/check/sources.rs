//! Of `[[delivery.source]]`: pools that nobody has described, and addresses that are there twice.

use std::net::{IpAddr, Ipv4Addr};

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
        let at = source.address;
        if at.is_unspecified() || at.is_multicast() || at == IpAddr::V4(Ipv4Addr::BROADCAST) {
            let what = format!("{at} is not the address of a machine");
            check.refuse(
                &format!("delivery.source[{index}].address"),
                what,
                "an address such as 192.0.2.1 or 2001:db8::1",
            );
        }
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
