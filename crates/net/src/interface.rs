//! The host's interfaces and addresses, what kind they are, when they change, and which address the
//! default route uses.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// What an interface is made of, as far as its name tells. Order is cost: the cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum InterfaceKind {
    /// The host itself.
    Loopback,
    /// A wire.
    Ethernet,
    /// Wireless LAN.
    Wifi,
    /// No pattern fits the name.
    Unknown,
    /// A mobile network, where bytes cost money.
    Cellular,
    /// A tunnel over another interface.
    Vpn,
    /// A bridge or a pair that leads to containers or virtual machines on this host.
    Virtual,
}

impl InterfaceKind {
    /// The kind that an interface's name stands for on Linux, macOS, Windows and Android.
    pub fn from_name(name: &str) -> Self {
        const PREFIXES: &[(InterfaceKind, &[&str])] = &[
            (
                InterfaceKind::Virtual,
                &["docker", "veth", "br-", "virbr", "vmnet", "vboxnet", "cni"],
            ),
            (
                InterfaceKind::Vpn,
                &[
                    "tun",
                    "tap",
                    "utun",
                    "wg",
                    "ppp",
                    "ipsec",
                    "tailscale",
                    "zt",
                ],
            ),
            (
                InterfaceKind::Cellular,
                &["ww", "rmnet", "ccmni", "pdp_ip", "v4-rmnet"],
            ),
            (
                InterfaceKind::Wifi,
                &["wl", "wifi", "ath", "wi-fi", "awdl", "llw"],
            ),
            (InterfaceKind::Ethernet, &["eth", "en", "em", "ethernet"]),
        ];
        let name = name.to_lowercase();
        if name == "lo" || name.starts_with("lo0") || name.starts_with("loopback") {
            return Self::Loopback;
        }
        PREFIXES
            .iter()
            .find(|(_, prefixes)| prefixes.iter().any(|prefix| name.starts_with(prefix)))
            .map_or(Self::Unknown, |&(kind, _)| kind)
    }

    /// The network cost that ICE compares, 0 (free) to 999, in the steps that browsers use.
    pub const fn cost(self) -> u16 {
        match self {
            Self::Loopback | Self::Ethernet => 0,
            Self::Wifi => 10,
            Self::Unknown | Self::Virtual => 50,
            Self::Vpn => 60,
            Self::Cellular => 900,
        }
    }
}

/// One address of one interface that is up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceAddress {
    /// The interface's name, e.g. `eth0`.
    pub name: String,
    /// What the interface is made of.
    pub kind: InterfaceKind,
    /// The address.
    pub ip: IpAddr,
    /// The interface's index, which scopes link-local IPv6 addresses.
    pub index: Option<u32>,
}

/// Which addresses to use.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct InterfaceFilter {
    /// Also loopback addresses. Default no.
    pub loopback: bool,
    /// Also link-local addresses (169.254/16, fe80::/10). Default no: RFC 8445 section 5.1.1.1
    /// allows them only where nothing else is there.
    pub link_local: bool,
    /// Only interfaces with one of these names; all if empty.
    pub names: Vec<String>,
    /// None of the interfaces with these names.
    pub not_names: Vec<String>,
}

impl InterfaceFilter {
    /// Whether an address passes.
    pub fn admits(&self, address: &InterfaceAddress) -> bool {
        let named = |names: &[String]| names.contains(&address.name);
        let special = match address.ip {
            IpAddr::V4(ip) => {
                ip.is_unspecified()
                    || ip.is_loopback() && !self.loopback
                    || ip.is_link_local() && !self.link_local
            }
            IpAddr::V6(ip) => {
                ip.is_unspecified()
                    || ip.is_loopback() && !self.loopback
                    || ip.is_unicast_link_local() && !self.link_local
                    || is_deprecated(ip)
            }
        };
        !special && (self.names.is_empty() || named(&self.names)) && !named(&self.not_names)
    }
}

/// Forms that RFC 8445 section 5.1.1.1 excludes: site-local, IPv4-compatible and IPv4-mapped.
fn is_deprecated(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    segments[0] & 0xffc0 == 0xfec0
        || ip.to_ipv4_mapped().is_some()
        || (segments[..6] == [0; 6] && !ip.is_loopback())
}

/// The addresses of the interfaces that are up and pass the filter, in a stable order.
///
/// # Errors
/// If the system does not tell.
pub fn addresses(filter: &InterfaceFilter) -> io::Result<Vec<InterfaceAddress>> {
    let mut addresses: Vec<_> = if_addrs::get_if_addrs()?
        .into_iter()
        .filter(|interface| interface.is_oper_up())
        .map(|interface| InterfaceAddress {
            kind: if interface.is_loopback() {
                InterfaceKind::Loopback
            } else {
                InterfaceKind::from_name(&interface.name)
            },
            ip: interface.ip(),
            index: interface.index,
            name: interface.name,
        })
        .filter(|address| filter.admits(address))
        .collect();
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

/// The addresses that the default routes use, IPv4 and IPv6: what RFC 8828 mode 2 offers, and
/// nothing else. No packet leaves: the kernel picks the source when a UDP socket is connected.
pub fn default_route_addresses() -> Vec<IpAddr> {
    let probes: [(SocketAddr, SocketAddr); 2] = [
        // Documentation addresses (RFC 5737, RFC 3849) take the default route everywhere.
        (
            (Ipv4Addr::UNSPECIFIED, 0).into(),
            (Ipv4Addr::new(192, 0, 2, 1), 9).into(),
        ),
        (
            (Ipv6Addr::UNSPECIFIED, 0).into(),
            (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into(),
        ),
    ];
    probes
        .iter()
        .filter_map(|&(from, to)| route_source(from, to).ok())
        .collect()
}

/// The local address that the kernel would use to reach `destination`.
///
/// # Errors
/// If there is no route.
pub fn route_address(destination: SocketAddr) -> io::Result<IpAddr> {
    let from: SocketAddr = if destination.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    route_source(from, destination)
}

fn route_source(from: SocketAddr, to: SocketAddr) -> io::Result<IpAddr> {
    let socket = std::net::UdpSocket::bind(from)?;
    socket.connect(to)?;
    let ip = socket.local_addr()?.ip();
    if ip.is_unspecified() {
        Err(io::ErrorKind::NetworkUnreachable.into())
    } else {
        Ok(ip)
    }
}

/// What has changed between two looks at the interfaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceChange {
    /// Addresses that are new.
    pub added: Vec<InterfaceAddress>,
    /// Addresses that are gone.
    pub removed: Vec<InterfaceAddress>,
}

/// Watches the interfaces' addresses.
#[derive(Debug)]
pub struct InterfaceWatcher {
    filter: InterfaceFilter,
    known: BTreeSet<InterfaceAddress>,
    notices: Notices,
}

impl InterfaceWatcher {
    /// How often the addresses are compared where the system gives no notice of changes.
    pub const POLL: Duration = Duration::from_secs(2);

    /// Starts from the addresses of this moment. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the system does not tell its addresses.
    pub fn new(filter: InterfaceFilter) -> io::Result<Self> {
        let notices = Notices::new();
        let known = addresses(&filter)?.into_iter().collect();
        Ok(Self {
            filter,
            known,
            notices,
        })
    }

    /// The addresses as last seen.
    pub fn addresses(&self) -> impl Iterator<Item = &InterfaceAddress> {
        self.known.iter()
    }

    /// Waits for a change. Cancel-safe.
    ///
    /// # Errors
    /// If the system does not tell its addresses.
    pub async fn changed(&mut self) -> io::Result<InterfaceChange> {
        loop {
            self.notices.wait().await;
            let change = self.compare(addresses(&self.filter)?);
            if change != InterfaceChange::default() {
                return Ok(change);
            }
        }
    }

    fn compare(&mut self, addresses: Vec<InterfaceAddress>) -> InterfaceChange {
        let now: BTreeSet<_> = addresses.into_iter().collect();
        let change = InterfaceChange {
            added: now.difference(&self.known).cloned().collect(),
            removed: self.known.difference(&now).cloned().collect(),
        };
        self.known = now;
        change
    }
}

/// The moments at which a look is worth while.
#[derive(Debug)]
enum Notices {
    /// The kernel tells of address changes.
    #[cfg(target_os = "linux")]
    Netlink(tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>),
    /// Nobody tells.
    Poll,
}

impl Notices {
    #[cfg(target_os = "linux")]
    fn new() -> Self {
        match netlink() {
            Ok(socket) => Self::Netlink(socket),
            Err(error) => {
                tracing::debug!(%error, "no notice of interface changes: polling");
                Self::Poll
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn new() -> Self {
        Self::Poll
    }

    async fn wait(&self) {
        match self {
            #[cfg(target_os = "linux")]
            Self::Netlink(socket) => {
                if let Ok(mut ready) = socket.readable().await {
                    drain(socket);
                    ready.clear_ready();
                }
            }
            Self::Poll => tokio::time::sleep(InterfaceWatcher::POLL).await,
        }
    }
}

/// A routing socket that becomes readable when an address or a link changes (rtnetlink(7)).
#[cfg(target_os = "linux")]
fn netlink() -> io::Result<tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>> {
    use std::os::fd::AsRawFd;

    use socket2::{Domain, Protocol, Socket, Type};

    let socket = Socket::new(
        Domain::from(libc::AF_NETLINK),
        Type::RAW,
        Some(Protocol::from(libc::NETLINK_ROUTE)),
    )?;
    socket.set_nonblocking(true)?;
    // SAFETY: `sockaddr_nl` is plain old data for which all zeroes is a valid value.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as u16;
    address.nl_groups =
        (libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR) as u32;
    // SAFETY: the descriptor is open, and the address is live and of the length given.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor belongs to the `OwnedFd` given here, which closes it only when the
    // `AsyncFd` drops it, after deregistration.
    unsafe { tokio::io::unix::AsyncFd::register(socket.into()) }
        .map_err(|error| error.into_parts().1)
}

/// Reads and forgets what the routing socket holds: that something changed is all it has to say.
#[cfg(target_os = "linux")]
fn drain(socket: &tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>) {
    use std::mem::MaybeUninit;

    let socket = socket2::SockRef::from(socket.get_ref());
    let mut bytes = [MaybeUninit::uninit(); 4096];
    while socket.recv(&mut bytes).is_ok_and(|length| length != 0) {}
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{InterfaceAddress, InterfaceFilter, InterfaceKind, InterfaceWatcher, addresses};

    fn address(name: &str, ip: &str) -> InterfaceAddress {
        InterfaceAddress {
            name: name.to_owned(),
            kind: InterfaceKind::from_name(name),
            ip: ip.parse().unwrap(),
            index: None,
        }
    }

    #[test]
    fn names_tell_kinds() {
        for (name, kind) in [
            ("lo", InterfaceKind::Loopback),
            ("eth0", InterfaceKind::Ethernet),
            ("enp3s0", InterfaceKind::Ethernet),
            ("wlan0", InterfaceKind::Wifi),
            ("wlp2s0", InterfaceKind::Wifi),
            ("wwan0", InterfaceKind::Cellular),
            ("rmnet_data0", InterfaceKind::Cellular),
            ("wg0", InterfaceKind::Vpn),
            ("docker0", InterfaceKind::Virtual),
            ("xyz", InterfaceKind::Unknown),
        ] {
            assert_eq!(InterfaceKind::from_name(name), kind, "{name}");
        }
        assert!(InterfaceKind::Ethernet.cost() < InterfaceKind::Wifi.cost());
        assert!(InterfaceKind::Wifi.cost() < InterfaceKind::Cellular.cost());
    }

    #[test]
    fn addresses_that_rfc_8445_section_5_1_1_1_excludes_do_not_pass() {
        let filter = InterfaceFilter::default();
        for ip in [
            "127.0.0.1",
            "::1",
            "169.254.1.1",
            "fe80::1",
            "fec0::1",
            "::ffff:1.2.3.4",
            "::1.2.3.4",
        ] {
            assert!(!filter.admits(&address("eth0", ip)), "{ip}");
        }
        for ip in [
            "192.168.1.1",
            "10.0.0.1",
            "8.8.8.8",
            "2001:db8::1",
            "fd00::1",
        ] {
            assert!(filter.admits(&address("eth0", ip)), "{ip}");
        }
    }

    #[test]
    fn interfaces_are_chosen_by_name() {
        let only = InterfaceFilter {
            names: vec!["eth0".into()],
            ..InterfaceFilter::default()
        };
        assert!(only.admits(&address("eth0", "10.0.0.1")));
        assert!(!only.admits(&address("eth1", "10.0.0.1")));
        let not = InterfaceFilter {
            not_names: vec!["eth0".into()],
            ..InterfaceFilter::default()
        };
        assert!(!not.admits(&address("eth0", "10.0.0.1")));
        assert!(not.admits(&address("eth1", "10.0.0.1")));
    }

    #[test]
    fn loopback_is_found_when_asked_for() {
        let filter = InterfaceFilter {
            loopback: true,
            ..InterfaceFilter::default()
        };
        let found = addresses(&filter).unwrap();
        assert!(
            found.iter().any(|a| a.ip == IpAddr::from([127, 0, 0, 1])),
            "{found:?}"
        );
        assert!(
            addresses(&InterfaceFilter::default())
                .unwrap()
                .iter()
                .all(|a| !a.ip.is_loopback())
        );
    }

    #[tokio::test]
    async fn a_change_is_what_came_and_what_went() {
        let mut watcher = InterfaceWatcher::new(InterfaceFilter::default()).unwrap();
        watcher.compare(vec![
            address("eth0", "10.0.0.1"),
            address("eth0", "10.0.0.2"),
        ]);
        let change = watcher.compare(vec![
            address("eth0", "10.0.0.2"),
            address("wlan0", "10.0.1.1"),
        ]);
        assert_eq!(change.added, [address("wlan0", "10.0.1.1")]);
        assert_eq!(change.removed, [address("eth0", "10.0.0.1")]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_tells_of_addresses_that_come_and_go() {
        use crate::namespace::{alone, ip};

        alone(async || {
            let mut watcher = InterfaceWatcher::new(InterfaceFilter::default()).unwrap();
            assert_eq!(watcher.addresses().count(), 1);
            for (command, added) in [("add", 1), ("del", 0)] {
                ip(&format!("addr {command} 10.77.0.2/32 dev lo"));
                // Well before the next look of those whom nobody tells.
                let change = tokio::time::timeout(InterfaceWatcher::POLL / 2, watcher.changed())
                    .await
                    .expect("told at once")
                    .unwrap();
                assert_eq!(
                    (change.added.len(), change.removed.len()),
                    (added, 1 - added)
                );
                let changed = change.added.iter().chain(&change.removed).next().unwrap();
                assert_eq!(changed.ip, IpAddr::from([10, 77, 0, 2]));
            }
        });
    }
}
