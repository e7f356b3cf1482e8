//! Certificates by ACME (RFC 8555, tls-alpn-01 of RFC 8737), from Pebble: `visavis turn` over TLS and DTLS, `visavis serve` over HTTPS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use interop_turn::authority::Authority;
use interop_turn::free_port;
use interop_turn::pebble::Pebble;
use interop_turn::service::{Service, binary};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const NAME: &str = "turn.example.org";

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A connection to whoever proves by a root that it is `name`.
fn connect(to: SocketAddr, name: &str, root: &Path) -> std::io::Result<Stream> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(root).expect("a certificate");
    roots.add(root).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut connection = ClientConnection::new(Arc::new(config), name).expect("TLS");
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    connection.complete_io(&mut stream)?;
    Ok(StreamOwned::new(connection, stream))
}

/// What is answered to GET.
fn get(mut stream: Stream, path: &str) -> String {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {NAME}\r\nconnection: close\r\n\r\n"
    )
    .expect("a request");
    let mut text = String::new();
    // Some close without saying so.
    let _ = stream.read_to_string(&mut text);
    text
}

/// Connects as soon as a certificate was issued.
fn once_certified(to: SocketAddr, root: &Path) -> Stream {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match connect(to, NAME, root) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < deadline, "no certificate: {error}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

struct Issuer {
    pebble: Pebble,
    authority: Authority,
    folder: PathBuf,
}

impl Issuer {
    /// An authority that checks names at a port; `None` where there is no Pebble.
    fn new(name: &str, port: u16) -> Option<Self> {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("acme");
        let folder = all.join(name);
        let _ = std::fs::remove_dir_all(&folder);
        let authority = Authority::new(&folder);
        let pebble = Pebble::start(&authority, &all, port)?;
        Some(Self {
            pebble,
            authority,
            folder,
        })
    }

    /// The root of what it issues.
    fn root(&self) -> PathBuf {
        let stream = connect(self.pebble.management, "127.0.0.1", &self.authority.root())
            .expect("its management");
        let answer = get(stream, "/roots/0");
        let (_, pem) = answer.split_once("\r\n\r\n").expect("a body");
        let path = self.folder.join("issued.pem");
        std::fs::write(&path, pem).expect("written");
        path
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path")
}

#[test]
fn turn_gets_a_certificate_for_tls_and_dtls() {
    let (plain, secure) = (free_port(), free_port());
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let Some(issuer) = Issuer::new("turn", secure) else {
        return;
    };
    let (vouches, cache) = (issuer.authority.root(), issuer.folder.join("cache"));
    let directory = issuer.pebble.directory.clone();
    let arguments = [
        "--acme-domain",
        NAME,
        "--acme-directory",
        &directory,
        "--acme-root",
        text(&vouches),
        "--acme-cache",
        text(&cache),
    ];
    let service = Service::start_at(at(plain), at(secure), &arguments);
    let root = issuer.root();
    let mut stream = once_certified(service.secure, &root);
    // A Binding request is answered over it.
    let mut request = [0; 20];
    request[..8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
    stream.write_all(&request).expect("a request");
    let mut answer = [0; 20];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer[..2], [1, 1]);
    // OpenSSL verifies what DTLS shows.
    let deadline = Instant::now() + Duration::from_secs(20);
    while !verifies_by_dtls(service.secure, &root) {
        assert!(Instant::now() < deadline, "DTLS has the certificate too");
        std::thread::sleep(Duration::from_millis(100));
    }
    // The next start finds it in its cache, without the authority.
    drop((service, stream));
    drop(issuer.pebble);
    let again = Service::start_at(at(plain), at(secure), &arguments);
    drop(once_certified(again.secure, &root));
}

fn verifies_by_dtls(to: SocketAddr, root: &Path) -> bool {
    let output = Command::new("timeout")
        .args(["10", "openssl", "s_client", "-dtls1_2", "-brief"])
        .args(["-connect", &to.to_string(), "-servername", NAME])
        .args(["-verify_hostname", NAME, "-verify_return_error"])
        .args(["-CAfile", text(root)])
        .stdin(Stdio::null())
        .output()
        .expect("openssl starts");
    let said = String::from_utf8_lossy(&output.stderr);
    said.contains("Verification: OK")
}

struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn serve_gets_a_certificate_for_https() {
    let port = free_port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let Some(issuer) = Issuer::new("serve", port) else {
        return;
    };
    let (vouches, state) = (issuer.authority.root(), issuer.folder.join("state"));
    let serving = Command::new(binary())
        .args(["serve", "--listen", &address.to_string(), "--acme"])
        .args(["--domain", NAME, "--turn-port", "0"])
        .args(["--acme-directory", &issuer.pebble.directory])
        .args(["--acme-root", text(&vouches)])
        .args(["--state-dir", text(&state)])
        .stdout(Stdio::null())
        .spawn();
    let _serving = Serving(serving.expect("visavis starts"));
    let stream = once_certified(address, &issuer.root());
    let answer = get(stream, "/readyz");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
