//! The media plane of this server: its handle, and the task that takes its reports to the rooms they
//! are about.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use visavis_sfu::{CodecTable, Event, Events, RoomId, Sfu};

use crate::{
    config::{Config, everywhere},
    engine::{Command, of_participant_id},
    rooms::{RoomHandle, Rooms},
    server::Shared,
};

/// The media plane.
#[derive(Debug, Clone)]
pub(crate) struct MediaPlane {
    sfu: Sfu,
}

impl MediaPlane {
    /// Starts it. `tcp`: where the front listener takes media over TCP.
    pub(crate) fn start(config: &Config, tcp: Vec<SocketAddr>) -> io::Result<(Self, Events)> {
        let udp = Self::addresses(config, &tcp);
        let media = visavis_sfu::Config {
            // Who can reach this server only from this machine finds a path there.
            loopback: is_for_this_machine(&tcp),
            udp,
            tcp,
            advertised: config.public_ip.clone(),
            workers: config.workers,
            balance: config.balance,
            codecs: codecs(),
            ..visavis_sfu::Config::default()
        };
        let (sfu, events) = Sfu::start(media)?;
        Ok((Self { sfu }, events))
    }

    /// Where media is taken over UDP: where it was configured, or at the port of the front listener.
    pub(crate) fn addresses(config: &Config, tcp: &[SocketAddr]) -> Vec<SocketAddr> {
        match (config.udp.as_slice(), tcp.first()) {
            // A browser that sends from its network's address to ::1 loses what it sends now and then.
            ([], Some(first)) if is_for_this_machine(tcp) => {
                vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, first.port()))]
            }
            ([], Some(first)) => everywhere(first.port()),
            (chosen, _) => chosen.to_vec(),
        }
    }

    /// Its handle.
    pub(crate) fn sfu(&self) -> &Sfu {
        &self.sfu
    }

    /// Ends all connections of a room.
    pub(crate) fn close_room(&self, room: u32) {
        self.sfu.close_room(RoomId(room.into()));
    }
}

fn is_for_this_machine(tcp: &[SocketAddr]) -> bool {
    tcp.iter().all(|address| address.ip().is_loopback())
}

/// What is forwarded. Redundancy for video (RED, ULPFEC, FlexFEC) is not: it would cost every subscriber what
/// one of them lost, which retransmission gives to that one alone.
fn codecs() -> CodecTable {
    let mut codecs = CodecTable::default();
    let redundant = |name: &str| {
        ["red", "ulpfec", "flexfec-03"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
    };
    let gone: Vec<String> = codecs
        .video
        .iter()
        .filter(|codec| redundant(&codec.name))
        .map(|codec| codec.payload_type.to_string())
        .collect();
    // Their retransmissions go with them.
    let repairs = |apt: &str| gone.iter().any(|payload_type| payload_type == apt);
    codecs
        .video
        .retain(|codec| !redundant(&codec.name) && !codec.parameter("apt").is_some_and(repairs));
    codecs
}

/// Takes reports to rooms until the media plane ends.
pub(crate) async fn dispatch(shared: Arc<Shared>, mut events: Events) {
    while let Some(event) = events.next().await {
        if let Event::Overload {
            worker,
            handover_dropped,
            events_dropped,
        } = &event
        {
            metrics::counter!("visavis_media_overload_total").increment(1);
            tracing::warn!(
                worker,
                handover_dropped,
                events_dropped,
                "a media worker cannot keep up"
            );
            continue;
        }
        let Some(room) = room_of(&shared.rooms, &event) else {
            continue;
        };
        match room.try_send(Command::Media(event)) {
            Ok(()) => {}
            Err(tokio::sync::mpsc::error::TrySendError::Closed(_)) => {}
            Err(tokio::sync::mpsc::error::TrySendError::Full(command)) => {
                metrics::counter!("visavis_room_overload_total").increment(1);
                // What is said again or was lossy may go; the rest waits for its room, at the cost of the others.
                let losable = matches!(
                    &command,
                    Command::Media(
                        Event::Data { .. }
                            | Event::Speakers { .. }
                            | Event::Quality { .. }
                            | Event::Decision { .. }
                            | Event::Crowded { .. }
                    )
                );
                if !losable {
                    let _ = room.send(command).await;
                }
            }
        }
    }
}

fn room_of(rooms: &Rooms, event: &Event) -> Option<RoomHandle> {
    match event {
        Event::Data { room, .. } | Event::Speakers { room, .. } => {
            rooms.by_id(u32::try_from(room.0).ok()?)
        }
        Event::ConnectionState { participant, .. } | Event::Quality { participant, .. } => {
            rooms.by_id(of_participant_id(*participant).0)
        }
        Event::MediaFlowing { track, .. }
        | Event::TrackEnded { track }
        | Event::WantedLayers { track, .. } => rooms.of_track(*track),
        event => rooms.of_connection(event.connection()?),
    }
}
