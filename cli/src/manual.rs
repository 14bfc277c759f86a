//! Pages that are made from the code: the metrics. `make docs` writes them, a test compares.

use std::fmt::Write as _;

use staffetta_telemetry::catalogue::{Catalogue, Family};

const METRICS: &str = "\
# Metrics

This page is made by `make docs` from what the services declare; change it there.

Every service has a page for Prometheus at `/metrics` of its HTTP port. Counters end in `_total` and exist from the start with 0, as far as their
labels are known. The unit is at the end of a name: `_seconds`, `_bytes`; others count. No label is an address, a login, a queue
id or, unless the configuration names it, a domain of a recipient. A gauge of something that nobody knows now, such as the queue while Redis does not answer, is not on
the page. Figures of the whole queue are the same from every pod: take their `max`.

Values of labels are listed where they are few and not a matter of configuration. What to do about them:
[operations.md](operations.md).

| metric | kind | labels | of | meaning |
|---|---|---|---|---|
";

const SERVICES: [&str; 3] = ["auth", "delivery", "frontend"];

/// The page that docs/metrics.md holds. Inside a runtime.
///
/// # Errors
/// A family is declared by halves.
pub fn metrics() -> Result<String, String> {
    let catalogue = Catalogue::default();
    catalogue.add("frontend", staffetta_frontend::declare_metrics);
    catalogue.add("auth", staffetta_auth::declare_metrics);
    catalogue.add("delivery", staffetta_delivery::declare_metrics);
    catalogue.add_own(&SERVICES);
    let mut page = METRICS.to_owned();
    for (name, family) in catalogue.families()? {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "{}", row(&name, &family));
    }
    Ok(page)
}

fn row(name: &str, family: &Family) -> String {
    let Family { kind, about, services, .. } = family;
    let services = if services.len() == SERVICES.len() {
        "all".to_owned()
    } else {
        services.iter().copied().collect::<Vec<_>>().join(", ")
    };
    format!("| `{name}` | {kind} | {} | {services} | {about} |", family.labels())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_page_about_metrics_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        assert!(
            std::fs::read_to_string(path).unwrap() == metrics().unwrap(),
            "docs/metrics.md is out of date: make docs"
        );
    }
}
