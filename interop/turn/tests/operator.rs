//! What an operator sets up beside users and passwords: a webhook, the admin interface, access tokens, behaviour discovery.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{SystemTime, UNIX_EPOCH};

use interop_turn::client::{Client, Secret};
use interop_turn::service::{Service, USER};
use interop_turn::{free_port, program};

/// A service that knows one user: where it is, and what it was asked.
fn webhook() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let (asked, questions) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
            let mut len = 0;
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|len| len > 2) {
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    len = value.trim().parse().expect("a length");
                }
                line.clear();
            }
            let mut body = vec![0; len];
            reader.read_exact(&mut body).expect("a body");
            let body = String::from_utf8(body).expect("JSON");
            let (status, answer) = match body.contains("\"carol\"") {
                true => ("200 OK", "{\"password\":\"from elsewhere\"}"),
                false => ("404 Not Found", ""),
            };
            let _ = asked.send(body);
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
                answer.len()
            );
        }
    });
    (address, questions)
}

#[test]
fn a_webhook_knows_users() {
    let (address, questions) = webhook();
    let service = Service::start(
        [127, 0, 0, 1].into(),
        &["--webhook", &format!("http://{address}/turn")],
    );
    let allocate =
        |user, password| Client::new(service.plain, user, Secret::Password(password)).allocate();
    assert!(allocate("carol", "from elsewhere").is_ok());
    let question = questions.recv().expect("a question");
    assert!(question.contains("\"realm\":\"visavis\""), "{question}");
    assert_eq!(allocate("carol", "guessed"), Err(401));
    assert_eq!(allocate("mallory", "guessed"), Err(401));
    assert!(
        allocate(USER.0, USER.1).is_ok(),
        "the server's own users stay"
    );
}

#[test]
fn the_admin_interface_lists_and_ends_allocations() {
    let service = Service::start([127, 0, 0, 1].into(), &["--secret", "shared"]);
    let mut client = Client::new(service.plain, USER.0, Secret::Password(USER.1));
    let relayed = client.allocate().expect("a relay");
    let status = |method, path: &str, token| {
        let response = service.request(method, path, token);
        response[9..12].parse::<u16>().expect("a status")
    };
    assert_eq!(status("GET", "/api/allocations", "another"), 401);
    assert_eq!(status("DELETE", "/api/allocations/0/0.1", ""), 401);
    let list = service.get("/api/allocations?user=alice");
    assert!(list.contains(&relayed.to_string()), "{list}");
    assert!(!service.get("/api/allocations?user=bob").contains("alice"));
    let field = |name: &str| {
        let (_, rest) = list.split_once(&format!("\"{name}\":")).expect("a field");
        let end = rest.find([',', '}']).expect("its end");
        rest[..end].trim_matches('"').to_owned()
    };
    let path = format!("/api/allocations/{}/{}", field("worker"), field("id"));
    assert!(service.get(&path).contains("\"user\":\"alice\""));
    assert_eq!(status("DELETE", &path, "token"), 204);
    assert_eq!(status("DELETE", &path, "token"), 404);
    assert_eq!(service.metric("visavis_turn_allocations"), 0);
    // Credentials that it mints are good.
    let minted = service.get("/api/credentials?username=dave");
    let of = |name: &str| {
        let (_, rest) = minted
            .split_once(&format!("\"{name}\":\""))
            .expect("a field");
        rest.split('"').next().expect("its value").to_owned()
    };
    let (user, password) = (of("username"), of("password"));
    let mut client = Client::new(service.plain, &user, Secret::Password(&password));
    assert!(client.allocate().is_ok());
    // While it drains nobody new is let in.
    assert_eq!(status("POST", "/api/drain", "token"), 204);
    let mut late = Client::new(service.plain, USER.0, Secret::Password(USER.1));
    assert_eq!(late.allocate(), Err(508));
    assert_eq!(status("DELETE", "/api/drain", "token"), 204);
    let mut later = Client::new(service.plain, USER.0, Secret::Password(USER.1));
    assert!(later.allocate().is_ok());
}

/// CVE-2018-4059: coturn's operator interface had no password by default.
#[test]
fn cve_2018_4059_the_admin_interface_is_closed_without_a_token() {
    let service = Service::start_without_token([127, 0, 0, 1].into());
    for (method, path) in [
        ("GET", "/api/allocations"),
        ("GET", "/api/stats"),
        ("POST", "/api/drain"),
        ("GET", "/api/credentials?username=x"),
    ] {
        for token in ["", "token"] {
            let response = service.request(method, path, token);
            assert!(response.starts_with("HTTP/1.1 403"), "{response}");
        }
    }
    assert!(service.get("/health").contains("ok"));
}

/// GHSA-4g7c-p5wg-j4hp (names reach a format string), attack 22 (logs of many lines, names as labels of metrics).
#[test]
fn attack_22_names_of_strangers_stay_names_in_logs_and_metrics() {
    let mut log = std::env::temp_dir();
    log.push(format!("visavis-names-{}.log", std::process::id()));
    let service = Service::start_with_log([127, 0, 0, 1].into(), &["--secret", "shared"], &log);
    let name = "%n%s%p\n{evil=\"1\"}\u{1b}[31m";
    let minted =
        service.get("/api/credentials?username=%25n%25s%25p%0A%7Bevil%3D%221%22%7D%1B%5B31m");
    let of = |field: &str, end: char| {
        let (_, rest) = minted.split_once(field).expect("a field");
        rest.split(end).next().expect("its value").to_owned()
    };
    let user = format!("{}:{name}", of("\"username\":\"", ':'));
    let mut stranger = Client::new(service.plain, &user, Secret::Password("wrong"));
    assert_eq!(stranger.allocate(), Err(401));
    let password = of("\"password\":\"", '"');
    let mut client = Client::new(service.plain, &user, Secret::Password(&password));
    assert!(client.allocate().is_ok(), "{minted}");
    let metrics = service.get("/metrics");
    assert!(!metrics.contains("evil"), "{metrics}");
    let list = service.get("/api/allocations");
    let (_, body) = list.split_once("\r\n\r\n").expect("a body");
    assert!(!body.contains(['\n', '\u{1b}']), "{body:?}");
    // The line on the allocation is told a moment later.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let line = loop {
        let text = std::fs::read_to_string(&log).expect("a log");
        if let Some(line) = text.lines().find(|line| line.contains("evil")) {
            break line.to_owned();
        }
        assert!(std::time::Instant::now() < deadline, "no line: {text}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert!(line.contains("allocated"), "one line: {line}");
    assert!(line.contains("%n%s%p\\n"), "escaped: {line}");
    let of_name = line.split_once("evil").expect("the name").1;
    assert!(!of_name.starts_with('\u{1b}'), "{line:?}");
    assert!(!line.contains("\u{1b}[31m"), "{line:?}");
    let _ = std::fs::remove_file(log);
}

/// Tokens are made by coturn's `turnutils_oauth`.
#[test]
fn access_tokens_of_an_authorization_server() {
    let Some(program) = program("turnutils_oauth") else {
        return;
    };
    // "01234567890123456789012345678901".
    let shared = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let session = "WmtzanB3ZW9peFhtdm42NzUzNG0=";
    let key = b"ZksjpweoixXmvn67534m";
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock")
        .as_secs();
    let made = |server: &str| {
        let output = Command::new(&program)
            .args(["-e", "-i", server, "-j", "north", "-k", shared])
            .args(["-l", &now.to_string(), "-m", "21600", "-r", "3600"])
            .args(["-q", &(now << 16).to_string(), "-n", "A256GCM"])
            .args(["-o", "aGozajJsMm40YjVh", "-p", session])
            .output()
            .expect("turnutils_oauth starts");
        let text = String::from_utf8_lossy(&output.stdout);
        let (_, token) = text.split_once("\"access_token\":\"").expect("a token");
        base64(token.split('"').next().expect("its end"))
    };
    let service = Service::start(
        [127, 0, 0, 1].into(),
        &[
            "--oauth-key",
            &format!("north:{shared}"),
            "--oauth-server",
            "turn.example.org",
        ],
    );
    let allocate = |token: &[u8], key: &[u8]| {
        Client::new(service.plain, "north", Secret::Token { token, key }).allocate()
    };
    let token = made("turn.example.org");
    assert!(allocate(&token, key).is_ok());
    assert_eq!(allocate(&token, b"another key, 20 long"), Err(401));
    assert_eq!(allocate(&made("other.example.org"), key), Err(401));
    assert_eq!(allocate(&token[..token.len() - 1], key), Err(401));
}

fn base64(text: &str) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for letter in text.trim_end_matches('=').bytes() {
        let value = alphabet.iter().position(|known| *known == letter);
        bits = bits << 6 | value.expect("base64") as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

/// coturn's `turnutils_natdiscovery` asks from loopback, where there is no NAT.
#[test]
fn behaviour_discovery_on_two_addresses() {
    let Some(program) = program("turnutils_natdiscovery") else {
        return;
    };
    let other = format!("127.0.0.2:{}", free_port());
    let service = Service::start([127, 0, 0, 1].into(), &["--other-address", &other]);
    let output = Command::new("timeout")
        .arg("20")
        .arg(program)
        .args(["-m", "-f", "-L", "127.0.0.1"])
        .args(["-p", &service.plain.port().to_string(), "127.0.0.1"])
        .output()
        .expect("turnutils_natdiscovery starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    // The second test of mapping asks the other address, that of filtering is answered from it (RFC 5780 sections 4.3, 4.4).
    for expected in [
        format!("Response origin: : 127.0.0.2:{}", service.plain.port()),
        format!("Response origin: : {other}"),
        "NAT with Endpoint Independent Filtering".to_owned(),
    ] {
        assert!(text.contains(&expected), "{expected}: {text}");
    }
    assert!(!text.contains("Dependent Mapping!"), "{text}");
}
