//! What operators do to a running server: drain it, give it other keys and certificates.

mod support;

use std::{io::Write as _, path::Path, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use livekit_protocol as proto;
use proto::{leave_request::Action, signal_response::Message};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use support::{Client, config, http, token};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use visavis_server::{
    Config, Server,
    config::Tls,
    token::{Claims, Keys, VideoGrant},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_who_is_inside_refuses_new_rooms_and_then_asks_to_come_back() {
    let server = Server::start(Config {
        drain: Duration::from_secs(2),
        ..config()
    })
    .await
    .unwrap();
    let (mut ada, _) = Client::join(&server, &token("a", "ada")).await;
    assert_eq!(http(&server, "GET", "/readyz", &[], b"").await.0, 200);
    let drained = async {
        server.drain().await;
    };
    let meanwhile = async {
        while http(&server, "GET", "/readyz", &[], b"").await.0 != 503 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // A room that is there goes on, and lets in; a new one is refused.
        let path = format!("/rtc?access_token={}", token("b", "grace"));
        let Err((status, text)) = Client::connect(&server, &path).await else {
            panic!("a new room was made")
        };
        assert_eq!(
            (status, text.as_str()),
            (503, "the server is draining: no new rooms")
        );
        let (grace, join) = Client::join(&server, &token("a", "grace")).await;
        assert_eq!(join.other_participants.len(), 1);
        let body = br#"{"room":"c","name":"Guest"}"#;
        let (status, answer) = http(&server, "POST", "/api/join", &[], body).await;
        assert_eq!(status, 503);
        assert!(answer.contains("\"code\":\"draining\""), "{answer}");
        let leave = ada
            .until(|message| match message {
                Message::Leave(leave) => Some(leave.clone()),
                _ => None,
            })
            .await;
        assert_eq!(leave.reason(), proto::DisconnectReason::ServerShutdown);
        assert_eq!(leave.action(), Action::Reconnect);
        assert_eq!(ada.close_code().await, Some(1000));
        drop(grace);
    };
    tokio::join!(drained, meanwhile);
    assert_eq!(server.participants().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_of_an_empty_server_ends_at_once() {
    let server = Server::start(Config {
        drain: Duration::from_secs(3600),
        ..config()
    })
    .await
    .unwrap();
    tokio::time::timeout(Duration::from_secs(10), server.drain())
        .await
        .expect("nobody is waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_keys_are_taken_over_and_who_is_inside_stays() {
    let server = support::server().await;
    let (mut ada, _) = Client::join(&server, &token("a", "ada")).await;
    let second = (
        "second".to_owned(),
        "another secret, long enough too!!".to_owned(),
    );
    let mut changed = config();
    changed.keys = [second.clone()].into();
    server.reload(changed).unwrap();
    let path = format!("/rtc?access_token={}", token("a", "grace"));
    let Err((status, text)) = Client::connect(&server, &path).await else {
        panic!("an old key opens")
    };
    assert_eq!((status, text.as_str()), (401, "invalid API key"));
    let claims = Claims {
        identity: "grace".into(),
        video: Some(VideoGrant {
            room_join: true,
            room: "a".into(),
            ..VideoGrant::default()
        }),
        ..Claims::default()
    };
    let fresh = Keys::new([second]).sign("second", &claims, 60).unwrap();
    let (_grace, join) = Client::join(&server, &fresh).await;
    assert_eq!(join.other_participants.len(), 1);
    let seen = ada.until(|message| match message {
        Message::Update(update) => update
            .participants
            .iter()
            .any(|one| one.identity == "grace")
            .then_some(()),
        _ => None,
    });
    seen.await;
    // Keys that are no good change nothing.
    let mut short = config();
    short.keys = [("second".to_owned(), "short".to_owned())].into();
    assert!(server.reload(short).is_err());
    assert_eq!(
        http(
            &server,
            "GET",
            &format!("/rtc/validate?access_token={fresh}"),
            &[],
            b""
        )
        .await
        .0,
        200
    );
}

/// Writes a certificate for `localhost` and its key, and returns the certificate.
fn write_certificate(directory: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let write = |name: &str, text: String| {
        let mut file = std::fs::File::create(directory.join(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    write("cert.pem", made.cert.pem());
    write("key.pem", made.signing_key.serialize_pem());
    CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap()
}

/// A page over TLS by a client that trusts `certificate` alone.
async fn fetch(server: &Server, certificate: CertificateDer<'static>) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(server.addresses()[0]).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(client))
        .connect(name, stream)
        .await?;
    let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_files_are_served_and_read_again() {
    let directory = std::env::temp_dir().join(format!("visavis-operation-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let first = write_certificate(&directory);
    let with_files = || Config {
        tls: Tls::Files {
            certificate: directory.join("cert.pem"),
            key: directory.join("key.pem"),
        },
        ..config()
    };
    let server = Server::start(with_files()).await.unwrap();
    assert!(fetch(&server, first.clone()).await.unwrap().ends_with("OK"));
    let second = write_certificate(&directory);
    // Until told, the old one; then the new one.
    assert!(fetch(&server, first.clone()).await.unwrap().ends_with("OK"));
    server.reload(with_files()).unwrap();
    assert!(
        fetch(&server, second.clone())
            .await
            .unwrap()
            .ends_with("OK")
    );
    assert!(fetch(&server, first).await.is_err());
    // A file that is no certificate changes nothing.
    std::fs::write(directory.join("cert.pem"), "noise").unwrap();
    assert!(server.reload(with_files()).is_err());
    assert!(fetch(&server, second).await.unwrap().ends_with("OK"));
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_first_by_the_page_rules_the_room_and_nobody_else() {
    let server = support::server().await;
    let ask = async |name: &str| {
        let body = format!(r#"{{"room":"a","name":"{name}"}}"#);
        let (status, answer) = http(&server, "POST", "/api/join", &[], body.as_bytes()).await;
        assert_eq!(status, 200, "{answer}");
        let json = &answer[answer.find('{').unwrap()..=answer.rfind('}').unwrap()];
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        let text = |name: &str| json[name].as_str().unwrap().to_owned();
        (
            text("token"),
            text("identity"),
            json["host"].as_bool().unwrap(),
        )
    };
    let (host, identity, rules) = ask("Ada").await;
    assert!(rules);
    let (mut ada, _) = Client::join(&server, &host).await;
    let (guest, guest_identity, rules) = ask("Grace").await;
    assert!(!rules);
    // What others believe is what nobody can give to themselves.
    assert!(identity.starts_with("host-") && !guest_identity.starts_with("host-"));
    let (_grace, join) = Client::join(&server, &guest).await;
    assert_eq!(join.other_participants[0].attributes["role"], "host");
    let remove = async |token: &str, identity: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
        ];
        let body = format!(r#"{{"room":"a","identity":"{identity}"}}"#);
        let path = "/twirp/livekit.RoomService/RemoveParticipant";
        http(&server, "POST", path, &headers, body.as_bytes())
            .await
            .0
    };
    assert_eq!(remove(&guest, &identity).await, 401);
    assert_eq!(
        remove(&host, &join.participant.unwrap().identity).await,
        200
    );
    let left = ada.until(|message| match message {
        Message::Update(update) => update
            .participants
            .iter()
            .any(|one| one.state() == proto::participant_info::State::Disconnected)
            .then_some(()),
        _ => None,
    });
    left.await;
    // When the host has left, the next to come rules.
    drop(ada);
    while server.participants().await > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(ask("Alan").await.2);
}

/// With TURN on a port that is free.
async fn server_with_turn() -> Server {
    let config = Config {
        turn: true,
        turn_port: 0,
        ..config()
    };
    Server::start(config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_told_the_port_that_turn_was_given() {
    let server = server_with_turn().await;
    let (_ada, join) = Client::join(&server, &token("a", "ada")).await;
    let stun = &join.ice_servers[0].urls[0];
    let (_, port) = stun.rsplit_once(':').expect("a port");
    let port: u16 = port.parse().expect("a number");
    assert_ne!(port, 0, "{stun}");
    // It answers there: a Binding request, without attributes.
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut request = [0; 20];
    request[..8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
    let asked = socket.send_to(&request, ("127.0.0.1", port)).await;
    assert_eq!(asked.unwrap(), request.len());
    let mut answer = [0; 100];
    let answered = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut answer)).await;
    assert!(answered.expect("an answer").is_ok());
    assert_eq!(answer[..2], [1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shares_a_code_is_told_the_relay_by_the_host_that_was_reached() {
    let server = server_with_turn().await;
    let url = format!(
        "ws://{}/api/rendezvous?host=0123456789abcdef",
        server.addresses()[0]
    );
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let welcome = socket.next().await.unwrap().unwrap().into_text().unwrap();
    let welcome: serde_json::Value = serde_json::from_str(&welcome).unwrap();
    let relay = &welcome["ice_servers"][1]["urls"][0];
    let relay = relay.as_str().unwrap_or_else(|| panic!("{welcome}"));
    assert!(relay.starts_with("turn:127.0.0.1:"), "{relay}");
}
