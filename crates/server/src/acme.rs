//! How an ACME authority (RFC 8555) is talked to: for the front listener and for the TURN service.

use std::{convert::Infallible, io, path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_acme::AcmeConfig;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

/// Certificates for `domains`, without a cache. `directory`: the authority's, Let's Encrypt's if there is none. `root`: a PEM
/// file of who vouches for the authority itself, beside the web's.
///
/// # Errors
/// A root that cannot be read or is none.
pub(crate) fn config(
    domains: &[String],
    contacts: impl Iterator<Item = String>,
    directory: Option<&str>,
    root: Option<&Path>,
) -> io::Result<AcmeConfig<Infallible>> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(path) = root {
        let wrong = |error: &dyn std::fmt::Display| {
            let text = format!("{} holds no certificate, in PEM: {error}", path.display());
            io::Error::new(io::ErrorKind::InvalidInput, text)
        };
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
            let certificate = certificate.map_err(|error| wrong(&error))?;
            roots.add(certificate).map_err(|error| wrong(&error))?;
        }
    }
    let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = AcmeConfig::new_with_client_config(domains, Arc::new(client))
        .contact(contacts.map(|mail| format!("mailto:{mail}")));
    Ok(match directory {
        Some(directory) => config.directory(directory),
        None => config.directory_lets_encrypt(true),
    })
}
