//! An identity provider's part in tests: keys (RFC 7517), tokens signed by them (RFC 7515), and a web server that
//! gives whatever it is told to give, and notes what it was asked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::web::{self, Connection};

/// A key that signs tokens.
pub struct Signer {
    id: String,
    key: Key,
}

enum Key {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    /// RS256, 2048 bits.
    ///
    /// # Errors
    /// Of the library.
    pub fn rsa(id: &str) -> anyhow::Result<Self> {
        Ok(Self { id: id.to_owned(), key: Key::Rsa(RsaKeyPair::generate(KeySize::Rsa2048)?) })
    }

    /// ES256.
    ///
    /// # Errors
    /// Of the library.
    pub fn ec(id: &str) -> anyhow::Result<Self> {
        Ok(Self { id: id.to_owned(), key: Key::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?) })
    }

    /// EdDSA, Ed25519.
    ///
    /// # Errors
    /// Of the library.
    pub fn ed25519(id: &str) -> anyhow::Result<Self> {
        Ok(Self { id: id.to_owned(), key: Key::Ed(Ed25519KeyPair::generate()?) })
    }

    fn algorithm(&self) -> &'static str {
        match &self.key {
            Key::Rsa(_) => "RS256",
            Key::Ec(_) => "ES256",
            Key::Ed(_) => "EdDSA",
        }
    }

    /// The public half.
    pub fn jwk(&self) -> String {
        let text = |octets: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(octets);
        let parts = match &self.key {
            Key::Rsa(pair) => {
                // RFC 8017 A.1.1, at this size: … 256 octets of n, and 02 03 01 00 01.
                let der = pair.public_key().as_ref();
                format!(r#""kty":"RSA","n":"{}","e":"AQAB""#, text(&der[der.len() - 261..der.len() - 5]))
            }
            Key::Ec(pair) => {
                let point = pair.public_key().as_ref();
                format!(r#""kty":"EC","crv":"P-256","x":"{}","y":"{}""#, text(&point[1..33]), text(&point[33..]))
            }
            Key::Ed(pair) => format!(r#""kty":"OKP","crv":"Ed25519","x":"{}""#, text(pair.public_key().as_ref())),
        };
        format!(r#"{{"kid":"{}","use":"sig","alg":"{}",{parts}}}"#, self.id, self.algorithm())
    }

    /// A token with these claims, JSON.
    ///
    /// # Errors
    /// Of the library.
    pub fn token(&self, claims: &str) -> anyhow::Result<String> {
        self.token_with(&format!(r#"{{"alg":"{}","kid":"{}","typ":"at+jwt"}}"#, self.algorithm(), self.id), claims)
    }

    /// The same with a header of the caller's.
    ///
    /// # Errors
    /// Of the library.
    pub fn token_with(&self, header: &str, claims: &str) -> anyhow::Result<String> {
        let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        let signed = format!("{}.{}", encode(header), encode(claims));
        let random = SystemRandom::new();
        let signature = match &self.key {
            Key::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature)?;
                signature
            }
            Key::Ec(pair) => pair.sign(&random, signed.as_bytes())?.as_ref().to_vec(),
            Key::Ed(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// A set of keys, as a provider gives it.
pub fn jwks(signers: &[&Signer]) -> String {
    let keys: Vec<String> = signers.iter().map(|signer| signer.jwk()).collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

/// What the web server was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Method and path.
    pub line: String,
    /// The field `Authorization`.
    pub authorization: String,
    /// The content.
    pub body: String,
}

#[derive(Default)]
struct State {
    /// Status and content, by path.
    answers: HashMap<String, (String, String)>,
    asked: Vec<Asked>,
}

/// A running web server; it ends when dropped.
pub struct Provider {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

impl Provider {
    /// Listens on loopback, at a free port if that of `address` is 0.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn start(address: SocketAddr, tls: TlsAcceptor) -> anyhow::Result<Self> {
        Self::listen(address, Some(tls)).await
    }

    /// The same in the clear.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn start_in_clear(address: SocketAddr) -> anyhow::Result<Self> {
        Self::listen(address, None).await
    }

    async fn listen(address: SocketAddr, tls: Option<TlsAcceptor>) -> anyhow::Result<Self> {
        let state = Arc::<Mutex<State>>::default();
        let shared = state.clone();
        let (address, tasks) = web::serve(address, tls, move |stream| serve(stream, shared.clone())).await?;
        Ok(Self { address, state, _tasks: tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on this is what it says there; without an answer it is `404`. For `{n}` it says how often it was asked.
    pub fn answer(&self, path: &str, status: &str, body: &str) {
        lock(&self.state).answers.insert(path.to_owned(), (status.to_owned(), body.to_owned()));
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.state).asked.clone()
    }
}

async fn serve(mut stream: Connection, state: Arc<Mutex<State>>) {
    let Some(asked) = read(&mut stream).await else { return };
    let path = asked.line.split(' ').nth(1).unwrap_or_default().to_owned();
    let (status, body) = {
        let mut state = lock(&state);
        state.asked.push(asked);
        let count = state.asked.len().to_string();
        let answer = state.answers.get(&path).map(|(status, body)| (status.clone(), body.replace("{n}", &count)));
        answer.unwrap_or_else(|| ("404 Not Found".to_owned(), String::new()))
    };
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    // The client may have heard enough.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn read(stream: &mut Connection) -> Option<Asked> {
    let (mut line, mut fields) = (String::new(), HashMap::new());
    stream.read_line(&mut line).await.ok()?;
    loop {
        let mut field = String::new();
        stream.read_line(&mut field).await.ok()?;
        let Some((name, value)) = field.trim_end().split_once(": ") else { break };
        fields.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = fields.get("content-length").map_or(0, |text| text.parse().unwrap_or(0));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let authorization = fields.remove("authorization").unwrap_or_default();
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    Some(Asked { line, authorization, body: String::from_utf8_lossy(&body).into_owned() })
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
