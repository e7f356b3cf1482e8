//! The same transport, senders and receivers without descriptions: for protocols that carry their own
//! negotiation.
//!
//! A connection is used either by descriptions or directly; [`PeerConnection::start_direct`] decides.

use std::time::Instant;

use visavis_crypto::{Fingerprint, HashAlgorithm};
use visavis_dtls as dtls;
use visavis_ice as ice;
use visavis_sdp::Direction;

use super::PeerConnection;
use super::bundle::Stage;
use crate::codecs::{Codec, Kind};
use crate::error::Error;
use crate::events::SctpState;
use crate::extensions::NegotiatedExtension;
use crate::jsep::SignalingState;
use crate::parameters::Encoding;
use crate::transceiver::{EncodingSources, TransceiverId, TransceiverInit};
use crate::transport::Remote;

/// What the other end must know of this one.
#[derive(Debug, Clone)]
pub struct DirectParameters {
    /// ICE credentials.
    pub credentials: ice::Credentials,
    /// Fingerprints of the certificates.
    pub fingerprints: Vec<Fingerprint>,
    /// The INIT chunk, if SCTP's handshake is to ride along.
    pub sctp_init: Option<Vec<u8>>,
}

/// What this end is told of the other one, and who plays which part.
#[derive(Debug, Clone)]
pub struct DirectRemote {
    /// ICE credentials and options.
    pub ice: ice::RemoteParameters,
    /// Fingerprints of the certificates that the peer may show.
    pub fingerprints: Vec<Fingerprint>,
    /// Our part in ICE; the peer has the other one.
    pub ice_role: ice::Role,
    /// Our part in DTLS; the peer has the other one.
    pub dtls_role: dtls::Role,
    /// Data channels, if there are any.
    pub data: Option<DirectData>,
}

/// What this end is told of the peer's data channels.
#[derive(Debug, Clone)]
pub struct DirectData {
    /// The largest message that the peer takes, in bytes; 0 for any.
    pub max_message_size: u64,
    /// The peer's INIT chunk, where both ends gave theirs.
    pub sctp_init: Option<Vec<u8>>,
}

/// One sender and one receiver.
#[derive(Debug, Clone)]
pub struct DirectMedia {
    /// Sound or pictures.
    pub kind: Kind,
    /// The name in packets (RFC 9143); 1 to 16 characters.
    pub mid: String,
    /// What flows.
    pub direction: Direction,
    /// What may be sent, under the numbers that the peer knows.
    pub send_codecs: Vec<Codec>,
    /// The encodings to send, with their sources.
    pub send_encodings: Vec<(Encoding, EncodingSources)>,
    /// What may arrive.
    pub receive_codecs: Vec<Codec>,
    /// Rids that may arrive.
    pub receive_rids: Vec<String>,
    /// Sources that will arrive, with those of their retransmissions, as far as they are known.
    pub receive_sources: Vec<(u32, Option<u32>)>,
    /// Header extensions.
    pub extensions: Vec<NegotiatedExtension>,
}

/// The sources that a transceiver expects.
#[derive(Debug, Clone)]
pub(super) struct DirectSources {
    pub(super) transceiver: TransceiverId,
    pub(super) sources: Vec<(u32, Option<u32>)>,
}

impl PeerConnection {
    /// What to tell the other end.
    pub fn direct_parameters(&mut self) -> DirectParameters {
        let sctp_init = self.snap.then(|| self.channels().init_chunk().to_vec());
        DirectParameters {
            credentials: self.bundles.main.transport.ice.local_credentials().clone(),
            fingerprints: self
                .certificates
                .iter()
                .map(|certificate| certificate.fingerprint(HashAlgorithm::Sha256))
                .collect(),
            sctp_init,
        }
    }

    /// Starts the transport. From now on descriptions are refused.
    ///
    /// # Errors
    /// `InvalidStateError` if descriptions are in use, or the connection was started; `InvalidAccessError`
    /// for credentials that ICE refuses.
    pub fn start_direct(&mut self, now: Instant, remote: DirectRemote) -> Result<(), Error> {
        self.check_open()?;
        if self.direct.is_some()
            || self.jsep.state != SignalingState::Stable
            || self.jsep.local().is_some()
        {
            return Err(Error::state("the connection is in use"));
        }
        self.now = now;
        let credentials = &remote.ice.credentials;
        let applied = (credentials.ufrag.to_string(), credentials.pwd.to_string());
        self.bundles
            .main
            .transport
            .ice
            .set_role(now, remote.ice_role);
        self.bundles
            .main
            .transport
            .ice
            .set_remote(now, remote.ice)
            .map_err(|error| Error::access(error.to_string()))?;
        self.bundles.main.remote_credentials = Some(applied);
        self.bundles.main.stage = Stage::InForce;
        self.direct = Some(Vec::new());
        self.bundles.main.transport.ice.gather(now);
        self.bundles.main.transport.set_remote(
            now,
            Remote {
                role: remote.dtls_role,
                fingerprints: remote.fingerprints,
                tls_id: None,
            },
        );
        if let Some(data) = remote.data {
            self.channels()
                .set_remote_max_message_size(data.max_message_size);
            self.bundles.main.transport.data.negotiated = true;
            self.bundles.main.transport.data.remote_init = data.sctp_init.filter(|_| self.snap);
            self.sctp_state = Some(SctpState::Connecting);
        }
        self.bundles.main.transport.try_start(now);
        self.drain(now);
        Ok(())
    }

    /// Adds a candidate of the peer; `None` when there are no more.
    ///
    /// # Errors
    /// `InvalidStateError` before [`start_direct`](Self::start_direct).
    pub fn add_direct_candidate(
        &mut self,
        now: Instant,
        candidate: Option<ice::Candidate>,
    ) -> Result<(), Error> {
        self.check_open()?;
        self.now = now;
        if self.direct.is_none() {
            return Err(Error::state("the connection was not started directly"));
        }
        match candidate {
            Some(candidate) => self
                .bundles
                .main
                .transport
                .ice
                .add_remote_candidate(now, candidate),
            None => self
                .bundles
                .main
                .transport
                .ice
                .end_of_remote_candidates(now),
        }
        self.drain(now);
        Ok(())
    }

    /// Sets all senders and receivers anew. Those with the mid of one that is there keep their id.
    ///
    /// # Errors
    /// `InvalidStateError` before [`start_direct`](Self::start_direct), `OperationError` if there are too
    /// many.
    pub fn set_direct_media(
        &mut self,
        now: Instant,
        media: Vec<DirectMedia>,
    ) -> Result<Vec<TransceiverId>, Error> {
        self.check_open()?;
        self.now = now;
        if self.direct.is_none() {
            return Err(Error::state("the connection was not started directly"));
        }
        let mut next = self.jsep.clone();
        next.transceivers.retain(|transceiver| {
            media
                .iter()
                .any(|media| transceiver.mid.as_deref() == Some(&media.mid))
        });
        let mut sources = Vec::new();
        for media in media {
            let known = next
                .transceivers
                .iter()
                .find(|transceiver| transceiver.mid.as_deref() == Some(&media.mid))
                .map(|transceiver| transceiver.id);
            let id = match known {
                Some(id) => id,
                None => next.add_transceiver(media.kind, TransceiverInit::default())?,
            };
            sources.push(DirectSources {
                transceiver: id,
                sources: media.receive_sources,
            });
            let Some(transceiver) = next.transceiver_mut(id) else {
                continue;
            };
            transceiver.mid = Some(media.mid);
            transceiver.direction = media.direction.into();
            transceiver.current_direction = Some(media.direction.into());
            (transceiver.sender.encodings, transceiver.sender.sources) =
                media.send_encodings.into_iter().unzip();
            transceiver.sender.codecs = media.send_codecs;
            transceiver.receiver.codecs = media.receive_codecs;
            transceiver.receiver.rids = media.receive_rids;
            transceiver.sender.extensions.clone_from(&media.extensions);
            transceiver.receiver.extensions = media.extensions;
        }
        self.jsep = next;
        let ids = sources.iter().map(|direct| direct.transceiver).collect();
        self.direct = Some(sources);
        self.configure_media();
        Ok(ids)
    }

    /// Descriptions are refused on a connection that was started directly.
    pub(super) fn check_described(&self) -> Result<(), Error> {
        match self.direct {
            Some(_) => Err(Error::state("the connection was started directly")),
            None => self.check_open(),
        }
    }
}
