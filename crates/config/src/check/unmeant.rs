//! Of `[delivery]`: what is allowed, and does more or less than whoever wrote it most likely wants.

use staffetta_policy::routing::{Pattern, Via};
use staffetta_policy::shaping::{matches_nothing, pattern};

use crate::table::DEFAULT_REST;
use crate::{Action, Config, Rate, Rule};

/// One line each.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let rules = greedy_rules(config).chain(idle_rules(config)).chain(other_times(config));
    let rules = rules.chain(shadowed_rules(config)).chain(doubled_backslashes(config)).chain(deaf_rules(config));
    rules.chain(shared_addresses(config)).chain(blind_suppression(config)).collect()
}

/// Deferrals that have nothing in common.
const UNLIKE: [&str; 2] = ["450 4.2.0 <a@example.org>: busy", "421 try later"];

/// Rules that give up on every deferral.
fn greedy_rules(config: &Config) -> impl Iterator<Item = String> {
    let rules = config.delivery.rule.iter().enumerate();
    let greedy = rules.filter(|(_, rule)| {
        let matches_all =
            |reply: &str| pattern(reply).is_ok_and(|reply| UNLIKE.iter().all(|text| reply.is_match(text)));
        rule.action == Action::Bounce && matches_all(&rule.reply)
    });
    let what = "matches every reply, so while it holds nothing that is deferred there is tried again";
    greedy.map(move |(index, _)| format!("delivery.rule[{index}].reply {what}"))
}

/// Rules that leave as much as there is without them.
fn idle_rules(config: &Config) -> impl Iterator<Item = String> {
    let (delivery, destinations, routes) = (&config.delivery, &config.delivery.destination, &config.delivery.route);
    let places = destinations.iter().map(|entry| entry.concurrency).chain(routes.iter().map(|route| route.concurrency));
    let places = places.flatten().fold(delivery.destination_concurrency, u32::max);
    let rates = destinations.iter().map(|entry| entry.rate).chain(routes.iter().map(|route| route.rate)).flatten();
    let rates: Vec<_> = rates.chain(delivery.destination_rate).collect();
    delivery.rule.iter().enumerate().filter_map(move |(index, rule)| {
        let lowers_rate =
            |rate: Rate| delivery.destination_rate.is_none() || rates.iter().any(|usual| rate.is_lower_than(usual));
        let (name, lowers) = match rule.action {
            Action::Slow => ("rate", lowers_rate(rule.rate?)),
            Action::Fewer => ("connections", rule.connections? < places),
            Action::Suspend | Action::Bounce => return None,
        };
        (!lowers).then(|| format!("delivery.rule[{index}].{name} has no effect: no destination has more"))
    })
}

/// Times of rules that are those of another action.
fn other_times(config: &Config) -> impl Iterator<Item = String> {
    config.delivery.rule.iter().enumerate().filter_map(|(index, rule)| {
        let (suspends, lasts) = (rule.suspend != DEFAULT_REST, rule.r#for != DEFAULT_REST);
        let (name, is_given, instead) = match rule.action {
            Action::Suspend => ("for", lasts, ": `suspend` says how long"),
            Action::Bounce if lasts && rule.times.count == 1 => {
                ("for", true, ": after one reply each is final at once")
            }
            Action::Slow | Action::Fewer | Action::Bounce => ("suspend", suspends, ": `for` says how long"),
        };
        let what = format!("delivery.rule[{index}].{name} has no effect with action = \"{}\"{instead}", rule.action);
        is_given.then_some(what)
    })
}

/// Rules for whose replies one before them is, too.
fn shadowed_rules(config: &Config) -> impl Iterator<Item = String> {
    let rules = &config.delivery.rule;
    rules.iter().enumerate().filter_map(move |(index, rule)| {
        let is_as_wide = |other: &&Rule| {
            let everywhere = other.domain.is_empty() && other.mx.is_empty();
            everywhere || (other.domain == rule.domain && other.mx == rule.mx)
        };
        let same = |other: &&Rule| other.reply == rule.reply && is_as_wide(other);
        let before = rules[..index].iter().position(|other| same(&other))?;
        Some(format!("delivery.rule[{index}] has no effect: delivery.rule[{before}] is for the same replies"))
    })
}

/// Patterns that search for a backslash in front of what it is most likely meant to escape: in `'…'` of TOML one is enough.
fn doubled_backslashes(config: &Config) -> impl Iterator<Item = String> {
    const MEANT: [&str; 8] = [r"\\[", r"\\(", r"\\.", r"\\d", r"\\s", r"\\w", r"\\b", r"\\+"];
    let rules = config.delivery.rule.iter().enumerate();
    let what = "searches for a backslash: write one in '…', or two in \"…\"";
    rules
        .filter(|(_, rule)| MEANT.iter().any(|meant| rule.reply.contains(meant)))
        .map(move |(index, _)| format!("delivery.rule[{index}].reply {what}"))
}

/// Rules for replies that nobody gives.
fn deaf_rules(config: &Config) -> impl Iterator<Item = String> {
    let rules = config.delivery.rule.iter().enumerate();
    let what = "matches no refusal: each begins with its code, 4xx or 5xx, and a blank";
    rules
        .filter(|(_, rule)| matches_nothing(&rule.reply))
        .map(move |(index, _)| format!("delivery.rule[{index}].reply {what}"))
}

/// Addresses whose name at providers two pools share.
fn shared_addresses(config: &Config) -> impl Iterator<Item = String> {
    let sources = &config.delivery.source;
    sources.iter().enumerate().filter_map(move |(index, source)| {
        let other =
            sources[..index].iter().find(|other| other.address == source.address && other.pool != source.pool)?;
        let what = format!("{} is in the pool {} too", source.address, other.pool);
        Some(format!("delivery.source[{index}].address: {what}: what one pool sends with it counts against the other"))
    })
}

/// A server that takes mail for all domains says nothing certain of one recipient.
fn blind_suppression(config: &Config) -> Option<String> {
    let leads_all_away = config.delivery.route.iter().any(|route| {
        let is_for_many = route.via.iter().all(|via| !matches!(via, Via::Mx));
        route.domain == Pattern::Any && route.sender.is_none() && route.login.is_none() && is_for_many
    });
    let what = "delivery.suppress_after has no effect on mail for \"*\", which goes to a server for many domains";
    let is_blind = config.delivery.suppress_after.is_some() && config.verp.is_empty();
    (is_blind && leads_all_away).then(|| what.to_owned())
}
