//! The certificate of a host that may have any, looked at nevertheless: its domain wants to hear what is wrong with it
//! (RFC 8461 section 5.1, mode `testing`; RFC 8460).

use std::sync::{Arc, OnceLock};

use rustls::Error;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;

use super::tls::Fault;
use super::verify::{Judge, Shown};

/// Takes every certificate, and remembers what the web's roots say of it.
#[derive(Debug)]
pub(super) struct Tested {
    pub(super) web: Arc<WebPkiServerVerifier>,
    /// For whoever wants to know, after the handshake.
    pub(super) fault: Arc<OnceLock<Fault>>,
}

impl Judge for Tested {
    fn judge(&self, &Shown { leaf, intermediates, name, ocsp, now }: &Shown<'_>) -> Result<(), Error> {
        if let Err(error) = self.web.verify_server_cert(leaf, intermediates, name, ocsp, now) {
            self.fault.get_or_init(|| Fault::of(&error));
        }
        Ok(())
    }
}
