//! Certificates for tests: an authority and leaves signed by it, as PEM files in a folder.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, IsCa, KeyPair, SanType};

/// An authority that lives as long as the test.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

/// The files of one leaf certificate.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// PEM chain.
    pub certificate: PathBuf,
    /// PEM key.
    pub key: PathBuf,
}

impl Authority {
    /// Makes an authority whose files go into `folder`; its own certificate is `ca.pem` there.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "Staffetta test authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        std::fs::write(folder.join("ca.pem"), issuer.pem()).context("cannot write ca.pem")?;
        Ok(Self { issuer, folder: folder.to_owned() })
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Issues `<name>.crt` and `<name>.key` for `names` (host names, addresses of hosts, mail addresses).
    pub fn leaf(&self, name: &str, names: &[&str]) -> anyhow::Result<Leaf> {
        self.issue(name, names, Vec::new())
    }

    /// The same, with an extension that is critical and that nobody knows.
    pub fn odd_leaf(&self, name: &str, names: &[&str]) -> anyhow::Result<Leaf> {
        let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        unknown.set_criticality(true);
        self.issue(name, names, vec![unknown])
    }

    fn issue(&self, name: &str, names: &[&str], extensions: Vec<CustomExtension>) -> anyhow::Result<Leaf> {
        let key = KeyPair::generate()?;
        let (people, hosts): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.contains('@'));
        let mut params = CertificateParams::new(hosts.into_iter().map(str::to_owned).collect::<Vec<_>>())?;
        params.custom_extensions = extensions;
        for person in people {
            params.subject_alt_names.push(SanType::Rfc822Name(person.try_into()?));
        }
        let certificate = params.signed_by(&key, &self.issuer)?;
        let leaf =
            Leaf { certificate: self.folder.join(format!("{name}.crt")), key: self.folder.join(format!("{name}.key")) };
        std::fs::write(&leaf.certificate, certificate.pem()).context("cannot write a certificate")?;
        std::fs::write(&leaf.key, key.serialize_pem()).context("cannot write a key")?;
        std::fs::set_permissions(&leaf.key, std::fs::Permissions::from_mode(0o600)).context("cannot hide a key")?;
        Ok(leaf)
    }
}
