//! The connection as its user sees it.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use visavis_ice::TransportPolicy;
use visavis_peer::{
    BitrateLimits, Certificate, CertificateKind, ChannelOptions, ConnectionState, Description,
    Event as PeerEvent, IceCandidate, IceConnectionState, IceGatheringState, Kind, OfferOptions,
    SignalingState, StatsReport, TransceiverInit,
};

use crate::connection::Connection;
use crate::data_channel::DataChannel;
use crate::endpoint::{Endpoint, system_random, wall_clock};
use crate::ice_server::{IceServer, ServerUrl};
use crate::media::{RtpSender, RtpTransceiver};
use crate::transports::SctpTransport;
use crate::{Error, Settings};

/// What a connection is configured with (W3C `RTCConfiguration`).
#[derive(Debug, Clone, Default)]
pub struct Configuration {
    /// STUN and TURN servers.
    pub ice_servers: Vec<IceServer>,
    /// Which candidates may be used.
    pub ice_transport_policy: TransportPolicy,
    /// Everything else, with the sans-IO core's own words: certificates, codecs, timers, limits.
    pub advanced: visavis_peer::Configuration,
}

impl Configuration {
    pub(crate) fn into_peer(self) -> visavis_peer::Configuration {
        let mut peer = self.advanced;
        // Which addresses are used is decided once, by the endpoint's settings.
        peer.ice.filter.loopback = true;
        if self.ice_transport_policy != TransportPolicy::default() {
            peer.ice.transport_policy = self.ice_transport_policy;
        }
        peer
    }
}

/// What a connection tells.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Signal this candidate to the peer; `None` when all are gathered.
    IceCandidate(Option<IceCandidate>),
    /// An offer is due.
    NegotiationNeeded,
    /// The peer opened a channel.
    DataChannel(DataChannel),
    /// The peer sends a track, or will (W3C `track`).
    Track {
        /// Where it is received.
        transceiver: RtpTransceiver,
        /// The streams that it belongs to.
        streams: Vec<String>,
    },
    /// A received track stopped for good (W3C `ended`).
    TrackEnded(RtpTransceiver),
    /// The peer needs a key frame of an encoding.
    KeyFrameRequested {
        /// Whose.
        sender: RtpSender,
        /// Index of the encoding.
        encoding: usize,
    },
    /// So many bits per second may be sent in all; [`RtpSender::target_bitrate`] says which share of it
    /// an encoding has.
    TargetBitrate(u64),
    /// The state of the connection as a whole.
    ConnectionState(ConnectionState),
    /// The state of ICE.
    IceConnectionState(IceConnectionState),
    /// The state of gathering.
    IceGatheringState(IceGatheringState),
    /// The state of negotiation.
    SignalingState(SignalingState),
    /// Anything else, in the sans-IO core's own words.
    Other(PeerEvent),
}

/// One end of a WebRTC connection (W3C `RTCPeerConnection`).
///
/// Closed when it and all of its channels are dropped, or by [`close`](Self::close).
#[derive(Debug, Clone)]
pub struct PeerConnection {
    handle: Arc<Handle>,
}

/// Keeps a connection open.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) connection: Arc<Connection>,
    /// Keeps the driver running.
    endpoint: Endpoint,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.connection.with(|state, now| state.core.close(now));
    }
}

impl Handle {
    pub(crate) fn receive_buffer(&self) -> usize {
        self.endpoint.settings().receive_buffer
    }
}

impl PeerConnection {
    /// Makes a connection with sockets of its own. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If no socket can be bound, or the configuration is wrong.
    pub fn new(configuration: Configuration) -> Result<Self, Error> {
        Endpoint::new(Settings::default())?.peer_connection(configuration)
    }

    /// Makes a certificate that is valid for 30 days (W3C `generateCertificate`), for `advanced.certificates` of a
    /// [`Configuration`]: connections that share one look alike to their peers, and cost no key each. Must be
    /// called within a tokio runtime: an RSA key takes a thread of its blocking pool for a while.
    ///
    /// # Errors
    /// If the system gives no randomness, or the runtime ends.
    pub async fn generate_certificate(kind: CertificateKind) -> Result<Certificate, Error> {
        let made = tokio::task::spawn_blocking(move || {
            let mut random = system_random()?;
            Ok(visavis_peer::generate_certificate(
                kind,
                wall_clock(),
                &mut random,
            )?)
        });
        made.await.map_err(io::Error::other)?
    }

    pub(crate) fn from_parts(connection: Arc<Connection>, endpoint: Endpoint) -> Self {
        Self {
            handle: Arc::new(Handle {
                connection,
                endpoint,
            }),
        }
    }

    /// Makes a data channel; ordered and reliable unless the options say otherwise.
    ///
    /// # Errors
    /// As W3C `createDataChannel`.
    pub fn create_data_channel(
        &self,
        label: &str,
        options: ChannelOptions,
    ) -> Result<DataChannel, Error> {
        let options = ChannelOptions {
            label: label.to_owned(),
            ..options
        };
        let id = self.handle.connection.with(|state, now| {
            let id = state.core.create_data_channel(now, options)?;
            state.channel(id);
            Ok::<_, Error>(id)
        })?;
        Ok(DataChannel::new(Arc::clone(&self.handle), id))
    }

    /// Makes a transceiver.
    ///
    /// # Errors
    /// As W3C `addTransceiver`.
    pub fn add_transceiver(
        &self,
        kind: Kind,
        init: TransceiverInit,
    ) -> Result<RtpTransceiver, Error> {
        let connection = &self.handle.connection;
        let id = connection.with(|state, _| state.core.add_transceiver(kind, init))?;
        Ok(RtpTransceiver::new(Arc::clone(&self.handle), id))
    }

    /// Sends a track: on a sender that never sent, or on a new transceiver. The ids are what the peer
    /// sees.
    ///
    /// # Errors
    /// As W3C `addTrack`.
    pub fn add_track(
        &self,
        kind: Kind,
        track: &str,
        streams: &[String],
    ) -> Result<RtpSender, Error> {
        let connection = &self.handle.connection;
        let id = connection.with(|state, _| state.core.add_track(kind, track, streams))?;
        Ok(RtpTransceiver::new(Arc::clone(&self.handle), id).sender())
    }

    /// Stops sending a track, with the next negotiation.
    ///
    /// # Errors
    /// As W3C `removeTrack`.
    pub fn remove_track(&self, sender: &RtpSender) -> Result<(), Error> {
        let id = sender.transceiver().id();
        let connection = &self.handle.connection;
        Ok(connection.with(|state, _| state.core.remove_track(id))?)
    }

    /// The transceivers, in order of creation.
    pub fn transceivers(&self) -> Vec<RtpTransceiver> {
        let state = self.handle.connection.lock();
        let transceivers = state.core.transceivers().iter();
        transceivers
            .map(|transceiver| RtpTransceiver::new(Arc::clone(&self.handle), transceiver.id))
            .collect()
    }

    /// Statistics of everything (W3C `getStats`); those of one track by
    /// [`RtpSender::stats`] and [`RtpReceiver::stats`](crate::RtpReceiver::stats).
    pub fn stats(&self) -> StatsReport {
        let state = self.handle.connection.lock();
        state.core.stats(std::time::Instant::now())
    }

    /// What may be sent in all, in bits per second, as congestion control sees it.
    pub fn target_bitrate(&self) -> u64 {
        self.handle.connection.lock().core.target().bitrate
    }

    /// Sets other bounds of the bit rate of media.
    pub fn set_bitrate_limits(&self, limits: BitrateLimits) {
        self.handle
            .connection
            .with(|state, now| state.core.set_bitrate_limits(now, limits));
    }

    /// Makes an offer.
    ///
    /// # Errors
    /// As W3C `createOffer`.
    pub fn create_offer(&self, options: OfferOptions) -> Result<Description, Error> {
        Ok(self
            .handle
            .connection
            .with(|state, now| state.core.create_offer(now, options))?)
    }

    /// Makes an answer.
    ///
    /// # Errors
    /// As W3C `createAnswer`.
    pub fn create_answer(&self) -> Result<Description, Error> {
        Ok(self
            .handle
            .connection
            .with(|state, now| state.core.create_answer(now))?)
    }

    /// Sets the local description; without one, makes the offer or the answer that is due. Gathering
    /// begins.
    ///
    /// # Errors
    /// As W3C `setLocalDescription`.
    pub async fn set_local_description(
        &self,
        description: Option<Description>,
    ) -> Result<(), Error> {
        // Candidates can be gathered only once the driver has told its addresses.
        poll_fn(|cx| {
            let mut state = self.handle.connection.lock();
            if state.is_local_ready() || state.is_finished() {
                return Poll::Ready(());
            }
            state.register_event_waker(cx.waker());
            Poll::Pending
        })
        .await;
        let connection = &self.handle.connection;
        Ok(connection
            .with(|state, now| state.core.set_local_description(now, description.as_ref()))?)
    }

    /// Sets the peer's description.
    ///
    /// # Errors
    /// As W3C `setRemoteDescription`. Nothing has changed then.
    pub fn set_remote_description(&self, description: &Description) -> Result<(), Error> {
        let connection = &self.handle.connection;
        Ok(connection.with(|state, now| state.core.set_remote_description(now, description))?)
    }

    /// Adds a candidate of the peer; one with an empty text is the end of candidates.
    ///
    /// # Errors
    /// As W3C `addIceCandidate`.
    pub fn add_ice_candidate(&self, candidate: &IceCandidate) -> Result<(), Error> {
        let connection = &self.handle.connection;
        Ok(connection.with(|state, now| state.core.add_ice_candidate(now, candidate))?)
    }

    /// The local description with the candidates gathered so far.
    pub fn local_description(&self) -> Option<Description> {
        self.handle.connection.lock().core.local_description()
    }

    /// The peer's description with its candidates so far.
    pub fn remote_description(&self) -> Option<Description> {
        self.handle.connection.lock().core.remote_description()
    }

    /// The next offer has new ICE credentials.
    pub fn restart_ice(&self) {
        self.handle
            .connection
            .with(|state, _| state.core.restart_ice());
    }

    /// Uses other servers and another policy for candidates, from the next gathering on: after
    /// [`restart_ice`](Self::restart_ice), say. The rest of `configuration` must be as it was. A TURN
    /// server needs sockets of its own, which only a connection has that began with one.
    ///
    /// # Errors
    /// As W3C `setConfiguration`, and a server's URL that is none.
    pub async fn set_configuration(&self, configuration: Configuration) -> Result<(), Error> {
        let mut servers = Vec::new();
        for server in &configuration.ice_servers {
            for url in &server.urls {
                servers.push((ServerUrl::parse(url)?, server.clone()));
            }
        }
        let mut peer = configuration.into_peer();
        for (url, server) in servers {
            peer.ice.servers.extend(url.resolve(&server).await);
        }
        let connection = &self.handle.connection;
        Ok(connection.with(|state, _| state.core.set_configuration(&peer))?)
    }

    /// The state of the connection as a whole.
    pub fn connection_state(&self) -> ConnectionState {
        self.handle.connection.lock().core.connection_state()
    }

    /// The state of negotiation.
    pub fn signaling_state(&self) -> SignalingState {
        self.handle.connection.lock().core.signaling_state()
    }

    /// The state of ICE.
    pub fn ice_connection_state(&self) -> IceConnectionState {
        self.handle.connection.lock().core.ice_connection_state()
    }

    /// The state of gathering.
    pub fn ice_gathering_state(&self) -> IceGatheringState {
        self.handle.connection.lock().core.ice_gathering_state()
    }

    /// What data channels run over (W3C `sctp`); `None` while none are negotiated.
    pub fn sctp(&self) -> Option<SctpTransport> {
        SctpTransport::of(&self.handle)
    }

    /// Looks at the sans-IO core: statistics, transceivers, the layers beneath.
    pub fn with_core<R>(&self, look: impl FnOnce(&visavis_peer::PeerConnection) -> R) -> R {
        look(&self.handle.connection.lock().core)
    }

    /// The next event; `None` when the connection is closed and nothing will follow. Cancel-safe.
    pub async fn next_event(&self) -> Option<Event> {
        poll_fn(|cx| {
            let mut state = self.handle.connection.lock();
            match state.pop_event() {
                Some(event) => Poll::Ready(Some(event)),
                None if state.is_finished() => Poll::Ready(None),
                None => {
                    state.register_event_waker(cx.waker());
                    Poll::Pending
                }
            }
        })
        .await
        .map(|event| self.public(event))
    }

    fn public(&self, event: PeerEvent) -> Event {
        match event {
            PeerEvent::IceCandidate(candidate) => Event::IceCandidate(candidate),
            PeerEvent::NegotiationNeeded => Event::NegotiationNeeded,
            PeerEvent::DataChannel(id) => {
                Event::DataChannel(DataChannel::new(Arc::clone(&self.handle), id))
            }
            PeerEvent::Track {
                transceiver,
                streams,
            } => Event::Track {
                transceiver: RtpTransceiver::new(Arc::clone(&self.handle), transceiver),
                streams,
            },
            PeerEvent::TrackEnded(id) => {
                Event::TrackEnded(RtpTransceiver::new(Arc::clone(&self.handle), id))
            }
            PeerEvent::KeyFrameRequested {
                transceiver,
                encoding,
            } => Event::KeyFrameRequested {
                sender: RtpTransceiver::new(Arc::clone(&self.handle), transceiver).sender(),
                encoding,
            },
            PeerEvent::TargetBitrate(bitrate) => Event::TargetBitrate(bitrate),
            PeerEvent::ConnectionState(state) => Event::ConnectionState(state),
            PeerEvent::IceConnectionState(state) => Event::IceConnectionState(state),
            PeerEvent::IceGatheringState(state) => Event::IceGatheringState(state),
            PeerEvent::SignalingState(state) => Event::SignalingState(state),
            other => Event::Other(other),
        }
    }

    /// Waits until all candidates are gathered and answers the description that holds them, for
    /// signalling that carries one message each way. Events are left for
    /// [`next_event`](Self::next_event).
    pub async fn gathered(&self) -> Option<Description> {
        poll_fn(|cx| {
            let mut state = self.handle.connection.lock();
            let done = state.core.ice_gathering_state() == IceGatheringState::Complete;
            if done || state.is_finished() {
                return Poll::Ready(state.core.local_description());
            }
            state.register_event_waker(cx.waker());
            Poll::Pending
        })
        .await
    }

    /// Events that were dropped because nobody read them.
    pub fn events_dropped(&self) -> u64 {
        self.handle.connection.lock().events_dropped()
    }

    /// Closes the connection: channels close, the peer is told.
    pub fn close(&self) {
        self.handle
            .connection
            .with(|state, now| state.core.close(now));
    }
}
