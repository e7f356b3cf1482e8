//! Pairing without a server: the host is its own rendezvous, found by multicast DNS.
//!
//! The host answers for `visavis-SLOT.local` and listens on one of a few ports that both sides know.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use visavis_net::interface::{InterfaceFilter, addresses};
use visavis_net::mdns::{Mdns, MdnsOptions, PublishedName};
use visavis_server::rendezvous::{Limits, Rendezvous};

use super::client::{RendezvousError, Server};

/// The ports that a host listens on, the first that is free.
const PORTS: std::ops::RangeInclusive<u16> = 47_823..=47_830;
/// How long a guest waits for the host's answer on the LAN.
const RESOLVE: Duration = Duration::from_secs(2);

/// A rendezvous on this machine.
pub(crate) struct LanRendezvous {
    /// Where this process reaches it.
    pub(crate) server: Server,
    port: u16,
    /// Kept for as long as the name is to be answered.
    names: Vec<PublishedName>,
    mdns: Option<Mdns>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for LanRendezvous {
    fn drop(&mut self) {
        self.names.clear();
        self.task.abort();
    }
}

impl LanRendezvous {
    /// Starts it.
    pub(crate) async fn start() -> std::io::Result<Self> {
        let mut refused = std::io::Error::from(std::io::ErrorKind::AddrInUse);
        let mut listener = None;
        for port in PORTS {
            match TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await {
                Ok(bound) => {
                    listener = Some((bound, port));
                    break;
                }
                Err(error) => refused = error,
            }
        }
        let (listener, port) = listener.ok_or(refused)?;
        let rendezvous = Rendezvous::new(Limits::default(), Arc::new(|_| Vec::new()));
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, rendezvous.routes()).await;
        });
        let server = Server::parse(&format!("http://127.0.0.1:{port}"), false)
            .map_err(std::io::Error::other)?;
        Ok(Self {
            server,
            port,
            names: Vec::new(),
            mdns: Mdns::new(MdnsOptions::default()).ok(),
            task,
        })
    }

    /// Answers for the slot's name on each interface. False if there is no multicast here.
    pub(crate) fn publish(&mut self, slot: &str) -> bool {
        let Some(mdns) = &self.mdns else {
            return false;
        };
        let ips = addresses(&InterfaceFilter::default()).unwrap_or_default();
        let ip = ips.iter().map(|a| a.ip).find(IpAddr::is_ipv4);
        self.names = ip
            .and_then(|ip| mdns.publish(&name(slot, self.port), ip))
            .into_iter()
            .collect();
        !self.names.is_empty()
    }
}

fn name(slot: &str, port: u16) -> String {
    format!("visavis-{slot}-{}.local", port - PORTS.start())
}

/// Looks for the host of a slot on this network.
pub(crate) async fn find(slot: &str) -> Result<Server, RendezvousError> {
    let mut options = MdnsOptions::default();
    options.timeout = RESOLVE;
    let mdns = Mdns::new(options).map_err(|_| RendezvousError::NoLan)?;
    let mut tries = tokio::task::JoinSet::new();
    for port in PORTS {
        let (mdns, name) = (mdns.clone(), name(slot, port));
        tries.spawn(async move {
            mdns.resolve(&name)
                .await
                .ok()
                .map(|ip| SocketAddr::new(ip, port))
        });
    }
    while let Some(found) = tries.join_next().await {
        if let Ok(Some(address)) = found {
            return Server::parse(&format!("http://{address}"), false);
        }
    }
    Err(RendezvousError::NotOnLan)
}
