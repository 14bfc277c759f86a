//! The figures of the process under the names that every Prometheus client uses.
//!
//! Written by hand because the registry's counters are whole numbers, and CPU seconds are not.

use std::fmt::{Display, Write};

/// Appends the `process_*` and `staffetta_runtime_*` families.
pub(crate) fn render(page: &mut String) {
    let m = metrics_process::collector::collect();
    let counter = "counter";
    let gauge = "gauge";
    family(
        page,
        "process_cpu_seconds_total",
        counter,
        "User and system CPU time spent in seconds.",
        m.cpu_seconds_total,
    );
    family(page, "process_open_fds", gauge, "Open file descriptors.", m.open_fds);
    family(page, "process_max_fds", gauge, "Limit of open file descriptors.", m.max_fds);
    family(page, "process_resident_memory_bytes", gauge, "Resident memory size in bytes.", m.resident_memory_bytes);
    family(page, "process_virtual_memory_bytes", gauge, "Virtual memory size in bytes.", m.virtual_memory_bytes);
    let start = "Start of the process, seconds since the Unix epoch.";
    family(page, "process_start_time_seconds", gauge, start, m.start_time_seconds);
    family(page, "process_threads", gauge, "Threads of the process.", m.threads);
    let Ok(runtime) = tokio::runtime::Handle::try_current().map(|h| h.metrics()) else { return };
    let tasks = "Tasks of the async runtime that are not finished.";
    family(page, "staffetta_runtime_alive_tasks", gauge, tasks, Some(runtime.num_alive_tasks()));
    let waiting = "Tasks that wait in the async runtime's global queue.";
    family(page, "staffetta_runtime_global_queue_depth", gauge, waiting, Some(runtime.global_queue_depth()));
}

fn family<V: Display>(page: &mut String, name: &str, kind: &str, help: &str, value: Option<V>) {
    if let Some(value) = value {
        // Writing to a string cannot fail.
        let _ = write!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n");
    }
}
