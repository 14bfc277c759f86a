//! `[rpc]`: the link between frontend and auth service.

use std::path::PathBuf;

use crate::kind::{FilePath, Unset};
use crate::settings::settings;

settings! {
    /// Mutual TLS between the frontends and the auth service. Passwords travel on this link: set it unless both run
    /// on one machine. All three keys or none; with them `frontend.auth` is an `https://` URL.
    pub struct Rpc {
        /// The authority that signed both sides' certificates, PEM.
        value ca: Option<PathBuf> as Unset<FilePath> = "",
        /// This side's certificate with its chain, PEM. On the auth service it is for the host name in
        /// `frontend.auth`.
        value certificate: Option<PathBuf> as Unset<FilePath> = "",
        /// Its private key, PEM.
        value key: Option<PathBuf> as Unset<FilePath> = "",
    }
}
