//! Candidates, and the value of SDP's `candidate` attribute (RFC 8839 section 5.1, RFC 6544
//! section 4.5, draft-ietf-mmusic-mdns-ice-candidates).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use visavis_datagram::Protocol;

/// Longest foundation that is accepted, in bytes (RFC 8839 section 5.1: `1*32ice-char`).
pub const MAX_FOUNDATION_LEN: usize = 32;

/// Longest host name that is accepted as an address, in bytes (RFC 1035 section 2.3.4).
pub const MAX_NAME_LEN: usize = 255;

/// Most unknown extension attributes that are kept of one candidate line.
pub const MAX_EXTENSIONS: usize = 16;

/// How a candidate was found (RFC 8445 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CandidateKind {
    /// An address of an interface of the host.
    Host,
    /// The address that a STUN server saw: a NAT's outer side.
    ServerReflexive,
    /// The address that the peer saw, learnt from a connectivity check.
    PeerReflexive,
    /// An address of a TURN server.
    Relayed,
}

impl CandidateKind {
    /// The token in SDP: `host`, `srflx`, `prflx` or `relay`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::ServerReflexive => "srflx",
            Self::PeerReflexive => "prflx",
            Self::Relayed => "relay",
        }
    }

    /// The type preference that RFC 8445 section 5.1.2.2 recommends, lowered for TCP so that UDP is
    /// tried first (RFC 6544 section 4.2).
    pub const fn type_preference(self, protocol: Protocol) -> u32 {
        let udp = match self {
            Self::Host => 126,
            Self::PeerReflexive => 110,
            Self::ServerReflexive => 100,
            Self::Relayed => 2,
        };
        match (protocol, self) {
            (Protocol::Udp, _) | (_, Self::Relayed) => udp,
            _ => udp - 36,
        }
    }
}

impl fmt::Display for CandidateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which end opens the connection of a TCP candidate (RFC 6544 section 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TcpType {
    /// Only opens connections; its port in SDP is 9.
    Active,
    /// Only accepts connections.
    Passive,
    /// Opens and accepts at the same time.
    SimultaneousOpen,
}

impl TcpType {
    /// The token in SDP: `active`, `passive` or `so`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::SimultaneousOpen => "so",
        }
    }

    /// The direction preference of RFC 6544 section 4.2, 0 to 7.
    pub const fn direction_preference(self, kind: CandidateKind) -> u32 {
        match (kind, self) {
            (CandidateKind::Host | CandidateKind::Relayed, Self::Active) => 6,
            (CandidateKind::Host | CandidateKind::Relayed, Self::Passive) => 4,
            (CandidateKind::Host | CandidateKind::Relayed, Self::SimultaneousOpen) => 2,
            (_, Self::SimultaneousOpen) => 6,
            (_, Self::Active) => 4,
            (_, Self::Passive) => 2,
        }
    }

    /// Whether a local candidate of this type pairs with a remote one of `remote` (RFC 6544
    /// section 6.2).
    pub const fn pairs_with(self, remote: Self) -> bool {
        matches!(
            (self, remote),
            (Self::Active, Self::Passive)
                | (Self::Passive, Self::Active)
                | (Self::SimultaneousOpen, Self::SimultaneousOpen)
        )
    }
}

/// The host of a candidate's address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An IP address.
    Ip(IpAddr),
    /// A name, such as the `.local` name of a browser that hides its address.
    Name(Box<str>),
}

impl Host {
    /// Whether this is a name under `.local`, which multicast DNS resolves.
    pub fn is_mdns(&self) -> bool {
        match self {
            Self::Ip(_) => false,
            Self::Name(name) => {
                let bytes = name.as_bytes();
                bytes.len() > 6 && bytes[bytes.len() - 6..].eq_ignore_ascii_case(b".local")
            }
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A candidate: one transport address that may receive data, with what SDP says of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// Equal for candidates of one type, base, protocol and server (RFC 8445 section 5.1.1.3).
    pub foundation: Box<str>,
    /// The component, 1 to 256. 1 is RTP (with RTCP multiplexed) or the only component.
    pub component: u16,
    /// UDP or TCP.
    pub protocol: Protocol,
    /// The priority, 1 to 2^31 - 1 (RFC 8445 section 5.1.2).
    pub priority: u32,
    /// The host of the transport address.
    pub host: Host,
    /// The port of the transport address; 9 where an active TCP candidate has none.
    pub port: u16,
    /// How the candidate was found.
    pub kind: CandidateKind,
    /// Base of a reflexive candidate, mapped address of a relayed one (`raddr`, `rport`).
    pub related: Option<SocketAddr>,
    /// Which end connects; only with TCP.
    pub tcp_type: Option<TcpType>,
    /// The `generation` that libwebrtc counts; informative.
    pub generation: Option<u32>,
    /// The username fragment of the ICE session that the candidate belongs to (RFC 8839
    /// section 5.1, `ufrag` extension of libwebrtc and RFC 8838).
    pub ufrag: Option<Box<str>>,
    /// Number of the interface (`network-id`, libwebrtc).
    pub network_id: Option<u16>,
    /// Cost of the network, 0 to 999 (`network-cost`, libwebrtc).
    pub network_cost: Option<u16>,
    /// Unknown extension attributes, in order.
    pub extensions: Vec<(Box<str>, Box<str>)>,
}

impl Candidate {
    /// The transport address, if the host is an IP address.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Ip(ip) => Some(SocketAddr::new(ip, self.port)),
            Host::Name(_) => None,
        }
    }
}

/// The priority formula of RFC 8445 section 5.1.2.1.
///
/// `type_preference` 0 to 126, `local_preference` 0 to 65535, `component` 1 to 256.
pub const fn priority(type_preference: u32, local_preference: u32, component: u16) -> u32 {
    (type_preference << 24) + (local_preference << 8) + (256 - component as u32)
}

/// The pair priority of RFC 8445 section 6.1.2.3, from the candidate of the controlling agent and
/// that of the controlled one.
pub const fn pair_priority(controlling: u32, controlled: u32) -> u64 {
    let (g, d) = (controlling as u64, controlled as u64);
    let (min, max) = if g < d { (g, d) } else { (d, g) };
    (min << 32) + 2 * max + (g > d) as u64
}

/// Why a candidate line was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseCandidateError {
    /// A mandatory field is missing.
    #[error("candidate ends before its {0}")]
    Missing(&'static str),
    /// A field does not follow the grammar.
    #[error("candidate has a bad {0}")]
    Bad(&'static str),
}

impl fmt::Display for Candidate {
    /// Writes the attribute's value: `candidate:` and what follows, without `a=`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "candidate:{} {} {} {} {} {} typ {}",
            self.foundation,
            self.component,
            if self.protocol.is_stream() {
                "tcp"
            } else {
                "udp"
            },
            self.priority,
            self.host,
            self.port,
            self.kind
        )?;
        if let Some(related) = self.related {
            write!(f, " raddr {} rport {}", related.ip(), related.port())?;
        }
        if let Some(tcp_type) = self.tcp_type {
            write!(f, " tcptype {}", tcp_type.as_str())?;
        }
        if let Some(generation) = self.generation {
            write!(f, " generation {generation}")?;
        }
        if let Some(ufrag) = &self.ufrag {
            write!(f, " ufrag {ufrag}")?;
        }
        if let Some(id) = self.network_id {
            write!(f, " network-id {id}")?;
        }
        if let Some(cost) = self.network_cost {
            write!(f, " network-cost {cost}")?;
        }
        for (name, value) in &self.extensions {
            write!(f, " {name} {value}")?;
        }
        Ok(())
    }
}

impl FromStr for Candidate {
    type Err = ParseCandidateError;

    /// Reads the attribute's value, with or without `a=` and `candidate:` before it.
    fn from_str(line: &str) -> Result<Self, Self::Err> {
        use ParseCandidateError::{Bad, Missing};

        let line = line.trim();
        let line = line.strip_prefix("a=").unwrap_or(line);
        let line = line.strip_prefix("candidate:").unwrap_or(line);
        let mut words = line.split_ascii_whitespace();
        let mut next = |name| words.next().ok_or(Missing(name));

        let foundation = next("foundation")?;
        if foundation.len() > MAX_FOUNDATION_LEN
            || !foundation.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(Bad("foundation"));
        }
        let component: u16 = number(next("component")?, "component")?;
        if !(1..=256).contains(&component) {
            return Err(Bad("component"));
        }
        let transport = next("transport")?;
        let protocol = if transport.eq_ignore_ascii_case("udp") {
            Protocol::Udp
        } else if ["tcp", "ssltcp", "tcp-act", "tcp-pass"]
            .iter()
            .any(|name| transport.eq_ignore_ascii_case(name))
        {
            Protocol::Tcp
        } else {
            return Err(Bad("transport"));
        };
        let priority: u32 = number(next("priority")?, "priority")?;
        let host = host(next("address")?)?;
        let port: u16 = number(next("port")?, "port")?;
        if next("type")? != "typ" {
            return Err(Bad("type"));
        }
        let kind = match next("type")? {
            "host" => CandidateKind::Host,
            "srflx" => CandidateKind::ServerReflexive,
            "prflx" => CandidateKind::PeerReflexive,
            "relay" => CandidateKind::Relayed,
            _ => return Err(Bad("type")),
        };

        let mut candidate = Self {
            foundation: foundation.into(),
            component,
            protocol,
            priority,
            host,
            port,
            kind,
            related: None,
            tcp_type: None,
            generation: None,
            ufrag: None,
            network_id: None,
            network_cost: None,
            extensions: Vec::new(),
        };
        let mut related_ip = None;
        let mut related_port = None;
        // An extension name without a value ends the line: libwebrtc does the same.
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            match name {
                // A related address may be a name or empty in old stacks; it is only informative.
                "raddr" => related_ip = value.parse::<IpAddr>().ok(),
                "rport" => related_port = value.parse::<u16>().ok(),
                "tcptype" => {
                    candidate.tcp_type = Some(match value {
                        "active" => TcpType::Active,
                        "passive" => TcpType::Passive,
                        "so" => TcpType::SimultaneousOpen,
                        _ => return Err(Bad("tcptype")),
                    });
                }
                "generation" => candidate.generation = value.parse().ok(),
                "ufrag" | "username" => candidate.ufrag = Some(value.into()),
                "network-id" => candidate.network_id = value.parse().ok(),
                "network-cost" => candidate.network_cost = value.parse().ok(),
                _ if candidate.extensions.len() < MAX_EXTENSIONS => {
                    candidate.extensions.push((name.into(), value.into()));
                }
                _ => {}
            }
        }
        if let (Some(ip), Some(port)) = (related_ip, related_port) {
            candidate.related = Some(SocketAddr::new(ip, port));
        }
        if candidate.protocol == Protocol::Tcp && candidate.tcp_type.is_none() {
            // Before RFC 6544 the type was part of the transport's name, or passive.
            candidate.tcp_type = Some(if transport.eq_ignore_ascii_case("tcp-act") {
                TcpType::Active
            } else {
                TcpType::Passive
            });
        }
        if candidate.protocol == Protocol::Udp {
            candidate.tcp_type = None;
        }
        Ok(candidate)
    }
}

/// A decimal number that fits, without a sign.
fn number<T: FromStr>(word: &str, name: &'static str) -> Result<T, ParseCandidateError> {
    if word.bytes().all(|b| b.is_ascii_digit()) {
        word.parse().map_err(|_| ParseCandidateError::Bad(name))
    } else {
        Err(ParseCandidateError::Bad(name))
    }
}

fn host(word: &str) -> Result<Host, ParseCandidateError> {
    if let Ok(ip) = word.parse::<IpAddr>() {
        return Ok(Host::Ip(ip));
    }
    // Zone identifiers mean nothing to another host (RFC 8839 section 5.1 has no room for them).
    let name_like = word.len() <= MAX_NAME_LEN
        && word
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'{' | b'}'));
    if name_like {
        Ok(Host::Name(word.into()))
    } else {
        Err(ParseCandidateError::Bad("address"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8839 section 5.1, both example lines.
    #[test]
    fn lines_of_rfc_8839_round_trip() {
        for line in [
            "candidate:1 1 udp 2130706431 203.0.113.141 8998 typ host",
            "candidate:2 1 udp 1694498815 192.0.2.3 45664 typ srflx raddr 203.0.113.141 rport 8998",
        ] {
            let candidate: Candidate = line.parse().unwrap();
            assert_eq!(candidate.to_string(), line);
        }
        let upper: Candidate = "1 1 UDP 2130706431 203.0.113.141 8998 typ host"
            .parse()
            .unwrap();
        assert_eq!(upper.protocol, Protocol::Udp);
    }

    /// Lines that Chromium 156 and Firefox 153 wrote.
    #[test]
    fn lines_of_browsers_round_trip() {
        for line in [
            "candidate:3098175849 1 udp 2113937151 0a8ea0b3-9a4c-4f2f-b5ae-6aa2b6ecbdf6.local 46154 typ host generation 0 ufrag eSf/ network-id 1 network-cost 50",
            "candidate:1052353102 1 tcp 1518280447 192.168.1.10 9 typ host tcptype active generation 0 ufrag eSf/ network-id 1",
            "candidate:2 1 tcp 2105524479 {8cfd54ae-1f0e-4dcb-a1a0-2f8c8f1a0b4d}.local 9 typ host tcptype active",
        ] {
            let candidate: Candidate = line.parse().unwrap();
            assert_eq!(candidate.to_string(), line);
        }
        let mdns: Candidate = "candidate:0 1 UDP 2122252543 abc.local 51688 typ host"
            .parse()
            .unwrap();
        assert!(mdns.host.is_mdns());
    }

    #[test]
    fn bad_lines_say_what_is_bad() {
        for (line, what) in [
            ("", "foundation"),
            ("1 0 udp 1 1.2.3.4 5 typ host", "component"),
            ("1 257 udp 1 1.2.3.4 5 typ host", "component"),
            ("1 1 sctp 1 1.2.3.4 5 typ host", "transport"),
            ("1 1 udp 99999999999 1.2.3.4 5 typ host", "priority"),
            ("1 1 udp +1 1.2.3.4 5 typ host", "priority"),
            ("1 1 udp 1 fe80::1%eth0 5 typ host", "address"),
            ("1 1 udp 1 1.2.3.4 70000 typ host", "port"),
            ("1 1 udp 1 1.2.3.4 5 host", "type"),
            ("1 1 udp 1 1.2.3.4 5 typ other", "type"),
            ("1 1 tcp 1 1.2.3.4 5 typ host tcptype x", "tcptype"),
        ] {
            let error = line.parse::<Candidate>().unwrap_err().to_string();
            assert!(error.ends_with(what), "{line}: {error}");
        }
    }

    proptest::proptest! {
        /// Whatever parses prints as a line that parses to the same.
        #[test]
        fn what_parses_survives_printing(line in "(a=)?(candidate:)?[a-zA-Z0-9+/]{1,33} [0-9]{1,4} (udp|UDP|tcp|ssltcp|x) [0-9]{1,11} ([0-9]{1,3}(\\.[0-9]{1,3}){3}|[0-9a-f:]{2,20}|[a-z{}.-]{1,20}) [0-9]{1,6} typ (host|srflx|prflx|relay|y)( raddr [0-9.]{1,15} rport [0-9]{1,5})?( tcptype (active|passive|so))?( [a-z-]{1,10} [!-~]{1,10}){0,3}") {
            if let Ok(candidate) = line.parse::<Candidate>() {
                let again: Candidate = candidate.to_string().parse().unwrap();
                proptest::prop_assert_eq!(again, candidate);
            }
        }

        #[test]
        fn any_text_is_a_candidate_or_an_error(line in ".*") {
            let _ = line.parse::<Candidate>();
        }
    }

    /// RFC 8445 section 5.1.2.1 and 6.1.2.3 by hand.
    #[test]
    fn priorities_follow_the_formulas() {
        assert_eq!(priority(126, 65535, 1), 2_130_706_431);
        assert_eq!(priority(100, 65535, 1), 1_694_498_815);
        assert_eq!(pair_priority(2, 1), (1 << 32) + 5);
        assert_eq!(pair_priority(1, 2), (1 << 32) + 4);
    }
}
