//! The STUN and TURN service within the meeting server: with a secret of its own, on a port of its own for
//! UDP, and on the front listener's port for TCP and TLS.

use std::net::{IpAddr, SocketAddr};

use crate::{
    config::Config,
    turn::{Generated, Settings, TurnError, TurnService},
};

/// Starts the service. `machine`: the machine's addresses, `media`: where media is taken over UDP.
pub(crate) fn start(
    config: &Config,
    machine: &[IpAddr],
    media: &[SocketAddr],
) -> Result<TurnService, TurnError> {
    let for_this_machine = config
        .listen
        .iter()
        .all(|address| address.ip().is_loopback());
    let address = if for_this_machine {
        [127, 0, 0, 1]
    } else {
        [0, 0, 0, 0]
    };
    // Behind a NAT peers see the public address, and the sockets have the machine's.
    let relay = |public: &IpAddr| {
        let own = machine
            .iter()
            .find(|own| own.is_ipv4() == public.is_ipv4())?;
        Some(format!("{own}/{public}"))
    };
    let settings = Settings {
        listen: vec![SocketAddr::from((address, config.turn_port))],
        tls_listen: vec!["none".into()],
        secret: vec![config.turn_secret.clone()],
        name: Some(config.domain.clone())
            .filter(|domain| !domain.is_empty())
            .into_iter()
            .collect(),
        relay_ip: config.public_ip.iter().filter_map(relay).collect(),
        ..Settings::default()
    };
    let mut resolved = settings.resolve(&Generated::draw())?;
    // Clients that reach nothing else relay to this server's own media ports, by the addresses of its candidates.
    let ports = media.iter().map(SocketAddr::port);
    let public = ports.flat_map(|port| config.public_ip.iter().map(move |ip| (*ip, port)));
    let reached = media.iter().filter(|address| !address.ip().is_loopback());
    resolved.core.own_services = reached.copied().collect();
    resolved
        .core
        .own_services
        .extend(public.map(SocketAddr::from));
    TurnService::start(resolved)
}
