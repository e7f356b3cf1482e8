//! ICE servers as configurations name them: `stun:`, `stuns:`, `turn:` and `turns:` URLs.

use std::net::SocketAddr;
use std::time::Duration;

use visavis_datagram::Protocol;
use visavis_ice::{Server, ServerKind};

use crate::Error;

/// How long a server's name may take to resolve.
const RESOLVE: Duration = Duration::from_secs(5);

/// STUN or TURN servers (W3C `RTCIceServer`).
#[derive(Debug, Clone, Default)]
pub struct IceServer {
    /// URLs of RFC 7064 and RFC 7065, e.g. `turn:turn.example.org:3478?transport=tcp`.
    pub urls: Vec<String>,
    /// Username, for TURN.
    pub username: String,
    /// Password, for TURN.
    pub credential: String,
}

impl IceServer {
    /// A STUN server, e.g. `stun:stun.example.org`.
    pub fn stun(url: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            ..Self::default()
        }
    }

    /// A TURN server, e.g. `turns:turn.example.org`.
    pub fn turn(
        url: impl Into<String>,
        username: impl Into<String>,
        credential: impl Into<String>,
    ) -> Self {
        Self {
            urls: vec![url.into()],
            username: username.into(),
            credential: credential.into(),
        }
    }
}

/// One URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    pub(crate) url: String,
    pub(crate) is_turn: bool,
    pub(crate) protocol: Protocol,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl ServerUrl {
    /// RFC 7064 section 3.1 and RFC 7065 section 3.1.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let fault = |reason| Error::ServerUrl {
            url: url.to_owned(),
            reason,
        };
        let (scheme, rest) = url.split_once(':').ok_or(fault("there is no scheme"))?;
        let (is_turn, is_secure) = match scheme.to_ascii_lowercase().as_str() {
            "stun" => (false, false),
            "stuns" => (false, true),
            "turn" => (true, false),
            "turns" => (true, true),
            _ => return Err(fault("the scheme is none of stun, stuns, turn, turns")),
        };
        let (authority, query) = match rest.split_once('?') {
            Some((authority, query)) => (authority, Some(query)),
            None => (rest, None),
        };
        let transport = match query {
            None => None,
            Some(_) if !is_turn => return Err(fault("a STUN URL has no query")),
            Some(query) => match query.strip_prefix("transport=") {
                Some(transport) if !transport.is_empty() => Some(transport.to_ascii_lowercase()),
                _ => return Err(fault("the query is not transport=udp or transport=tcp")),
            },
        };
        let protocol = match (transport.as_deref(), is_secure) {
            (None | Some("udp"), false) => Protocol::Udp,
            (Some("tcp"), false) => Protocol::Tcp,
            (None | Some("tcp"), true) => Protocol::Tls,
            (Some("udp"), true) => Protocol::Dtls,
            _ => return Err(fault("the transport is neither udp nor tcp")),
        };
        let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
            let (host, rest) = rest
                .split_once(']')
                .ok_or(fault("a bracket is not closed"))?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(fault("something stands behind the address")),
            }
        } else {
            match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            }
        };
        if host.is_empty() || host.contains(['/', '@', ' ']) {
            return Err(fault("the host is missing or malformed"));
        }
        let port = match port {
            Some(port) => match port.parse() {
                Ok(0) | Err(_) => return Err(fault("the port is not a number from 1 to 65535")),
                Ok(port) => port,
            },
            None if is_secure => 5349,
            None => 3478,
        };
        Ok(Self {
            url: url.to_owned(),
            is_turn,
            protocol,
            host: host.to_owned(),
            port,
        })
    }

    /// The server at each of the name's addresses, the first IPv4 and the first IPv6 one.
    pub(crate) async fn resolve(&self, server: &IceServer) -> Vec<Server> {
        let name = (self.host.as_str(), self.port);
        let found = tokio::time::timeout(RESOLVE, tokio::net::lookup_host(name)).await;
        let addresses: Vec<SocketAddr> = match found {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => {
                tracing::warn!(url = self.url, %error, "ICE server not found");
                return Vec::new();
            }
            Err(_) => {
                tracing::warn!(url = self.url, "ICE server's name does not resolve in time");
                return Vec::new();
            }
        };
        let first = |v4: bool| {
            addresses
                .iter()
                .find(move |address| address.is_ipv4() == v4)
        };
        [first(true), first(false)]
            .into_iter()
            .flatten()
            .map(|&address| self.server(address, server))
            .collect()
    }

    fn server(&self, address: SocketAddr, server: &IceServer) -> Server {
        let mut made = if self.is_turn {
            Server::turn(
                address,
                self.protocol,
                server.username.as_str(),
                server.credential.as_str(),
            )
        } else {
            let mut made = Server::stun(address);
            made.protocol = self.protocol;
            made
        };
        debug_assert_eq!(matches!(made.kind, ServerKind::Turn { .. }), self.is_turn);
        made.url = self.url.as_str().into();
        if self.host.parse::<std::net::IpAddr>().is_err() {
            made.server_name = Some(self.host.as_str().into());
        }
        made
    }
}

#[cfg(test)]
mod tests {
    use visavis_datagram::Protocol;

    use super::ServerUrl;

    #[test]
    fn rfc_7065_urls_parse() {
        for (url, is_turn, protocol, host, port) in [
            (
                "stun:example.org",
                false,
                Protocol::Udp,
                "example.org",
                3478,
            ),
            ("STUN:1.2.3.4:99", false, Protocol::Udp, "1.2.3.4", 99),
            (
                "stuns:example.org",
                false,
                Protocol::Tls,
                "example.org",
                5349,
            ),
            ("turn:example.org", true, Protocol::Udp, "example.org", 3478),
            (
                "turn:example.org:8000?transport=udp",
                true,
                Protocol::Udp,
                "example.org",
                8000,
            ),
            (
                "turn:example.org?transport=tcp",
                true,
                Protocol::Tcp,
                "example.org",
                3478,
            ),
            (
                "turns:example.org",
                true,
                Protocol::Tls,
                "example.org",
                5349,
            ),
            (
                "turns:[2001:db8::1]:443?transport=tcp",
                true,
                Protocol::Tls,
                "2001:db8::1",
                443,
            ),
            (
                "turns:example.org?transport=udp",
                true,
                Protocol::Dtls,
                "example.org",
                5349,
            ),
        ] {
            let parsed = ServerUrl::parse(url).unwrap();
            let got = (
                parsed.is_turn,
                parsed.protocol,
                parsed.host.as_str(),
                parsed.port,
            );
            assert_eq!(got, (is_turn, protocol, host, port), "{url}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_a_reason() {
        for url in [
            "",
            "example.org",
            "http://example.org",
            "stun:",
            "stun://example.org",
            "turn:a:0",
            "turn:a:70000",
            "turn:a?transport=sctp",
            "turn:a?x=y",
            "stun:a?transport=udp",
            "turn:[::1",
        ] {
            assert!(ServerUrl::parse(url).is_err(), "{url}");
        }
    }
}
