//! `[tls]`: certificates of the SMTP ports.

use std::path::PathBuf;

use crate::kind::{DomainName, FilePath, Unset};
use crate::settings::settings;

settings! {
    /// The certificates for the SMTP ports. The files are read again when they change, and on `SIGHUP`.
    pub struct Tls {
        /// The certificate with its chain, PEM, the server's own first. Needed, with `key`, unless every listener
        /// has `tls = "off"`.
        value certificate: Option<PathBuf> as Unset<FilePath> = "",
        /// The private key of `certificate`, PEM.
        value key: Option<PathBuf> as Unset<FilePath> = "",
        /// Who signs certificates of clients, PEM. With it, or with `frontend.trusted_certificates`, clients are asked for a
        /// certificate; none is turned away for not having one, or for one that others signed. One that is signed by these
        /// says who the client is, by the mail addresses and host names among its subject's alternative names: with
        /// `EXTERNAL` in `auth.mechanisms` it logs in as the first of them that is an account. Read again when it changes.
        value client_ca: Option<PathBuf> as Unset<FilePath> = "",
        /// `[[tls.sni]]`
        list sni: Vec<Sni> = "[]",
    }
}

settings! {
    /// A certificate for clients that ask for a certain name (TLS server name indication). All others get the one of
    /// `[tls]`.
    pub struct Sni {
        /// The name that the client asks for.
        need name: String as DomainName = "localhost",
        /// The certificate with its chain, PEM.
        need certificate: PathBuf as FilePath = "-",
        /// Its private key, PEM.
        need key: PathBuf as FilePath = "-",
    }
}
