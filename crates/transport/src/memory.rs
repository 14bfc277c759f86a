//! How much memory this process may use.

/// In octets: what the control group allows, else what the machine has; `None` if the system does not say.
pub fn memory_limit() -> Option<usize> {
    let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/proc/meminfo"];
    files.iter().filter_map(|file| octets(&std::fs::read_to_string(file).ok()?)).min()
}

/// A number of octets alone, or the line `MemTotal: n kB`. `max` is no limit.
fn octets(text: &str) -> Option<usize> {
    match text.lines().find_map(|line| line.strip_prefix("MemTotal:")) {
        Some(total) => total.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024),
        None => text.trim().parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        for (text, expected) in [
            ("1073741824\n", Some(1 << 30)),
            ("max\n", None),
            ("MemTotal:        2048 kB\nMemFree: 1 kB\n", Some(2 << 20)),
            ("", None),
        ] {
            assert_eq!(octets(text), expected, "{text:?}");
        }
    }
}
