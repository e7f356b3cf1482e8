//! The states that follow from what the layers below tell.

use std::time::Instant;

use visavis_ice as ice;

use super::PeerConnection;
use super::bundle::{Stage, TransportId};
use crate::events::{ConnectionState, DtlsState, Event, IceCandidate};
use crate::log::Decision;

impl PeerConnection {
    /// Turns what the layers below have to tell into events.
    pub(super) fn drain(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        for place in 0..=self.bundles.apart.len() {
            self.drain_bundle(now, place);
        }
        self.follow_dtls_state();
    }

    fn drain_bundle(&mut self, now: Instant, place: usize) {
        loop {
            let bundle = self.bundles.nth_mut(place);
            let next =
                bundle.and_then(|bundle| Some((bundle.id, bundle.transport.ice.poll_event()?)));
            let Some((id, event)) = next else {
                break;
            };
            self.follow_ice(id, event);
        }
        if let Some(bundle) = self.bundles.nth_mut(place) {
            bundle.transport.try_start(now);
            while let Some(line) = bundle.transport.key_log.pop_front() {
                self.events.push_back(Event::KeyLog(line));
            }
        }
    }

    fn follow_ice(&mut self, id: TransportId, event: ice::Event) {
        let now = self.now;
        let Some(bundle) = self.bundles.get_mut(id) else {
            return;
        };
        match event {
            // One that is over, or that no section uses, has nothing to tell but what its connections need.
            ice::Event::Connect(connect) => self.events.push_back(Event::IceConnect(connect)),
            ice::Event::Disconnect(path) => self.events.push_back(Event::IceDisconnect(path)),
            ice::Event::ResolveName(name) => self.events.push_back(Event::ResolveName(name)),
            _ if bundle.stage == Stage::Over => {}
            ice::Event::Candidate(candidate) => {
                let ufrag = bundle.local_ufrag().to_owned();
                let line = candidate.to_string();
                let text = line.strip_prefix("candidate:").unwrap_or(&line).to_owned();
                self.candidates.add_local(id, &ufrag, text);
                self.tell_candidate(id, line, ufrag);
            }
            ice::Event::GatheringState(state) => {
                // webrtc-pc section 5.6: the end of this session's candidates, the state, and the
                // end of all.
                bundle.gathering_state = state;
                if state == ice::GatheringState::Complete {
                    let ufrag = bundle.local_ufrag().to_owned();
                    self.tell_candidate(id, String::new(), ufrag);
                }
                self.follow_gathering_state();
            }
            ice::Event::CandidateError {
                local,
                url,
                code,
                text,
            } => self.events.push_back(Event::IceCandidateError {
                local,
                url: url.into(),
                code,
                text: text.into(),
            }),
            ice::Event::ConnectionState(state) => {
                bundle.ice_state = state;
                self.follow_ice_state();
            }
            ice::Event::SelectedPair(pair) => {
                bundle.media.path_changed(now);
                bundle.transport.path_changed(now);
                let (local, remote) = (pair.local.to_string(), pair.remote.to_string());
                let what = Decision::SelectedPair { local, remote };
                self.log.note(now, what);
                self.events.push_back(Event::SelectedPair(pair));
            }
            _ => {}
        }
    }

    fn tell_candidate(&mut self, id: TransportId, candidate: String, ufrag: String) {
        let Some((sdp_mid, sdp_mline_index)) = self.candidate_section(id) else {
            return;
        };
        self.events
            .push_back(Event::IceCandidate(Some(IceCandidate {
                candidate,
                sdp_mid,
                sdp_mline_index,
                username_fragment: Some(ufrag),
            })));
    }

    pub(super) fn follow_gathering_state(&mut self) {
        let state = self.bundles.gathering_state();
        if state == self.gathering_state {
            return;
        }
        self.gathering_state = state;
        self.events.push_back(Event::IceGatheringState(state));
        if state == ice::GatheringState::Complete {
            self.events.push_back(Event::IceCandidate(None));
        }
    }

    pub(super) fn follow_ice_state(&mut self) {
        let state = self.bundles.ice_state();
        if state == self.ice_state {
            return;
        }
        self.ice_state = state;
        self.log.note(self.now, Decision::Ice(state));
        self.events.push_back(Event::IceConnectionState(state));
        self.update_connection_state();
    }

    pub(super) fn follow_dtls_state(&mut self) {
        let state = self.bundles.dtls_state();
        if state == self.dtls_state {
            return;
        }
        self.dtls_state = state;
        self.log.note(self.now, Decision::Dtls(state));
        self.events.push_back(Event::DtlsState(state));
        self.update_connection_state();
    }

    /// webrtc-pc section 4.3.3.
    fn update_connection_state(&mut self) {
        use ice::ConnectionState as Ice;
        let state = match (self.ice_state, self.dtls_state) {
            (Ice::Failed, _) | (_, DtlsState::Failed) => ConnectionState::Failed,
            (Ice::Disconnected, _) => ConnectionState::Disconnected,
            (Ice::New | Ice::Closed, DtlsState::New | DtlsState::Closed) => ConnectionState::New,
            (
                Ice::Connected | Ice::Completed | Ice::Closed,
                DtlsState::Connected | DtlsState::Closed,
            ) => ConnectionState::Connected,
            _ => ConnectionState::Connecting,
        };
        if state != self.connection_state {
            self.connection_state = state;
            self.log.note(self.now, Decision::Connection(state));
            self.events.push_back(Event::ConnectionState(state));
        }
    }
}
