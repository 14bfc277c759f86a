//! Mail that real servers get as the next hop, read from the store of each: one test for each server and each thing that could go wrong.
//!
//! `make test-peers` runs it. Whatever is missing for it is an error.

mod cases;
mod content;
mod hops;

/// A test of each case for one server.
macro_rules! each_case {
    ($server:ident: $($case:ident)*) => {
        mod $server {
            $(
                #[tokio::test(flavor = "multi_thread")]
                #[ignore = "make test-peers"]
                async fn $case() -> anyhow::Result<()> {
                    crate::cases::$case(crate::hops::$server).await
                }
            )*
        }
    };
}

macro_rules! matrix {
    ($($server:ident)*) => {
        $(each_case! { $server:
            of_many_recipients_one_is_refused
            every_octet_arrives
            long_lines_are_made_short
            twenty_mebibytes_arrive_whole
            parameters_of_dsn_are_passed_on_or_answered_for
            whatever_is_under_way_when_it_is_killed_arrives
        })*
    };
}

matrix! { postfix exim opensmtpd haraka dovecot_by_tcp dovecot_by_socket }

// Those that can be told not to offer 8BITMIME.
each_case! { postfix_of_seven_bits: eight_bits_arrive_converted }
each_case! { exim_of_seven_bits: eight_bits_arrive_converted }
