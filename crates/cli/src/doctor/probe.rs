//! Measures, all at once and within a bounded time.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use url::Url;
use visavis_net::interface::{InterfaceFilter, addresses, default_route_addresses};
use visavis_net::mdns::{Mdns, MdnsOptions};
use visavis_net::portmap::{MappedProtocol, PortMapOptions, PortMapping};
use visavis_server::rendezvous::IceServer;

use super::facts::{
    Address, Dtls, Facts, Nat, PathMtu, Quality, Server, ServerError, Stun, StunAnswer, Transport,
    Turn, TurnResult,
};
use super::relay::{self, Carrier};
use super::{dtls, http, stun};
use crate::stream;

/// How long one step may take: a server and what it names come one after the other, and all of it ends in time.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What is to be tested against.
#[derive(Debug, Clone, Default)]
pub(crate) struct Targets {
    /// A `visavis serve`.
    pub(crate) server: Option<Url>,
    /// ICE servers beside those that the server names.
    pub(crate) ice_servers: Vec<IceServer>,
    /// Accept any certificate.
    pub(crate) insecure: bool,
    /// Do not ask the router for a port.
    pub(crate) no_port_mapping: bool,
}

/// The part of a server's `/api/config` that is read here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    ice_servers: Vec<IceServer>,
}

/// Measures everything.
pub(crate) async fn probe(targets: &Targets) -> Facts {
    let mut facts = Facts {
        addresses: local_addresses(),
        ..Facts::default()
    };
    let mdns = tokio::spawn(mdns());
    let port_mapping = (!targets.no_port_mapping).then(|| tokio::spawn(port_mapping()));
    let mut ice_servers = targets.ice_servers.clone();
    if let Some(url) = &targets.server {
        let (server, named) = ask_server(url, targets.insecure).await;
        facts.server = Some(server);
        ice_servers.extend(named);
    }
    let (mut stun_urls, mut turn_urls) = (Vec::new(), Vec::new());
    for server in &ice_servers {
        for url in &server.urls {
            match IceUrl::parse(url) {
                Some(parsed) if parsed.turn => {
                    turn_urls.push((url.clone(), parsed, server.clone()))
                }
                Some(parsed) if parsed.transport == Transport::Udp => stun_urls.push(parsed),
                _ => {}
            }
        }
    }
    // A TURN server answers STUN questions too (RFC 8656 section 3.1).
    if stun_urls.is_empty() {
        let udp = turn_urls
            .iter()
            .filter(|(_, url, _)| url.transport == Transport::Udp);
        stun_urls.extend(udp.map(|(_, url, _)| url.clone()));
    }
    let own: Vec<IpAddr> = facts.addresses.iter().map(|address| address.ip).collect();
    let stun = tokio::spawn(stun_facts(stun_urls, own));
    let insecure = targets.insecure;
    let mut turns = JoinSet::new();
    for (index, (text, url, server)) in turn_urls.into_iter().enumerate().take(12) {
        turns.spawn(async move { (index, turn_facts(text, url, server, insecure).await) });
    }
    let mut turn: Vec<_> = turns.join_all().await;
    turn.sort_by_key(|(index, _)| *index);
    for (_, (turn, quality)) in turn {
        facts.turn.push(turn);
        match quality {
            Some(Ok(quality)) => facts.quality = facts.quality.or(quality),
            Some(Err(refused)) => facts.quality_refused = Some(refused),
            None => {}
        }
    }
    if let Ok((stun, of_path)) = stun.await {
        facts.stun = stun;
        (facts.nat, facts.path_mtu, facts.dtls) = (of_path.nat, of_path.mtu, of_path.dtls);
    }
    facts.mdns = mdns.await.ok();
    facts.port_mapping = match port_mapping {
        Some(task) => task.await.ok(),
        None => None,
    };
    facts
}

fn local_addresses() -> Vec<Address> {
    let routes = default_route_addresses();
    let mut filter = InterfaceFilter::default();
    filter.loopback = false;
    let found = addresses(&filter).unwrap_or_default();
    let addresses = found.into_iter().map(|address| Address {
        interface: address.name,
        ip: address.ip,
        default_route: routes.contains(&address.ip),
    });
    addresses.collect()
}

async fn ask_server(url: &Url, insecure: bool) -> (Server, Vec<IceServer>) {
    let mut server = Server {
        url: url.to_string(),
        ..Server::default()
    };
    let mut config = url.clone();
    config.set_path("/api/config");
    let begun = std::time::Instant::now();
    match http::get(&config, insecure).await {
        Ok(answer) => {
            server.milliseconds = u64::try_from(begun.elapsed().as_millis()).ok();
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now = now.unwrap_or_default().as_secs();
            server.clock_ahead = answer.date.map(|date| now as i64 - date as i64);
            match serde_json::from_slice::<Config>(&answer.body) {
                Ok(config) if answer.status == 200 => return (server, config.ice_servers),
                _ => {
                    let text = format!("it answers {} to /api/config", answer.status);
                    server.error = Some(ServerError::Http(text));
                }
            }
        }
        Err(error) => server.error = Some(error),
    }
    (server, Vec::new())
}

/// A URL of RFC 7064 or RFC 7065.
#[derive(Debug, Clone)]
struct IceUrl {
    turn: bool,
    transport: Transport,
    host: String,
    port: u16,
}

impl IceUrl {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once(':')?;
        let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
        let secure = scheme.ends_with('s');
        let transport = match (secure, query) {
            (false, "" | "transport=udp") => Transport::Udp,
            (false, _) => Transport::Tcp,
            (true, "" | "transport=tcp") => Transport::Tls,
            // TURN over DTLS: nothing here speaks it as a client.
            (true, _) => return None,
        };
        let default = if secure { 5349 } else { 3478 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port))
                if !port.contains(']') && (!host.contains(':') || host.ends_with(']')) =>
            {
                (host, port.parse().ok()?)
            }
            _ => (authority, default),
        };
        Some(Self {
            turn: scheme.starts_with("turn"),
            transport,
            host: stream::bare(host).to_owned(),
            port,
        })
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, String> {
        stream::resolve(&self.host, self.port, PATIENCE)
            .await
            .map_err(|error| error.to_string())
    }
}

/// A socket on the address that the system would use towards a server.
pub(super) async fn socket_towards(server: SocketAddr) -> std::io::Result<UdpSocket> {
    let local = visavis_net::interface::route_address(server)?;
    UdpSocket::bind(SocketAddr::new(local, 0)).await
}

/// What is tested with a STUN server that answered.
#[derive(Default)]
struct OfPath {
    nat: Option<Nat>,
    mtu: Option<PathMtu>,
    dtls: Option<Dtls>,
}

async fn stun_facts(urls: Vec<IceUrl>, own: Vec<IpAddr>) -> (Vec<Stun>, OfPath) {
    let mut facts = Vec::new();
    let mut answered: Vec<(SocketAddr, StunAnswer, UdpSocket)> = Vec::new();
    for url in urls.iter().take(6) {
        let servers = match url.resolve().await {
            Ok(servers) => servers,
            Err(error) => {
                facts.push(Stun {
                    server: SocketAddr::from((Ipv4Addr::UNSPECIFIED, url.port)),
                    answer: None,
                    error: Some(error),
                });
                continue;
            }
        };
        for server in servers {
            if facts.iter().any(|known: &Stun| known.server == server) {
                continue;
            }
            let asked = async {
                let socket = socket_towards(server).await?;
                let answer = stun::ask(&socket, server, stun::Question::default()).await?;
                Ok::<_, std::io::Error>((socket, answer))
            };
            let (answer, error) = match asked.await {
                Ok((socket, Some(answer))) => {
                    answered.push((server, answer, socket));
                    (Some(answer), None)
                }
                Ok((_, None)) => (None, None),
                Err(error) => (None, Some(error.to_string())),
            };
            facts.push(Stun {
                server,
                answer,
                error,
            });
        }
    }
    let v4 = answered.iter().position(|(server, ..)| server.is_ipv4());
    let Some(index) = v4 else {
        return (facts, OfPath::default());
    };
    let (server, answer, socket) = &answered[index];
    let second = answered.iter().map(|(server, ..)| *server);
    let second = second.filter(|second| second.is_ipv4() && second != server);
    let second = second.max_by_key(|second| second.ip() != server.ip());
    let (nat, mtu, dtls) = tokio::join!(
        stun::nat(socket, *server, answer, second, &own),
        path_mtu(*server),
        dtls::versions(*server)
    );
    let of_path = OfPath {
        nat: nat.ok(),
        mtu: mtu.ok(),
        dtls: dtls.ok(),
    };
    (facts, of_path)
}

/// With a socket whose datagrams are not fragmented.
async fn path_mtu(server: SocketAddr) -> std::io::Result<PathMtu> {
    let socket = socket_towards(server).await?.into_std()?;
    let socket = visavis_net::udp::without_fragmentation(socket)?;
    stun::path_mtu(&UdpSocket::from_std(socket)?, server).await
}

async fn turn_facts(
    text: String,
    url: IceUrl,
    server: IceServer,
    insecure: bool,
) -> (Turn, Option<Result<Option<Quality>, String>>) {
    let transport = url.transport;
    let fact = |result| Turn {
        url: text.clone(),
        transport,
        result,
    };
    let opened = async {
        if transport == Transport::Udp {
            let unreachable = TurnResult::Unreachable;
            let addresses = url.resolve().await.map_err(unreachable)?;
            let address = addresses.iter().find(|address| address.is_ipv4());
            let address = address.or(addresses.first());
            let Some(address) = address.copied() else {
                return Err(TurnResult::Unreachable("its name has no address".into()));
            };
            let socket = async {
                let socket = socket_towards(address).await?;
                socket.connect(address).await?;
                Ok::<_, std::io::Error>(socket)
            };
            let socket = socket
                .await
                .map_err(|error| unreachable(error.to_string()))?;
            return Ok((Carrier::Udp(socket), address));
        }
        let tls =
            (transport == Transport::Tls).then(|| Arc::new(crate::tls::client_config(insecure)));
        match stream::connect(&url.host, url.port, tls, PATIENCE).await {
            Ok((stream, local, remote)) => Ok((Carrier::Stream(stream, local), remote)),
            Err(error) => Err(relay::of_stream_error(&error)),
        }
    };
    let (carrier, address) = match opened.await {
        Ok(opened) => opened,
        Err(result) => return (fact(result), None),
    };
    let secure = transport == Transport::Tls;
    let asked = relay::allocate(
        carrier,
        address,
        secure,
        &server.username,
        &server.credential,
    );
    match asked.await {
        Ok(mut allocation) => {
            // Over one transport is enough, and UDP is the one that calls use.
            let quality = if transport == Transport::Udp {
                allocation.quality().await.ok()
            } else {
                None
            };
            let relayed = allocation.relayed;
            allocation.close().await;
            (fact(TurnResult::Relayed(relayed)), quality)
        }
        Err(result) => (fact(result), None),
    }
}

/// Publishes a name with one service and resolves it with another.
async fn mdns() -> Result<(), String> {
    let mut options = MdnsOptions::default();
    options.timeout = Duration::from_secs(3);
    let service = Mdns::new(options.clone()).map_err(|error| error.to_string())?;
    let asker = Mdns::new(options).map_err(|error| error.to_string())?;
    let mut mark = [0; 8];
    getrandom::fill(&mut mark).map_err(|error| error.to_string())?;
    let mark = u64::from_be_bytes(mark);
    let ip = default_route_addresses().into_iter().find(IpAddr::is_ipv4);
    let ip = ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let name = format!("visavis-doctor-{mark:016x}.local");
    let _published = service.publish(&name, ip).ok_or("the name was refused")?;
    match asker.resolve(&name).await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

async fn port_mapping() -> Result<SocketAddr, String> {
    let local = default_route_addresses().into_iter().find(IpAddr::is_ipv4);
    let local = local.ok_or("there is no IPv4 route")?;
    let socket = UdpSocket::bind(SocketAddr::new(local, 0))
        .await
        .map_err(|error| error.to_string())?;
    let local = socket.local_addr().map_err(|error| error.to_string())?;
    let mut options = PortMapOptions::default();
    options.timeout = Duration::from_secs(2);
    let asked = PortMapping::request(MappedProtocol::Udp, local, &options);
    match tokio::time::timeout(Duration::from_secs(7), asked).await {
        Ok(Ok(mapping)) => {
            let external = mapping.external();
            mapping.release().await;
            Ok(external)
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the router does not answer".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_ice_servers_are_read() {
        let read = |text| {
            let url = IceUrl::parse(text)?;
            Some((url.turn, url.transport, url.host, url.port))
        };
        let udp = |turn, port| Some((turn, Transport::Udp, "h.example".to_owned(), port));
        assert_eq!(read("stun:h.example"), udp(false, 3478));
        assert_eq!(read("turn:h.example:443?transport=udp"), udp(true, 443));
        let tcp = Some((true, Transport::Tcp, "2001:db8::1".to_owned(), 3478));
        assert_eq!(read("turn:[2001:db8::1]?transport=tcp"), tcp);
        let tls = Some((true, Transport::Tls, "h.example".to_owned(), 5349));
        assert_eq!(read("turns:h.example"), tls);
        assert_eq!(read("turns:h.example?transport=udp"), None);
        assert_eq!(read("h.example"), None);
    }
}
