//! Where the mail of a recipient goes: to a mailbox, or over aliases to others (Postfix: `virtual_alias_maps`, virtual(5)).
//!
//! ```text
//! info@  ─▶ team@ ─▶ john@              a mailbox: an end
//!                 ─▶ lisa@ ─▶ lisa@     leads to itself: an end
//!                          ─▶ x@other   not our domain: an end
//! @catch ─▶ john@                       for names of which nothing else is known
//! ```
//!
//! Of the keys of an address ([`address::keys`]) the first that is an alias or a mailbox counts, so that a mailbox goes
//! before the catch-all of its domain. Destinations in our domains are looked up in their turn, each once: a circle has no
//! effect, unless there is nothing beside it. How many addresses an alias may have, those on the way counted, is bounded by
//! [`MAX_ROWS`] (Postfix: `virtual_alias_expansion_limit`, `virtual_alias_recursion_limit`). Beyond it there is no answer: a
//! part of them would be mail that others do not get.

use std::collections::{HashMap, HashSet};

use futures_util::future::try_join_all;

use crate::address;
use crate::sql::{MAX_ROWS, Store, StoreError};
use crate::text::Printable;

/// Addresses that are looked up at the same time.
const AT_ONCE: usize = 8;

/// What is known of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Located {
    /// Nothing.
    Nowhere,
    /// Its mail goes to the address as it is.
    AsNamed,
    /// It is an alias: its mail goes to these, none of them twice.
    Alias(Vec<String>),
    /// It is an alias that leads nowhere, or to too many.
    Unending,
}

/// What is known of one address.
enum Known {
    Nothing,
    Mailbox,
    Alias(Vec<String>),
}

/// Looks a recipient up and follows it to the end.
pub(crate) async fn locate(store: &Store, recipient: &str) -> Result<Located, StoreError> {
    let leads = match look_up(store, recipient).await? {
        Known::Nothing => return Ok(Located::Nowhere),
        Known::Mailbox => return Ok(Located::AsNamed),
        Known::Alias(leads) => leads,
    };
    let (mut journey, mut ours) = (Journey::begin(recipient, leads), HashMap::new());
    while let Some(stops) = journey.stops() {
        for some in stops.chunks(AT_ONCE) {
            learn(store, some, &mut ours).await?;
            let (here, elsewhere): (Vec<_>, Vec<_>) = some.iter().partition(|address| is_in(&ours, address));
            let known = try_join_all(here.iter().map(|address| look_up(store, address))).await?;
            elsewhere.into_iter().for_each(|address| journey.end(address));
            for (address, known) in here.into_iter().zip(known) {
                match known {
                    Known::Alias(leads) => journey.lead(address, leads),
                    Known::Nothing | Known::Mailbox => journey.end(address),
                }
            }
        }
    }
    Ok(journey.arrive(recipient))
}

/// Is it one of our domains?
pub(crate) async fn is_ours(store: &Store, domain: &str) -> Result<bool, StoreError> {
    for domain in address::spellings(domain) {
        if store.has_domain(&domain).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What the back end knows of an address.
async fn look_up(store: &Store, address: &str) -> Result<Known, StoreError> {
    for key in address::keys(address) {
        let (rows, is_known) = tokio::try_join!(store.destinations(&key), store.has_recipient(&key))?;
        if let Some(rows) = rows {
            let leads = rows.iter().flat_map(|row| named(row)).map(|to| led(address, &key, to));
            return Ok(Known::Alias(leads.collect()));
        }
        if is_known {
            return Ok(Known::Mailbox);
        }
    }
    Ok(Known::Nothing)
}

/// Finds out which of these addresses are in domains of ours, if that is not known yet.
async fn learn(store: &Store, addresses: &[String], ours: &mut HashMap<String, bool>) -> Result<(), StoreError> {
    for address in addresses {
        let domain = domain(address);
        if !ours.contains_key(domain) {
            ours.insert(domain.to_owned(), is_ours(store, domain).await?);
        }
    }
    Ok(())
}

fn is_in(ours: &HashMap<String, bool>, address: &str) -> bool {
    ours.get(domain(address)).is_some_and(|ours| *ours)
}

fn domain(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}

/// The addresses in a row: one or several, with commas or blanks between them, except where there are quotes.
fn named(row: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let is_between = move |c: char| {
        quoted ^= c == '"';
        !quoted && (c == ',' || c.is_whitespace())
    };
    row.split(is_between).filter(|name| !name.is_empty())
}

/// Where a destination leads for an address that was found under `key`: to the same user in `@domain`; what was left out of the
/// address goes with it, as in Postfix (`propagate_unmatched_extensions`).
fn led(address: &str, key: &str, destination: &str) -> String {
    let (user, domain) = destination.rsplit_once('@').unwrap_or((destination, ""));
    if user.is_empty() {
        let local = address.rsplit_once('@').map_or(address, |(local, _)| local);
        return format!("{local}@{domain}");
    }
    match address::unmatched(address, key) {
        Some(extension) if !user.ends_with('"') => format!("{user}{extension}@{domain}"),
        _ => destination.to_owned(),
    }
}

/// From an alias to its ends.
struct Journey {
    /// Where it has been, and where it goes next, in lower case.
    seen: HashSet<String>,
    next: Vec<String>,
    ends: Vec<String>,
}

impl Journey {
    fn begin(alias: &str, leads: Vec<String>) -> Self {
        let mut journey = Self { seen: HashSet::from([alias.to_lowercase()]), next: Vec::new(), ends: Vec::new() };
        journey.lead(alias, leads);
        journey
    }

    /// This address leads to these.
    fn lead(&mut self, address: &str, leads: Vec<String>) {
        for to in leads {
            if to.to_lowercase() == address.to_lowercase() {
                self.end(&to);
            } else if self.seen.insert(to.to_lowercase()) {
                self.next.push(to);
            }
        }
    }

    /// This address is a mailbox, or somebody else's.
    fn end(&mut self, address: &str) {
        if !self.ends.iter().any(|end| end == address) {
            self.ends.push(address.to_owned());
        }
    }

    /// What is to be looked up next, if it is worth while.
    fn stops(&mut self) -> Option<Vec<String>> {
        (!self.next.is_empty() && !self.is_too_long()).then(|| std::mem::take(&mut self.next))
    }

    /// Without the alias itself.
    fn is_too_long(&self) -> bool {
        self.seen.len() > MAX_ROWS + 1
    }

    fn arrive(self, recipient: &str) -> Located {
        if self.is_too_long() || self.ends.is_empty() {
            let problem = if self.ends.is_empty() && !self.is_too_long() { "nowhere" } else { "to too many addresses" };
            tracing::warn!(alias = %Printable(recipient), most = MAX_ROWS, "an alias leads {problem}");
            return Located::Unending;
        }
        match &*self.ends {
            [only] if only.to_lowercase() == recipient.to_lowercase() => Located::AsNamed,
            _ => Located::Alias(self.ends),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(rows: &[(&str, &[&str])], alias: &str) -> Located {
        let leads = |address: &str| {
            let row = rows.iter().find(|(name, _)| *name == address)?;
            Some(row.1.iter().map(|to| (*to).to_owned()).collect::<Vec<_>>())
        };
        let mut journey = Journey::begin(alias, leads(alias).unwrap_or_default());
        while let Some(stops) = journey.stops() {
            for address in &stops {
                match leads(address) {
                    Some(to) => journey.lead(address, to),
                    None => journey.end(address),
                }
            }
        }
        journey.arrive(alias)
    }

    #[test]
    fn aliases_are_followed_to_their_ends_and_circles_are_not() {
        let rows: &[(&str, &[&str])] = &[
            ("info@x", &["team@x", "john@x"]),
            ("team@x", &["john@x", "lisa@x", "info@x"]),
            ("lisa@x", &["lisa@x", "lisa@elsewhere"]),
            ("own@x", &["Own@x"]),
            ("self@x", &["self@x"]),
            ("a@x", &["b@x"]),
            ("b@x", &["a@x"]),
            ("empty@x", &[]),
        ];
        let to = |ends: &[&str]| Located::Alias(ends.iter().map(|end| (*end).to_owned()).collect());
        for (alias, located) in [
            ("info@x", to(&["john@x", "lisa@x", "lisa@elsewhere"])),
            ("lisa@x", to(&["lisa@x", "lisa@elsewhere"])),
            ("own@x", Located::AsNamed),
            ("self@x", Located::AsNamed),
            ("a@x", Located::Unending),
            ("empty@x", Located::Unending),
        ] {
            assert_eq!(follow(rows, alias), located, "{alias}");
        }
    }

    #[test]
    fn an_alias_has_a_thousand_addresses_and_not_one_more() {
        let names: Vec<String> = (0..=MAX_ROWS).map(|number| format!("{number}@x")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let Located::Alias(ends) = follow(&[("all@x", &names[1..])], "all@x") else { panic!("it has no end") };
        assert_eq!(ends.len(), MAX_ROWS);
        assert_eq!(follow(&[("all@x", &names)], "all@x"), Located::Unending);
        // Those on the way count.
        assert_eq!(follow(&[("all@x", &["some@x"]), ("some@x", &names[1..])], "all@x"), Located::Unending);
    }

    #[test]
    fn a_row_may_name_several() {
        let row = " john@x,lisa@x , \"a, b\"@x ,, x@elsewhere\r\ny@elsewhere";
        let names: Vec<&str> = named(row).collect();
        assert_eq!(names, ["john@x", "lisa@x", "\"a, b\"@x", "x@elsewhere", "y@elsewhere"]);
        assert_eq!(named(" , ").next(), None);
    }

    #[test]
    fn virtual_5_what_an_address_has_beyond_its_key_goes_with_it() {
        for (address, key, destination, expected) in [
            ("info@x", "info@x", "john@y", "john@y"),
            ("info+a@x", "info@x", "john@y", "john+a@y"),
            ("Info+A+b@X", "info@x", "john@y", "john+A+b@y"),
            ("info+a@x", "info+a@x", "john@y", "john@y"),
            ("info+a@x", "@x", "john@y", "john@y"),
            ("info+a@x", "@x", "@y", "info+a@y"),
            ("info+a@x", "info@x", "@y", "info+a@y"),
            ("info+a@x", "info@x", "\"j n\"@y", "\"j n\"@y"),
            ("info@x", "info@x", "john", "john"),
        ] {
            assert_eq!(led(address, key, destination), expected, "{address} {key} {destination}");
        }
    }
}
