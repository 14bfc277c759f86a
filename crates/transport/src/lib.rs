//! The tokio shell: listeners, TLS with reload, DNS, shutdown.
