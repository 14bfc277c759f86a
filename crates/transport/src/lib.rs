//! The tokio shell: listeners, TLS with reload, DNS, shutdown.

pub mod connect;
pub mod dns;
pub mod listen;
pub mod shutdown;
pub mod tls;
