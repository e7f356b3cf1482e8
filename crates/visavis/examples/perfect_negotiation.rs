//! Perfect negotiation (webrtc-pc section 10.7): both ends change what they like when they like, and offers
//! that cross are sorted out, because one end is polite.
#![allow(clippy::print_stdout, reason = "the program tells what it did")]

#[path = "common/mod.rs"]
mod common;

use tokio::sync::mpsc;
use visavis::{Configuration, Description, Event, IceCandidate, Kind, PeerConnection, SdpType};
use visavis::{RtpTransceiver, SignalingState};

/// What the two ends send each other by signalling.
#[derive(Debug)]
pub(crate) enum Signal {
    Description(Description),
    Candidate(IceCandidate),
}

/// Drives one end until its track has arrived from the other.
async fn negotiate(
    connection: PeerConnection,
    polite: bool,
    to: mpsc::UnboundedSender<Signal>,
    mut from: mpsc::UnboundedReceiver<Signal>,
) -> common::Result<RtpTransceiver> {
    let mut ignored_offer = false;
    let (mut track, mut is_there) = (None, true);
    loop {
        tokio::select! {
            event = connection.next_event() => match event.ok_or("closed")? {
                Event::NegotiationNeeded => {
                    connection.set_local_description(None).await?;
                    let description = connection.local_description().ok_or("no description")?;
                    let _ = to.send(Signal::Description(description));
                }
                Event::IceCandidate(Some(candidate)) => {
                    let _ = to.send(Signal::Candidate(candidate));
                }
                Event::Track { transceiver, .. } => track = Some(transceiver),
                _ => {}
            },
            signal = from.recv(), if is_there => match signal {
                // The other end has all it needs.
                None => is_there = false,
                Some(Signal::Description(description)) => {
                    let is_offer = description.kind == SdpType::Offer;
                    let stable = connection.signaling_state() == SignalingState::Stable;
                    ignored_offer = is_offer && !polite && !stable;
                    if ignored_offer {
                        continue;
                    }
                    // The polite end's own offer is taken back by this.
                    connection.set_remote_description(&description)?;
                    if is_offer {
                        connection.set_local_description(None).await?;
                        let answer = connection.local_description().ok_or("no description")?;
                        let _ = to.send(Signal::Description(answer));
                    }
                }
                Some(Signal::Candidate(candidate)) => match connection.add_ice_candidate(&candidate) {
                    Err(error) if !ignored_offer => return Err(error.into()),
                    _ => {}
                },
            },
        }
        let connected = connection.connection_state() == visavis::ConnectionState::Connected;
        if connected && let Some(track) = track.take() {
            return Ok(track);
        }
    }
}

/// Both ends add a track at the same moment.
pub(crate) async fn run() -> common::Result<[Option<String>; 2]> {
    let ends = [(); 2].map(|()| common::connection(Configuration::default()));
    let [polite, impolite] = ends;
    let (polite, impolite) = (polite?, impolite?);
    polite.add_track(Kind::Audio, "from-the-polite", &[])?;
    impolite.add_track(Kind::Audio, "from-the-impolite", &[])?;
    let (to_impolite, at_impolite) = mpsc::unbounded_channel();
    let (to_polite, at_polite) = mpsc::unbounded_channel();
    let one = tokio::spawn(negotiate(polite.clone(), true, to_impolite, at_polite));
    let other = tokio::spawn(negotiate(impolite.clone(), false, to_polite, at_impolite));
    let (one, other) = (one.await??, other.await??);
    Ok([one.mid(), other.mid()])
}

#[tokio::main]
async fn main() -> common::Result<()> {
    println!("tracks arrived in the sections {:?}", run().await?);
    Ok(())
}
