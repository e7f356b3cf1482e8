//! What the peers in Rust share: the signalling, one JSON object per line, in on stdin and out on
//! stdout (see `src/lib.rs`), and the bytes of messages.

use std::io::Write;
use std::net::{IpAddr, UdpSocket};

use serde_json::{Value, json};

/// Of each kind, before `media` is answered.
pub const ENOUGH: u64 = 20;

/// Says that the peer is there.
pub fn ready(name: &str, version: &str) {
    let features = ["data", "audio", "video"];
    say(&json!({ "ready": true, "name": name, "version": version, "features": features }));
}

/// Answers a request.
pub fn answer(request: &Value, answer: Result<Value, String>) {
    let id = &request["id"];
    match answer {
        Ok(value) => say(&json!({ "id": id, "value": value })),
        Err(error) => say(&json!({ "id": id, "error": error })),
    }
}

fn say(value: &Value) {
    let mut output = std::io::stdout().lock();
    let _ = writeln!(output, "{value}").and_then(|()| output.flush());
}

/// Bytes that count.
pub fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index % 251) as u8).collect()
}

/// What is asked to be sent: whether it is binary, and the bytes.
pub fn message(request: &Value) -> (bool, Vec<u8>) {
    match request["text"].as_str() {
        Some(text) => (false, text.as_bytes().to_vec()),
        None => {
            let size = request["size"].as_u64().unwrap_or_default();
            (true, pattern(size as usize))
        }
    }
}

/// What is told of a message that came.
pub fn told(binary: bool, data: &[u8]) -> Value {
    if binary {
        json!({ "size": data.len(), "good": data == pattern(data.len()) })
    } else {
        json!({ "text": String::from_utf8_lossy(data) })
    }
}

/// The address that packets to elsewhere leave from.
pub fn local_ip() -> IpAddr {
    let probe = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let _ = probe.connect("203.0.113.1:9");
    probe.local_addr().expect("an address").ip()
}
