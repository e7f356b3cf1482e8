//! One DTLS connection: the doors.

mod received;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use visavis_crypto::{Fingerprint, FingerprintSet};
use visavis_datagram::{Framing, Random, Segments, TransmitBuf};

pub use self::received::Received;
use crate::{Config, Error, Event, Role, SrtpKeys, Stats, Version};

/// Which piece of the current flight: valid until the flight changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PieceId(u32);

/// A datagram-sized piece of the current flight, ready to be carried by something else than
/// `poll_transmit` (DTLS in STUN, draft-hancke-webrtc-sped).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlightPiece<'a> {
    /// Its name for [`Connection::flight_acknowledged`].
    pub id: PieceId,
    /// Whole DTLS records. The same bytes each time.
    pub bytes: &'a [u8],
}

/// One end of a DTLS connection.
///
/// Machines above give it plaintext with room around it ([`framing`](Self::framing),
/// [`seal`](Self::seal)); it gives them plaintext as ranges of the datagrams that came
/// ([`handle_datagram`](Self::handle_datagram)). No packet is copied or allocated for.
#[derive(Debug)]
pub struct Connection {
    config: Arc<Config>,
    role: Role,
    stats: Stats,
    fingerprints: FingerprintSet,
}

impl Connection {
    /// The end that speaks first. Its ClientHello is ready to be polled at once.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn client(config: Arc<Config>, random: Random, now: Instant) -> Result<Self, Error> {
        let _ = (random, now);
        Ok(Self {
            config,
            role: Role::Client,
            stats: Stats::default(),
            fingerprints: FingerprintSet::new(),
        })
    }

    /// The end that answers. There is no cookie exchange: its datagrams must come from a path that
    /// ICE has verified (RFC 9147 section 5.1), or through a `Front`.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn server(config: Arc<Config>, random: Random, now: Instant) -> Result<Self, Error> {
        let _ = (random, now);
        Ok(Self {
            config,
            role: Role::Server,
            stats: Stats::default(),
            fingerprints: FingerprintSet::new(),
        })
    }

    /// Takes one datagram of the peer and opens its records in place. Application data stands in
    /// `datagram` where the answer says.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &mut [u8]) -> Received {
        let _ = (now, datagram);
        Received::default()
    }

    /// To be called when [`poll_timeout`](Self::poll_timeout)'s time has come; harmless earlier.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Writes what the connection itself has to say: handshake flights, ACKs, alerts.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<Segments> {
        let _ = (now, out);
        None
    }

    /// What happened next.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// The room that one record needs around application data, in bytes. Fixed once
    /// [`Event::Connected`] came.
    pub fn framing(&self) -> Framing {
        Framing {
            header: 5,
            trailer: 17,
        }
    }

    /// Makes one record of a whole datagram: `payload` is where the application data stands, with
    /// exactly [`framing`](Self::framing)'s room around it.
    ///
    /// # Errors
    /// [`Error::NotConnected`], [`Error::Closed`], [`Error::Framing`], [`Error::PayloadTooLong`].
    pub fn seal(&mut self, datagram: &mut [u8], payload: Range<usize>) -> Result<(), Error> {
        let _ = (datagram, payload);
        Err(Error::NotConnected)
    }

    /// Seals each datagram of a run whose framing is [`framing`](Self::framing)'s.
    ///
    /// # Errors
    /// As [`seal`](Self::seal); the run is then unusable.
    pub fn seal_run(&mut self, out: &mut TransmitBuf) -> Result<(), Error> {
        let _ = out;
        Err(Error::NotConnected)
    }

    /// Says which certificates the peer announced. May come late, and again.
    pub fn set_remote_fingerprints(
        &mut self,
        now: Instant,
        fingerprints: impl IntoIterator<Item = Fingerprint>,
    ) {
        let _ = now;
        self.fingerprints = fingerprints.into_iter().collect();
    }

    /// Sets the retransmission timeout from ICE's measured round trip time: 1.5 times it.
    pub fn set_round_trip_time(&mut self, rtt: Duration) {
        let _ = rtt;
    }

    /// Changes the largest datagram of a handshake, in bytes, for what is sent from now on.
    pub fn set_mtu(&mut self, mtu: usize) {
        let _ = mtu;
    }

    /// Whether an outer carrier takes the handshake flights: `poll_transmit` then leaves them out.
    pub fn set_outer_carrier(&mut self, outer: bool) {
        let _ = outer;
    }

    /// The pieces of the current flight that are not acknowledged yet.
    pub fn flight(&mut self, now: Instant) -> impl Iterator<Item = FlightPiece<'_>> {
        let _ = now;
        std::iter::empty()
    }

    /// The outer carrier knows that a piece of the flight arrived.
    pub fn flight_acknowledged(&mut self, piece: PieceId) {
        let _ = piece;
    }

    /// Fills `out` with keying material that both ends can derive (RFC 5705, RFC 8446 section 7.5).
    ///
    /// # Errors
    /// [`Error::NotConnected`], [`Error::ExportLength`].
    pub fn export_keying_material(
        &self,
        label: &[u8],
        context: Option<&[u8]>,
        out: &mut [u8],
    ) -> Result<(), Error> {
        let _ = (label, context, out);
        Err(Error::NotConnected)
    }

    /// SRTP's profile and keys, if they were agreed on and the handshake is complete.
    pub fn srtp_keys(&self) -> Option<SrtpKeys> {
        None
    }

    /// Moves to new sending keys, and asks the peer to do the same if `request_peer` (1.3).
    ///
    /// # Errors
    /// [`Error::NotConnected`], [`Error::Closed`], [`Error::Version`].
    pub fn update_keys(&mut self, now: Instant, request_peer: bool) -> Result<(), Error> {
        let _ = (now, request_peer);
        Err(Error::NotConnected)
    }

    /// Ends the connection: close_notify, then nothing more.
    pub fn close(&mut self, now: Instant) {
        let _ = now;
    }

    /// Whether the handshake is complete and the connection not over.
    pub fn is_connected(&self) -> bool {
        false
    }

    /// Whether the connection is over.
    pub fn is_closed(&self) -> bool {
        false
    }

    /// Which end this is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The negotiated version.
    pub fn version(&self) -> Option<Version> {
        None
    }

    /// The peer's certificate in DER, once it has come.
    pub fn remote_certificate_der(&self) -> Option<&[u8]> {
        None
    }

    /// The connection ID that the peer's records carry, for demultiplexing; empty if none.
    pub fn local_connection_id(&self) -> &[u8] {
        &[]
    }

    /// The settings.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }
}
