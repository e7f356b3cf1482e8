//! The ICE servers that clients are told of, with TURN credentials that end by themselves: the user name
//! is the time of their end and whom they are for, the password is an HMAC of it (draft-uberti-behave-turn-rest).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use livekit_protocol as proto;
use serde::Serialize;
use visavis_crypto::{HashAlgorithm, hmac};

/// What the TURN service is reached by.
#[derive(Debug, Clone, Default)]
pub struct IceSettings {
    /// The secret that the TURN service shares; empty: none is offered.
    pub secret: String,
    /// The host in URLs; empty: the one by which the client reached this server.
    pub host: String,
    /// The port of STUN and TURN over UDP.
    pub udp_port: Option<u16>,
    /// The port of TURN over TCP.
    pub tcp_port: Option<u16>,
    /// The port of TURN over TLS.
    pub tls_port: Option<u16>,
    /// For how long credentials are valid, in seconds.
    pub lifetime: u64,
}

/// An ICE server in the words of the W3C (`RTCIceServer`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RtcIceServer {
    /// `stun:`, `turn:` and `turns:` URLs.
    pub urls: Vec<String>,
    /// The user name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// The password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub credential: String,
}

impl IceSettings {
    /// The servers for `identity`, who reached this server as `host`, at `now` seconds since 1970.
    pub fn servers(&self, host: &str, identity: &str, now: u64) -> Vec<RtcIceServer> {
        let host = if self.host.is_empty() {
            host
        } else {
            &self.host
        };
        if host.is_empty() {
            return Vec::new();
        }
        let mut servers = Vec::new();
        if let Some(port) = self.udp_port {
            let urls = vec![format!("stun:{host}:{port}")];
            servers.push(RtcIceServer {
                urls,
                username: String::new(),
                credential: String::new(),
            });
        }
        let urls: Vec<String> = [
            self.udp_port
                .map(|port| format!("turn:{host}:{port}?transport=udp")),
            self.tcp_port
                .map(|port| format!("turn:{host}:{port}?transport=tcp")),
            self.tls_port
                .map(|port| format!("turns:{host}:{port}?transport=tcp")),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !self.secret.is_empty() && !urls.is_empty() {
            let username = format!("{}:{identity}", now + self.lifetime);
            let credential = credential(&self.secret, &username);
            servers.push(RtcIceServer {
                urls,
                username,
                credential,
            });
        }
        servers
    }
}

/// The password of a user name.
pub fn credential(secret: &str, username: &str) -> String {
    let tag = hmac::Key::new(HashAlgorithm::Sha1, secret.as_bytes()).sign(&[username.as_bytes()]);
    STANDARD.encode(tag.as_ref())
}

impl From<RtcIceServer> for proto::IceServer {
    fn from(server: RtcIceServer) -> Self {
        Self {
            urls: server.urls,
            username: server.username,
            credential: server.credential,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_end_and_are_for_someone() {
        let settings = IceSettings {
            secret: "north".into(),
            udp_port: Some(3478),
            tls_port: Some(443),
            lifetime: 3600,
            ..IceSettings::default()
        };
        let servers = settings.servers("meet.example.org", "alice", 1_000_000);
        assert_eq!(servers[0].urls, ["stun:meet.example.org:3478"]);
        assert_eq!(servers[1].username, "1003600:alice");
        assert_eq!(
            servers[1].urls[1],
            "turns:meet.example.org:443?transport=tcp"
        );
        // python3 -c 'import hmac,base64;print(base64.b64encode(hmac.digest(b"north",b"1003600:alice","sha1")).decode())'
        assert_eq!(servers[1].credential, "udLEuyyDOwk3mLEbdxPxYtNXKVA=");
    }
}
