//! What a description that was set means for the transport.

use std::sync::Arc;
use std::time::Instant;

use visavis_dtls as dtls;
use visavis_ice as ice;
use visavis_sdp::{SessionDescription, Setup};

use super::PeerConnection;
use super::bundle::{Stage, TransportId};
use crate::error::Error;
use crate::events::{Event, SctpState};
use crate::jsep::{
    Jsep, Outcome, SdpType, SectionGroup, SignalingState, TransportDescription, section_groups,
};
use crate::transport::Remote;

impl PeerConnection {
    /// Follows a description that was set.
    pub(super) fn follow(&mut self, now: Instant, outcome: Outcome) {
        for event in outcome.events {
            if let Event::TrackMuted(id) = event {
                self.bundles
                    .of_mut(&self.jsep.transceivers, id)
                    .media
                    .mute(id);
            }
            self.events.push_back(event);
        }
        if let Some(local_answer) = outcome.answered {
            self.apply_exchange(now, local_answer);
        }
        if outcome.rolled_back {
            self.bundles
                .retire(now, |bundle| bundle.stage == Stage::InForce);
            self.bundles.close_those_over(now);
        }
        if outcome.local_set {
            for bundle in self.bundles.iter_mut() {
                bundle.gather(now);
            }
        }
        if self.jsep.state == SignalingState::Stable {
            self.follow_restart();
            self.update_negotiation_needed = true;
        }
        for bundle in self.bundles.iter_mut() {
            bundle.transport.try_start(now);
        }
        self.drain(now);
    }

    /// Judges what the transport will have to take from an exchange, before it is in force.
    pub(super) fn check_exchange(jsep: &Jsep) -> Result<(), Error> {
        let Some((_, remote)) = jsep.exchange() else {
            return Ok(());
        };
        match TransportDescription::of(&remote.sdp)? {
            Some(transport) if transport.known_fingerprints().is_empty() => Err(Error::access(
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
        // The answer says which sections share a transport.
        let groups = section_groups(if local_answer { &local } else { &remote.sdp });
        if groups.is_empty() {
            return;
        }
        // In an answer that is ours credentials of their own were written, in an offer those of the main transport.
        let credentials = |group: &SectionGroup| {
            let written = TransportDescription::at(&local, group.carrier).ok()?;
            Some(ice::Credentials::new(written.ufrag, written.pwd))
        };
        let users = self.assign(now, &groups, credentials);
        self.bundles
            .retire(now, |bundle| users.contains(&Some(bundle.id)));
        for (group, user) in groups.iter().zip(users) {
            if let Some(id) = user {
                self.apply_group(now, id, group, (&local, &remote), local_answer);
            }
        }
        self.give_waiting(now);
        self.follow_ice_state();
        self.follow_gathering_state();
        self.apply_data(&local, &remote.sdp);
        self.configure_media();
        // What they had for the application is elsewhere now.
        self.bundles.close_those_over(now);
    }

    /// Says which transport each group of sections uses: the one that its sections had, the main one if it is free, or one that
    /// is made now.
    fn assign(
        &mut self,
        now: Instant,
        groups: &[SectionGroup],
        credentials: impl Fn(&SectionGroup) -> Option<ice::Credentials>,
    ) -> Vec<Option<TransportId>> {
        let sections = &self.jsep.sections;
        let mids_of = |group: &SectionGroup| -> Vec<String> {
            let places = group.sections.iter();
            places
                .filter_map(|&place| Some(sections.get(place)?.mid.clone()))
                .collect()
        };
        let mut users: Vec<Option<TransportId>> = vec![None; groups.len()];
        for (place, group) in groups.iter().enumerate() {
            let carrier = sections.get(group.carrier).map(|section| &section.mid);
            let had = carrier.into_iter().chain(&mids_of(group)).find_map(|mid| {
                let id = self.bundles.carrying(mid)?.id;
                (!users.contains(&Some(id))).then_some(id)
            });
            users[place] = had;
        }
        for (place, group) in groups.iter().enumerate() {
            if users[place].is_some() {
                continue;
            }
            let main = TransportId::MAIN;
            users[place] = if users.contains(&Some(main)) {
                let made = self.bundles.add(now, mids_of(group), credentials(group));
                self.events.extend(made.map(Event::AddressesWanted));
                made
            } else {
                Some(main)
            };
        }
        users
    }

    /// Makes the transports that an answer to the pending offer will need beside the ones that are there.
    pub(super) fn propose_transports(&mut self, now: Instant) {
        let Some(offer) = self.jsep.pending_remote.clone() else {
            return;
        };
        let groups = self.jsep.accepted_groups(SdpType::Offer, &offer.sdp);
        if groups.len() > 1 {
            self.assign(now, &groups, |_| None);
        }
    }

    fn apply_group(
        &mut self,
        now: Instant,
        id: TransportId,
        group: &SectionGroup,
        (local, remote): (&SessionDescription, &crate::jsep::Applied),
        local_answer: bool,
    ) {
        let section = group.carrier;
        let Ok(transport) = TransportDescription::described(&remote.sdp, section) else {
            return;
        };
        let role = self.ice_role(&transport, local_answer);
        let mids = group.sections.iter();
        let mids = mids.filter_map(|&place| Some(self.jsep.sections.get(place)?.mid.clone()));
        let mids = mids.collect();
        let Some(bundle) = self.bundles.get_mut(id) else {
            return;
        };
        bundle.mids = mids;
        bundle.stage = Stage::InForce;
        if bundle.remote_credentials.is_none() {
            bundle.transport.ice.set_role(now, role);
        }
        bundle.gather(now);
        self.apply_remote_ice(now, id, remote, &transport);

        let attributes = &local.media[section].attributes;
        let setup = match local_answer {
            true => attributes.setup(),
            false => transport.setup.map(|setup| match setup {
                Setup::Passive => Setup::Active,
                _ => Setup::Passive,
            }),
        };
        let named = attributes.tls_id();
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
        let fingerprints = transport.known_fingerprints();
        if let Some(bundle) = self.bundles.get_mut(id) {
            bundle.transport.set_remote(
                now,
                Remote {
                    role,
                    fingerprints,
                    tls_id: transport.tls_id,
                },
            );
        }
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
    fn apply_data(&mut self, local: &SessionDescription, remote: &SessionDescription) {
        let sections = self.jsep.data.section.and_then(|index| {
            let (local, remote) = (local.media.get(index)?, remote.media.get(index)?);
            (!local.is_rejected() && !remote.is_rejected()).then_some((local, remote))
        });
        let Some((local, remote)) = sections else {
            let now = self.now;
            if !self.jsep.data.requested
                && let Some(channels) =
                    &mut self.bundles.with_channels_mut().transport.data.channels
            {
                // The peer refused the section: what was opened will never be.
                channels.abort(now);
                if self.sctp_state.take().is_some() {
                    self.events.push_back(Event::SctpState(SctpState::Closed));
                }
            }
            return;
        };
        let data = &self.bundles.with_channels().transport.data;
        if !data.sctp_started
            && let Some(port) = remote.sctp_port()
            && port != self.sctp.remote_port
            && data.channels.is_none()
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
        if let Some(mid) = local.attributes.mid() {
            self.bundles.move_channels(mid);
        }
        let data = &mut self.bundles.with_channels_mut().transport.data;
        data.negotiated = true;
        if data.remote_init.is_none() && !data.sctp_started {
            data.remote_init = init;
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
        let groups = section_groups(&remote.sdp);
        for bundle in self.bundles.iter_mut() {
            let Some(applied) = &bundle.remote_credentials else {
                continue;
            };
            let group = groups.iter().find(|group| {
                let mids = group.sections.iter().filter_map(|&place| {
                    let section = self.jsep.sections.get(place)?;
                    Some(&section.mid)
                });
                mids.into_iter().any(|mid| bundle.carries(mid))
            });
            // Where none of its sections is left, the first transport goes on with what comes in their place.
            let carrier = group.or(groups.first()).map(|group| group.carrier);
            let offered =
                carrier.and_then(|place| TransportDescription::described(&remote.sdp, place).ok());
            let restarted = offered.is_some_and(|offered| *applied != (offered.ufrag, offered.pwd));
            let unchanged = bundle.described_ufrag.as_deref() == Some(bundle.local_ufrag());
            if restarted && unchanged {
                bundle.transport.ice.restart(now);
            }
        }
    }

    /// A restart that was wanted is done when the description in force has other credentials. One whose sections are all stopped
    /// has none: those before it stay in force.
    fn follow_restart(&mut self) {
        let Some(current) = &self.jsep.current_local else {
            return;
        };
        let sdp = &current.sdp;
        for place in 0..=self.bundles.apart.len() {
            let Some(bundle) = self.bundles.iter().nth(place) else {
                continue;
            };
            let carrier = self.bundles.carrier_of(bundle, sdp);
            let described = carrier.and_then(|section| TransportDescription::at(sdp, section).ok());
            let Some(bundle) = self.bundles.nth_mut(place) else {
                continue;
            };
            if let Some(described) = described {
                bundle.described_ufrag = Some(described.ufrag);
            }
            if bundle.replaced_ufrag.is_some() && bundle.described_ufrag != bundle.replaced_ufrag {
                bundle.replaced_ufrag = None;
                self.jsep.restart_needed = false;
            }
        }
    }
}
