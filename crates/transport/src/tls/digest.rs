//! What certificates are told apart by.

use aws_lc_rs::digest::{self, Algorithm, SHA256, SHA384, SHA512};
use rustls::pki_types::CertificateDer;
use x509_parser::oid_registry::{
    OID_PKCS1_MD5WITHRSAENC, OID_PKCS1_SHA1WITHRSA, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA,
    OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512, Oid,
};

/// The fingerprint of a certificate.
pub(super) fn sha256(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let mut octets = [0; 32];
    octets.copy_from_slice(digest::digest(&SHA256, certificate).as_ref());
    octets
}

/// What a server's certificate binds a channel by (`tls-server-end-point`, RFC 5929 section 4.1): its hash, by the function
/// that it is signed with. None where the signature names no function of its own, such as that of Ed25519.
pub(super) fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let algorithm = hash_of(parsed.signature_algorithm.oid())?;
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

fn hash_of(signature: &Oid<'_>) -> Option<&'static Algorithm> {
    // RFC 5929: SHA-256 stands in for MD5 and SHA-1.
    let table = [
        (OID_PKCS1_MD5WITHRSAENC, &SHA256),
        (OID_PKCS1_SHA1WITHRSA, &SHA256),
        (OID_PKCS1_SHA256WITHRSA, &SHA256),
        (OID_SIG_ECDSA_WITH_SHA256, &SHA256),
        (OID_PKCS1_SHA384WITHRSA, &SHA384),
        (OID_SIG_ECDSA_WITH_SHA384, &SHA384),
        (OID_PKCS1_SHA512WITHRSA, &SHA512),
        (OID_SIG_ECDSA_WITH_SHA512, &SHA512),
    ];
    table.into_iter().find(|(oid, _)| oid == signature).map(|(_, algorithm)| algorithm)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    use super::*;

    #[test]
    fn rfc5929_4_1_the_hash_is_that_of_the_signature() {
        for (algorithm, length) in
            [(&PKCS_ECDSA_P256_SHA256, Some(32)), (&PKCS_ECDSA_P384_SHA384, Some(48)), (&PKCS_ED25519, None)]
        {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let certificate = CertificateParams::default().self_signed(&key).unwrap().into();
            assert_eq!(end_point(&certificate).map(|hash| hash.len()), length, "{algorithm:?}");
        }
        assert_eq!(end_point(&b"no certificate".to_vec().into()), None);
    }
}
