//! The Lua scripts: everything that changes the queue.
//!
//! Rules for all of them: every key is declared; reads and checks come before the first write; nothing after the first
//! write can fail; repeating a script is harmless; TIME is the only clock. All but the enqueue run with `allow-oom`, so
//! that a full Redis still drains. The texts are constants, loaded once on each connection and called by digest.

use std::sync::LazyLock;

/// One script. The discriminant is its index in the table below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// Queues a message.
    Enqueue,
    /// Destinations with work.
    Offer,
    /// Leases jobs.
    Claim,
    /// Extends leases.
    Renew,
    /// Ends a job.
    Finish,
    /// Puts a job back.
    Defer,
    /// Takes expired leases back.
    Reclaim,
    /// Deletes a message.
    Abort,
    /// Makes jobs due now.
    Flush,
    /// Takes tokens of a limit.
    Rate,
    /// Lets a destination rest.
    Park,
    /// Takes jobs out of the way.
    Hold,
    /// Puts held jobs back.
    Release,
    /// Deletes some jobs of a message.
    Drop,
}

/// The first line; without a flag, Redis refuses the script before its first line when memory is short.
macro_rules! source {
    ($flags:literal, $($file:literal),+) => { concat!("#!lua", $flags, "\n", $(include_str!(concat!("script/", $file))),+) };
}

static SOURCES: [&str; 14] = [
    source!("", "common_now.lua", "common_put.lua", "enqueue.lua"),
    source!(" flags=allow-oom", "common_now.lua", "offer.lua"),
    source!(" flags=allow-oom", "common_now.lua", "claim.lua"),
    source!(" flags=allow-oom", "common_now.lua", "renew.lua"),
    source!(" flags=allow-oom", "common_now.lua", "common_put.lua", "common_bury.lua", "finish.lua"),
    source!(" flags=allow-oom", "common_now.lua", "common_put.lua", "defer.lua"),
    source!(" flags=allow-oom", "common_now.lua", "reclaim.lua"),
    source!(" flags=allow-oom", "common_bury.lua", "abort.lua"),
    source!(" flags=allow-oom", "common_now.lua", "flush.lua"),
    source!(" flags=allow-oom", "common_now.lua", "rate.lua"),
    source!(" flags=allow-oom", "common_now.lua", "park.lua"),
    source!(" flags=allow-oom", "hold.lua"),
    source!(" flags=allow-oom", "common_now.lua", "release.lua"),
    source!(" flags=allow-oom", "drop.lua"),
];

static DIGESTS: LazyLock<[String; 14]> =
    LazyLock::new(|| SOURCES.map(|source| redis::Script::new(source).get_hash().to_owned()));

impl Script {
    /// What EVALSHA takes.
    pub(crate) fn digest(self) -> &'static str {
        &DIGESTS[self as usize]
    }

    /// A call; `size` is a guess at the octets of all arguments.
    pub(crate) fn call(self, keys: &[&str], size: usize) -> redis::Cmd {
        let mut command = redis::Cmd::with_capacity(12 + keys.len(), 128 + size);
        command.arg("EVALSHA").arg(self.digest()).arg(keys.len());
        for key in keys {
            command.arg(*key);
        }
        command
    }
}

/// SCRIPT LOAD of every script.
pub(crate) fn load_all(pipeline: &mut redis::Pipeline) {
    for source in SOURCES {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(source);
    }
}
