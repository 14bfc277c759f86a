//! The metrics registry of the process, its histogram buckets and its housekeeping.

use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{describe_gauge, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::Build;

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
/// What runs in this process.
static SERVICES: OnceLock<&'static [&'static str]> = OnceLock::new();

/// Histograms keep their samples until somebody drains them.
const UPKEEP: Duration = Duration::from_secs(5);

/// From a Redis round trip to the longest SMTP timeout but one.
const SECONDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// The age of a message can reach its lifetime of days; of what has waited once or twice one wants to know how many minutes.
const DELIVERY_SECONDS: [f64; 22] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0,
    7200.0, 28800.0, 86400.0, 432000.0,
];
const BYTES: [f64; 11] = [1e3, 5e3, 1e4, 5e4, 1e5, 5e5, 1e6, 5e6, 1e7, 5e7, 1e8];

/// Installs the recorder and starts its upkeep; nothing happens the second time.
pub(crate) fn install(services: &'static [&'static str], build: Build) -> Result<(), BuildError> {
    if HANDLE.get().is_some() {
        return Ok(());
    }
    let handle = builder()?.install_recorder()?;
    declare(SERVICES.get_or_init(|| services), build);
    // There is no telemetry before a configuration was taken.
    config_read(true);
    if HANDLE.set(handle.clone()).is_ok() {
        // A thread and not a task: telemetry starts before the runtime and outlives it.
        let upkeep = move || loop {
            thread::sleep(UPKEEP);
            handle.run_upkeep();
        };
        let _ = thread::Builder::new().name("metrics".into()).spawn(upkeep);
    }
    Ok(())
}

/// The registry in Prometheus' text format (0.0.4), with the figures of the process; empty before `install`.
pub(crate) fn render() -> String {
    let Some(handle) = HANDLE.get() else { return String::new() };
    let mut page = known(&handle.render());
    crate::process::render(&mut page);
    page
}

/// Without the series that nobody knows now, which are NaN: absent, they make no graph and no alarm, and `absent()` finds them.
fn known(page: &str) -> String {
    page.split_inclusive('\n').filter(|line| !line.ends_with(" NaN\n")).collect()
}

/// Whose port has the page, if it is another's than that of `service`: the first that runs here. A process has one page, and
/// figures that came from each of its ports would count as often.
pub(crate) fn elsewhere(service: &str) -> Option<&'static str> {
    let services = SERVICES.get()?;
    services.first().copied().filter(|first| *first != service && services.contains(&service))
}

/// Histograms without buckets would come out as summaries, which cannot be added up over pods.
fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full("staffetta_delivery_duration_seconds".into()), &DELIVERY_SECONDS)?
        .set_buckets_for_metric(Matcher::Full("staffetta_provider_duration_seconds".into()), &DELIVERY_SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".into()), &BYTES)
}

/// The configuration was read, and taken or refused.
pub fn config_read(taken: bool) {
    gauge!(RELOADED).set(f64::from(u8::from(taken)));
    if taken {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        gauge!(RELOADED_AT).set(now.as_secs_f64().floor());
    }
}

/// As Prometheus calls its own.
const RELOADED: &str = "staffetta_config_last_reload_successful";
const RELOADED_AT: &str = "staffetta_config_last_reload_success_timestamp_seconds";

/// What every service has.
pub(crate) fn declare(services: &[&'static str], build: Build) {
    describe_gauge!(
        RELOADED,
        "1 if the configuration was taken when it was last read, at the start or later; 0 if it has mistakes, and the one \
        before is in use."
    );
    describe_gauge!(RELOADED_AT, "When a configuration was last taken, in seconds since 1970.");
    let _ = (gauge!(RELOADED), gauge!(RELOADED_AT));
    describe_gauge!("staffetta_build_info", "Always 1; what is running is in the labels.");
    let Build { version, commit } = build;
    for service in services {
        gauge!("staffetta_build_info", "version" => version, "commit" => commit, "service" => *service).set(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_knows_is_not_on_the_page() {
        let page = "# HELP a NaN is no number.\n# TYPE a gauge\na NaN\nb{c=\"NaN\"} 1\nd{e=\"f\"} NaN\n\n";
        assert_eq!(known(page), "# HELP a NaN is no number.\n# TYPE a gauge\nb{c=\"NaN\"} 1\n\n");
    }
}
