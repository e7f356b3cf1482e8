//! A certificate authority of a test: for clients that believe no certificate that a server made for itself.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// An authority; its files are in one folder.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    /// Makes one, and writes its certificate.
    pub fn new(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).expect("a folder");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "visavis interop");
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        std::fs::write(folder.join("root.pem"), issuer.pem()).expect("written");
        Self {
            issuer,
            folder: folder.to_owned(),
        }
    }

    /// Its own certificate, in PEM.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root.pem")
    }

    /// Issues a certificate for names or addresses: the chain, and the private key, in PEM.
    pub fn issue(&self, names: &[&str]) -> (PathBuf, PathBuf) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let params = CertificateParams::new(names).expect("names");
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate");
        let (certificate, private) = (self.folder.join("leaf.pem"), self.folder.join("leaf.key"));
        std::fs::write(&certificate, signed.pem()).expect("written");
        std::fs::write(&private, key.serialize_pem()).expect("written");
        (certificate, private)
    }
}
