//! The Lua scripts: everything that changes the queue.
//!
//! Rules for all of them: every key is declared; reads and checks come before the first write; nothing after the first
//! write can fail; repeating a script is harmless; TIME is the only clock. All but four that only remember something run with
//! `allow-oom`, so that a full Redis still drains; of a new message it refuses the record, which goes ahead of its script.
//!
//! Each stands here once, with the names of its keys and arguments: `scripts!` makes of them the struct that Rust fills
//! in and the first lines of Lua that give the names their values (see [`layout`]). So a new key is a name here and its
//! value at the call. The texts do not depend on a call; they are loaded once on each connection and called by digest.

mod layout;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;

use std::sync::LazyLock;

pub(crate) use layout::Arg;
use layout::Layout;

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident($flags:literal, $($file:literal),+) {
        keys: $($key:ident)+; key_groups: $($key_group:ident)*;
        args: $($arg:ident)*; arg_groups: $($arg_group:ident)*;
    })+) => {
        /// Which script: its index in the table below.
        #[derive(Clone, Copy, Debug)]
        enum Name { $($name),+ }

        static LAYOUTS: &[Layout] = &[$(Layout {
            flags: $flags,
            keys: &[$(stringify!($key)),+],
            key_groups: &[$(stringify!($key_group)),*],
            args: &[$(stringify!($arg)),*],
            arg_groups: &[$(stringify!($arg_group)),*],
            text: concat!($(include_str!(concat!("script/", $file)), "\n"),+),
        }),+];

        $(
            $(#[$doc])*
            pub(crate) struct $name<'a> {
                $(pub(crate) $key: &'a str,)+
                $(pub(crate) $key_group: &'a [String],)*
                $(pub(crate) $arg: Arg<'a>,)*
                $(pub(crate) $arg_group: &'a [Arg<'a>],)*
            }

            impl $name<'_> {
                /// The command.
                pub(crate) fn call(&self) -> redis::Cmd {
                    let digest = &LOADED[Name::$name as usize].digest;
                    layout::call(digest, &[$(self.$key),+], &[$(self.$key_group),*], &[$(self.$arg),*], &[$(self.$arg_group),*])
                }
            }
        )+
    };
}

scripts! {
    /// Queues a message.
    Enqueue(" flags=allow-oom", "common_now.lua", "common_wait.lua", "enqueue.lua") {
        keys: record tombstones ids due extra; key_groups: waiting open chunks held unfinished counted;
        args: id arrived ends stamp wake; arg_groups: destinations until_held login;
    }
    /// Destinations with work.
    Offer(" flags=allow-oom", "common_now.lua", "offer.lua") {
        keys: due; key_groups: ;
        args: limit visit; arg_groups: ;
    }
    /// Leases jobs.
    Claim(" flags=allow-oom", "common_now.lua", "claim.lua") {
        keys: waiting due lease back_off suspects; key_groups: ;
        args: destination token limit term repeated; arg_groups: ;
    }
    /// Leases other jobs of a message.
    Accompany(" flags=allow-oom", "common_now.lua", "accompany.lua") {
        keys: due lease back_off suspects; key_groups: waiting;
        args: token term most repeated; arg_groups: jobs counts destinations;
    }
    /// Extends leases.
    Renew(" flags=allow-oom", "common_now.lua", "renew.lua") {
        keys: lease; key_groups: ;
        args: term; arg_groups: members;
    }
    /// Ends a job.
    Finish(" flags=allow-oom", "common_now.lua", "common_put.lua", "common_wait.lua", "common_bury.lua", "common_discard.lua", "common_uncount.lua", "finish.lua") {
        keys: lease ids tombstones record state due extra garbage;
        key_groups: open body notice_records notice_waiting notice_chunks counted;
        args: member id job chunks remember; arg_groups: notice_ids notice_octets notice_destinations login;
    }
    /// Puts a job back.
    Defer(" flags=allow-oom", "common_now.lua", "common_put.lua", "common_wait.lua", "defer.lua") {
        keys: lease state waiting due back_off ids; key_groups: held notice_records notice_waiting notice_chunks;
        args: member job destination delay expires left rest; arg_groups: notice_ids notice_octets notice_destinations;
    }
    /// Takes expired leases back.
    Reclaim(" flags=allow-oom", "common_now.lua", "reclaim.lua") {
        keys: lease due held suspects; key_groups: states waiting;
        args: term; arg_groups: members jobs destinations;
    }
    /// Says that an attempt begins.
    Suspect(" flags=allow-oom", "common_now.lua", "suspect.lua") {
        keys: lease suspects; key_groups: ;
        args: member; arg_groups: ;
    }
    /// Deletes a message.
    Abort(" flags=allow-oom", "common_now.lua", "common_bury.lua", "common_discard.lua", "common_note.lua", "common_uncount.lua", "abort.lua") {
        keys: record ids tombstones due held back_off extra garbage acts; key_groups: open states waiting counted;
        args: id chunks octets mark act; arg_groups: destinations login;
    }
    /// Takes garbage to be deleted.
    Reap(" flags=allow-oom", "common_now.lua", "reap.lua") {
        keys: garbage; key_groups: ;
        args: limit term; arg_groups: ;
    }
    /// Makes jobs due now.
    Flush(" flags=allow-oom", "common_now.lua", "flush.lua") {
        keys: waiting due back_off; key_groups: ;
        args: destination limit; arg_groups: jobs;
    }
    /// Stores a chunk of a report, also where new mail would be refused.
    Store(" flags=allow-oom", "store.lua") {
        keys: chunk; key_groups: ;
        args: octets life; arg_groups: ;
    }
    /// Says how many partitions there are.
    Widen(" flags=allow-oom", "widen.lua") {
        keys: registry; key_groups: ;
        args: partitions id; arg_groups: ;
    }
    /// Notes what an operator has done.
    Note(" flags=allow-oom", "common_note.lua", "note.lua") {
        keys: acts; key_groups: ;
        args: ended act; arg_groups: ;
    }
    /// Takes tokens of a limit.
    Rate(" flags=allow-oom", "common_now.lua", "rate.lua") {
        keys: bucket; key_groups: ;
        args: tokens interval size; arg_groups: ;
    }
    /// Takes tokens of a login's limit.
    Guess(" flags=allow-oom", "common_now.lua", "guess.lua", "rate.lua") {
        keys: bucket known; key_groups: ;
        args: network life tokens interval size; arg_groups: ;
    }
    /// Remembers from where a login was used.
    Acquaint("", "common_now.lua", "acquaint.lua") {
        keys: known; key_groups: ;
        args: network life fresh room; arg_groups: ;
    }
    /// Counts the connections of a client.
    Headcount(" flags=allow-oom", "common_now.lua", "headcount.lua") {
        keys: pods; key_groups: ;
        args: pod count version life limit; arg_groups: ;
    }
    /// Remembers what was said of a recipient.
    Verify("", "common_now.lua", "verify.lua") {
        keys: place; key_groups: ;
        args: who kind life text room room_of_others; arg_groups: ;
    }
    /// Counts what a login does.
    Count("", "common_now.lua", "count.lua") {
        keys: login seen; key_groups: tops;
        args: hour name pod number room life; arg_groups: fields amounts domains;
    }
    /// Lets a destination rest.
    Park(" flags=allow-oom", "common_now.lua", "park.lua") {
        keys: due back_off; key_groups: ;
        args: destination rest; arg_groups: ;
    }
    /// Tells all pods what to do about a login.
    Tell(" flags=allow-oom", "common_tell.lua", "tell.lua") {
        keys: journal; key_groups: ;
        args: what target length; arg_groups: ;
    }
    /// Blocks a login, a network or a domain.
    Block(" flags=allow-oom", "common_now.lua", "common_tell.lua", "common_over.lua", "block.lua") {
        keys: journal blocks ends; key_groups: ;
        args: target life reason yields room length; arg_groups: ;
    }
    /// Counts a hard bounce.
    HardBounce("", "common_now.lua", "common_tell.lua", "common_over.lua", "hard_bounce.lua") {
        keys: journal blocks ends bounces; key_groups: ;
        args: target times interval life reason room most length; arg_groups: ;
    }
    /// Counts sessions that a domain will be told of.
    NoteSessions("", "note_sessions.lua") {
        keys: pending counts; key_groups: ;
        args: report due life most room; arg_groups: outcomes numbers;
    }
    /// Takes a report that is due.
    ClaimReport(" flags=allow-oom", "common_now.lua", "claim_report.lua") {
        keys: pending; key_groups: ;
        args: lease; arg_groups: ;
    }
    /// Ends such a block.
    Unblock(" flags=allow-oom", "common_tell.lua", "unblock.lua") {
        keys: journal blocks ends; key_groups: ;
        args: target length; arg_groups: ;
    }
    /// Takes jobs out of the way.
    Hold(" flags=allow-oom", "hold.lua") {
        keys: held due back_off; key_groups: waiting;
        args: ; arg_groups: jobs destinations ends;
    }
    /// Puts held jobs back.
    Release(" flags=allow-oom", "common_now.lua", "release.lua") {
        keys: held due; key_groups: states waiting;
        args: only_over; arg_groups: jobs destinations ends;
    }
    /// Leases one job for an operator.
    Take(" flags=allow-oom", "common_now.lua", "take.lua") {
        keys: waiting held due back_off lease; key_groups: ;
        args: job destination member term; arg_groups: ;
    }
    /// Makes a job of some recipients of another.
    Split(" flags=allow-oom", "split.lua") {
        keys: record open extra held waiting state new_state; key_groups: ;
        args: id job number was octets was_state state_octets new_state_octets; arg_groups: ;
    }
    /// Enters a body on its way to the store, also where new mail would be refused: what leaves Redis needs no room there.
    Unfinished(" flags=allow-oom", "unfinished.lua") {
        keys: garbage; key_groups: ;
        args: entry due again; arg_groups: ;
    }
    /// Says that the body of a message that waits is in the store.
    Offload(" flags=allow-oom", "offload.lua") {
        keys: record ids held open garbage; key_groups: waiting chunks;
        args: id entry was octets; arg_groups: ;
    }
    /// Looks at a message and puts it right.
    Mend(" flags=allow-oom", "common_now.lua", "common_wait.lua", "common_note.lua", "mend.lua") {
        keys: record ids lease held due acts open; key_groups: waiting chunks;
        args: id octets repair deep act; arg_groups: destinations members;
    }
    /// Looks at a destination and puts it right.
    MendDestination(" flags=allow-oom", "mend_destination.lua") {
        keys: waiting due; key_groups: ;
        args: destination repair; arg_groups: ;
    }
    /// Puts right what is counted for a login.
    Uncount(" flags=allow-oom", "common_uncount.lua", "uncount.lua") {
        keys: counted; key_groups: ;
        args: login messages; arg_groups: ;
    }
    /// Looks at what may be left of a message, and deletes it.
    Sweep(" flags=allow-oom", "sweep.lua") {
        keys: place ids record garbage; key_groups: ;
        args: id member repair; arg_groups: ;
    }
    /// Deletes some jobs of a message.
    DropJobs(" flags=allow-oom", "common_note.lua", "drop.lua") {
        keys: due held back_off open extra acts; key_groups: states waiting;
        args: id act; arg_groups: numbers destinations;
    }
}

/// A script as Redis gets it.
struct Loaded {
    source: String,
    /// What EVALSHA takes.
    digest: String,
}

static LOADED: LazyLock<Vec<Loaded>> = LazyLock::new(|| {
    let loaded = |layout: &Layout| {
        let source = layout.source();
        Loaded { digest: redis::Script::new(&source).get_hash().to_owned(), source }
    };
    LAYOUTS.iter().map(loaded).collect()
});

/// SCRIPT LOAD of every script.
pub(crate) fn load_all(pipeline: &mut redis::Pipeline) {
    for script in LOADED.iter() {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(&script.source);
    }
}
