//! Sets of domains, as the configuration lists them.

use std::collections::HashSet;

/// A set of domains: exact names, and `*.name` for everything below a name. Case does not matter.
#[derive(Clone, Debug, Default)]
pub struct DomainSet {
    exact: HashSet<String>,
    /// Stored without the `*.`.
    below: HashSet<String>,
}

impl DomainSet {
    /// True if the set holds `name` itself or a `*.` entry above it.
    pub fn contains(&self, name: &str) -> bool {
        if self.exact.is_empty() && self.below.is_empty() {
            return false;
        }
        let name = name.to_ascii_lowercase();
        self.exact.contains(&name) || parents(&name).any(|parent| self.below.contains(parent))
    }
}

impl<S: AsRef<str>> FromIterator<S> for DomainSet {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        let mut set = Self::default();
        for name in names {
            let name = name.as_ref().to_ascii_lowercase();
            match name.strip_prefix("*.") {
                Some(parent) => set.below.insert(parent.to_owned()),
                None => set.exact.insert(name),
            };
        }
        set
    }
}

/// `b.c`, `c` for `a.b.c`. As in [`Pattern`](crate::routing::Pattern), an empty label is none: `.c` has no parent.
fn parents(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('.').filter(|(dot, _)| *dot > 0).map(|(dot, _)| &name[dot + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::Pattern;

    #[test]
    fn a_set_holds_what_its_patterns_match() {
        let set: DomainSet = ["example.org", "*.example.net"].into_iter().collect();
        let patterns = [Pattern::Exact("example.org".to_owned()), Pattern::Subdomains("example.net".to_owned())];
        for name in [
            "example.org",
            "EXAMPLE.ORG",
            "a.example.org",
            "example.net",
            "a.example.net",
            "a.b.Example.NET",
            ".example.net",
            "..example.net",
            ".example.org",
            "badexample.net",
            "net",
            "",
            ".",
        ] {
            let matched = patterns.iter().any(|pattern| pattern.matches(name));
            assert_eq!(set.contains(name), matched, "{name:?}");
        }
    }
}
