//! Asking the home router for a port: PCP (RFC 6887), NAT-PMP (RFC 6886), UPnP-IGD.
//!
//! Behind the feature `port-mapping`, because a router that opens ports on request is a choice that
//! belongs to the user. The protocols are `crab_nat`'s and `igd-next`'s.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use crab_nat::{GatewayAddress, InternetProtocol, PortMappingType, TimeoutConfig};
use igd_next::PortMappingProtocol;
use igd_next::aio::Gateway;
use igd_next::aio::tokio::Tokio;

/// How a port is asked for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PortMapOptions {
    /// The router, for PCP and NAT-PMP; the default route's if `None`.
    pub gateway: Option<Ipv4Addr>,
    /// How long the router shall keep the mapping. Default one hour; renew before.
    pub lifetime: Duration,
    /// How long each protocol is tried. Default 2 s.
    pub timeout: Duration,
    /// Try UPnP-IGD when PCP and NAT-PMP do not answer. Default yes.
    pub upnp: bool,
    /// Where UPnP routers are searched; the group 239.255.255.250:1900 if `None`.
    pub upnp_search: Option<SocketAddr>,
}

impl Default for PortMapOptions {
    fn default() -> Self {
        Self {
            gateway: None,
            lifetime: Duration::from_secs(3600),
            timeout: Duration::from_secs(2),
            upnp: true,
            upnp_search: None,
        }
    }
}

/// What carries the mapped port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MappedProtocol {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

/// Why there is no mapping.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortMapError {
    /// Neither the default route nor the options name a router.
    #[error("no router is known: name the gateway's address")]
    NoGateway,
    /// The local address cannot be mapped.
    #[error("{0} cannot be mapped: an IPv4 address and a port are needed")]
    Local(SocketAddr),
    /// No protocol worked.
    #[error("the router gives no port: {nat_pmp}; {upnp}")]
    Refused {
        /// What PCP and NAT-PMP said.
        nat_pmp: String,
        /// What UPnP said.
        upnp: String,
    },
}

/// A port on the router that leads to a local one. [`renew`](Self::renew) it while it is wanted and
/// [`release`](Self::release) it when done; otherwise the router keeps it until its lifetime ends.
pub struct PortMapping {
    external: SocketAddr,
    local: SocketAddr,
    protocol: MappedProtocol,
    /// Seconds, as asked for.
    lifetime: u32,
    by: By,
}

enum By {
    Pcp(crab_nat::PortMapping),
    Upnp(Gateway<Tokio>),
}

impl PortMapping {
    /// Asks the router for a port that leads to `local`.
    ///
    /// # Errors
    /// [`PortMapError`], which names what each protocol said.
    pub async fn request(
        protocol: MappedProtocol,
        local: SocketAddr,
        options: &PortMapOptions,
    ) -> Result<Self, PortMapError> {
        let (IpAddr::V4(_), Some(port)) = (local.ip(), NonZeroU16::new(local.port())) else {
            return Err(PortMapError::Local(local));
        };
        let gateway = options.gateway.or_else(default_gateway);
        let nat_pmp = match gateway {
            Some(gateway) => match ask_pcp(protocol, local.ip(), port, gateway, options).await {
                Ok(mapping) => return Ok(mapping),
                Err(error) => error,
            },
            None if options.upnp => "no gateway for PCP and NAT-PMP".to_owned(),
            None => return Err(PortMapError::NoGateway),
        };
        let upnp = if options.upnp {
            match ask_upnp(protocol, local, options).await {
                Ok(mapping) => return Ok(mapping),
                Err(error) => error,
            }
        } else {
            "UPnP is switched off".to_owned()
        };
        Err(PortMapError::Refused { nat_pmp, upnp })
    }

    /// The address that the world reaches the local port by.
    pub fn external(&self) -> SocketAddr {
        self.external
    }

    /// Asks the router to keep the port for another lifetime. Half of one is a good time between two
    /// calls (RFC 6887 section 11.2.1).
    ///
    /// # Errors
    /// [`PortMapError::Refused`]: the port may be gone.
    pub async fn renew(&mut self) -> Result<(), PortMapError> {
        let renewed = match &mut self.by {
            By::Pcp(mapping) => match mapping.renew().await {
                Ok(()) => {
                    self.external.set_port(mapping.external_port().get());
                    Ok(())
                }
                Err(error) => Err((error.to_string(), String::new())),
            },
            By::Upnp(gateway) => {
                let protocol = upnp(self.protocol);
                let port = self.external.port();
                let added = gateway.add_port(protocol, port, self.local, self.lifetime, NAME);
                let added = added.await;
                added.map_err(|error| (String::new(), error.to_string()))
            }
        };
        renewed.map_err(|(nat_pmp, upnp)| PortMapError::Refused { nat_pmp, upnp })
    }

    /// Gives the port back.
    pub async fn release(self) {
        let refused = match self.by {
            By::Pcp(mapping) => mapping
                .try_drop()
                .await
                .err()
                .map(|(error, _)| error.to_string()),
            By::Upnp(gateway) => {
                let protocol = upnp(self.protocol);
                let removed = gateway.remove_port(protocol, self.external.port()).await;
                removed.err().map(|error| error.to_string())
            }
        };
        if let Some(error) = refused {
            tracing::debug!(%error, external = %self.external, "port mapping not given back");
        }
    }
}

impl fmt::Debug for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.by {
            By::Pcp(_) => "PCP or NAT-PMP",
            By::Upnp(_) => "UPnP",
        };
        f.debug_struct("PortMapping")
            .field("external", &self.external)
            .field("by", &by)
            .finish()
    }
}

async fn ask_pcp(
    protocol: MappedProtocol,
    local: IpAddr,
    port: NonZeroU16,
    gateway: Ipv4Addr,
    options: &PortMapOptions,
) -> Result<PortMapping, String> {
    let timeouts = TimeoutConfig {
        initial_timeout: options.timeout / 4,
        max_retries: 1,
        max_retry_timeout: Some(options.timeout / 2),
    };
    let wanted = crab_nat::PortMappingOptions {
        external_port: Some(port),
        lifetime_seconds: u32::try_from(options.lifetime.as_secs()).ok(),
        timeout_config: Some(timeouts),
    };
    let kind = match protocol {
        MappedProtocol::Udp => InternetProtocol::Udp,
        MappedProtocol::Tcp => InternetProtocol::Tcp,
    };
    let gateway = GatewayAddress::IpV4(gateway);
    let mapping = crab_nat::PortMapping::new(gateway, local, kind, port, wanted)
        .await
        .map_err(|error| format!("PCP and NAT-PMP: {error}"))?;
    let ip = match mapping.mapping_type() {
        PortMappingType::Pcp { external_ip, .. } => external_ip,
        PortMappingType::NatPmp => crab_nat::natpmp::external_address(gateway, Some(timeouts))
            .await
            .map_err(|error| format!("NAT-PMP: {error}"))?
            .into(),
    };
    let external = SocketAddr::new(ip, mapping.external_port().get());
    Ok(PortMapping {
        external,
        local: SocketAddr::new(local, port.get()),
        protocol,
        lifetime: seconds(options.lifetime),
        by: By::Pcp(mapping),
    })
}

async fn ask_upnp(
    protocol: MappedProtocol,
    local: SocketAddr,
    options: &PortMapOptions,
) -> Result<PortMapping, String> {
    let mut search = igd_next::SearchOptions::default();
    search.bind_addr = SocketAddr::new(local.ip(), 0);
    if let Some(address) = options.upnp_search {
        search.broadcast_address = address;
    }
    search.timeout = Some(options.timeout);
    search.single_search_timeout = Some(options.timeout);
    let words = |error: &dyn fmt::Display| format!("UPnP: {error}");
    let gateway = igd_next::aio::tokio::search_gateway(search)
        .await
        .map_err(|error| words(&error))?;
    let lifetime = seconds(options.lifetime);
    let external = gateway
        .get_any_address(upnp(protocol), local, lifetime, NAME)
        .await
        .map_err(|error| words(&error))?;
    Ok(PortMapping {
        external,
        local,
        protocol,
        lifetime,
        by: By::Upnp(gateway),
    })
}

/// What routers show to their owners.
const NAME: &str = "visavis";

fn seconds(lifetime: Duration) -> u32 {
    u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX)
}

fn upnp(protocol: MappedProtocol) -> PortMappingProtocol {
    match protocol {
        MappedProtocol::Udp => PortMappingProtocol::UDP,
        MappedProtocol::Tcp => PortMappingProtocol::TCP,
    }
}

/// The default route's next hop, where the system tells it.
fn default_gateway() -> Option<Ipv4Addr> {
    gateway_of(&std::fs::read_to_string("/proc/net/route").ok()?)
}

/// The next hop of the default route in the format of Linux's `/proc/net/route`.
fn gateway_of(routes: &str) -> Option<Ipv4Addr> {
    routes.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (destination, gateway) = (fields.next()?, fields.next()?);
        // The file holds the address as the host's own number.
        let gateway = u32::from_str_radix(gateway, 16).ok()?.to_ne_bytes();
        (destination == "00000000" && gateway != [0; 4]).then(|| Ipv4Addr::from(gateway))
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UdpSocket};

    use super::{MappedProtocol, PortMapError, PortMapOptions, PortMapping, gateway_of};

    /// A router that knows NAT-PMP (RFC 6886 section 3) and gives port 4242 of 203.0.113.7.
    async fn nat_pmp_router(socket: UdpSocket) {
        let mut buffer = [0; 64];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let answer: Vec<u8> = match buffer[..length] {
                // PCP: unsupported version.
                [2, ..] => vec![0, 128, 0, 1, 0, 0, 0, 9],
                [0, 0] => vec![0, 128, 0, 0, 0, 0, 0, 9, 203, 0, 113, 7],
                [0, op, _, _, a, b, ..] => {
                    let mut answer = vec![0, 128 + op, 0, 0, 0, 0, 0, 9, a, b];
                    answer.extend_from_slice(&4242u16.to_be_bytes());
                    answer.extend_from_slice(&buffer[8..12]);
                    answer
                }
                _ => continue,
            };
            socket.send_to(&answer, from).await.unwrap();
        }
    }

    /// A router that knows PCP (RFC 6887) and gives port 4343 of 203.0.113.8.
    async fn pcp_router(socket: UdpSocket) {
        let mut buffer = [0; 1100];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            // Section 11.1: a MAP request has 60 bytes; sections 7.2 and 11.1: so has its answer.
            assert!(
                length >= 60 && buffer[..2] == [2, 1],
                "{:?}",
                &buffer[..length]
            );
            let mut answer = vec![0; 60];
            answer[..4].copy_from_slice(&[2, 0x81, 0, 0]);
            answer[4..8].copy_from_slice(&buffer[4..8]);
            answer[11] = 9;
            // Nonce, protocol and internal port as asked for.
            answer[24..42].copy_from_slice(&buffer[24..42]);
            answer[42..44].copy_from_slice(&4343u16.to_be_bytes());
            answer[44..].copy_from_slice(&Ipv4Addr::new(203, 0, 113, 8).to_ipv6_mapped().octets());
            socket.send_to(&answer, from).await.unwrap();
        }
    }

    /// A router that knows UPnP-IGD version 2 and gives port 4444 of 203.0.113.9: its search answers on
    /// `search`, its pages and its actions are at `pages`.
    async fn upnp_router(search: UdpSocket, pages: TcpListener) {
        let at = pages.local_addr().unwrap();
        let answers = async {
            let mut buffer = [0; 1024];
            while let Ok((_, from)) = search.recv_from(&mut buffer).await {
                let answer = format!("HTTP/1.1 200 OK\r\nLOCATION: http://{at}/d.xml\r\n\r\n");
                search.send_to(answer.as_bytes(), from).await.unwrap();
            }
        };
        let serve = async {
            while let Ok((mut stream, _)) = pages.accept().await {
                let mut request = String::new();
                let mut buffer = [0; 4096];
                // A request's body is XML; one without a body ends with an empty line.
                while !request.ends_with("</s:Envelope>") && !request.starts_with("GET") {
                    let length = stream.read(&mut buffer).await.unwrap();
                    request += std::str::from_utf8(&buffer[..length]).unwrap();
                }
                let action = |name: &str, result: &str| {
                    format!(
                        "<s:Envelope xmlns:s=\"s\" xmlns:u=\"u\"><s:Body><u:{name}Response>{result}</u:{name}Response></s:Body></s:Envelope>"
                    )
                };
                let body = if request.starts_with("GET /d.xml") {
                    "<root><device><serviceList><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><SCPDURL>/s.xml</SCPDURL><controlURL>/c</controlURL></service></serviceList></device></root>".to_owned()
                } else if request.starts_with("GET /s.xml") {
                    let argument = |name| {
                        format!("<argument><name>{name}</name><direction>in</direction></argument>")
                    };
                    let arguments = ["NewProtocol", "NewInternalPort", "NewInternalClient"]
                        .map(argument)
                        .concat();
                    let named = |name| {
                        format!(
                            "<action><name>{name}</name><argumentList>{arguments}</argumentList></action>"
                        )
                    };
                    format!(
                        "<scpd><actionList>{}{}</actionList></scpd>",
                        named("AddAnyPortMapping"),
                        named("DeletePortMapping")
                    )
                } else if request.contains("GetExternalIPAddress") {
                    action(
                        "GetExternalIPAddress",
                        "<NewExternalIPAddress>203.0.113.9</NewExternalIPAddress>",
                    )
                } else if request.contains("AddAnyPortMapping") {
                    assert!(request.contains("<NewInternalPort>5000<"), "{request}");
                    action(
                        "AddAnyPortMapping",
                        "<NewReservedPort>4444</NewReservedPort>",
                    )
                } else {
                    action("DeletePortMapping", "")
                };
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        tokio::join!(answers, serve);
    }

    #[tokio::test]
    async fn pcp_gives_a_port() {
        let gateway = Ipv4Addr::new(127, 0, 0, 8);
        let Ok(socket) = UdpSocket::bind((gateway, 5351)).await else {
            eprintln!("skipped: {gateway}:5351 is taken");
            return;
        };
        let router = tokio::spawn(pcp_router(socket));
        let options = PortMapOptions {
            gateway: Some(gateway),
            ..PortMapOptions::default()
        };
        let local = SocketAddr::from(([127, 0, 0, 1], 5000));
        let mapping = PortMapping::request(MappedProtocol::Udp, local, &options)
            .await
            .unwrap();
        let external = SocketAddr::from(([203, 0, 113, 8], 4343));
        assert_eq!(mapping.external(), external);
        router.abort();
    }

    /// The library trusts no router on a loopback address.
    #[cfg(target_os = "linux")]
    #[test]
    fn upnp_gives_a_port_where_nothing_else_is_spoken() {
        crate::namespace::alone(async || {
            let any = (Ipv4Addr::new(10, 77, 0, 1), 0);
            let search = UdpSocket::bind(any).await.unwrap();
            let options = PortMapOptions {
                gateway: Some(any.0),
                upnp_search: Some(search.local_addr().unwrap()),
                ..PortMapOptions::default()
            };
            let pages = TcpListener::bind(any).await.unwrap();
            let router = tokio::spawn(upnp_router(search, pages));
            let local = SocketAddr::from((any.0, 5000));
            let mapping = PortMapping::request(MappedProtocol::Tcp, local, &options)
                .await
                .unwrap();
            let external = SocketAddr::from(([203, 0, 113, 9], 4444));
            assert_eq!(mapping.external(), external);
            mapping.release().await;
            router.abort();
        });
    }

    #[tokio::test]
    async fn nat_pmp_gives_a_port_where_pcp_is_not_spoken() {
        let gateway = Ipv4Addr::new(127, 0, 0, 9);
        let Ok(socket) = UdpSocket::bind((gateway, 5351)).await else {
            eprintln!("skipped: {gateway}:5351 is taken");
            return;
        };
        let router = tokio::spawn(nat_pmp_router(socket));
        let options = PortMapOptions {
            gateway: Some(gateway),
            ..PortMapOptions::default()
        };
        let local = SocketAddr::from(([127, 0, 0, 1], 5000));
        let mut mapping = PortMapping::request(MappedProtocol::Udp, local, &options)
            .await
            .unwrap();
        assert_eq!(
            mapping.external(),
            SocketAddr::from(([203, 0, 113, 7], 4242))
        );
        mapping.renew().await.unwrap();
        mapping.release().await;
        router.abort();
    }

    #[tokio::test]
    async fn a_silent_router_is_named_in_the_error() {
        let options = PortMapOptions {
            gateway: Some(Ipv4Addr::new(127, 0, 0, 10)),
            timeout: Duration::from_millis(100),
            upnp: false,
            ..PortMapOptions::default()
        };
        let local = SocketAddr::from(([127, 0, 0, 1], 5000));
        let error = PortMapping::request(MappedProtocol::Udp, local, &options)
            .await
            .unwrap_err();
        assert!(matches!(error, PortMapError::Refused { .. }), "{error}");
        let error = PortMapping::request(MappedProtocol::Udp, "[::1]:5".parse().unwrap(), &options);
        assert!(matches!(error.await.unwrap_err(), PortMapError::Local(_)));
    }

    #[test]
    fn the_default_gateway_is_read_from_the_route_table() {
        let table = "Iface\tDestination\tGateway \tFlags\n\
                     eth0\t0002A8C0\t00000000\t0001\n\
                     eth0\t00000000\t0102A8C0\t0003\n";
        assert_eq!(gateway_of(table), Some(Ipv4Addr::new(192, 168, 2, 1)));
        assert_eq!(gateway_of("nonsense"), None);
    }
}
