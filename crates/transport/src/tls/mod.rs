//! TLS for the listeners: certificates from files, one for each server name, replaced while sessions run.
//!
//! [`Certificates::load`] reads and checks every pair; a start with a broken one fails with file and cause.
//! [`Certificates::server_config`] makes the rustls configuration, which asks [`Certificates`] at each handshake, so a
//! reload needs no new configuration and touches no running session. [`Certificates::watch`] follows the files by
//! their content (Kubernetes and certbot swap symbolic links, so a watch on the inode would go stale).
//!
//! Clients may be asked for certificates, too; what those are worth [`Clients`] says after the handshake.
//!
//! [`RpcFiles`] are the files of mutual TLS between our own services.
//!
//! The provider is aws-lc-rs, TLS 1.2 and 1.3 (RFC 8996), no ALPN, tickets on for resumption.

mod binding;
mod clients;
mod digest;
mod pair;
mod rpc;
mod store;

use std::sync::Arc;

pub use binding::exporter;
pub use clients::{Clients, Identity, Unproven};
pub use pair::{Leaf, Pair, TlsError};
pub use rpc::{RpcContents, RpcError, RpcFiles};
pub use store::Certificates;

/// Makes aws-lc-rs the provider of the process. Call it first in `main` and in tests; repeating it is harmless.
pub fn install_provider() {
    // The only error is "one is installed already", and ours is the only one that is linked.
    let _already = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// The provider itself, for configurations that name it.
fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
