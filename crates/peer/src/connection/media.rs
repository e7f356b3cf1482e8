//! Transceivers and what flows through them.

use std::ops::Range;
use std::time::Instant;

use visavis_sdp::Direction;

use super::PeerConnection;
use super::doors::ReceivedRtp;
use crate::codecs::{Codec, Kind};
use crate::error::Error;
use crate::extensions::HeaderExtension;
use crate::parameters::{SendParameters, check_encodings};
use crate::transceiver::{
    Transceiver, TransceiverDirection, TransceiverId, TransceiverInit, check_msid, unique,
};

impl PeerConnection {
    /// W3C `addTransceiver`.
    ///
    /// # Errors
    /// `InvalidStateError`, `TypeError`, `RangeError` and `OperationError` as the specification has them.
    pub fn add_transceiver(
        &mut self,
        kind: Kind,
        init: TransceiverInit,
    ) -> Result<TransceiverId, Error> {
        self.check_open()?;
        check_encodings(kind, &init.send_encodings)?;
        for id in init.streams.iter().chain(&init.track) {
            check_msid(id)?;
        }
        let id = self.jsep.add_transceiver(kind, init)?;
        self.update_negotiation_needed = true;
        Ok(id)
    }

    /// W3C `addTrack`: takes a sender that never sent, or makes a transceiver.
    ///
    /// # Errors
    /// `InvalidStateError` when closed, `InvalidAccessError` if the track is being sent already.
    pub fn add_track(
        &mut self,
        kind: Kind,
        track: &str,
        streams: &[String],
    ) -> Result<TransceiverId, Error> {
        self.check_open()?;
        check_msid(track)?;
        for stream in streams {
            check_msid(stream)?;
        }
        let sending = |transceiver: &Transceiver| {
            !transceiver.is_stopped() && transceiver.sender.track.as_deref() == Some(track)
        };
        if self.jsep.transceivers.iter().any(sending) {
            return Err(Error::access("the track is being sent already"));
        }
        let free = self.jsep.transceivers.iter_mut().find(|transceiver| {
            transceiver.kind == kind
                && transceiver.sender.track.is_none()
                && !transceiver.is_stopped()
                && !transceiver.sender.used
        });
        let id = match free {
            Some(transceiver) => {
                transceiver.sender.track = Some(track.into());
                transceiver.sender.msid_track = track.into();
                transceiver.sender.streams = unique(streams.to_vec());
                transceiver.direction = match transceiver.direction {
                    TransceiverDirection::RecvOnly => TransceiverDirection::SendRecv,
                    TransceiverDirection::Inactive => TransceiverDirection::SendOnly,
                    other => other,
                };
                transceiver.created_by_add_track = true;
                transceiver.id
            }
            None => {
                let init = TransceiverInit {
                    streams: streams.to_vec(),
                    track: Some(track.into()),
                    ..TransceiverInit::default()
                };
                let id = self.jsep.add_transceiver(kind, init)?;
                if let Some(transceiver) = self.jsep.transceiver_mut(id) {
                    transceiver.created_by_add_track = true;
                }
                id
            }
        };
        self.update_negotiation_needed = true;
        Ok(id)
    }

    /// W3C `removeTrack`: the sender stops sending.
    ///
    /// # Errors
    /// `InvalidStateError` when closed, `InvalidAccessError` for a transceiver that is not of this
    /// connection.
    pub fn remove_track(&mut self, id: TransceiverId) -> Result<(), Error> {
        self.check_open()?;
        let transceiver = self
            .jsep
            .transceiver_mut(id)
            .ok_or_else(|| Error::access("the sender is not of this connection"))?;
        if transceiver.is_stopped() || transceiver.sender.track.take().is_none() {
            return Ok(());
        }
        transceiver.direction = match transceiver.direction {
            TransceiverDirection::SendRecv => TransceiverDirection::RecvOnly,
            TransceiverDirection::SendOnly => TransceiverDirection::Inactive,
            other => other,
        };
        self.update_negotiation_needed = true;
        Ok(())
    }

    /// W3C `replaceTrack`: needs no negotiation.
    ///
    /// # Errors
    /// `InvalidStateError` if the transceiver is stopped.
    pub fn replace_track(&mut self, id: TransceiverId, track: Option<&str>) -> Result<(), Error> {
        self.check_open()?;
        if let Some(track) = track {
            check_msid(track)?;
        }
        let transceiver = self.live(id)?;
        transceiver.sender.track = track.map(Into::into);
        Ok(())
    }

    /// W3C `RTCRtpSender.setStreams`.
    ///
    /// # Errors
    /// `InvalidStateError` when closed or stopped.
    pub fn set_streams(&mut self, id: TransceiverId, streams: &[String]) -> Result<(), Error> {
        self.check_open()?;
        for stream in streams {
            check_msid(stream)?;
        }
        self.live(id)?.sender.streams = unique(streams.to_vec());
        self.update_negotiation_needed = true;
        Ok(())
    }

    /// Sets W3C `RTCRtpTransceiver.direction`.
    ///
    /// # Errors
    /// `InvalidStateError` when closed or stopped.
    pub fn set_direction(&mut self, id: TransceiverId, direction: Direction) -> Result<(), Error> {
        self.check_open()?;
        let transceiver = self.live(id)?;
        if transceiver.direction != direction.into() {
            transceiver.direction = direction.into();
            self.update_negotiation_needed = true;
        }
        Ok(())
    }

    /// W3C `RTCRtpTransceiver.stop`.
    ///
    /// # Errors
    /// `InvalidStateError` when closed.
    pub fn stop_transceiver(&mut self, id: TransceiverId) -> Result<(), Error> {
        self.check_open()?;
        if self.jsep.stop(id)? {
            self.events.push_back(crate::events::Event::TrackEnded(id));
            self.update_negotiation_needed = true;
        }
        Ok(())
    }

    /// W3C `setCodecPreferences`; empty for the default.
    ///
    /// # Errors
    /// `InvalidModificationError` for codecs that are not among the capabilities.
    pub fn set_codec_preferences(
        &mut self,
        id: TransceiverId,
        codecs: &[Codec],
    ) -> Result<(), Error> {
        let settings = std::sync::Arc::clone(&self.jsep.settings);
        let transceiver = self.live(id)?;
        transceiver.set_codec_preferences(codecs, settings.codecs.of(transceiver.kind))
    }

    /// webrtc-extensions `getHeaderExtensionsToNegotiate`.
    pub fn header_extensions_to_negotiate(&self, id: TransceiverId) -> Vec<HeaderExtension> {
        self.jsep
            .transceiver(id)
            .map(|transceiver| transceiver.extensions.clone())
            .unwrap_or_default()
    }

    /// webrtc-extensions `setHeaderExtensionsToNegotiate`.
    ///
    /// # Errors
    /// `InvalidModificationError` if the list holds others than
    /// [`header_extensions_to_negotiate`](Self::header_extensions_to_negotiate), or stops `mid`.
    pub fn set_header_extensions_to_negotiate(
        &mut self,
        id: TransceiverId,
        extensions: &[HeaderExtension],
    ) -> Result<(), Error> {
        let transceiver = self.live(id)?;
        let known = &transceiver.extensions;
        let same = known.len() == extensions.len()
            && known.iter().zip(extensions).all(|(a, b)| a.uri == b.uri);
        if !same {
            return Err(Error::modification(
                "header extensions were added, removed or moved",
            ));
        }
        let stops_mid = extensions.iter().any(|extension| {
            extension.uri == crate::extensions::uri::MID
                && extension.direction != TransceiverDirection::SendRecv
        });
        if stops_mid {
            return Err(Error::modification("the extension `mid` cannot be stopped"));
        }
        transceiver.extensions = extensions.to_vec();
        self.update_negotiation_needed = true;
        Ok(())
    }

    /// W3C `RTCRtpSender.getParameters`.
    pub fn parameters(&mut self, id: TransceiverId) -> Option<SendParameters> {
        let cname = self.jsep.cname.clone();
        let mut random = self.jsep.random().fork();
        Some(
            self.jsep
                .transceiver_mut(id)?
                .parameters(&cname, &mut random),
        )
    }

    /// W3C `RTCRtpSender.setParameters`.
    ///
    /// # Errors
    /// `InvalidStateError` if they were not read before, `InvalidModificationError`, `RangeError`.
    pub fn set_parameters(
        &mut self,
        id: TransceiverId,
        parameters: SendParameters,
    ) -> Result<(), Error> {
        self.live(id)?.set_parameters(parameters)
    }

    /// W3C `getTransceivers`, in order of creation.
    pub fn transceivers(&self) -> &[Transceiver] {
        &self.jsep.transceivers
    }

    /// One transceiver; `None` once it is over.
    pub fn transceiver(&self, id: TransceiverId) -> Option<&Transceiver> {
        self.jsep.transceiver(id)
    }

    fn live(&mut self, id: TransceiverId) -> Result<&mut Transceiver, Error> {
        self.jsep
            .transceiver_mut(id)
            .filter(|transceiver| !transceiver.is_stopped())
            .ok_or_else(|| Error::state("the transceiver is stopped"))
    }

    // ---- packets

    pub(super) fn configure_media(&mut self) {}

    pub(super) fn receive_rtp(
        &mut self,
        _now: Instant,
        _packet: &[u8],
        _range: Range<usize>,
    ) -> Option<ReceivedRtp> {
        None
    }

    pub(super) fn receive_rtcp(&mut self, _now: Instant, _packet: &[u8]) {}

    pub(super) fn media_timeout(&mut self, _now: Instant) {}

    pub(super) fn media_next_timeout(&self) -> Option<Instant> {
        None
    }
}
