//! `[auth.oauth]`: how the token of a client is checked.

use std::path::PathBuf;

use secrecy::SecretString;

use crate::kind::{Any, Choice, FilePath, KeyPlace, List, Maybe, WebAddress};
use crate::settings::{choices, settings};
use crate::{KeySource, WebUrl};

settings! {
    /// Logins with a token of an identity provider instead of a password, with OAUTHBEARER (RFC 7628) and XOAUTH2, when
    /// `auth.mechanisms` has one of them and the accounts are in a database. Either the token is a JWT, and `keys` says
    /// who may have signed it; or the provider is asked about it, and `introspection` says where. The account that the
    /// token names must be in the database; it needs no password there, and a locked one (`!`) lets nobody in. A provider
    /// that does not answer is `454 4.7.0`, never `535`.
    pub struct OAuth {
        /// The public keys of the provider (JWKS, RFC 7517): a file, which is read again when it changes, or an address,
        /// which is asked again every ten minutes, and at once about a key that is not known yet. With it, `issuer` and
        /// `audience` must be given. A token must have an `exp` that is not over; `exp` and `nbf` are taken with 60
        /// seconds of leeway.
        value keys: Option<KeySource> as Maybe<KeyPlace> = "",
        /// Where the provider is asked about a token (RFC 7662), with `client_id` and `client_secret`. What it says is
        /// kept for `auth.cache_ttl`, but not after the token's `exp`. `issuer`, `audience`, `exp` and `nbf` are looked
        /// at if the answer has them.
        value introspection: Option<WebUrl> as Maybe<WebAddress> = "",
        /// Who we are when we ask about tokens.
        value client_id: Option<String> as Maybe<Any> = "",
        /// Proves it.
        hidden client_secret or client_secret_file: Option<SecretString> as Any = "",
        /// A bundle of certificates, PEM, that is trusted besides the web's roots, for both addresses.
        value ca: Option<PathBuf> as Maybe<FilePath> = "",
        /// Who must have issued the token: its `iss`, letter by letter.
        value issuer: Option<String> as Maybe<Any> = "",
        /// For whom the token must be: one of these must be in its `aud`. A token for another service would open the
        /// account here, too.
        value audience: Vec<String> as List<Any> = "",
        /// How a token may be signed. A key is used only for what its own `kty`, `crv`, `use` and `alg` say.
        value algorithms: Vec<Signature> as List<Choice<Signature>> = "RS256, ES256, EdDSA",
        /// The claim that is the login. Of `email`, a token that says that the address is not verified is refused.
        value login_claim: String as Any = "email",
        /// A scope that the token must have; clients are told it when they are refused.
        value scope: Option<String> as Maybe<Any> = "",
    }
}

choices! {
    /// How a token is signed (RFC 7518 section 3.1, RFC 8037). Neither `none` nor what needs a common secret is among
    /// them.
    pub enum Signature {
        /// RSA, PKCS #1.
        Rs256 = "RS256",
        /// The same with SHA-384.
        Rs384 = "RS384",
        /// The same with SHA-512.
        Rs512 = "RS512",
        /// RSA, PSS.
        Ps256 = "PS256",
        /// The same with SHA-384.
        Ps384 = "PS384",
        /// The same with SHA-512.
        Ps512 = "PS512",
        /// ECDSA on P-256.
        Es256 = "ES256",
        /// ECDSA on P-384.
        Es384 = "ES384",
        /// Ed25519.
        EdDsa = "EdDSA",
    }
}
