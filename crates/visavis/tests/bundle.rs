//! A peer that does not bundle, over loopback sockets: each section has sockets of its own.

use std::collections::HashSet;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use visavis::{
    ChannelOptions, Configuration, Description, DtlsState, Endpoint, Event, Kind, Message,
    OutgoingRtp, PeerConnection, RtpBatch, Settings,
};

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not come within 20 s"),
    }
}

/// Carries candidates from one end to the other until it is dropped, and hands on other events.
fn carry(from: &PeerConnection, to: &PeerConnection) -> tokio::sync::mpsc::Receiver<Event> {
    let (sender, events) = tokio::sync::mpsc::channel(1024);
    let (from, to) = (from.clone(), to.clone());
    tokio::spawn(async move {
        while let Some(event) = from.next_event().await {
            match event {
                Event::IceCandidate(Some(candidate)) => {
                    // Before the first description there is nothing to add it to.
                    let _ = to.add_ice_candidate(&candidate);
                }
                event => {
                    if sender.send(event).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    events
}

#[tokio::test]
async fn each_section_has_sockets_of_its_own() {
    let connection = || {
        let endpoint = Endpoint::new(Settings::loopback()).unwrap();
        endpoint.peer_connection(Configuration::default()).unwrap()
    };
    let (near, far) = (connection(), connection());
    let channel = near.create_data_channel("chat", ChannelOptions::default());
    let senders = [
        near.add_track(Kind::Audio, "voice", &[]).unwrap(),
        near.add_track(Kind::Video, "camera", &[]).unwrap(),
    ];
    near.set_local_description(None).await.unwrap();
    let mut offer = near.local_description().unwrap();
    let lines = offer.sdp.split_inclusive("\r\n");
    offer.sdp = lines.filter(|line| !line.contains("BUNDLE")).collect();
    far.set_remote_description(&offer).unwrap();
    far.set_local_description(None).await.unwrap();
    let answer: Description = far.local_description().unwrap();
    near.set_remote_description(&answer).unwrap();
    let (_near_events, mut far_events) = (carry(&near, &far), carry(&far, &near));

    let channel = channel.unwrap();
    let (mut tracks, mut there) = (Vec::new(), None);
    while tracks.len() < 2 || there.is_none() {
        match within("a track or channel", far_events.recv()).await {
            Some(Event::Track { transceiver, .. }) => tracks.push(transceiver.receiver()),
            Some(Event::DataChannel(channel)) => there = Some(channel),
            Some(_) => {}
            None => panic!("closed"),
        }
    }
    let mut there = there.unwrap();
    within("sending", channel.feed("hello")).await.unwrap();
    assert_eq!(
        within("a message", there.recv()).await,
        Some(Message::Text("hello".into()))
    );
    for (sender, receiver) in senders.iter().zip(&tracks) {
        let payload_type = sender.codecs()[0].payload_type;
        let packet = OutgoingRtp {
            payload_type,
            payload: &[7; 30],
            ..OutgoingRtp::default()
        };
        within("a way for media", async {
            while sender.send_rtp(0, [packet]).is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let mut batch = RtpBatch::new();
        assert!(within("a packet", receiver.recv_rtp(&mut batch)).await);
        let first = batch.iter().next().unwrap();
        assert!(first.bytes.ends_with(&[7; 30]));
    }
    for end in [&near, &far] {
        let local: HashSet<SocketAddr> = end.with_core(|core| {
            let paths = core.transports().map(|transport| {
                assert_eq!(transport.dtls_state, DtlsState::Connected);
                transport.ice.selected_pair().unwrap().path.local
            });
            paths.collect()
        });
        assert_eq!(local.len(), 3);
    }
    let transports: Vec<_> = senders.iter().filter_map(|it| it.transport()).collect();
    let pairs: HashSet<SocketAddr> = transports
        .iter()
        .chain(&[near.sctp().unwrap().transport()])
        .map(|dtls| {
            dtls.ice_transport()
                .selected_candidate_pair()
                .unwrap()
                .path
                .local
        })
        .collect();
    assert_eq!(pairs.len(), 3);
    near.close();
    assert_eq!(within("the end", there.recv()).await, None);
}
