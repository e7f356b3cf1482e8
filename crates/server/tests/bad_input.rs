//! Clients that lie, flood, vanish or make no sense: each is refused with the protocol's reason, nothing of
//! it stays, and others do not notice.

mod support;

use std::time::Duration;

use livekit_protocol as proto;
use proto::{
    request_response::Reason, signal_request::Message as Request, signal_response::Message,
};
use support::{Client, http, server, sign, token, token_with};
use tokio_tungstenite::tungstenite::{Bytes, Message as Frame};
use visavis_server::token::{Claims, Keys, VideoGrant};

async fn refused(path: &str) -> (u16, String) {
    let server = server().await;
    match Client::connect(&server, path).await {
        Ok(_) => panic!("{path:.80} was let in"),
        Err(refusal) => refusal,
    }
}

/// Waits until nobody is left, which the server's own view says.
async fn empty(server: &visavis_server::Server) {
    for _ in 0..200 {
        if server.participants().await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("somebody stayed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_token_is_refused() {
    let claims = Claims {
        identity: "mallory".into(),
        video: Some(VideoGrant {
            room_join: true,
            room: "a".into(),
            ..VideoGrant::default()
        }),
        ..Claims::default()
    };
    let forged = Keys::new([(
        support::KEY.to_owned(),
        "another secret that is long enough".to_owned(),
    )])
    .sign(support::KEY, &claims, 600)
    .unwrap();
    let (status, text) = refused(&format!("/rtc?access_token={forged}")).await;
    assert_eq!(status, 401);
    assert!(text.starts_with("invalid authorization token"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_and_noise_are_refused_with_livekits_texts() {
    assert_eq!(
        refused("/rtc").await,
        (401, "no permissions to access the room".into())
    );
    assert_eq!(
        refused("/rtc?access_token=x.y.z").await,
        (401, "invalid authorization token".into())
    );
    let unknown = Keys::new([("other".to_owned(), "s".repeat(32))])
        .sign("other", &Claims::default(), 60)
        .unwrap();
    assert_eq!(
        refused(&format!("/rtc?access_token={unknown}")).await,
        (401, "invalid API key".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_grants_no_join_is_refused() {
    let grant = VideoGrant {
        room_create: true,
        room_admin: true,
        room: "a".into(),
        ..VideoGrant::default()
    };
    let admin = sign(&Claims {
        identity: "admin".into(),
        video: Some(grant),
        ..Claims::default()
    });
    assert_eq!(
        refused(&format!("/rtc?access_token={admin}")).await,
        (401, "permissions denied".into())
    );
    let nobody = token_with("a", "", VideoGrant::default());
    assert_eq!(
        refused(&format!("/rtc?access_token={nobody}")).await,
        (400, "identity cannot be empty".into())
    );
    let nowhere = token("", "alice");
    assert_eq!(
        refused(&format!("/rtc?access_token={nowhere}")).await,
        (400, "no room name".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_over_reaching_token_reaches_nothing() {
    let server = server().await;
    let (_alice, _) = Client::join(&server, &token("a", "alice")).await;
    // It may join, and wants to rule; it rules one room, and wants another; it rules, and wants to list.
    let bearer = |token: &str| format!("Bearer {token}");
    let joins = bearer(&token("a", "mallory"));
    let rules_b = bearer(&token_with(
        "b",
        "mallory",
        VideoGrant {
            room_admin: true,
            ..VideoGrant::default()
        },
    ));
    let cases = [
        (
            &joins,
            "RemoveParticipant",
            r#"{"room":"a","identity":"alice"}"#,
        ),
        (
            &rules_b,
            "RemoveParticipant",
            r#"{"room":"a","identity":"alice"}"#,
        ),
        (&rules_b, "ListRooms", "{}"),
        (&rules_b, "DeleteRoom", r#"{"room":"a"}"#),
        (&rules_b, "CreateRoom", r#"{"name":"c"}"#),
    ];
    for (authorization, method, body) in cases {
        let path = format!("/twirp/livekit.RoomService/{method}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
        ];
        let (status, answer) = http(&server, "POST", &path, &headers, body.as_bytes()).await;
        assert_eq!(status, 401, "{method}");
        assert!(
            answer.ends_with(r#"{"code":"unauthenticated","msg":"permissions denied"}"#),
            "{answer}"
        );
    }
    assert_eq!(server.participants().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_protobuf_and_json_close_the_connection_and_nobody_else_notices() {
    let server = server().await;
    let (mut bob, _) = Client::join(&server, &token("a", "bob")).await;
    for frame in [
        Frame::Binary(Bytes::from_static(&[0xff; 40])),
        Frame::Text("{\"offer\": 7}".into()),
    ] {
        let (mut mallory, _) = Client::join(&server, &token("a", "mallory")).await;
        mallory.raw(frame).await;
        assert_eq!(mallory.close_code().await, Some(1007));
    }
    bob.send(Request::PingReq(proto::Ping {
        timestamp: 5,
        rtt: 0,
    }))
    .await;
    let pong = bob.until(|message| match message {
        Message::PongResp(pong) => Some(pong.last_ping_timestamp),
        _ => None,
    });
    assert_eq!(pong.await, 5);
    drop(bob);
    empty(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_frame_of_a_megabyte_is_refused() {
    let server = server().await;
    let (mut mallory, _) = Client::join(&server, &token("a", "mallory")).await;
    mallory.raw(Frame::Text("x".repeat(1 << 20).into())).await;
    mallory.close_code().await;
    empty(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_description_ends_the_session_with_the_reason() {
    let server = server().await;
    for sdp in [
        "",
        "noise",
        "v=0\r\n",
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 X 0\r\n",
    ] {
        let (mut mallory, _) = Client::join(&server, &token("a", "mallory")).await;
        let offer = proto::SessionDescription {
            r#type: "offer".into(),
            sdp: sdp.into(),
            ..Default::default()
        };
        mallory.send(Request::Offer(offer)).await;
        let leave = mallory.until(|message| match message {
            Message::Leave(leave) => Some(leave.action()),
            // A description without a section is a description.
            Message::Answer(_) => Some(proto::leave_request::Action::Reconnect),
            _ => None,
        });
        assert_eq!(
            leave.await,
            proto::leave_request::Action::Reconnect,
            "{sdp:?}"
        );
    }
    empty(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_requests_or_pings_closes_the_connection() {
    let server = server().await;
    for is_ping in [false, true] {
        let (mut mallory, _) = Client::join(&server, &token("a", "mallory")).await;
        for _ in 0..4000 {
            if is_ping {
                mallory.raw(Frame::Ping(Bytes::new())).await;
            } else {
                let update = proto::UpdateLocalAudioTrack::default();
                mallory.send(Request::UpdateAudioTrack(update)).await;
            }
        }
        assert_eq!(mallory.close_code().await, Some(1008), "{is_ping}");
    }
    empty(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_dropped_and_the_others_go_on() {
    let server = server().await;
    // It joins, and never reads again.
    let (slow, _) = Client::join(&server, &token("a", "slow")).await;
    let grant = VideoGrant {
        can_update_own_metadata: Some(true),
        ..VideoGrant::default()
    };
    let (mut alice, _) = Client::join(&server, &token_with("a", "alice", grant)).await;
    // 40 kB to everyone at each change: more than the sockets and the queue hold.
    for round in 0..1900_u32 {
        let metadata = format!("{round:040000}");
        let update = proto::UpdateParticipantMetadata {
            metadata,
            request_id: round + 1,
            ..Default::default()
        };
        alice.send(Request::UpdateMetadata(update)).await;
        let answered = alice.until(|message| match message {
            Message::RequestResponse(response) if response.request_id == round + 1 => {
                Some(response.reason())
            }
            _ => None,
        });
        assert_eq!(answered.await, Reason::Ok);
        if round % 100 == 99 && server.participants().await == 1 {
            drop(slow);
            return;
        }
    }
    panic!("the slow reader was never dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_storm_is_survived_and_leaves_nothing() {
    let server = server().await;
    let mut clients = Vec::new();
    for index in 0..200 {
        clients.push(Client::join(&server, &token("storm", &format!("guest {index}"))).await);
    }
    let everyone = clients
        .last()
        .map_or(0, |(_, join)| join.other_participants.len());
    assert_eq!(everyone, 199);
    drop(clients);
    empty(&server).await;
}

/// Who asks too often is told so, and others behind the same proxy are not.
#[tokio::test(flavor = "multi_thread")]
async fn joins_by_the_page_are_bounded_by_address() {
    let config = visavis_server::Config {
        joins_per_minute: 2,
        ..support::config()
    };
    let server = visavis_server::Server::start(config).await.unwrap();
    let ask = async |address: &str| {
        let headers = [("x-forwarded-for", address)];
        let body = br#"{"room":"a","name":"Mallory"}"#;
        http(&server, "POST", "/api/join", &headers, body).await
    };
    // All at once: a bucket gains one in a second.
    let asked = ["203.0.113.1"; 40].map(&ask);
    let statuses = futures_util::future::join_all(asked).await;
    let refused = statuses.iter().filter(|(status, _)| *status == 429);
    assert!(refused.count() >= 2, "{statuses:?}");
    assert!(
        statuses
            .iter()
            .any(|(_, text)| text.contains("rate_limited"))
    );
    assert_eq!(ask("203.0.113.2").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_without_permission_is_refused() {
    let server = server().await;
    let grant = VideoGrant {
        can_publish: Some(false),
        ..VideoGrant::default()
    };
    let (mut mallory, join) = Client::join(&server, &token_with("a", "mallory", grant)).await;
    assert!(!join.participant.unwrap().permission.unwrap().can_publish);
    mallory
        .send(Request::AddTrack(proto::AddTrackRequest {
            cid: "x".into(),
            ..Default::default()
        }))
        .await;
    let reason = mallory.until(|message| match message {
        Message::RequestResponse(response) => Some(response.reason()),
        _ => None,
    });
    assert_eq!(reason.await, Reason::NotAllowed);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_track_cannot_be_subscribed_to() {
    let server = server().await;
    let (mut alice, _) = Client::join(&server, &token("a", "alice")).await;
    let update = proto::UpdateSubscription {
        track_sids: vec!["TR_none".into()],
        subscribe: true,
        ..Default::default()
    };
    alice.send(Request::Subscription(update)).await;
    let answer = alice.until(|message| match message {
        Message::SubscriptionResponse(response) => Some(response.err()),
        _ => None,
    });
    assert_eq!(answer.await, proto::SubscriptionError::SeTrackNotfound);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_vanishes_in_the_middle_of_a_negotiation_leaves_nothing() {
    let server = server().await;
    let (mut bob, _) = Client::join(&server, &token("a", "bob")).await;
    for _ in 0..5 {
        let (mut mallory, _) = Client::join(&server, &token("a", "mallory")).await;
        mallory
            .send(Request::AddTrack(proto::AddTrackRequest {
                cid: "x".into(),
                ..Default::default()
            }))
            .await;
        // The server's offer is on its way when the connection breaks.
        drop(mallory);
    }
    bob.until(|message| match message {
        Message::Update(update) => update
            .participants
            .iter()
            .any(|one| {
                one.identity == "mallory"
                    && one.state() == proto::participant_info::State::Disconnected
            })
            .then_some(()),
        _ => None,
    })
    .await;
    drop(bob);
    empty(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_unknown_is_told_to_begin_anew() {
    let server = server().await;
    for room in ["a", "nowhere"] {
        let (_alice, _) = Client::join(&server, &token("a", "alice")).await;
        let token = token(room, "mallory");
        let path = format!("/rtc?access_token={token}&reconnect=1&sid=PA_none");
        let mut client = Client::connect(&server, &path)
            .await
            .expect("told over the connection");
        let Some(Message::Leave(leave)) = client.next().await else {
            panic!("no leave")
        };
        assert_eq!(leave.reason(), proto::DisconnectReason::StateMismatch);
        assert_eq!(leave.action(), proto::leave_request::Action::Reconnect);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn validate_says_why_with_cors() {
    let server = server().await;
    let good = token("a", "alice");
    let origin = [("origin", "https://example.org")];
    let ask = async |path: String| http(&server, "GET", &path, &origin, b"").await;
    let (status, answer) = ask(format!("/rtc/validate?access_token={good}")).await;
    assert_eq!(status, 200);
    assert!(
        answer.contains("access-control-allow-origin: *") && answer.ends_with("success"),
        "{answer}"
    );
    let (status, answer) = ask(format!("/rtc/v1/validate?access_token={good}")).await;
    assert_eq!(status, 400);
    assert!(answer.ends_with("join_request is required"), "{answer}");
    let (status, answer) = ask("/rtc/validate?access_token=x.y.z".into()).await;
    assert_eq!(status, 401);
    assert!(
        answer.contains("access-control-allow-origin: *"),
        "{answer}"
    );
    // Not an upgrade.
    assert_eq!(ask(format!("/rtc/v1?access_token={good}")).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_body_that_is_too_large_or_malformed_is_refused() {
    let server = server().await;
    let grant = VideoGrant {
        room_create: true,
        ..VideoGrant::default()
    };
    let token = sign(&Claims {
        video: Some(grant),
        ..Claims::default()
    });
    let authorization = format!("Bearer {token}");
    let path = "/twirp/livekit.RoomService/CreateRoom";
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
    ];
    assert_eq!(
        http(&server, "POST", path, &headers, &vec![b'x'; 11 << 20])
            .await
            .0,
        413
    );
    let (status, answer) = http(&server, "POST", path, &headers, b"{").await;
    assert_eq!(status, 400);
    assert!(answer.contains(r#""code":"malformed""#), "{answer}");
    let (status, answer) = http(
        &server,
        "POST",
        "/twirp/livekit.RoomService/Nothing",
        &headers,
        b"{}",
    )
    .await;
    assert_eq!(status, 404);
    assert!(answer.contains(r#""code":"bad_route""#), "{answer}");
}

/// A token may name settings of rooms, and what its bearer is in particular.
#[tokio::test(flavor = "multi_thread")]
async fn room_settings_that_nobody_knows_make_no_room() {
    let server = server().await;
    let mut claims = Claims {
        identity: "camera".into(),
        kind_details: vec!["bridge_rtsp".into(), "of tomorrow".into()],
        room_preset: "large".into(),
        video: Some(VideoGrant {
            room_join: true,
            room_create: true,
            room: "a".into(),
            ..VideoGrant::default()
        }),
        ..Claims::default()
    };
    let text = "unknown room configuration in create room request";
    let path = |claims: &Claims| format!("/rtc?access_token={}", sign(claims));
    match Client::connect(&server, &path(&claims)).await {
        Ok(_) => panic!("it was let in"),
        Err(refusal) => assert_eq!(refusal, (400, text.into())),
    }
    let authorization = format!("Bearer {}", sign(&claims));
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
    ];
    let create = "/twirp/livekit.RoomService/CreateRoom";
    let body = br#"{"name":"b","room_preset":"large"}"#;
    let (status, answer) = http(&server, "POST", create, &headers, body).await;
    assert_eq!(status, 400, "{answer}");
    assert!(
        answer.contains("invalid_argument") && answer.contains(text),
        "{answer}"
    );
    assert_eq!(server.participants().await, 0);

    claims.room_preset.clear();
    let (_camera, join) = Client::join(&server, &sign(&claims)).await;
    assert_eq!(
        join.participant.unwrap().kind_details,
        [i32::from(proto::participant_info::KindDetail::BridgeRtsp)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_pages_are_not_for_everyone() {
    let mut config = support::config();
    config.operator_token = Some("the operator".into());
    let server = visavis_server::Server::start(config).await.unwrap();
    for path in ["/metrics", "/api/inspect", "/api/inspect/events"] {
        assert_eq!(http(&server, "GET", path, &[], b"").await.0, 401, "{path}");
        assert_eq!(
            http(
                &server,
                "GET",
                path,
                &[("authorization", "Bearer wrong")],
                b""
            )
            .await
            .0,
            401,
            "{path}"
        );
        assert_eq!(
            http(
                &server,
                "GET",
                path,
                &[("authorization", "Bearer the operator")],
                b""
            )
            .await
            .0,
            200,
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_pings_no_more_is_let_go_of_though_it_is_spoken_to_all_the_time() {
    let server = server().await;
    let (mut silent, _) = Client::join(&server, &token("a", "silent")).await;
    silent.send(Request::PingReq(proto::Ping::default())).await;
    let grant = VideoGrant {
        can_update_own_metadata: Some(true),
        ..VideoGrant::default()
    };
    let (mut busy, _) = Client::join(&server, &token_with("a", "busy", grant)).await;
    let speak = async {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        for metadata in 0.. {
            seconds.tick().await;
            let update = proto::UpdateParticipantMetadata {
                metadata: format!("{metadata}"),
                ..Default::default()
            };
            busy.send(Request::UpdateMetadata(update)).await;
        }
    };
    // The server waits for 20 s.
    let within = Duration::from_secs(30);
    tokio::select! {
        () = speak => unreachable!("it speaks for ever"),
        code = tokio::time::timeout(within, silent.close_code()) => {
            assert_eq!(code.expect("the connection is closed"), Some(1001));
        }
    }
}

/// Who vanishes before its first ping leaves a socket that nobody reads; who only listens answers by its WebSocket alone.
#[tokio::test(flavor = "multi_thread")]
async fn who_never_pinged_is_asked() {
    let server = server().await;
    let (mut gone, _) = Client::join(&server, &token("a", "gone")).await;
    let (mut listens, _) = Client::join(&server, &token("a", "listens")).await;
    // The server waits for 20 s. Whatever it sends to the one that is gone waits in its socket meanwhile.
    let closed = tokio::time::timeout(Duration::from_secs(25), listens.close_code()).await;
    assert!(closed.is_err(), "{closed:?}");
    let closed = tokio::time::timeout(Duration::from_secs(5), gone.close_code()).await;
    assert_eq!(closed, Ok(Some(1001)));
}
