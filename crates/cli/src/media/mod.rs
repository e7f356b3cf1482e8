//! Media between files and peers: what `whip`, `whep`, `echo` and `join` share.

mod http;
mod play;
mod record;
mod source;

pub(crate) use http::negotiate;
pub(crate) use play::{Playback, play_all, prepare};
pub(crate) use record::Recorder;

use std::time::Duration;

use visavis::{ConnectionState, Event, PeerConnection};

/// How a server lets one in.
#[derive(Debug, clap::Args)]
pub(crate) struct Access {
    /// The token that the server asks for; `visavis keygen token` makes those of `visavis serve`. Without one the server is
    /// asked, as its page does.
    #[arg(
        long,
        env = "VISAVIS_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub(crate) token: Option<String>,
    /// Accept any certificate of the server.
    #[arg(long)]
    pub(crate) insecure: bool,
}

/// How long the two ends may take to find a way.
const CONNECT: Duration = Duration::from_secs(30);

/// Waits until media can flow. What happens besides goes to `event`.
pub(crate) async fn connected(
    connection: &PeerConnection,
    mut event: impl FnMut(Event),
) -> Result<(), String> {
    let waiting = async {
        while connection.connection_state() != ConnectionState::Connected {
            match connection.next_event().await {
                Some(Event::ConnectionState(ConnectionState::Failed)) | None => {
                    return Err("no way was found between the two ends");
                }
                Some(other) => event(other),
            }
        }
        Ok(())
    };
    match tokio::time::timeout(CONNECT, waiting).await {
        Ok(result) => result.map_err(str::to_owned),
        Err(_) => Err(format!(
            "the two ends did not connect within {} s; `visavis doctor` may tell why",
            CONNECT.as_secs()
        )),
    }
}

/// Waits until the connection is lost. Its other events are passed over.
pub(crate) async fn broken(connection: &PeerConnection) {
    while let Some(event) = connection.next_event().await {
        if let Event::ConnectionState(ConnectionState::Failed | ConnectionState::Closed) = event {
            return;
        }
    }
}
