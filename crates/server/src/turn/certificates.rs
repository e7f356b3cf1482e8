//! The certificate for TLS and DTLS: from files, from ACME, or one's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use futures_core::Stream;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::ResolvesServerCert;
use rustls_acme::AcmeState;
use rustls_acme::caches::DirCache;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use visavis_crypto::Certificate;
use visavis_crypto::certificate::SelfSigned;
use visavis_datagram::Random;
use visavis_dtls::PeerVerification;

use super::config::TurnError;
use crate::acme;

/// RFC 7443's names, and ACME's (RFC 8737).
const ALPN: [&[u8]; 2] = [b"stun.turn", b"stun.nat-discovery"];
const ACME_ALPN: &[u8] = b"acme-tls/1";

/// Where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Certificates {
    /// A self-signed one, made at the start: good for tests and for clients that do not verify. Browsers do.
    #[default]
    SelfSigned,
    /// PEM files: the chain, and the private key. Read again when they change and on reload.
    Files {
        /// The chain, the server's own certificate first.
        certificate: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// From an ACME service. It has to reach this server on port 443 of each name (tls-alpn-01).
    Acme {
        /// The names.
        domains: Vec<String>,
        /// Mail addresses that the service may write to.
        contacts: Vec<String>,
        /// The service's directory; Let's Encrypt's if there is none.
        directory: Option<String>,
        /// Who vouches for the service itself, beside the web's authorities: a PEM file.
        root: Option<PathBuf>,
        /// Where account and certificates are kept.
        cache: PathBuf,
    },
}

/// What connections are made with.
#[derive(Clone)]
pub(super) struct Loaded {
    pub(super) tls: Arc<ServerConfig>,
    pub(super) dtls: Arc<visavis_dtls::Config>,
}

pub(super) type Acme = AcmeState<std::io::Error>;

impl Certificates {
    /// Reads or makes the certificate. With ACME, what drives it comes too: TLS has a certificate as soon as one was
    /// issued, DTLS a self-signed one until then.
    pub(super) fn load(&self, random: &mut Random) -> Result<(Loaded, Option<Acme>), TurnError> {
        match self {
            Self::SelfSigned => {
                let certificate = self_signed(random)?;
                Ok((loaded(&certificate)?, None))
            }
            Self::Files { certificate, key } => Ok((loaded(&read_files(certificate, key)?)?, None)),
            Self::Acme {
                domains,
                contacts,
                directory,
                root,
                cache,
            } => {
                let contacts = contacts.iter().cloned();
                let config = acme::config(domains, contacts, directory.as_deref(), root.as_deref())
                    .map_err(|error| TurnError::Certificate(error.to_string()))?
                    .cache(DirCache::new(cache.clone()));
                let state = config.state();
                let resolver: Arc<dyn ResolvesServerCert> = state.resolver();
                let mut tls = builder()?.with_cert_resolver(resolver);
                tls.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
                tls.alpn_protocols.push(ACME_ALPN.to_vec());
                let dtls = match newest_of_cache(cache) {
                    Some(certificate) => certificate,
                    None => self_signed(random)?,
                };
                let loaded = Loaded {
                    tls: Arc::new(tls),
                    dtls: dtls_config(dtls),
                };
                Ok((loaded, Some(state)))
            }
        }
    }

    /// When the files changed last; `None` where there are none.
    pub(super) fn changed(&self) -> Option<SystemTime> {
        let Self::Files { certificate, key } = self else {
            return None;
        };
        let time = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
        time(certificate).max(time(key))
    }
}

/// The next thing that ACME did; the state never ends.
pub(super) async fn acme_event(state: &mut Acme) -> Option<Result<String, String>> {
    let event = std::future::poll_fn(|cx| Pin::new(&mut *state).poll_next(cx)).await?;
    Some(match event {
        Ok(event) => Ok(format!("{event:?}")),
        Err(error) => Err(error.to_string()),
    })
}

/// DTLS with the certificate that ACME put into its cache last.
pub(super) fn dtls_of_cache(cache: &Path) -> Option<Arc<visavis_dtls::Config>> {
    Some(dtls_config(newest_of_cache(cache)?))
}

fn newest_of_cache(cache: &Path) -> Option<Certificate> {
    let is_certificate = |entry: &fs::DirEntry| {
        entry
            .file_name()
            .to_string_lossy()
            .starts_with("cached_cert_")
    };
    let newest = fs::read_dir(cache)
        .ok()?
        .flatten()
        .filter(is_certificate)
        .max_by_key(|entry| entry.metadata().and_then(|meta| meta.modified()).ok())?;
    let text = fs::read_to_string(newest.path()).ok()?;
    Certificate::from_pem(&text).ok()
}

fn self_signed(random: &mut Random) -> Result<Certificate, TurnError> {
    let now = super::service::unix_time() as i64;
    let mut options = SelfSigned::at(now);
    options.common_name = "visavis".to_owned();
    options.not_after = now + 365 * 24 * 3600;
    Certificate::self_signed(&options, random)
        .map_err(|error| TurnError::Certificate(format!("cannot make a certificate: {error}")))
}

fn read_files(certificate: &Path, key: &Path) -> Result<Certificate, TurnError> {
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|error| {
            TurnError::Certificate(format!("cannot read {}: {error}", path.display()))
        })
    };
    let text = read(certificate)? + "\n" + &read(key)?;
    Certificate::from_pem(&text).map_err(|error| {
        TurnError::Certificate(format!(
            "{} and {} are no certificate chain and its private key, in PEM: {error}",
            certificate.display(),
            key.display()
        ))
    })
}

fn builder()
-> Result<rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>, TurnError> {
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_no_client_auth())
        .map_err(|error| TurnError::Certificate(error.to_string()))
}

fn loaded(certificate: &Certificate) -> Result<Loaded, TurnError> {
    let wrong = |error: &dyn std::fmt::Display| TurnError::Certificate(error.to_string());
    let pem = certificate.to_pem().map_err(|error| wrong(&error))?;
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| wrong(&error))?;
    let chain = certificate
        .chain()
        .map(|der| CertificateDer::from(der.to_vec()))
        .collect();
    let mut tls = builder()?
        .with_single_cert(chain, key)
        .map_err(|error| wrong(&error))?;
    tls.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
    Ok(Loaded {
        tls: Arc::new(tls),
        dtls: dtls_config(certificate.clone()),
    })
}

fn dtls_config(certificate: Certificate) -> Arc<visavis_dtls::Config> {
    let mut config = visavis_dtls::Config::new(certificate);
    config.request_client_certificate = false;
    config.verification = PeerVerification::Caller;
    config.srtp_profiles = Vec::new();
    config.handshake_timeout = std::time::Duration::from_secs(20);
    Arc::new(config)
}
