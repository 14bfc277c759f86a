//! Decisions as pure functions: relay rules, retry schedule, what a failure means and what it is of, routing, MX order and addresses, TLS
//! policy, which servers are one destination and when it rests, who is one client and who a stranger, how logins behave, what credentials are remembered by,
//! as whom senders write to each recipient.

pub mod canonical;
pub mod classify;
pub mod client;
pub mod conduct;
pub mod destination;
pub mod diagnosis;
pub mod mx;
pub mod relay;
pub mod routing;
pub mod schedule;
pub mod seal;
pub mod shaping;
pub mod source;
pub mod sts;
pub mod tls;
pub mod verp;
