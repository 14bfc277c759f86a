//! CPU time, from `/proc`.
//!
//! A process counts with its own user and system time and with that of the children it has waited for; its living
//! descendants are added. So the work of short-lived children (Postfix makes a hundred) is in the sum, and needs no control
//! group and no rights. Linux rounds the time of each process down to 10 ms: a peer of many processes comes out a
//! little too good, by a few percent at most.

use std::collections::HashMap;
use std::fs;

/// Length of a tick of `/proc/*/stat`; fixed by Linux' ABI, whatever the kernel's own clock.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Clone, Copy)]
struct Process {
    pid: u32,
    parent: u32,
    ticks: u64,
}

/// Seconds that the processes and their descendants, living or waited for, have used so far.
pub(crate) fn seconds(root: u32) -> f64 {
    let all = processes();
    let ticks: u64 = descend(&all, root).iter().map(|process| process.ticks).sum();
    seconds_of(ticks)
}

/// The process and its living descendants, parents first.
pub(crate) fn family(root: u32) -> Vec<u32> {
    descend(&processes(), root).iter().map(|process| process.pid).collect()
}

/// Whether there is such a process, and it isn't one that only waits to be reaped.
pub(crate) fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    fields_after_name(&stat).first().is_some_and(|state| !matches!(*state, "Z" | "X"))
}

/// Seconds used by the children that this program has waited for.
pub(crate) fn of_ended_children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = fields_after_name(&stat);
    seconds_of(number(&fields, 13) + number(&fields, 14))
}

/// Seconds used by this program itself.
pub(crate) fn own() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = fields_after_name(&stat);
    seconds_of(number(&fields, 11) + number(&fields, 12))
}

/// Seconds for which the CPUs of the machine were not idle, stolen time included, and how many CPUs there are.
pub(crate) fn machine() -> (f64, f64) {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let cpus = stat.lines().filter(|line| line.starts_with("cpu")).count().saturating_sub(1);
    let fields: Vec<_> = stat.lines().next().unwrap_or_default().split_whitespace().skip(1).collect();
    // user nice system idle iowait irq softirq steal; guests are in user already
    let busy = [0, 1, 2, 5, 6, 7].into_iter().map(|index| number(&fields, index)).sum();
    (seconds_of(busy), cpus.max(1) as f64)
}

fn descend(all: &[Process], root: u32) -> Vec<Process> {
    let mut children: HashMap<u32, Vec<Process>> = HashMap::new();
    all.iter().for_each(|process| children.entry(process.parent).or_default().push(*process));
    let mut found: Vec<_> = all.iter().filter(|process| process.pid == root).copied().collect();
    let mut next = 0;
    while let Some(process) = found.get(next) {
        found.extend(children.remove(&process.pid).unwrap_or_default());
        next += 1;
    }
    found
}

fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // A process that ends between the listing and the reading is left out.
    pids.filter_map(|pid| parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)).collect()
}

/// Fields of proc(5): ppid is the second after the name, then utime, stime, cutime and cstime are 12th to 15th.
fn parse(pid: u32, stat: &str) -> Option<Process> {
    let fields = fields_after_name(stat);
    let parent = fields.get(1)?.parse().ok()?;
    Some(Process { pid, parent, ticks: (11..=14).map(|index| number(&fields, index)).sum() })
}

/// The name is in parentheses and may itself hold blanks and parentheses.
fn fields_after_name(stat: &str) -> Vec<&str> {
    stat.rsplit_once(')').map_or_else(Vec::new, |(_, rest)| rest.split_whitespace().collect())
}

fn number(fields: &[&str], index: usize) -> u64 {
    fields.get(index).and_then(|field| field.parse().ok()).unwrap_or(0)
}

fn seconds_of(ticks: u64) -> f64 {
    ticks as f64 / TICKS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_gives_parent_and_all_four_times() {
        let line = "7 (a ) b) S 3 7 7 0 -1 4194304 100 0 0 0 10 20 300 4000 20 0 1 0 99 1000 50";
        let process = parse(7, line).map(|process| (process.parent, process.ticks));
        assert_eq!(process, Some((3, 4330)));
    }

    #[test]
    fn descendants_of_descendants_belong_to_the_family() {
        let process = |pid, parent| Process { pid, parent, ticks: 1 };
        let all = [process(1, 0), process(4, 3), process(3, 2), process(2, 1), process(9, 1)];
        let found: Vec<_> = descend(&all, 2).iter().map(|process| process.pid).collect();
        assert_eq!(found, [2, 3, 4]);
    }

    #[test]
    fn this_process_has_used_time_on_a_machine_with_cpus() {
        assert!(family(std::process::id()).contains(&std::process::id()));
        assert!(machine().0 > 0.0 && machine().1 >= 1.0);
    }
}
