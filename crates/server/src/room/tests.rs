//! The room by itself: no network, no media, time as a number.

use std::time::{Duration, Instant};

use livekit_protocol as proto;
use prost::Message as _;
use proto::{
    DisconnectReason, TrackSource, TrackType, data_packet, leave_request::Action,
    request_response::Reason, signal_request::Message as Request, signal_response::Message,
};

use super::*;
use crate::token::{Claims, VideoGrant};

struct World {
    room: Room,
    now: Now,
}

impl World {
    fn new() -> Self {
        Self::with(&proto::CreateRoomRequest {
            name: "atrium".into(),
            ..Default::default()
        })
    }

    fn with(request: &proto::CreateRoomRequest) -> Self {
        let now = Now {
            instant: Instant::now(),
            unix_millis: 1_700_000_000_000,
        };
        Self {
            room: Room::new(request, RoomLimits::default(), now),
            now,
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now.instant += time;
        self.now.unix_millis += i64::try_from(time.as_millis()).unwrap();
        self.room.handle_timeout(self.now);
    }

    fn try_join(&mut self, identity: &str, grant: VideoGrant) -> Result<ParticipantKey, JoinError> {
        let joiner = Joiner {
            claims: Claims {
                identity: identity.into(),
                video: Some(grant),
                ..Claims::default()
            },
            client: proto::ClientInfo {
                protocol: 17,
                ..Default::default()
            },
            mode: Mode::Single,
            auto_subscribe: true,
            adaptive_stream: false,
            disable_ice_lite: false,
            ice_servers: Vec::new(),
        };
        let key = self.room.join(joiner, self.now);
        self.room.settle(self.now);
        key
    }

    fn join(&mut self, identity: &str) -> ParticipantKey {
        let key = self.try_join(identity, VideoGrant::default()).unwrap();
        self.room.media_connected(key, self.now);
        self.room.media_ready(key);
        self.room.settle(self.now);
        key
    }

    fn ask(&mut self, key: ParticipantKey, request: Request) {
        self.room.request(key, request, self.now);
        self.room.settle(self.now);
    }

    /// Announces a track and negotiates it; returns its sid.
    fn publish(&mut self, key: ParticipantKey, source: TrackSource) -> String {
        self.drain();
        let kind = if source == TrackSource::Microphone {
            TrackType::Audio
        } else {
            TrackType::Video
        };
        let cid = format!("cid-{source:?}");
        self.ask(key, Request::AddTrack(add_track(&cid, kind, source)));
        let publication = self
            .room
            .match_section(key, kind, &cid, "5")
            .expect("announced");
        self.room
            .track_negotiated(key, &publication, "5", &cid, "", self.now);
        self.room.settle(self.now);
        publication.track_sid
    }

    fn drain(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.room.poll_effect()).collect()
    }
}

fn add_track(cid: &str, kind: TrackType, source: TrackSource) -> proto::AddTrackRequest {
    proto::AddTrackRequest {
        cid: cid.into(),
        r#type: kind.into(),
        source: source.into(),
        ..Default::default()
    }
}

fn sent(effects: &[Effect], to: ParticipantKey) -> Vec<&Message> {
    let message = |effect| match effect {
        &Effect::Send {
            to: receiver,
            ref message,
        } if receiver == to => message.message(),
        _ => None,
    };
    effects.iter().filter_map(message).collect()
}

fn webhooks(effects: &[Effect]) -> Vec<&str> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Webhook(event) => Some(event.event.as_str()),
            _ => None,
        })
        .collect()
}

fn media(effects: &[Effect]) -> Vec<String> {
    let command = |effect: &Effect| match effect {
        Effect::Media(command) => Some(format!("{command:?}")),
        _ => None,
    };
    effects.iter().filter_map(command).collect()
}

#[test]
fn who_joins_gets_the_room_first_and_the_others_learn_of_it() {
    let mut world = World::new();
    let alice = world.join("alice");
    world.drain();
    let bob = world.try_join("bob", VideoGrant::default()).unwrap();
    let effects = world.drain();
    let Message::Join(join) = sent(&effects, bob)[0] else {
        panic!("the first message is join")
    };
    assert_eq!(join.room.as_ref().unwrap().name, "atrium");
    assert_eq!(join.other_participants.len(), 1);
    assert_eq!(join.other_participants[0].identity, "alice");
    let update = sent(&effects, alice)
        .into_iter()
        .find_map(|message| match message {
            Message::Update(update) => Some(update),
            _ => None,
        });
    assert_eq!(update.unwrap().participants[0].identity, "bob");
}

#[test]
fn a_second_session_of_an_identity_ends_the_first() {
    let mut world = World::new();
    let first = world.join("alice");
    world.drain();
    let second = world.join("alice");
    let effects = world.drain();
    let leave = sent(&effects, first)
        .into_iter()
        .find_map(|message| match message {
            Message::Leave(leave) => Some(leave),
            _ => None,
        });
    assert_eq!(leave.unwrap().reason(), DisconnectReason::DuplicateIdentity);
    assert_eq!(leave.unwrap().action(), Action::Disconnect);
    assert!(world.room.participant(first).is_none() && world.room.participant(second).is_some());
    assert_eq!(
        webhooks(&effects),
        ["participant_left", "participant_joined"]
    );
}

#[test]
fn a_full_room_refuses_but_a_session_may_be_replaced() {
    let request = proto::CreateRoomRequest {
        name: "closet".into(),
        max_participants: 1,
        ..Default::default()
    };
    let mut world = World::with(&request);
    world.join("alice");
    assert_eq!(
        world.try_join("bob", VideoGrant::default()),
        Err(JoinError::Full)
    );
    assert!(world.try_join("alice", VideoGrant::default()).is_ok());
}

#[test]
fn a_hidden_participant_is_seen_by_nobody() {
    let mut world = World::new();
    let alice = world.join("alice");
    world.drain();
    world
        .try_join(
            "ghost",
            VideoGrant {
                hidden: true,
                ..Default::default()
            },
        )
        .unwrap();
    let carol = world.try_join("carol", VideoGrant::default()).unwrap();
    let effects = world.drain();
    let Message::Join(join) = sent(&effects, carol)[0] else {
        panic!()
    };
    assert_eq!(join.other_participants.len(), 1);
    for message in sent(&effects, alice) {
        if let Message::Update(update) = message {
            assert!(
                update
                    .participants
                    .iter()
                    .all(|participant| participant.identity != "ghost")
            );
        }
    }
}

#[test]
fn a_track_is_seen_when_it_was_negotiated_and_subscribed_by_all() {
    let mut world = World::new();
    let alice = world.join("alice");
    let bob = world.join("bob");
    world.drain();
    world.ask(
        alice,
        Request::AddTrack(add_track("mic", TrackType::Audio, TrackSource::Microphone)),
    );
    let effects = world.drain();
    assert!(matches!(
        sent(&effects, alice)[..],
        [Message::TrackPublished(_)]
    ));
    assert!(sent(&effects, bob).is_empty());

    let publication = world
        .room
        .match_section(alice, TrackType::Audio, "mic", "4")
        .unwrap();
    world
        .room
        .track_negotiated(alice, &publication, "4", "mic", "audio/opus", world.now);
    world.room.settle(world.now);
    let effects = world.drain();
    assert!(webhooks(&effects).contains(&"track_published"));
    assert!(
        media(&effects)
            .iter()
            .any(|command| command.starts_with("Subscribe"))
    );
    assert!(
        world
            .room
            .participant(bob)
            .unwrap()
            .is_subscribed(&publication.track_sid)
    );
    assert!(
        sent(&effects, alice)
            .iter()
            .any(|message| matches!(message, Message::TrackSubscribed(_)))
    );
    assert!(
        world
            .room
            .match_section(alice, TrackType::Audio, "mic", "4")
            .is_none(),
        "once"
    );
}

#[test]
fn an_early_sdk_in_rust_is_told_nothing_that_it_does_not_know() {
    for (protocol, is_told) in [(9, false), (10, true)] {
        let mut world = World::new();
        let alice = world.join("alice");
        world.join("bob");
        world.drain();
        let client = &mut world.room.participants.get_mut(&alice).unwrap().client;
        client.set_sdk(proto::client_info::Sdk::Rust);
        client.protocol = protocol;
        world.publish(alice, TrackSource::Microphone);
        let effects = world.drain();
        let told = sent(&effects, alice);
        let mut told = told.iter();
        let told = told.any(|message| matches!(message, Message::TrackSubscribed(_)));
        assert_eq!(told, is_told, "protocol {protocol}");
    }
}

#[test]
fn publishing_without_permission_is_refused_with_the_reason() {
    let mut world = World::new();
    let grant = VideoGrant {
        can_publish_sources: vec!["microphone".into()],
        ..Default::default()
    };
    let alice = world.try_join("alice", grant).unwrap();
    world.drain();
    world.ask(
        alice,
        Request::AddTrack(add_track("cam", TrackType::Video, TrackSource::Camera)),
    );
    let effects = world.drain();
    let [Message::RequestResponse(response)] = sent(&effects, alice)[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(response.reason(), Reason::NotAllowed);
    assert!(world.room.participant(alice).unwrap().tracks().is_empty());
}

#[test]
fn more_tracks_than_the_limit_are_refused() {
    let mut world = World::new();
    let alice = world.join("alice");
    for index in 0..=RoomLimits::default().tracks_per_participant {
        world.drain();
        world.ask(
            alice,
            Request::AddTrack(add_track(
                &index.to_string(),
                TrackType::Audio,
                TrackSource::Unknown,
            )),
        );
    }
    let effects = world.drain();
    let [Message::RequestResponse(response)] = sent(&effects, alice)[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(response.reason(), Reason::LimitExceeded);
}

#[test]
fn wishes_for_unknown_tracks_are_answered_and_bounded() {
    let mut world = World::new();
    let alice = world.join("alice");
    world.drain();
    let sids: Vec<String> = (0..10_000).map(|index| format!("TR_{index}")).collect();
    let update = proto::UpdateSubscription {
        track_sids: sids,
        subscribe: true,
        ..Default::default()
    };
    world.ask(alice, Request::Subscription(update));
    let effects = world.drain();
    let Message::SubscriptionResponse(response) = sent(&effects, alice)[0] else {
        panic!()
    };
    assert_eq!(response.err(), proto::SubscriptionError::SeTrackNotfound);
    let kept = world.room.participants[&alice].subscriptions.len();
    assert_eq!(kept, RoomLimits::default().subscriptions_per_participant);
}

#[test]
fn muting_or_unpublishing_an_unknown_track_does_nothing() {
    let mut world = World::new();
    let alice = world.join("alice");
    world.drain();
    world.ask(
        alice,
        Request::Mute(proto::MuteTrackRequest {
            sid: "TR_nowhere".into(),
            muted: true,
        }),
    );
    assert!(world.drain().is_empty());
    assert_eq!(
        world
            .room
            .mute_track("alice", "TR_nowhere", true, false, world.now)
            .unwrap_err(),
        AdminError::NoTrack
    );
}

#[test]
fn a_permission_that_is_taken_away_takes_the_track_along() {
    let mut world = World::new();
    let alice = world.join("alice");
    world.join("bob");
    let track = world.publish(alice, TrackSource::Camera);
    world.drain();
    let permission = proto::ParticipantPermission {
        can_publish: false,
        can_subscribe: true,
        ..Default::default()
    };
    let update = proto::UpdateParticipantRequest {
        identity: "alice".into(),
        permission: Some(permission),
        ..Default::default()
    };
    let info = world.room.update_participant(&update, world.now).unwrap();
    world.room.settle(world.now);
    assert!(info.tracks.is_empty() && !info.permission.unwrap().can_publish);
    let effects = world.drain();
    assert!(sent(&effects, alice).iter().any(
        |message| matches!(message, Message::TrackUnpublished(unpublished) if unpublished.track_sid == track)
    ));
    assert!(media(&effects).contains(&format!("Unpublish(\"{track}\")")));
}

#[test]
fn a_fresh_token_grants_what_is_left_and_no_more() {
    let mut world = World::new();
    let alice = world.join("alice");
    world.drain();
    let update = proto::UpdateParticipantRequest {
        identity: "alice".into(),
        permission: Some(proto::ParticipantPermission {
            can_subscribe: true,
            ..Default::default()
        }),
        ..Default::default()
    };
    world.room.update_participant(&update, world.now).unwrap();
    let refreshed = |effect: &Effect| matches!(effect, Effect::RefreshToken(of) if *of == alice);
    assert!(world.drain().iter().any(refreshed));
    let granted = world.room.participant(alice).unwrap().claims.video.clone();
    let granted = granted.unwrap();
    assert!(granted.may_subscribe());
    assert!(!granted.may_publish() && !granted.may_publish_data());
    assert!(!granted.may_update_metadata());
}

#[test]
fn a_publisher_chooses_who_may_subscribe() {
    let mut world = World::new();
    let alice = world.join("alice");
    let bob = world.join("bob");
    let carol = world.join("carol");
    let track = world.publish(alice, TrackSource::Microphone);
    let permission = proto::TrackPermission {
        participant_identity: "bob".into(),
        all_tracks: true,
        ..Default::default()
    };
    let permission = proto::SubscriptionPermission {
        all_participants: false,
        track_permissions: vec![permission],
    };
    world.drain();
    world.ask(alice, Request::SubscriptionPermission(permission));
    let effects = world.drain();
    assert!(world.room.participant(bob).unwrap().is_subscribed(&track));
    assert!(!world.room.participant(carol).unwrap().is_subscribed(&track));
    assert!(matches!(
        sent(&effects, carol)[..],
        [Message::SubscriptionPermissionUpdate(update)] if !update.allowed
    ));
}

#[test]
fn one_may_change_oneself_only_with_permission_and_within_limits() {
    let mut world = World::new();
    let alice = world.join("alice");
    let bob = world
        .try_join(
            "bob",
            VideoGrant {
                can_update_own_metadata: Some(true),
                ..Default::default()
            },
        )
        .unwrap();
    let update = |metadata: String| {
        Request::UpdateMetadata(proto::UpdateParticipantMetadata {
            metadata,
            request_id: 7,
            ..Default::default()
        })
    };
    let reason = |world: &mut World, key| {
        let effects = world.drain();
        let answer = sent(&effects, key)
            .into_iter()
            .find_map(|message| match message {
                Message::RequestResponse(response) => {
                    Some((response.request_id, response.reason()))
                }
                _ => None,
            });
        answer.unwrap()
    };
    world.drain();
    world.ask(alice, update("x".into()));
    assert_eq!(reason(&mut world, alice), (7, Reason::NotAllowed));
    world.ask(bob, update("x".into()));
    assert_eq!(reason(&mut world, bob), (7, Reason::Ok));
    world.ask(
        bob,
        update("x".repeat(RoomLimits::default().metadata_bytes + 1)),
    );
    assert_eq!(reason(&mut world, bob), (7, Reason::LimitExceeded));
    assert_eq!(world.room.participant(bob).unwrap().claims.metadata, "x");
}

fn user_packet(sequence: u32, to: &[&str]) -> Vec<u8> {
    let user = proto::UserPacket {
        payload: b"hello".to_vec(),
        ..Default::default()
    };
    proto::DataPacket {
        sequence,
        destination_identities: to.iter().map(|identity| (*identity).to_owned()).collect(),
        participant_identity: "somebody else".into(),
        value: Some(data_packet::Value::User(user)),
        ..Default::default()
    }
    .encode_to_vec()
}

fn delivered(effects: &[Effect]) -> Vec<(ParticipantKey, proto::DataPacket)> {
    let packet = |effect| match effect {
        &Effect::Media(MediaCommand::Data { to, ref packet, .. }) => {
            Some((to, proto::DataPacket::decode(packet.clone()).unwrap()))
        }
        _ => None,
    };
    effects.iter().filter_map(packet).collect()
}

#[test]
fn data_goes_to_whom_it_is_for_with_its_true_sender() {
    let mut world = World::new();
    let alice = world.join("alice");
    let bob = world.join("bob");
    let carol = world.join("carol");
    world.drain();
    world
        .room
        .data(alice, DataKind::Reliable, &user_packet(1, &[]), world.now);
    let all = delivered(&world.drain());
    assert_eq!(
        all.iter().map(|(to, _)| *to).collect::<Vec<_>>(),
        [bob, carol]
    );
    assert_eq!(all[0].1.participant_identity, "alice");
    world.room.data(
        alice,
        DataKind::Reliable,
        &user_packet(2, &["carol", "nobody"]),
        world.now,
    );
    assert_eq!(
        delivered(&world.drain())
            .iter()
            .map(|(to, _)| *to)
            .collect::<Vec<_>>(),
        [carol]
    );
}

#[test]
fn data_that_is_sent_twice_arrives_once_and_what_was_missed_is_replayed() {
    let mut world = World::new();
    let alice = world.join("alice");
    let bob = world.join("bob");
    for sequence in 1..=5 {
        world.room.data(
            alice,
            DataKind::Reliable,
            &user_packet(sequence, &[]),
            world.now,
        );
    }
    world.drain();
    world
        .room
        .data(alice, DataKind::Reliable, &user_packet(5, &[]), world.now);
    assert!(delivered(&world.drain()).is_empty());

    let (bob_sid, alice_sid) = (
        world.room.participants[&bob].sid.clone(),
        world.room.participants[&alice].sid.clone(),
    );
    world.room.signal_lost(bob, world.now);
    world
        .room
        .resume(&bob_sid, "bob", Vec::new(), world.now)
        .unwrap();
    let state = proto::SyncState {
        datachannel_receive_states: vec![proto::DataChannelReceiveState {
            publisher_sid: alice_sid,
            last_seq: 3,
        }],
        ..Default::default()
    };
    world.drain();
    world.ask(bob, Request::SyncState(state));
    let sequences: Vec<u32> = delivered(&world.drain())
        .iter()
        .map(|(_, packet)| packet.sequence)
        .collect();
    assert_eq!(sequences, [4, 5]);
}

#[test]
fn data_without_permission_or_without_sense_goes_nowhere() {
    let mut world = World::new();
    let mute = world
        .try_join(
            "mute",
            VideoGrant {
                can_publish_data: Some(false),
                ..Default::default()
            },
        )
        .unwrap();
    let alice = world.join("alice");
    world.join("bob");
    world.drain();
    world
        .room
        .data(mute, DataKind::Reliable, &user_packet(1, &[]), world.now);
    world
        .room
        .data(alice, DataKind::Reliable, &[0xff; 100], world.now);
    world.room.data(
        alice,
        DataKind::Reliable,
        &vec![0; RoomLimits::default().data_bytes + 1],
        world.now,
    );
    world
        .room
        .data(alice, DataKind::DataTrack, &[1, 2, 3], world.now);
    assert!(delivered(&world.drain()).is_empty());
}

#[test]
fn who_resumes_keeps_its_session_and_who_does_not_is_gone() {
    let mut world = World::new();
    let alice = world.join("alice");
    let sid = world.room.participant(alice).unwrap().sid.clone();
    world.room.signal_lost(alice, world.now);
    world.pass(Duration::from_secs(10));
    assert_eq!(
        world.room.resume(&sid, "mallory", Vec::new(), world.now),
        Err(JoinError::UnknownSession)
    );
    assert_eq!(
        world.room.resume(&sid, "alice", Vec::new(), world.now),
        Ok(alice)
    );
    world.pass(Duration::from_secs(60));
    assert!(world.room.participant(alice).is_some());
    world.room.signal_lost(alice, world.now);
    world.pass(Duration::from_secs(16));
    assert!(world.room.participant(alice).is_none());
    assert_eq!(
        world.room.resume(&sid, "alice", Vec::new(), world.now),
        Err(JoinError::UnknownSession)
    );
}

#[test]
fn who_vanishes_before_its_media_is_connected_leaves_nothing_behind() {
    let mut world = World::new();
    let alice = world.try_join("alice", VideoGrant::default()).unwrap();
    world.ask(
        alice,
        Request::AddTrack(add_track("mic", TrackType::Audio, TrackSource::Microphone)),
    );
    world.room.signal_lost(alice, world.now);
    let effects = world.drain();
    assert!(world.room.participant(alice).is_none());
    assert!(
        media(&effects)
            .iter()
            .any(|command| command.starts_with("Close"))
    );
    assert!(webhooks(&effects).contains(&"participant_connection_aborted"));
}

#[test]
fn an_empty_room_ends_after_its_timeout() {
    let mut world = World::new();
    world.pass(Duration::from_secs(299));
    assert!(!world.room.is_closed());
    let alice = world.join("alice");
    world
        .room
        .remove(alice, DisconnectReason::ClientInitiated, world.now);
    world.drain();
    world.pass(Duration::from_secs(19));
    assert!(!world.room.is_closed());
    world.pass(Duration::from_secs(2));
    assert!(world.room.is_closed());
    assert_eq!(webhooks(&world.drain()), ["room_finished"]);
    assert_eq!(
        world.try_join("bob", VideoGrant::default()),
        Err(JoinError::Closed)
    );
}

#[test]
fn a_large_room_is_told_in_batches() {
    let mut world = World::new();
    let first = world.join("first");
    for index in 0..100 {
        world.join(&format!("guest {index}"));
    }
    let told = |effects: &[Effect]| {
        sent(effects, first)
            .iter()
            .filter(|message| matches!(message, Message::Update(_)))
            .count()
    };
    let before = told(&world.drain());
    assert!(before < 2 * BATCH_ABOVE + 2, "{before} updates");
    world.pass(BATCH_INTERVAL);
    assert_eq!(told(&world.drain()), 1);
}

#[test]
fn a_server_may_silence_a_track_but_not_open_it() {
    let mut world = World::new();
    let alice = world.join("alice");
    let track = world.publish(alice, TrackSource::Microphone);
    world.drain();
    let info = world
        .room
        .mute_track("alice", &track, true, false, world.now)
        .unwrap();
    assert!(info.muted);
    let effects = world.drain();
    assert!(
        sent(&effects, alice)
            .iter()
            .any(|message| matches!(message, Message::Mute(mute) if mute.muted))
    );
    assert_eq!(
        world
            .room
            .mute_track("alice", &track, false, false, world.now)
            .unwrap_err(),
        AdminError::RemoteUnmute
    );
}

#[test]
fn a_backup_codec_joins_the_track_that_exists() {
    let mut world = World::new();
    let alice = world.join("alice");
    world.drain();
    let codec = |codec: &str, cid: &str| proto::SimulcastCodec {
        codec: codec.into(),
        cid: cid.into(),
        ..Default::default()
    };
    let mut request = add_track("cam", TrackType::Video, TrackSource::Camera);
    request.simulcast_codecs = vec![codec("vp9", "cam"), codec("vp8", "")];
    world.ask(alice, Request::AddTrack(request));
    let publication = world
        .room
        .match_section(alice, TrackType::Video, "cam", "7")
        .unwrap();
    world
        .room
        .track_negotiated(alice, &publication, "7", "cam", "video/VP9", world.now);
    let mut backup = add_track("cam-backup", TrackType::Video, TrackSource::Camera);
    backup.sid.clone_from(&publication.track_sid);
    backup.simulcast_codecs = vec![codec("vp8", "cam-backup")];
    world.ask(alice, Request::AddTrack(backup));
    let second = world
        .room
        .match_section(alice, TrackType::Video, "cam-backup", "8")
        .unwrap();
    assert_eq!(second.track_sid, publication.track_sid);
    assert!(second.additional);
    assert_eq!(second.codec_index, 1);
}

#[test]
fn data_tracks_are_found_by_name_and_carry_the_rooms_handles() {
    let mut world = World::new();
    let alice = world.join("alice");
    let bob = world.join("bob");
    world.drain();
    let request = proto::PublishDataTrackRequest {
        pub_handle: 9,
        name: "position".into(),
        ..Default::default()
    };
    world.ask(alice, Request::PublishDataTrackRequest(request.clone()));
    world.ask(alice, Request::PublishDataTrackRequest(request));
    let effects = world.drain();
    let answers = sent(&effects, alice);
    let Message::PublishDataTrackResponse(published) = answers[0] else {
        panic!("{answers:?}")
    };
    assert!(answers.iter().any(
        |message| matches!(message, Message::RequestResponse(response) if response.reason() == Reason::DuplicateHandle)
    ));
    let sid = published.info.as_ref().unwrap().sid.clone();
    let update = proto::update_data_subscription::Update {
        track_sid: sid,
        subscribe: true,
        options: None,
    };
    world.ask(
        bob,
        Request::UpdateDataSubscription(proto::UpdateDataSubscription {
            updates: vec![update],
        }),
    );
    let effects = world.drain();
    let [Message::DataTrackSubscriberHandles(handles)] = sent(&effects, bob)[..] else {
        panic!()
    };
    let handle = u16::try_from(*handles.sub_handles.keys().next().unwrap()).unwrap();
    let mut packet = [0u8; 20];
    packet[3] = 9;
    world
        .room
        .data(alice, DataKind::DataTrack, &packet, world.now);
    let Some(Effect::Media(MediaCommand::Data { to, packet, .. })) = world.drain().pop() else {
        panic!()
    };
    assert_eq!((to, &packet[2..4]), (bob, &handle.to_be_bytes()[..]));
}

#[test]
fn a_section_without_an_id_is_the_track_of_its_kind() {
    let mut world = World::new();
    let gst = world.join("gst");
    for (cid, kind) in [("whip-0", TrackType::Video), ("whip-1", TrackType::Audio)] {
        let request = proto::AddTrackRequest {
            cid: cid.into(),
            r#type: kind.into(),
            ..Default::default()
        };
        world.ask(gst, Request::AddTrack(request));
    }
    let mut sids = Vec::new();
    for (kind, mid) in [(TrackType::Video, "0"), (TrackType::Audio, "1")] {
        let publication = world.room.match_section(gst, kind, "", mid).unwrap();
        assert!(!publication.additional);
        world
            .room
            .track_negotiated(gst, &publication, mid, "", "", world.now);
        sids.push(publication.track_sid);
    }
    assert_ne!(sids[0], sids[1]);
    world.room.codec_known(gst, "0", "VP8", world.now);
    let (_, track) = world.room.track(&sids[0]).unwrap();
    assert_eq!(track.info.mime_type, "video/VP8");
    assert_eq!(track.info.codecs[0].mime_type, "video/VP8");
}
