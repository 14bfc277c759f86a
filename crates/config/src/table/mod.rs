//! The tables of the file, one file each. Their documentation is the reference.

mod abuse;
mod auth;
mod delivery;
mod dns;
mod frontend;
mod log;
mod oauth;
mod redis;
mod rpc;
mod spool;
mod telemetry;
mod tls;
mod verp;

pub use abuse::Abuse;
pub use auth::{Auth, Backend, Dovecot, Mechanism, Schema, Sql};
pub(crate) use delivery::DEFAULT_REST;
pub use delivery::{Action, Delivery, Destination, Dkim, Route, Rule, Source, Timeouts, TlsReport};
pub use dns::{Dns, Dnssec};
pub use frontend::{BareLf, Canonical, ClientShown, Frontend, Listener, ListenerKind, ListenerTls, SenderLogin};
pub use log::{Addresses, Log, LogFormat};
pub use oauth::{OAuth, Signature};
pub use redis::{Durability, Redis};
pub use rpc::Rpc;
pub(crate) use spool::DEFAULT_REDIS_LIMIT;
pub use spool::{Compression, Spool};
pub use telemetry::Telemetry;
pub use tls::{Sni, Tls};
pub use verp::Verp;
