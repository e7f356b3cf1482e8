//! Tracks between two ends over loopback sockets.

use std::future::Future;
use std::time::Duration;

use visavis::{
    BitrateLimits, Configuration, Endpoint, Event, FrameKind, Kind, OutgoingFrame, OutgoingRtp,
    PeerConnection, RtpBatch, RtpReceiver, RtpSender, Settings, StatsKind,
};

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not come within 20 s"),
    }
}

fn connection() -> PeerConnection {
    let endpoint = Endpoint::new(Settings::loopback()).unwrap();
    endpoint.peer_connection(Configuration::default()).unwrap()
}

/// Offer and answer, each with all candidates.
async fn negotiate(near: &PeerConnection, far: &PeerConnection) {
    near.set_local_description(None).await.unwrap();
    let offer = within("an offer", near.gathered()).await.unwrap();
    far.set_remote_description(&offer).unwrap();
    far.set_local_description(None).await.unwrap();
    let answer = within("an answer", far.gathered()).await.unwrap();
    near.set_remote_description(&answer).unwrap();
}

async fn track(connection: &PeerConnection) -> RtpReceiver {
    loop {
        match within("a track", connection.next_event()).await {
            Some(Event::Track { transceiver, .. }) => return transceiver.receiver(),
            Some(_) => {}
            None => panic!("closed"),
        }
    }
}

/// Sends a frame as soon as media can flow.
async fn first(sender: &RtpSender, frame: &OutgoingFrame<'_>) {
    within("a way for media", async {
        while sender.send_frame(frame).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

fn picture(number: u32) -> Vec<u8> {
    let mut data = vec![u8::from(number != 0)];
    data.extend((0..20_000 + number).map(|byte| byte as u8));
    data
}

#[tokio::test]
async fn frames_go_and_come() {
    let (near, far) = (connection(), connection());
    near.set_bitrate_limits(BitrateLimits {
        start: 50_000_000,
        ..BitrateLimits::default()
    });
    let sender = near
        .add_track(Kind::Video, "camera", &["stream".into()])
        .unwrap();
    negotiate(&near, &far).await;
    let receiver = track(&far).await;
    assert_eq!(receiver.codecs()[0].name, "VP8");
    let reader = tokio::spawn(async move {
        let mut frames = Vec::new();
        while let Some(frame) = receiver.recv_frame().await {
            frames.push(frame);
            if frames.len() == 30 {
                break;
            }
        }
        (frames, receiver)
    });
    first(&sender, &OutgoingFrame::new(0, true, &picture(0))).await;
    for number in 1..30 {
        let data = picture(number);
        let frame = OutgoingFrame::new(number * 900, false, &data);
        sender.send_frame(&frame).unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (frames, receiver) = within("30 frames", reader).await.unwrap();
    for (number, frame) in frames.iter().enumerate() {
        assert_eq!(frame.data, picture(number as u32), "frame {number}");
        assert_eq!(frame.timestamp, number as u32 * 900);
    }
    assert!(frames[0].is_key() && frames[1].kind == FrameKind::Delta);
    assert!(sender.target_bitrate(0).is_some_and(|rate| rate > 0));
    assert!(near.stats().of(StatsKind::OutboundRtp).next().is_some());
    // The peer goes: the track ends.
    near.close();
    within("the end of the track", async {
        while receiver.recv_frame().await.is_some() {}
    })
    .await;
}

#[tokio::test]
async fn packets_go_and_come_in_batches() {
    let (near, far) = (connection(), connection());
    let sender = near.add_track(Kind::Audio, "voice", &[]).unwrap();
    negotiate(&near, &far).await;
    let receiver = track(&far).await;
    let reader = tokio::spawn(async move {
        let (mut batch, mut numbers) = (RtpBatch::new(), Vec::new());
        while numbers.len() < 100 && receiver.recv_rtp(&mut batch).await {
            for packet in batch.iter() {
                numbers.push(u16::from_be_bytes([packet.bytes[2], packet.bytes[3]]));
            }
        }
        numbers
    });
    let payloads: Vec<[u8; 4]> = (0..100u32).map(u32::to_be_bytes).collect();
    let packet = |number: u16| OutgoingRtp {
        payload_type: 111,
        sequence: number,
        timestamp: u32::from(number) * 960,
        payload: &payloads[usize::from(number)],
        ..OutgoingRtp::default()
    };
    within("a way for media", async {
        while sender.send_rtp(0, [packet(0)]).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(sender.send_rtp(0, (1..100).map(packet)).unwrap(), 99);
    let numbers = within("100 packets", reader).await.unwrap();
    assert_eq!(numbers, (0..100).collect::<Vec<u16>>());
}

#[tokio::test]
async fn a_track_that_is_stopped_ends_for_its_reader() {
    let (near, far) = (connection(), connection());
    let sender = near.add_track(Kind::Audio, "voice", &[]).unwrap();
    negotiate(&near, &far).await;
    let receiver = track(&far).await;
    let reader = tokio::spawn({
        let receiver = receiver.clone();
        async move { while receiver.recv_frame().await.is_some() {} }
    });
    sender.transceiver().stop().unwrap();
    negotiate(&near, &far).await;
    within("the end", reader).await.unwrap();
    assert!(sender.codecs().is_empty() || sender.transceiver().current_direction().is_some());
    assert!(far.transceivers().len() <= 1);
}
