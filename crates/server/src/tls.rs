//! Certificates of the front listener: from files, from an ACME authority, or made by the server.

use std::{
    convert::Infallible, io, net::IpAddr, path::Path, pin::Pin, sync::Arc, time::SystemTime,
};

use futures_core::Stream as _;
use rustls::{ServerConfig, crypto::aws_lc_rs};
use rustls_acme::{AcmeConfig, caches::DirCache};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::{
    acme,
    config::{Config, Tls},
};

/// The protocols that are spoken over TLS: TURN (RFC 7443), web, and an ACME authority's check (RFC 8737). TURN comes first: coturn's
/// client offers HTTP too, and browsers do not offer TURN.
const ALPN: [&[u8]; 3] = [b"stun.turn", b"http/1.1", b"acme-tls/1"];

fn invalid(text: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.to_string())
}

fn builder() -> io::Result<rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(builder.map_err(invalid)?.with_no_client_auth())
}

/// The TLS side of the front listener; `None` if it speaks none. `machine`: the machine's addresses.
///
/// # Errors
/// Files that cannot be read or used.
pub(crate) fn start(config: &Config, machine: &[IpAddr]) -> io::Result<Option<Arc<ServerConfig>>> {
    let mut tls = match &config.tls {
        Tls::Off => return Ok(None),
        Tls::Files { certificate, key } => of_files(certificate, key)?,
        Tls::SelfSigned => {
            let (chain, key) = self_signed(config, machine)?;
            builder()?.with_single_cert(chain, key).map_err(invalid)?
        }
        Tls::Acme {
            domains,
            email,
            directory,
            root,
        } => {
            let authority = acme::config(
                domains,
                email.iter().cloned(),
                directory.as_deref(),
                root.as_deref(),
            )?;
            by_acme(config, authority)?
        }
    };
    tls.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
    Ok(Some(Arc::new(tls)))
}

fn of_files(certificate: &Path, key: &Path) -> io::Result<ServerConfig> {
    let (chain, key) = read(certificate, key)?;
    builder()?.with_single_cert(chain, key).map_err(invalid)
}

/// The TLS side after certificate files changed; `None` where there are none. A server that began with
/// files may go on with others; one that began without has to be restarted.
///
/// # Errors
/// Files that cannot be read or used.
pub(crate) fn reload(old: &Config, new: &Config) -> io::Result<Option<Arc<ServerConfig>>> {
    let (Tls::Files { .. }, Tls::Files { certificate, key }) = (&old.tls, &new.tls) else {
        return Ok(None);
    };
    let mut tls = of_files(certificate, key)?;
    tls.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
    Ok(Some(Arc::new(tls)))
}

/// When the certificate's files changed last; `None` where there are none.
pub(crate) fn changed(config: &Config) -> Option<SystemTime> {
    let Tls::Files { certificate, key } = &config.tls else {
        return None;
    };
    let time = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
    time(certificate).max(time(key))
}

type Certified = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read(certificate: &Path, key: &Path) -> io::Result<Certified> {
    let wrong = |path: &Path| {
        let path = path.display().to_string();
        move |error: rustls_pki_types::pem::Error| invalid(format!("{path}: {error}"))
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .map_err(wrong(certificate))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(wrong(certificate))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(wrong(key))?;
    Ok((chain, key))
}

/// A certificate for this machine's names and addresses, kept in the state directory so that browsers
/// have to be told only once.
fn self_signed(config: &Config, machine: &[IpAddr]) -> io::Result<Certified> {
    let kept = config.state_dir.as_ref().map(|directory| {
        (
            directory.join("tls-cert.pem"),
            directory.join("tls-key.pem"),
        )
    });
    if let Some((certificate, key)) = &kept
        && certificate.exists()
        && key.exists()
    {
        return read(certificate, key);
    }
    let mut names = vec!["localhost".to_owned()];
    names.extend(
        machine
            .iter()
            .chain(&config.public_ip)
            .map(ToString::to_string),
    );
    if !config.domain.is_empty() {
        names.push(config.domain.clone());
    }
    let made = rcgen::generate_simple_self_signed(names).map_err(invalid)?;
    if let Some((certificate, key)) = &kept {
        write_private(certificate, &made.cert.pem())?;
        write_private(key, &made.signing_key.serialize_pem())?;
    }
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(invalid)?;
    Ok((vec![made.cert.der().clone()], key))
}

/// Writes a file that only its owner may read.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}

/// Certificates of an ACME authority, got and renewed by a task of their own.
fn by_acme(config: &Config, authority: AcmeConfig<Infallible>) -> io::Result<ServerConfig> {
    let cache = config
        .state_dir
        .as_ref()
        .map(|directory| DirCache::new(directory.join("acme")));
    let mut state = authority.cache_option(cache).state();
    let resolver = state.resolver();
    tokio::spawn(async move {
        loop {
            match std::future::poll_fn(|context| Pin::new(&mut state).poll_next(context)).await {
                Some(Ok(event)) => tracing::info!("certificate: {event:?}"),
                Some(Err(error)) => tracing::error!("certificate: {error}"),
                None => break,
            }
        }
    });
    Ok(builder()?.with_cert_resolver(resolver))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_was_made_is_kept() {
        let directory =
            std::env::temp_dir().join(format!("visavis-tls-{}", crate::ids::random_text(8)));
        let config = Config {
            state_dir: Some(directory.clone()),
            ..Config::default()
        };
        let (first, _) = self_signed(&config, &["192.168.1.7".parse().unwrap()]).unwrap();
        let (second, _) = self_signed(&config, &[]).unwrap();
        assert_eq!(first, second);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
