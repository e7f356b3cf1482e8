//! Which versions of DTLS pass on the way to a server, which has to speak it at its STUN port as `visavis turn` does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::net::UdpSocket;
use visavis_crypto::Group;
use visavis_crypto::certificate::{Certificate, SelfSigned};
use visavis_datagram::{Random, TransmitBuf};
use visavis_dtls::{Config, Connection, PeerVerification, Version};

use super::facts::Dtls;

/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// Shakes hands by each version at once.
pub(super) async fn versions(server: SocketAddr) -> std::io::Result<Dtls> {
    let (dtls13, dtls12) = tokio::join!(
        passes(server, Version::Dtls13),
        passes(server, Version::Dtls12)
    );
    Ok(Dtls {
        server,
        dtls13: dtls13?,
        dtls12: dtls12?,
    })
}

/// Whether a handshake by one version comes to its end.
async fn passes(server: SocketAddr, version: Version) -> std::io::Result<bool> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(std::io::Error::other)?;
    let mut random = Random::from_seed(seed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let options = SelfSigned::at(now.map_or(0, |now| now.as_secs() as i64));
    let certificate =
        Certificate::self_signed(&options, &mut random).map_err(std::io::Error::other)?;
    let mut config = Config::new(certificate);
    (config.min_version, config.max_version) = (version, version);
    // A hello in one datagram: the version is asked about, not what becomes of long messages, which the MTU tells.
    config.groups = vec![Group::X25519];
    config.key_shares = 1;
    // Who answers is not the question, only whether.
    config.verification = PeerVerification::Caller;
    let mut connection = Connection::client(Arc::new(config), random, Instant::now())
        .map_err(std::io::Error::other)?;
    let socket = super::probe::socket_towards(server).await?;
    socket.connect(server).await?;
    let handshake = drive(&socket, &mut connection);
    Ok(tokio::time::timeout(PATIENCE, handshake)
        .await
        .is_ok_and(|connected| connected))
}

/// Drives a connection to the end of its handshake; false if that fails.
async fn drive(socket: &UdpSocket, connection: &mut Connection) -> bool {
    let mut out = TransmitBuf::new(1, 2048);
    let mut datagram = [0; 2048];
    loop {
        while let Some(segments) = connection.poll_transmit(Instant::now(), &mut out) {
            for segment in out.as_slice().chunks(segments.segment_size.max(1)) {
                // An ICMP error of an earlier datagram is none of the handshake's.
                let _ = socket.send(segment).await;
            }
            out.clear();
        }
        while connection.poll_event().is_some() {}
        if connection.is_connected() {
            connection.close(Instant::now());
            if connection.poll_transmit(Instant::now(), &mut out).is_some() {
                let _ = socket.send(out.as_slice()).await;
            }
            return true;
        }
        if connection.is_closed() {
            return false;
        }
        let wait = connection
            .poll_timeout()
            .map_or(PATIENCE, |at| at.saturating_duration_since(Instant::now()));
        match tokio::time::timeout(wait, socket.recv(&mut datagram)).await {
            Ok(Ok(len)) => drop(connection.handle_datagram(Instant::now(), &mut datagram[..len])),
            Ok(Err(_)) => {}
            Err(_) => connection.handle_timeout(Instant::now()),
        }
    }
}
