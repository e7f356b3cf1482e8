//! A broadcast: what one end sends goes to many, packet by packet, without being decoded. The numbers are
//! the publisher's, so every viewer can ask for what it lost.
#![allow(clippy::print_stdout, reason = "the program tells what it did")]

#[path = "common/mod.rs"]
mod common;

use std::time::Duration;

use visavis::{Configuration, Event, Kind, OutgoingFrame, OutgoingRtp, PeerConnection, RtpBatch};
use visavis::{RtpReceiver, RtpSender};
use visavis_rtp::Packet;

/// Sends each packet of a track to all viewers.
async fn forward(from: RtpReceiver, to: Vec<RtpSender>) -> common::Result<()> {
    let mut batch = RtpBatch::new();
    while from.recv_rtp(&mut batch).await {
        let parsed: Vec<Packet<'_>> = batch
            .iter()
            .filter_map(|packet| Packet::parse(&packet.bytes).ok())
            .collect();
        for viewer in &to {
            let payload_type = viewer
                .codecs()
                .first()
                .map_or(96, |codec| codec.payload_type);
            let packets = parsed.iter().map(|packet| OutgoingRtp {
                payload_type,
                marker: packet.marker(),
                sequence: packet.sequence().0,
                timestamp: packet.timestamp(),
                payload: packet.payload(),
                ..OutgoingRtp::default()
            });
            // A viewer that is gone does not stop the others.
            let _ = viewer.send_rtp(0, packets);
        }
    }
    Ok(())
}

/// A viewer's request for a key frame goes to the publisher.
async fn hand_on(viewer: PeerConnection, publisher: RtpReceiver) {
    while let Some(event) = viewer.next_event().await {
        if let Event::KeyFrameRequested { .. } = event {
            publisher.request_key_frame(None);
        }
    }
}

/// One publisher and three viewers; how many frames each viewer got.
pub(crate) async fn run() -> common::Result<Vec<u32>> {
    let publisher = common::connection(Configuration::default())?;
    let server = common::connection(Configuration::default())?;
    let camera = publisher.add_track(Kind::Video, "camera", &[])?;
    common::negotiate(&publisher, &server).await?;
    let source = common::track(&server).await?.receiver();
    let (mut senders, mut watching) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (here, viewer) = (
            common::connection(Configuration::default())?,
            common::connection(Configuration::default())?,
        );
        senders.push(here.add_track(Kind::Video, "broadcast", &[])?);
        common::negotiate(&here, &viewer).await?;
        tokio::spawn(hand_on(here.clone(), source.clone()));
        let receiver = common::track(&viewer).await?.receiver();
        common::connected(&here).await?;
        watching.push(tokio::spawn(async move {
            let mut count = 0;
            while count < 20 && receiver.recv_frame().await.is_some() {
                count += 1;
            }
            drop((viewer, here));
            count
        }));
    }
    tokio::spawn(forward(source, senders));
    common::connected(&publisher).await?;
    let sending = tokio::spawn(async move {
        let mut wants_key = true;
        for number in 0u32.. {
            let data = common::picture(number, wants_key);
            let frame = OutgoingFrame::new(number * 3000, wants_key, &data);
            camera.send_frame(&frame)?;
            wants_key = false;
            let pause = tokio::time::sleep(Duration::from_millis(20));
            tokio::select! {
                () = pause => {}
                Some(event) = publisher.next_event() => {
                    wants_key = matches!(event, Event::KeyFrameRequested { .. });
                }
            }
        }
        Ok::<_, visavis::Error>(())
    });
    let mut counts = Vec::new();
    for viewer in watching {
        counts.push(viewer.await?);
    }
    sending.abort();
    Ok(counts)
}

#[tokio::main]
async fn main() -> common::Result<()> {
    println!("frames of each viewer: {:?}", run().await?);
    Ok(())
}
