//! What a description that was set means for the transport.

use std::sync::Arc;
use std::time::Instant;

use visavis_crypto::{Fingerprint, HashAlgorithm};
use visavis_dtls as dtls;
use visavis_ice as ice;
use visavis_sdp::Setup;

use super::PeerConnection;
use crate::error::Error;
use crate::events::{Event, SctpState};
use crate::jsep::{Jsep, Outcome, SignalingState, TransportDescription};
use crate::transport::Remote;

impl PeerConnection {
    /// Follows a description that was set.
    pub(super) fn follow(&mut self, now: Instant, outcome: Outcome) {
        for event in outcome.events {
            if let Event::TrackMuted(id) = event {
                self.media.mute(id);
            }
            self.events.push_back(event);
        }
        if let Some(local_answer) = outcome.answered {
            self.apply_exchange(now, local_answer);
        }
        if outcome.local_set {
            self.transport.ice.gather(now);
        }
        if self.jsep.state == SignalingState::Stable {
            self.follow_restart();
            self.update_negotiation_needed = true;
        }
        self.transport.try_start(now);
        self.drain(now);
    }

    /// Judges what the transport will have to take from an exchange, before it is in force.
    pub(super) fn check_exchange(jsep: &Jsep) -> Result<(), Error> {
        let Some((_, remote)) = jsep.exchange() else {
            return Ok(());
        };
        match TransportDescription::of(&remote.sdp)? {
            Some(transport) if fingerprints(&transport).is_empty() => Err(Error::access(
                "the description holds no fingerprint with a hash that is supported",
            )),
            _ => Ok(()),
        }
    }

    fn apply_exchange(&mut self, now: Instant, local_answer: bool) {
        let Some((local, remote)) = self.jsep.exchange() else {
            return;
        };
        let (local, remote) = (
            local.sdp.clone(),
            crate::jsep::Applied {
                kind: remote.kind,
                sdp: remote.sdp.clone(),
            },
        );
        // The answer says which section's transport is used.
        let answer = if local_answer { &local } else { &remote.sdp };
        let Some(section) = crate::jsep::transport_section(answer) else {
            return;
        };
        let Ok(Some(mut transport)) = TransportDescription::of(&remote.sdp) else {
            return;
        };
        transport.section = section;
        if self.candidates.applied.is_none() {
            self.transport
                .ice
                .set_role(now, self.ice_role(&transport, local_answer));
        }
        self.apply_remote_ice(now, &remote, &transport);

        let setup = match local_answer {
            true => local.media[section].attributes.setup(),
            false => transport.setup.map(|setup| match setup {
                Setup::Passive => Setup::Active,
                _ => Setup::Passive,
            }),
        };
        let named = local.media[section].attributes.tls_id();
        if let Some(next) = self
            .next_tls_id
            .take_if(|next| named == Some(next.as_str()))
        {
            self.tls_id = next;
        }
        let role = match setup {
            Some(Setup::Active) => dtls::Role::Client,
            // RFC 4145 section 4: without the attribute the answerer is active.
            _ => dtls::Role::Server,
        };
        self.transport.set_remote(
            now,
            Remote {
                role,
                fingerprints: fingerprints(&transport),
                tls_id: transport.tls_id,
            },
        );
        self.apply_data(&local, &remote.sdp);
        self.configure_media();
    }

    /// RFC 8445 section 6.1.1.
    fn ice_role(&self, remote: &TransportDescription, local_answer: bool) -> ice::Role {
        match (self.lite, remote.lite) {
            (false, true) => ice::Role::Controlling,
            (true, false) => ice::Role::Controlled,
            _ if local_answer => ice::Role::Controlled,
            _ => ice::Role::Controlling,
        }
    }

    /// What both descriptions say of data channels.
    fn apply_data(
        &mut self,
        local: &visavis_sdp::SessionDescription,
        remote: &visavis_sdp::SessionDescription,
    ) {
        let sections = self.jsep.data.section.and_then(|index| {
            let (local, remote) = (local.media.get(index)?, remote.media.get(index)?);
            (!local.is_rejected() && !remote.is_rejected()).then_some((local, remote))
        });
        let Some((local, remote)) = sections else {
            if !self.jsep.data.requested && self.transport.channels.is_some() {
                // The peer refused the section: what was opened will never be.
                let now = self.now;
                if let Some(channels) = &mut self.transport.channels {
                    channels.abort(now);
                }
                if self.sctp_state.take().is_some() {
                    self.events.push_back(Event::SctpState(SctpState::Closed));
                }
            }
            return;
        };
        if !self.transport.is_sctp_started()
            && let Some(port) = remote.sctp_port()
            && port != self.sctp.remote_port
            && self.transport.channels.is_none()
        {
            Arc::make_mut(&mut self.sctp).remote_port = port;
        }
        // RFC 8841 section 6.1: 64 KiB where the attribute is missing.
        let size = remote.attributes.max_message_size().unwrap_or(65_536);
        let init = match local.attributes.sctp_init() {
            Some(_) => remote.attributes.sctp_init().map(<[u8]>::to_vec),
            None => None,
        };
        self.channels().set_remote_max_message_size(size);
        self.transport.data_negotiated = true;
        if self.transport.remote_init.is_none() && !self.transport.is_sctp_started() {
            self.transport.remote_init = init;
        }
        if self.sctp_state.is_none() {
            self.sctp_state = Some(SctpState::Connecting);
        }
    }

    /// Restarts ICE here if the pending remote offer did so there (RFC 9429 section 5.3.1).
    pub(super) fn follow_remote_restart(&mut self, now: Instant) {
        let Some(remote) = &self.jsep.pending_remote else {
            return;
        };
        let Ok(Some(transport)) = TransportDescription::of(&remote.sdp) else {
            return;
        };
        let offered = (transport.ufrag, transport.pwd);
        let restarted = self
            .candidates
            .applied
            .as_ref()
            .is_some_and(|applied| *applied != offered);
        let own = &*self.transport.ice.local_credentials().ufrag;
        let unchanged = self.described_ufrag.as_deref() == Some(own);
        if restarted && unchanged {
            self.transport.ice.restart(now);
        }
    }

    /// A restart that was wanted is done when the description in force has other credentials. One whose sections are all stopped
    /// has none: those before it stay in force.
    fn follow_restart(&mut self) {
        let current = self
            .jsep
            .current_local
            .as_ref()
            .and_then(|applied| TransportDescription::of(&applied.sdp).ok().flatten());
        if let Some(current) = current {
            self.described_ufrag = Some(current.ufrag);
        }
        if self.replaced_ufrag.is_some() && self.described_ufrag != self.replaced_ufrag {
            self.replaced_ufrag = None;
            self.jsep.restart_needed = false;
        }
    }
}

/// The fingerprints that can be checked here. SHA-1 is not among them (RFC 8122 section 5 leaves it
/// to what the peer offers; collisions are cheap today).
fn fingerprints(transport: &TransportDescription) -> Vec<Fingerprint> {
    transport
        .fingerprints
        .iter()
        .filter_map(|print| {
            let algorithm = match print.algorithm {
                visavis_sdp::HashAlgorithm::Sha256 => HashAlgorithm::Sha256,
                visavis_sdp::HashAlgorithm::Sha384 => HashAlgorithm::Sha384,
                visavis_sdp::HashAlgorithm::Sha512 => HashAlgorithm::Sha512,
                _ => return None,
            };
            Fingerprint::new(algorithm, &print.digest).ok()
        })
        .collect()
}
