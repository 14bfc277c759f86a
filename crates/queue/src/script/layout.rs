//! How names become numbers: the order of KEYS and ARGV, on both sides.
//!
//! KEYS: the keys, then the groups of keys. ARGV: the sizes of all groups, keys first, three octets each, in one
//! argument; the arguments; then the groups of arguments. A group is a table in Lua and a slice in Rust; what a call may
//! lack is a group of none or one. Sizes of empty groups at the end are left out: most calls need no notices.

use std::fmt::Write as _;

use staffetta_mail::QueueId;

/// An argument of a script.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg<'a> {
    Octets(&'a [u8]),
    Number(u64),
    Real(f64),
    Id(QueueId),
    /// The name of a job.
    Job(QueueId, u16),
}

impl Arg<'_> {
    /// At most so many octets.
    fn size(self) -> usize {
        match self {
            Self::Octets(octets) => octets.len(),
            Self::Number(_) | Self::Real(_) => 20,
            Self::Id(_) | Self::Job(..) => 32,
        }
    }

    fn add(self, command: &mut redis::Cmd) {
        match self {
            Self::Octets(octets) => command.arg(octets),
            Self::Number(number) => command.arg(number),
            Self::Real(number) => command.arg(number),
            Self::Id(id) => command.arg(&id.octets()[..]),
            Self::Job(id, job) => command.arg(crate::partition::job_name(id, job)),
        };
    }
}

impl<'a> From<&'a str> for Arg<'a> {
    fn from(text: &'a str) -> Self {
        Self::Octets(text.as_bytes())
    }
}

impl<'a> From<&'a [u8]> for Arg<'a> {
    fn from(octets: &'a [u8]) -> Self {
        Self::Octets(octets)
    }
}

impl From<QueueId> for Arg<'_> {
    fn from(id: QueueId) -> Self {
        Self::Id(id)
    }
}

impl From<bool> for Arg<'_> {
    fn from(yes: bool) -> Self {
        Self::Number(u64::from(yes))
    }
}

impl From<u64> for Arg<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<std::time::Duration> for Arg<'_> {
    /// In milliseconds.
    fn from(span: std::time::Duration) -> Self {
        Self::Number(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }
}

/// The names of a script.
pub(super) struct Layout {
    /// For the first line; without one, Redis refuses the script before its first line when memory is short.
    pub(super) flags: &'static str,
    pub(super) keys: &'static [&'static str],
    pub(super) key_groups: &'static [&'static str],
    pub(super) args: &'static [&'static str],
    pub(super) arg_groups: &'static [&'static str],
    pub(super) text: &'static str,
}

/// Takes a group out of a list.
const GROUP: &str = "local none = {}
local function group(list, at, size)
  if size == 0 then return none, at end
  local all = {}
  for i = 1, size do all[i] = list[at + i] end
  return all, at + size
end
";

impl Layout {
    fn groups(&self) -> usize {
        self.key_groups.len() + self.arg_groups.len()
    }

    /// The whole script: names first.
    pub(super) fn source(&self) -> String {
        let sizes = usize::from(self.groups() > 0);
        let mut source = format!("#!lua{}\n", self.flags);
        define(&mut source, self.keys, "KEYS", 0);
        define(&mut source, self.args, "ARGV", sizes);
        if sizes > 0 {
            source += GROUP;
            let octets: Vec<String> = (1..=self.groups()).map(|n| format!("high{n}, middle{n}, low{n}")).collect();
            let _ = writeln!(source, "local {} = string.byte(ARGV[1], 1, -1)", octets.join(", "));
            let _ = writeln!(source, "local key_at, arg_at = {}, {}", self.keys.len(), sizes + self.args.len());
        }
        let keys = self.key_groups.iter().map(|name| (name, "KEYS", "key_at"));
        let args = self.arg_groups.iter().map(|name| (name, "ARGV", "arg_at"));
        for (n, (name, list, at)) in (1..).zip(keys.chain(args)) {
            let taken = format!("{name}, {at} = group({list}, {at}, high{n} * 65536 + middle{n} * 256 + low{n})");
            let _ = writeln!(source, "local {name} = none; if high{n} then {taken} end");
        }
        source + self.text
    }
}

/// How many there are in each group, for the prologue of the script.
fn sizes(groups: impl Iterator<Item = usize>) -> Vec<u8> {
    let mut sizes = Vec::with_capacity(24);
    for size in groups {
        // No message has that many jobs, and no body that many chunks.
        let size = u32::try_from(size).unwrap_or(u32::MAX).min(0xff_ffff);
        sizes.extend_from_slice(&size.to_be_bytes()[1..]);
    }
    while let [.., 0, 0, 0] = sizes[..] {
        sizes.truncate(sizes.len() - 3);
    }
    sizes
}

/// `local a, b = LIST[1], LIST[2]`
fn define(source: &mut String, names: &[&str], list: &str, after: usize) {
    if !names.is_empty() {
        let values: Vec<String> = (1..=names.len()).map(|index| format!("{list}[{}]", after + index)).collect();
        let _ = writeln!(source, "local {} = {}", names.join(", "), values.join(", "));
    }
}

/// EVALSHA with everything in its place.
pub(super) fn call(
    digest: &str,
    keys: &[&str],
    key_groups: &[&[String]],
    args: &[Arg<'_>],
    arg_groups: &[&[Arg<'_>]],
) -> redis::Cmd {
    let all_keys = || keys.iter().copied().chain(key_groups.iter().copied().flatten().map(String::as_str));
    let all_args = || args.iter().chain(arg_groups.iter().copied().flatten()).copied();
    let grouped = key_groups.len() + arg_groups.len() > 0;
    let octets: usize = all_keys().map(str::len).chain(all_args().map(Arg::size)).sum();
    let keys = all_keys().count();
    let mut command = redis::Cmd::with_capacity(4 + keys + all_args().count(), 80 + octets);
    command.arg("EVALSHA").arg(digest).arg(keys);
    for key in all_keys() {
        command.arg(key);
    }
    if grouped {
        let key_groups = key_groups.iter().map(|group| group.len());
        command.arg(sizes(key_groups.chain(arg_groups.iter().map(|group| group.len()))));
    }
    for arg in all_args() {
        arg.add(&mut command);
    }
    command
}
