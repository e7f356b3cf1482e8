//! Whom a client may reach through the relay. Closed to everything that is not the public internet, until a rule opens
//! it by name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::embedded::embedded_ipv4;

/// A range of addresses of one family, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IpRange {
    first: IpAddr,
    last: IpAddr,
}

impl IpRange {
    /// From `first` to `last`; `None` if they are of two families or in the wrong order.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        let ordered = match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => first <= last,
            (IpAddr::V6(first), IpAddr::V6(last)) => first <= last,
            _ => false,
        };
        ordered.then_some(Self { first, last })
    }

    /// The network of the first `bits` bits of `address`; `None` if it has fewer.
    pub fn network(address: IpAddr, bits: u32) -> Option<Self> {
        Some(match address {
            IpAddr::V4(address) => {
                let host = u32::MAX.checked_shr(bits).unwrap_or(0);
                let first = address.to_bits() & !host;
                (bits <= 32).then_some(Self {
                    first: Ipv4Addr::from_bits(first).into(),
                    last: Ipv4Addr::from_bits(first | host).into(),
                })?
            }
            IpAddr::V6(address) => {
                let host = u128::MAX.checked_shr(bits).unwrap_or(0);
                let first = address.to_bits() & !host;
                (bits <= 128).then_some(Self {
                    first: Ipv6Addr::from_bits(first).into(),
                    last: Ipv6Addr::from_bits(first | host).into(),
                })?
            }
        })
    }

    /// Whether an address lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, self.last, address) {
            (IpAddr::V4(first), IpAddr::V4(last), IpAddr::V4(address)) => {
                (first..=last).contains(&address)
            }
            (IpAddr::V6(first), IpAddr::V6(last), IpAddr::V6(address)) => {
                (first..=last).contains(&address)
            }
            _ => false,
        }
    }
}

/// What [`IpRange`] does not understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither an address, nor ADDRESS/BITS, nor FIRST-LAST")]
pub struct BadRange;

impl FromStr for IpRange {
    type Err = BadRange;

    /// `192.0.2.1`, `192.0.2.0/24` or `192.0.2.5-192.0.2.77`.
    fn from_str(text: &str) -> Result<Self, BadRange> {
        let address = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| BadRange);
        if let Some((network, bits)) = text.split_once('/') {
            let bits = bits.trim().parse().map_err(|_| BadRange)?;
            Self::network(address(network)?, bits).ok_or(BadRange)
        } else if let Some((first, last)) = text.split_once('-') {
            Self::new(address(first)?, address(last)?).ok_or(BadRange)
        } else {
            let address = address(text)?;
            Self::new(address, address).ok_or(BadRange)
        }
    }
}

/// The IANA special-purpose registries (RFC 6890 and its updates), multicast and what is reserved: nothing there is a
/// peer on the public internet.
const SPECIAL: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    // ::, ::1, and the IPv4-compatible, -mapped and -translated addresses.
    "::/64",
    "64:ff9b:1::/48",
    "100::/64",
    "100:0:0:1::/64",
    // Teredo, ORCHID, benchmarking and all other IETF protocol assignments.
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "2620:4f:8000::/48",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// UDP services that answer a small request with a large answer, or to a whole network: nobody's media port.
const REFLECTORS: &[u16] = &[
    7, 17, 19, 53, 69, 111, 123, 137, 138, 161, 389, 427, 520, 1434, 1900, 3283, 3702, 5093, 5351,
    5353, 11211, 27960,
];

/// Which peers a client may reach.
#[derive(Debug, Clone)]
pub struct PeerFilter {
    /// Reachable whatever `deny` says: how an operator opens a private network by name.
    pub allow: Vec<IpRange>,
    /// Not reachable.
    pub deny: Vec<IpRange>,
    /// Ports that are not reachable on any address.
    pub deny_ports: Vec<RangeInclusive<u16>>,
}

impl Default for PeerFilter {
    /// The public internet, without the ports of UDP services that amplify.
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            deny: SPECIAL
                .iter()
                .filter_map(|text| text.parse().ok())
                .collect(),
            deny_ports: REFLECTORS.iter().map(|&port| port..=port).collect(),
        }
    }
}

impl PeerFilter {
    /// Whether an address may be a peer. An IPv6 address must be allowed itself, and so must each IPv4 address in it.
    pub fn allows_ip(&self, ip: IpAddr) -> bool {
        if !self.allows_plain(ip) {
            return false;
        }
        match ip {
            IpAddr::V4(_) => true,
            IpAddr::V6(v6) => embedded_ipv4(v6).all(|v4| self.allows_plain(v4.into())),
        }
    }

    /// Whether a port may be sent to. Port 0 never.
    pub fn allows_port(&self, port: u16) -> bool {
        port != 0 && !self.deny_ports.iter().any(|range| range.contains(&port))
    }

    fn allows_plain(&self, ip: IpAddr) -> bool {
        let is_in = |ranges: &[IpRange]| ranges.iter().any(|range| range.contains(ip));
        is_in(&self.allow) || !is_in(&self.deny)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::{IpRange, PeerFilter, REFLECTORS, SPECIAL};

    #[test]
    fn every_special_range_parses() {
        assert_eq!(PeerFilter::default().deny.len(), SPECIAL.len());
        assert_eq!(PeerFilter::default().deny_ports.len(), REFLECTORS.len());
    }

    #[test]
    fn ranges_are_read_and_refused() {
        for good in [
            "1.2.3.4",
            "1.2.3.0/24",
            "::/0",
            "::1-::5",
            "0.0.0.0/0",
            "1.2.3.4/32",
        ] {
            assert!(good.parse::<IpRange>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "1.2.3.4/33",
            "::/129",
            "1.2.3.4-::1",
            "9.9.9.9-1.1.1.1",
            "x",
            "1.2.3.4/-1",
        ] {
            assert!(bad.parse::<IpRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_named_range_opens_what_is_closed() {
        let mut filter = PeerFilter::default();
        let inside = "192.168.7.9".parse().unwrap();
        assert!(!filter.allows_ip(inside));
        filter.allow.push("192.168.7.0/24".parse().unwrap());
        assert!(filter.allows_ip(inside));
        assert!(!filter.allows_ip("192.168.8.9".parse().unwrap()));
    }

    proptest! {
        /// coturn compared IPv6 ranges byte by byte: ranges that are no prefix let addresses through.
        #[test]
        fn ranges_compare_as_numbers(a in any::<u128>(), b in any::<u128>(), x in any::<u128>(), near in -2i128..3) {
            let (first, last) = (a.min(b), a.max(b));
            let v6 = |bits| IpAddr::V6(Ipv6Addr::from_bits(bits));
            let range = IpRange::new(v6(first), v6(last)).unwrap();
            for address in [x, first.wrapping_add_signed(near), last.wrapping_add_signed(near)] {
                prop_assert_eq!(range.contains(v6(address)), (first..=last).contains(&address));
            }
            let v4 = |bits: u128| IpAddr::V4(Ipv4Addr::from_bits(bits as u32));
            let (first, last) = ((a as u32).min(b as u32), (a as u32).max(b as u32));
            let range = IpRange::new(v4(first.into()), v4(last.into())).unwrap();
            prop_assert_eq!(range.contains(v4(x)), (first..=last).contains(&(x as u32)));
        }
    }
}
