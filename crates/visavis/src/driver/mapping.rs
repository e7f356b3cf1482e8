//! Ports that the router was asked for: one task for each, which renews it and gives it back.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use visavis_net::portmap::{MappedProtocol, PortMapOptions, PortMapping};

use super::Note;

/// After a refusal, how long until the router is asked again: it may have been restarted.
const AGAIN: Duration = Duration::from_secs(300);

/// A port on the router, for as long as this lives.
#[derive(Debug)]
pub(super) struct Mapping {
    /// Dropped, it ends the task.
    _wanted: oneshot::Sender<()>,
}

impl Mapping {
    /// Asks for a port that leads to `local`, and tells the driver when there is one.
    pub(super) fn ask(
        local: SocketAddr,
        options: PortMapOptions,
        notes: mpsc::Sender<Note>,
    ) -> Self {
        let (wanted, gone) = oneshot::channel();
        tokio::spawn(keep(local, options, notes, gone));
        Self { _wanted: wanted }
    }
}

async fn keep(
    local: SocketAddr,
    options: PortMapOptions,
    notes: mpsc::Sender<Note>,
    mut gone: oneshot::Receiver<()>,
) {
    loop {
        let asked = tokio::select! {
            _ = &mut gone => return,
            asked = PortMapping::request(MappedProtocol::Udp, local, &options) => asked,
        };
        match asked {
            Ok(mut mapping) => loop {
                let external = mapping.external();
                if notes.send(Note::Mapped { local, external }).await.is_err() {
                    mapping.release().await;
                    return;
                }
                tokio::select! {
                    _ = &mut gone => {
                        mapping.release().await;
                        return;
                    }
                    () = tokio::time::sleep(options.lifetime / 2) => {}
                }
                if let Err(error) = mapping.renew().await {
                    tracing::debug!(%error, %local, "port mapping not renewed");
                    break;
                }
            },
            Err(error) => {
                tracing::debug!(%error, %local, "no port mapping");
                tokio::select! {
                    _ = &mut gone => return,
                    () = tokio::time::sleep(AGAIN) => {}
                }
            }
        }
    }
}
