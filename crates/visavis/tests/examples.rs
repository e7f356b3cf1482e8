//! Runs each example and holds it to what it says.
#![allow(
    clippy::duplicate_mod,
    clippy::print_stdout,
    dead_code,
    reason = "each example is a program: what they share, print and begin with is in each of them"
)]

#[path = "../examples/broadcast.rs"]
mod broadcast;
#[path = "../examples/congestion_controller.rs"]
mod congestion_controller;
#[path = "../examples/data_channel.rs"]
mod data_channel;
#[path = "../examples/dtmf.rs"]
mod dtmf;
#[path = "../examples/ice_restart.rs"]
mod ice_restart;
#[path = "../examples/perfect_negotiation.rs"]
mod perfect_negotiation;
#[path = "../examples/play_file.rs"]
mod play_file;
#[path = "../examples/record_file.rs"]
mod record_file;
#[path = "../examples/rtp_forwarder.rs"]
mod rtp_forwarder;
#[path = "../examples/sframe.rs"]
mod sframe;
#[path = "../examples/simulcast_receive.rs"]
mod simulcast_receive;
#[path = "../examples/stats.rs"]
mod stats;
#[path = "../examples/trickle.rs"]
mod trickle;
#[path = "../examples/whep.rs"]
mod whep;
#[path = "../examples/whip.rs"]
mod whip;

use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::{delete, post};
use visavis::{
    Configuration, Description, Endpoint, Event, Kind, OutgoingFrame, PeerConnection, Settings,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn run<T>(example: impl Future<Output = Result<T, Failure>>) -> T {
    match tokio::time::timeout(Duration::from_secs(30), example).await {
        Ok(result) => result.unwrap(),
        Err(_) => panic!("not within 30 s"),
    }
}

#[tokio::test]
async fn a_message_comes_back() {
    assert_eq!(run(data_channel::run()).await, "hello".into());
}

#[tokio::test]
async fn offers_that_cross_are_sorted_out() {
    let mids = run(perfect_negotiation::run()).await;
    assert!(mids.iter().all(Option::is_some), "{mids:?}");
}

#[tokio::test]
async fn a_file_is_recorded_and_played() {
    let (file, recorded) = run(record_file::run()).await;
    assert!(recorded >= 25, "{recorded} of 30 frames");
    let (sent, received) = run(play_file::run(&file[..])).await;
    assert_eq!(sent, recorded);
    assert!(received + 3 >= sent, "{received} of {sent}");
}

#[tokio::test]
async fn candidates_trickle_over_a_web_socket() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let endpoint = || Endpoint::new(Settings::loopback()).unwrap();
    let listening = tokio::spawn(trickle::listen(listener, endpoint()));
    assert_eq!(run(trickle::hello(&url, &endpoint())).await, "hello".into());
    listening.abort();
}

#[tokio::test]
async fn encodings_are_told_apart() {
    let counts = run(simulcast_receive::run()).await;
    let rids: Vec<&str> = counts.iter().map(|(rid, _)| rid.as_str()).collect();
    assert_eq!(rids, ["low", "middle", "high"]);
    assert!(counts.iter().all(|(_, count)| *count >= 10), "{counts:?}");
}

#[tokio::test]
async fn a_broadcast_reaches_every_viewer() {
    assert_eq!(run(broadcast::run()).await, [20, 20, 20]);
}

#[tokio::test]
async fn a_channel_outlives_a_restart() {
    let (before, after, message) = run(ice_restart::run()).await;
    assert_ne!(before, after);
    assert_eq!(message, "still here".into());
}

#[tokio::test]
async fn sealed_frames_are_opened() {
    assert_eq!(run(sframe::run()).await, (20, true));
}

#[tokio::test]
async fn keys_are_pressed() {
    assert_eq!(run(dtmf::run()).await, [1, 11, 12]);
}

#[tokio::test]
async fn statistics_have_their_names() {
    let (packets, version) = run(stats::run()).await;
    assert_eq!((packets, version.as_str()), (10, "FEFC"));
}

#[tokio::test]
async fn plain_rtp_goes_through() {
    let expected: Vec<Vec<u8>> = (0..10).map(|number| vec![b'n', number]).collect();
    assert_eq!(run(rtp_forwarder::run()).await, expected);
}

#[tokio::test]
async fn the_application_brings_its_own_controller() {
    assert_eq!(run(congestion_controller::run()).await, 1_234_000);
}

/// A server that takes offers at `/whip`, which it receives from, and at `/whep`, which it sends to. Each
/// connection goes to `serve`.
async fn media_server<F: Future<Output = ()> + Send>(
    serve: impl Fn(PeerConnection) -> F + Clone + Send + Sync + 'static,
) -> String {
    let answer = move |sends: bool| {
        let serve = serve.clone();
        post(move |offer: String| async move {
            let endpoint = Endpoint::new(Settings::loopback()).unwrap();
            let connection = endpoint.peer_connection(Configuration::default()).unwrap();
            connection
                .set_remote_description(&Description::offer(offer))
                .unwrap();
            if sends {
                connection.add_track(Kind::Video, "film", &[]).unwrap();
            }
            connection.set_local_description(None).await.unwrap();
            let answer = connection.gathered().await.unwrap();
            tokio::spawn(async move { serve(connection).await });
            let headers = [(header::LOCATION, "/session/1")];
            (StatusCode::CREATED, headers, answer.sdp)
        })
    };
    let app = Router::new()
        .route("/whip", answer(false))
        .route("/whep", answer(true))
        .route("/session/1", delete(|| async {}));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

#[tokio::test]
async fn a_whip_server_gets_what_is_published() {
    let (told, mut counted) = tokio::sync::mpsc::channel(1);
    let server = media_server(move |connection| {
        let told = told.clone();
        async move {
            let receiver = connection.transceivers()[0].receiver();
            let mut count = 0;
            while count < 20 && receiver.recv_frame().await.is_some() {
                count += 1;
            }
            let _ = told.send(count).await;
        }
    })
    .await;
    run(whip::publish(&format!("{server}/whip"), 40)).await;
    assert_eq!(counted.recv().await, Some(20));
}

#[tokio::test]
async fn a_whep_server_is_played_from() {
    let server = media_server(|connection| async move {
        let sender = connection.transceivers()[0].sender();
        let mut key = true;
        for number in 0u32..500 {
            let data = [&[u8::from(!key)], &[5; 1500][..]].concat();
            // Nobody listens at first, and at the end.
            let sent = sender.send_frame(&OutgoingFrame::new(number * 1800, key, &data));
            key &= sent.is_err();
            let pause = tokio::time::sleep(Duration::from_millis(20));
            tokio::select! {
                () = pause => {}
                Some(event) = connection.next_event() => {
                    key |= matches!(event, Event::KeyFrameRequested { .. });
                }
            }
        }
    })
    .await;
    assert_eq!(
        run(whep::play(&format!("{server}/whep"), 20)).await,
        20 * 1501
    );
}
