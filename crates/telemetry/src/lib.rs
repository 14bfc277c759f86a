//! Mail log, diagnostics, metrics registry and the HTTP endpoints of every service.
