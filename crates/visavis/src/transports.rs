//! The transports of a connection as the W3C's objects, each above the next: SCTP, DTLS, ICE.
//!
//! One connection has one of each with a peer that bundles, and else one for each section that the bundle policy keeps. They can be looked at here; what changes is told by
//! [`PeerConnection::next_event`](crate::PeerConnection::next_event): `IceConnectionState`,
//! `IceGatheringState`, and as `Other` `SelectedPair`, `DtlsState` and `SctpState`.

use std::sync::Arc;

use visavis_ice::{Agent, Candidate, Credentials, Role, SelectedPair};
use visavis_peer::{
    DtlsState, IceConnectionState, IceGatheringState, SctpState, TransceiverId, TransportId,
    TransportRef,
};

use crate::peer_connection::Handle;

/// What data channels run over (W3C `RTCSctpTransport`). Cheap to clone; keeps the connection open.
#[derive(Debug, Clone)]
pub struct SctpTransport {
    handle: Arc<Handle>,
}

impl SctpTransport {
    /// `Some` once data channels are negotiated.
    pub(crate) fn of(handle: &Arc<Handle>) -> Option<Self> {
        handle.connection.lock().core.sctp_state()?;
        Some(Self {
            handle: Arc::clone(handle),
        })
    }

    /// The transport beneath.
    pub fn transport(&self) -> DtlsTransport {
        let id = self.handle.connection.lock().core.sctp_transport();
        DtlsTransport::new(&self.handle, id)
    }

    /// W3C `state`.
    pub fn state(&self) -> SctpState {
        let state = self.handle.connection.lock();
        state.core.sctp_state().unwrap_or(SctpState::Closed)
    }

    /// The largest message that the peer takes and this end sends, in bytes (RFC 8841 section 6).
    pub fn max_message_size(&self) -> u64 {
        let state = self.handle.connection.lock();
        let channels = state.core.data_channels();
        channels.map_or(0, |channels| channels.max_message_size())
    }

    /// How many channels there may be at once: the smaller number of the streams that either end may
    /// use (RFC 8831 section 6.2); `None` before the association is up.
    pub fn max_channels(&self) -> Option<u16> {
        let state = self.handle.connection.lock();
        let negotiated = state.core.data_channels()?.association().negotiated()?;
        Some(negotiated.inbound_streams.min(negotiated.outbound_streams))
    }
}

/// What protects everything that is sent over it (W3C `RTCDtlsTransport`). Cheap to clone; keeps
/// the connection open.
#[derive(Debug, Clone)]
pub struct DtlsTransport {
    handle: Arc<Handle>,
    id: TransportId,
}

impl DtlsTransport {
    /// That of a transceiver's section.
    pub(crate) fn of(handle: &Arc<Handle>, transceiver: TransceiverId) -> Self {
        let id = handle.connection.lock().core.transport_of(transceiver);
        Self::new(handle, id)
    }

    fn new(handle: &Arc<Handle>, id: TransportId) -> Self {
        Self {
            handle: Arc::clone(handle),
            id,
        }
    }

    /// The transport beneath.
    pub fn ice_transport(&self) -> IceTransport {
        IceTransport {
            handle: Arc::clone(&self.handle),
            id: self.id,
        }
    }

    /// W3C `state`.
    pub fn state(&self) -> DtlsState {
        let state = self.handle.connection.lock();
        if state.core.is_closed() {
            return DtlsState::Closed;
        }
        look(&state.core, self.id, |it| it.dtls_state).unwrap_or(DtlsState::Closed)
    }

    /// The peer's certificate in DER; `None` before it has come. The W3C's list of certificates has one
    /// here: nothing but its fingerprint counts (RFC 8827 section 6.5).
    pub fn remote_certificate(&self) -> Option<Vec<u8>> {
        let state = self.handle.connection.lock();
        let certificate = look(&state.core, self.id, |transport| {
            transport.dtls?.remote_certificate_der().map(<[u8]>::to_vec)
        });
        certificate.flatten()
    }
}

/// What finds a path to the peer (W3C `RTCIceTransport`). Cheap to clone; keeps the connection open.
#[derive(Debug, Clone)]
pub struct IceTransport {
    handle: Arc<Handle>,
    id: TransportId,
}

/// Looks at a transport, unless it is gone.
fn look<R>(
    core: &visavis_peer::PeerConnection,
    id: TransportId,
    look: impl FnOnce(TransportRef<'_>) -> R,
) -> Option<R> {
    let mut transports = core.transports();
    transports.find(|transport| transport.id == id).map(look)
}

impl IceTransport {
    /// Of one that is gone, what stands in its place is looked at: the first.
    fn look<R>(&self, with: impl Fn(&Agent) -> R) -> R {
        let state = self.handle.connection.lock();
        let found = look(&state.core, self.id, |transport| with(transport.ice));
        found.unwrap_or_else(|| with(state.core.ice()))
    }

    /// Who decides which path is used.
    pub fn role(&self) -> Role {
        self.look(Agent::role)
    }

    /// W3C `state`.
    pub fn state(&self) -> IceConnectionState {
        self.look(Agent::connection_state)
    }

    /// W3C `gatheringState`.
    pub fn gathering_state(&self) -> IceGatheringState {
        self.look(Agent::gathering_state)
    }

    /// W3C `getLocalCandidates`.
    pub fn local_candidates(&self) -> Vec<Candidate> {
        self.look(|agent| {
            agent
                .local_candidates()
                .map(|local| local.candidate)
                .collect()
        })
    }

    /// W3C `getRemoteCandidates`: those of the current session.
    pub fn remote_candidates(&self) -> Vec<Candidate> {
        self.look(|agent| agent.remote_candidates().cloned().collect())
    }

    /// W3C `getSelectedCandidatePair`.
    pub fn selected_candidate_pair(&self) -> Option<SelectedPair> {
        self.look(Agent::selected_pair)
    }

    /// W3C `getLocalParameters`.
    pub fn local_parameters(&self) -> Credentials {
        self.look(|agent| agent.local_credentials().clone())
    }

    /// W3C `getRemoteParameters`; `None` before there is a remote description.
    pub fn remote_parameters(&self) -> Option<Credentials> {
        self.look(|agent| agent.remote_credentials().cloned())
    }
}
