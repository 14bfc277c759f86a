//! The files that a configuration names: whether they are there and look like what they should be, and who can read what
//! is secret.
//!
//! Whether a key belongs to its certificate is found out where they are loaded.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use staffetta_dkim::Key;
use zeroize::Zeroizing;

use crate::file::read_file;
use crate::problem::Place;
use crate::reader::Reader;
use crate::{Config, ListenerTls, Service};

/// Notes what is missing for this service.
pub(crate) fn check(config: &Config, reader: &mut Reader, service: Service) {
    if service.reads("frontend") && service.reads("tls") {
        tls(config, reader);
    }
    let redis = &config.redis;
    for (key, path) in [("redis.ca", &redis.ca), ("redis.certificate", &redis.certificate), ("redis.key", &redis.key)] {
        pem(key, path.as_ref(), reader);
    }
    pem("telemetry.otlp_ca", config.telemetry.otlp_ca.as_ref(), reader);
    if service.reads("rpc") {
        let rpc = &config.rpc;
        for (key, path) in [("rpc.ca", &rpc.ca), ("rpc.certificate", &rpc.certificate), ("rpc.key", &rpc.key)] {
            pem(key, path.as_ref(), reader);
        }
    }
    if service.reads("delivery") {
        pem("delivery.ca", config.delivery.ca.as_ref(), reader);
        dkim(config, reader);
    }
}

/// The keys and secrets that everybody can read, of those that this service uses, a line each. Those of DKIM are told of
/// where they are read.
pub(crate) fn exposed(config: &Config, reader: &Reader) -> Vec<String> {
    let pairs = config.tls.sni.iter().enumerate().map(|(index, row)| (format!("tls.sni[{index}].key"), &row.key));
    let keys = [("tls.key", &config.tls.key), ("rpc.key", &config.rpc.key), ("redis.key", &config.redis.key)];
    let keys = keys.into_iter().filter_map(|(key, path)| Some((key.to_owned(), path.as_ref()?)));
    let secrets = reader.secret_files.iter().map(|(key, path)| (key.clone(), path));
    let used = keys.chain(pairs).chain(secrets).filter(|(key, _)| reader.service.reads(key));
    used.filter_map(|(key, path)| Some(format!("{key}: {}", open_to_all(path)?))).collect()
}

/// What to say of a file with a secret in it that every user of the machine can read, by its mode.
pub fn open_to_all(path: &Path) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    let shown = path.display();
    (mode & 0o004 != 0).then(|| format!("\"{shown}\" can be read by every user of this machine; set its mode to 0600"))
}

fn tls(config: &Config, reader: &mut Reader) {
    let encrypted = config.frontend.listener.iter().filter(|listener| listener.tls != ListenerTls::Off);
    let names: Vec<&str> = encrypted.map(|listener| listener.name.as_str()).collect();
    for (key, path) in [("tls.certificate", &config.tls.certificate), ("tls.key", &config.tls.key)] {
        if path.is_none() && !names.is_empty() {
            let what = format!("is not set, and these listeners need it: {}", names.join(", "));
            let allowed = "a PEM file, or tls = \"off\" on every listener".to_owned();
            reader.problem(Place::File, key, what, Some(allowed));
        }
        pem(key, path.as_ref(), reader);
    }
    pem("tls.client_ca", config.tls.client_ca.as_ref(), reader);
    for (index, sni) in config.tls.sni.iter().enumerate() {
        pem(&format!("tls.sni[{index}].certificate"), Some(&sni.certificate), reader);
        pem(&format!("tls.sni[{index}].key"), Some(&sni.key), reader);
    }
}

/// Without its key a domain's mail would go out unsigned, so a bad one is found now.
fn dkim(config: &Config, reader: &mut Reader) {
    for (index, row) in config.delivery.dkim.iter().enumerate() {
        if let Err(what) = dkim_key(&row.key) {
            let key = format!("delivery.dkim[{index}].key");
            let allowed =
                "a PEM file that this process may read, with an RSA key of 2048 to 8192 bits or an Ed25519 key";
            reader.problem(reader.place(&key), &key, what, Some(allowed.into()));
        }
    }
}

/// The key of a file, or what is wrong with it.
pub(crate) fn dkim_key(path: &Path) -> Result<Key, String> {
    let shown = path.display();
    let pem = read_file(path).map_err(|error| format!("\"{shown}\" cannot be read: {error}"))?;
    Key::from_pem(&Zeroizing::new(pem)).map_err(|error| format!("\"{shown}\" {error}"))
}

fn pem(key: &str, path: Option<&PathBuf>, reader: &mut Reader) {
    let Some(path) = path else { return };
    if let Err(what) = readable_pem(path) {
        let place = reader.places.get(key).cloned().unwrap_or(Place::File);
        reader.problem(place, key, what, Some("a PEM file that this process may read".into()));
    }
}

fn contains(content: &[u8], marker: &[u8]) -> bool {
    content.windows(marker.len()).any(|window| window == marker)
}

fn readable_pem(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let content = read_file(path).map_err(|error| format!("\"{shown}\" cannot be read: {error}"))?;
    let content = Zeroizing::new(content);
    let marker = b"-----BEGIN ";
    if !contains(&content, marker) {
        return Err(format!("\"{shown}\" is not a PEM file"));
    }
    if contains(&content, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || contains(&content, b"Proc-Type: 4,ENCRYPTED") {
        let cure = "take its passphrase off with `openssl pkey -in OLD -out NEW`";
        return Err(format!("\"{shown}\" is an encrypted key, and nobody is there to give its passphrase; {cure}"));
    }
    Ok(())
}
