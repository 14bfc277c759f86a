//! Which families of metrics there are: what the services declare, collected for docs/metrics.md instead of being counted.
//!
//! [`Catalogue::add`] runs a declaration with a recorder that only listens. A label whose values the configuration or
//! the world decides has [`OPEN`] among them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit, with_local_recorder};

use crate::Build;

/// The value of a label that has no list of values.
pub const OPEN: &str = "…";
/// More values than this are not listed.
const MOST: usize = 14;

/// A family.
#[derive(Clone, Debug, Default)]
pub struct Family {
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The help text.
    pub about: String,
    /// Values by label.
    labels: BTreeMap<String, BTreeSet<String>>,
    /// Who has it.
    pub services: BTreeSet<&'static str>,
    described: bool,
    /// Two services say different things of it.
    contested: bool,
    registered: bool,
}

/// All families by name.
#[derive(Debug, Default)]
pub struct Catalogue(Mutex<BTreeMap<String, Family>>);

impl Catalogue {
    /// Notes what `declare` describes and registers for a service.
    pub fn add(&self, service: &'static str, declare: impl FnOnce()) {
        with_local_recorder(&Listener { catalogue: self, service }, declare);
    }

    /// Notes what this crate declares for every service.
    pub fn add_own(&self, services: &[&'static str]) {
        for service in services {
            self.add(service, || {
                crate::registry::declare(&[OPEN], Build { version: OPEN, commit: OPEN });
                crate::maillog::declare_metrics();
                crate::spans::declare_metrics();
            });
        }
        self.add_process(services);
    }

    /// Notes the families of the process, which every service has. Inside a runtime, because some are about it.
    fn add_process(&self, services: &[&'static str]) {
        let mut page = String::new();
        crate::process::render(&mut page);
        for lines in page.split("# HELP ").skip(1) {
            let word = |line: Option<&str>| {
                line.and_then(|line| line.split_once(' ')).map(|(a, b)| (a.to_owned(), b.to_owned()))
            };
            let (Some((name, about)), Some((_, kind))) =
                (word(lines.lines().next()), word(lines.lines().nth(1).and_then(|line| line.strip_prefix("# TYPE "))))
            else {
                continue;
            };
            self.change(&name, |family| {
                family.kind = if kind == "counter" { "counter" } else { "gauge" };
                family.about = about;
                (family.described, family.registered) = (true, true);
                family.services.extend(services);
            });
        }
    }

    /// All of them by name; what is wrong with one: it has no help text, or no series.
    ///
    /// # Errors
    /// The first that is incomplete.
    pub fn families(self) -> Result<BTreeMap<String, Family>, String> {
        let families = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (name, family) in &families {
            if !family.described {
                return Err(format!("{name} is counted and has no help text"));
            }
            if family.contested {
                return Err(format!("{name} has two help texts"));
            }
            if !family.registered {
                return Err(format!("{name} has a help text, and nobody declares its series"));
            }
        }
        Ok(families)
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Family)) {
        let mut families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(families.entry(name.to_owned()).or_default());
    }
}

impl Family {
    /// Its labels, each with its values where they are few: `state` (`ready`, `held`).
    pub fn labels(&self) -> String {
        let label = |(name, values): (&String, &BTreeSet<String>)| {
            if values.len() > MOST || values.contains(OPEN) {
                return format!("`{name}`");
            }
            let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
            format!("`{name}` ({})", values.join(", "))
        };
        self.labels.iter().map(label).collect::<Vec<_>>().join("; ")
    }
}

/// Listens to one service.
struct Listener<'a> {
    catalogue: &'a Catalogue,
    service: &'static str,
}

impl Listener<'_> {
    fn describe(&self, name: &KeyName, kind: &'static str, about: &SharedString) {
        self.catalogue.change(name.as_str(), |family| {
            family.kind = kind;
            family.contested |= family.described && family.about != **about;
            family.about = about.to_string();
            family.described = true;
            family.services.insert(self.service);
        });
    }

    fn register(&self, key: &Key) {
        self.catalogue.change(key.name(), |family| {
            family.registered = true;
            family.services.insert(self.service);
            for label in key.labels() {
                family.labels.entry(label.key().to_owned()).or_default().insert(label.value().to_owned());
            }
        });
    }
}

impl Recorder for Listener<'_> {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, about: SharedString) {
        self.describe(&name, "counter", &about);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, about: SharedString) {
        self.describe(&name, "gauge", &about);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, about: SharedString) {
        self.describe(&name, "histogram", &about);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.register(key);
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.register(key);
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.register(key);
        Histogram::noop()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use metrics::{counter, describe_counter, describe_gauge, gauge};

    use super::*;

    #[test]
    fn what_services_declare_is_collected() {
        let catalogue = Catalogue::default();
        let declare = || {
            describe_counter!("a_total", "All of a.");
            describe_gauge!("b", "How much b.");
            for (one, two) in [("x", OPEN), ("y", "z")] {
                counter!("a_total", "one" => one, "two" => two).increment(1);
            }
            gauge!("b").set(1.0);
        };
        catalogue.add("first", declare);
        catalogue.add("second", || {
            describe_gauge!("b", "How much b.");
            gauge!("b").set(1.0);
        });
        let families = catalogue.families().unwrap();
        let a = &families["a_total"];
        assert_eq!((a.kind, a.about.as_str()), ("counter", "All of a."));
        assert_eq!(a.labels(), "`one` (`x`, `y`); `two`");
        assert_eq!(families["b"].services, BTreeSet::from(["first", "second"]));
    }

    #[test]
    fn what_is_half_declared_is_a_mistake() {
        let catalogue = Catalogue::default();
        catalogue.add("first", || counter!("a_total").increment(1));
        assert_eq!(catalogue.families().unwrap_err(), "a_total is counted and has no help text");
        let catalogue = Catalogue::default();
        for about in ["All of a.", "Each a."] {
            catalogue.add("first", || describe_counter!("a_total", about));
        }
        assert_eq!(catalogue.families().unwrap_err(), "a_total has two help texts");
        let catalogue = Catalogue::default();
        catalogue.add("first", || describe_counter!("a_total", "All of a."));
        assert_eq!(catalogue.families().unwrap_err(), "a_total has a help text, and nobody declares its series");
    }
}
