//! Browsers that may use relayed addresses alone, through `visavis turn`, over each transport.

use std::path::Path;

use interop_browser::{Browser, Kind, in_namespace, tests};
use interop_turn::authority::Authority;
use interop_turn::service::{Service, USER};
use serde_json::json;

/// Two connections of one page that reach each other by the relay alone.
const PAGE: &str = r"
  const server = { urls: argument.url, username: argument.user, credential: argument.password };
  const config = { iceTransportPolicy: 'relay', iceServers: [server] };
  const [a, b] = [new RTCPeerConnection(config), new RTCPeerConnection(config)];
  const errors = [];
  for (const [one, other] of [[a, b], [b, a]]) {
    one.onicecandidate = (e) => e.candidate && other.addIceCandidate(e.candidate);
    one.onicecandidateerror = (e) => errors.push(`${e.errorCode} ${e.errorText} ${e.url}`);
  }
  const channel = a.createDataChannel('x');
  const echoed = new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`no echo: ${errors.join('; ')}`)), 30000);
    b.ondatachannel = (e) => { e.channel.onmessage = (m) => e.channel.send(m.data); };
    channel.onopen = () => channel.send('x'.repeat(100000));
    channel.onmessage = (m) => resolve(m.data.length);
  });
  await a.setLocalDescription(); await b.setRemoteDescription(a.localDescription);
  await b.setLocalDescription(); await a.setRemoteDescription(b.localDescription);
  const length = await echoed;
  const stats = [...(await a.getStats()).values()];
  const pair = stats.find((s) => s.type === 'candidate-pair' && s.nominated);
  const local = stats.find((s) => s.id === pair.localCandidateId);
  a.close(); b.close();
  return { length, type: local.candidateType, protocol: local.relayProtocol };
";

async fn relays(kind: Kind, flags: &[&str], scheme: &str, transport: &str, protocol: &str) {
    let url = |service: &Service| {
        let address = match scheme {
            "turns" => service.secure,
            _ => service.plain,
        };
        format!("{scheme}:{address}?transport={transport}")
    };
    relays_by(kind, flags, url, protocol, &[]).await;
}

/// Firefox verifies a TURN server's certificate, and nothing switches that off: it gets one of an authority that it believes. It
/// speaks TLS to servers with a name alone, never to a bare address.
async fn relays_over_tls_with_a_certificate(kind: Kind) {
    if interop_turn::installed("certutil").is_none() {
        return interop_common::skip("certutil is not installed (Debian package libnss3-tools)");
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("relay-authority");
    let authority = Authority::new(&folder);
    let (certificate, key) = authority.issue(&["localhost"]);
    let believes = format!("authority={}", authority.root().display());
    let port = interop_turn::free_port();
    let url = |_: &Service| format!("turns:localhost:{port}?transport=tcp");
    let arguments = [
        "--tls-listen",
        &format!("127.0.0.1:{port}"),
        "--certificate",
        certificate.to_str().expect("a path"),
        "--private-key",
        key.to_str().expect("a path"),
    ];
    relays_by(kind, &[&believes], url, "tls", &arguments).await;
}

async fn relays_by(
    kind: Kind,
    flags: &[&str],
    url: impl FnOnce(&Service) -> String,
    protocol: &str,
    arguments: &[&str],
) {
    if !in_namespace() {
        return;
    }
    let Some(browser) = Browser::launch(kind, flags).await else {
        return;
    };
    interop_common::meets(&browser.name());
    // The namespace's address: browsers use no loopback for this.
    let service = Service::start([198, 51, 100, 1].into(), arguments);
    let page = browser.open().await;
    let argument = json!({
        "url": url(&service),
        "user": USER.0,
        "password": USER.1,
    });
    let result = page.call(PAGE, argument).await;
    assert_eq!(
        result,
        json!({ "length": 100_000, "type": "relay", "protocol": protocol })
    );
}

const ANY: &[&str] = &["--ignore-certificate-errors"];

tests! {
    chromium_relays_by_our_server_over_udp: relays(Kind::Chromium, &[], "turn", "udp", "udp");
    chromium_relays_by_our_server_over_tcp: relays(Kind::Chromium, &[], "turn", "tcp", "tcp");
    chromium_relays_by_our_server_over_tls: relays(Kind::Chromium, ANY, "turns", "tcp", "tls");
    firefox_relays_by_our_server_over_udp: relays(Kind::Firefox, &[], "turn", "udp", "udp");
    firefox_relays_by_our_server_over_tcp: relays(Kind::Firefox, &[], "turn", "tcp", "tcp");
    firefox_relays_by_our_server_over_tls: relays_over_tls_with_a_certificate(Kind::Firefox);
}
