//! What the server is told at its start. The names are those of `visavis serve`'s flags, of its
//! environment variables (`VISAVIS_…`) and of its TOML file.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use crate::{ids::random_text, room::RoomLimits};

/// The port of HTTP, HTTPS, WebSocket, media over TCP, and TURN over TCP and TLS. Media over UDP has the
/// same number unless told otherwise.
pub const DEFAULT_PORT: u16 = 7880;

/// How the server speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Tls {
    /// With a certificate that it makes: browsers on the LAN warn once, and then allow camera and microphone.
    #[default]
    SelfSigned,
    /// With this certificate chain and key, in PEM.
    Files {
        /// The chain.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// With certificates of Let's Encrypt or another ACME authority, over this very port (443 from outside).
    Acme {
        /// For these names.
        domains: Vec<String>,
        /// Whom the authority may write to.
        email: Option<String>,
        /// The authority's directory; Let's Encrypt's if `None`.
        directory: Option<String>,
        /// Who vouches for the authority itself, beside the web's authorities: a PEM file.
        root: Option<PathBuf>,
    },
    /// Not at all: a proxy in front does.
    Off,
}

/// The settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen for TCP. Default: port 7880 of every IPv4 address, and of every IPv6 address where there is IPv6.
    pub listen: Vec<SocketAddr>,
    /// Where to listen for media over UDP. Empty: on all addresses of both families, at the number of the first TCP port.
    pub udp: Vec<SocketAddr>,
    /// Addresses by which clients reach this machine, if they are not its own (behind a NAT).
    pub public_ip: Vec<IpAddr>,
    /// Threads that forward media; 0: one per core.
    pub workers: usize,
    /// When participants go from one of them to another.
    pub balance: visavis_sfu::Balance,
    /// The server answers ICE checks and sends none (RFC 8445, section 2.5).
    pub ice_lite: bool,
    /// TLS.
    pub tls: Tls,
    /// API keys and their secrets. Empty: development keys are made.
    pub keys: BTreeMap<String, String>,
    /// Development keys are allowed on public addresses too.
    pub dev: bool,
    /// Whether anyone may join any room through the page.
    pub join_open: bool,
    /// Whether rooms are made when somebody joins.
    pub auto_create: bool,
    /// Whether an application's server may open a participant's microphone.
    pub remote_unmute: bool,
    /// Rooms at a time.
    pub max_rooms: usize,
    /// Participants of a room; 0: no limit.
    pub max_participants: u32,
    /// How long a room waits for its first participant.
    pub empty_timeout: Duration,
    /// How long it lives after its last one left.
    pub departure_timeout: Duration,
    /// Webhooks go to these URLs.
    pub webhook_urls: Vec<String>,
    /// The API key that signs them; the first one if `None`.
    pub webhook_key: Option<String>,
    /// Where what has to survive a restart is kept.
    pub state_dir: Option<PathBuf>,
    /// Where recordings go; `None`: recording is off.
    pub record_dir: Option<PathBuf>,
    /// Whether messages are relayed between pages on any WebSocket path, and PeerJS is served.
    pub relay: bool,
    /// PeerJS's API keys; empty: any.
    pub peerjs_keys: Vec<String>,
    /// Beneath these paths relayed messages are wrapped in `{"message": …, "user": …}`.
    pub relay_envelope: Vec<String>,
    /// Who may look at `/metrics` and `/api/inspect`: the bearer of this token. `None`: this machine only.
    pub operator_token: Option<String>,
    /// How long a drain may take.
    pub drain: Duration,
    /// Events that the log keeps.
    pub log_events: usize,
    /// How many joins one address may ask for per minute.
    pub joins_per_minute: u32,
    /// STUN and TURN.
    pub turn: bool,
    /// The port of STUN and TURN over UDP.
    pub turn_port: u16,
    /// The secret of TURN credentials; made if empty.
    pub turn_secret: String,
    /// The name under which clients reach the server, in TURN URLs; the one they used if empty.
    pub domain: String,
}

impl Default for Config {
    fn default() -> Self {
        let limits = RoomLimits::default();
        Self {
            listen: everywhere(DEFAULT_PORT),
            udp: Vec::new(),
            public_ip: Vec::new(),
            workers: 0,
            balance: visavis_sfu::Balance::default(),
            ice_lite: false,
            tls: Tls::default(),
            keys: BTreeMap::new(),
            dev: false,
            join_open: true,
            auto_create: true,
            remote_unmute: false,
            max_rooms: 10_000,
            max_participants: 0,
            empty_timeout: limits.empty_timeout,
            departure_timeout: limits.departure_timeout,
            webhook_urls: Vec::new(),
            webhook_key: None,
            state_dir: None,
            record_dir: None,
            relay: true,
            peerjs_keys: Vec::new(),
            relay_envelope: vec!["/ws/chat/".to_owned()],
            operator_token: None,
            drain: Duration::from_secs(30),
            log_events: 5000,
            joins_per_minute: 120,
            turn: true,
            turn_port: 3478,
            turn_secret: String::new(),
            domain: String::new(),
        }
    }
}

/// A port of every address of the families that this machine speaks.
pub(crate) fn everywhere(port: u16) -> Vec<SocketAddr> {
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let has_v6 = std::net::UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok();
    std::iter::once(v4)
        .chain(Some(v6).filter(|_| has_v6))
        .collect()
}

/// Why the settings cannot be used. The texts say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Development keys where anyone could use them.
    #[error(
        "no API keys are set and {0} can be reached from the Internet: set keys (--keys \"KEY: SECRET\"), \
         listen on a private address (--listen 127.0.0.1:7880), or pass --dev if anyone may use this server"
    )]
    PublicWithoutKeys(IpAddr),
    /// A secret that can be guessed.
    #[error(
        "the secret of API key {0:?} is shorter than 32 characters: `visavis keygen` makes a good one"
    )]
    ShortSecret(String),
    /// A webhook's key that is none.
    #[error("webhook-key {0:?} is none of the keys")]
    UnknownWebhookKey(String),
    /// ACME for nobody.
    #[error("ACME needs a domain: --domain meet.example.org")]
    AcmeWithoutDomain,
}

impl Config {
    /// Checks the settings against the machine's own addresses, and makes development keys where none
    /// are set. Returns whether it did.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn check(&mut self, machine: &[IpAddr]) -> Result<bool, ConfigError> {
        if let Some((key, _)) = self.keys.iter().find(|(_, secret)| secret.len() < 32) {
            return Err(ConfigError::ShortSecret(key.clone()));
        }
        if let Some(key) = self
            .webhook_key
            .as_ref()
            .filter(|key| !self.keys.contains_key(*key))
        {
            return Err(ConfigError::UnknownWebhookKey(key.clone()));
        }
        if matches!(&self.tls, Tls::Acme { domains, .. } if domains.is_empty()) {
            return Err(ConfigError::AcmeWithoutDomain);
        }
        if self.turn_secret.is_empty() {
            self.turn_secret = random_text(32);
        }
        if !self.keys.is_empty() {
            return Ok(false);
        }
        let reached = |listen: &SocketAddr| match listen.ip() {
            ip if ip.is_unspecified() => machine
                .iter()
                .chain(&self.public_ip)
                .copied()
                .find(is_public),
            ip => Some(ip).filter(is_public),
        };
        if let Some(ip) = self.listen.iter().find_map(reached).filter(|_| !self.dev) {
            return Err(ConfigError::PublicWithoutKeys(ip));
        }
        self.keys.insert("devkey".to_owned(), random_text(43));
        Ok(true)
    }

    /// What bounds a room.
    pub fn room_limits(&self) -> RoomLimits {
        RoomLimits {
            max_participants: self.max_participants,
            empty_timeout: self.empty_timeout,
            departure_timeout: self.departure_timeout,
            ..RoomLimits::default()
        }
    }
}

/// Whether an address is reached from anywhere: none of those that RFC 6890 keeps for machines and sites.
pub fn is_public(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(*ip),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => is_public_v4(ip),
            None => is_public_v6(*ip),
        },
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let benchmark = a == 198 && (18..20).contains(&b);
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || ip.is_unspecified()
        || ip.is_broadcast()
        || ip.is_multicast()
        || shared
        || benchmark)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let documentation = ip.segments()[..2] == [0x2001, 0xdb8];
    // Global unicast is 2000::/3.
    ip.segments()[0] >> 13 == 1 && !documentation
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn development_keys_are_refused_on_public_addresses() {
        let machine = [address("192.168.1.7"), address("203.0.114.7")];
        assert_eq!(
            Config::default().check(&machine),
            Err(ConfigError::PublicWithoutKeys(address("203.0.114.7")))
        );
        let mut allowed = Config {
            dev: true,
            ..Config::default()
        };
        assert_eq!(allowed.check(&machine), Ok(true));
        assert!(allowed.keys["devkey"].len() >= 32);
        let loopback = vec!["127.0.0.1:7880".parse().unwrap()];
        assert_eq!(
            Config {
                listen: loopback,
                ..Config::default()
            }
            .check(&machine),
            Ok(true)
        );
        let keys = BTreeMap::from([("key".to_owned(), "s".repeat(32))]);
        assert_eq!(
            Config {
                keys,
                ..Config::default()
            }
            .check(&machine),
            Ok(false)
        );
    }

    #[test]
    fn secrets_that_can_be_guessed_are_refused() {
        let keys = BTreeMap::from([("key".to_owned(), "secret".to_owned())]);
        assert_eq!(
            Config {
                keys,
                ..Config::default()
            }
            .check(&[]),
            Err(ConfigError::ShortSecret("key".into()))
        );
    }

    #[test]
    fn private_addresses_are_not_public() {
        for ip in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "192.0.2.1",
        ] {
            assert!(!is_public(&address(ip)), "{ip}");
        }
        for ip in [
            "::1",
            "fe80::1",
            "fd00::1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!is_public(&address(ip)), "{ip}");
        }
        for ip in ["8.8.8.8", "2a00::1", "::ffff:8.8.8.8"] {
            assert!(is_public(&address(ip)), "{ip}");
        }
    }
}
