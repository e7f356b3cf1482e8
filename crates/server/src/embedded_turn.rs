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
    let listens_v4 = config
        .listen
        .iter()
        .all(|address| address.ip().is_loopback() && address.is_ipv4());
    let any = if listens_v4 {
        IpAddr::from([127, 0, 0, 1])
    } else {
        IpAddr::from([0, 0, 0, 0])
    };
    let mut settings = Settings::default();
    settings.listen = vec![SocketAddr::new(any, config.turn_port)];
    settings.tls_listen = vec!["none".into()];
    settings.secret = vec![config.turn_secret.clone()];
    settings.name = Some(config.domain.clone())
        .filter(|domain| !domain.is_empty())
        .into_iter()
        .collect();
    // Behind a NAT peers see the public address, and the sockets have the machine's.
    settings.relay_ip = config
        .public_ip
        .iter()
        .filter_map(|public| {
            let own = machine
                .iter()
                .find(|own| own.is_ipv4() == public.is_ipv4())?;
            Some(format!("{own}/{public}"))
        })
        .collect();
    // Clients that reach nothing else relay to this server's own media ports, at whatever address they know.
    settings.allow_peer = media
        .iter()
        .map(SocketAddr::ip)
        .filter(|ip| !ip.is_loopback())
        .map(|ip| ip.to_string())
        .collect();
    settings.allow_peer.dedup();
    TurnService::start(settings.resolve(&Generated::new()?)?)
}
