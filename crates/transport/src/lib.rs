//! The tokio shell: the start of a service, listeners, the PROXY protocol, TLS with reload, DNS, policies of domains, HTTPS,
//! next hops and the way to them, connecting, shutdown.

pub mod connect;
pub mod dns;
pub mod fallback;
pub mod hop;
pub mod https;
pub mod itinerary;
pub mod launch;
pub mod listen;
pub mod live;
mod memory;
mod own;
pub mod proxy;
pub mod reload;
pub mod shutdown;
pub mod sts;
mod tally;
pub mod tls;
pub mod token;
pub mod web;

pub use memory::memory_limit;
