//! The tokio shell: the start of a service, listeners, the PROXY protocol, TLS with reload, DNS, connecting, shutdown.

pub mod connect;
pub mod dns;
pub mod launch;
pub mod listen;
mod memory;
pub mod proxy;
pub mod shutdown;
pub mod tls;

pub use memory::memory_limit;
