//! Presses keys (RFC 4733), as `RTCDTMFSender` does.
#![allow(clippy::print_stdout, reason = "the program tells what it did")]

#[path = "common/mod.rs"]
mod common;

use std::time::Duration;

use visavis::{Configuration, Kind, OutgoingFrame, RtpBatch};
use visavis_rtp::Packet;

/// The events that came, by their number.
pub(crate) async fn run() -> common::Result<Vec<u8>> {
    let here = common::connection(Configuration::default())?;
    let there = common::connection(Configuration::default())?;
    let sender = here.add_track(Kind::Audio, "voice", &[])?;
    common::negotiate(&here, &there).await?;
    let receiver = common::track(&there).await?.receiver();
    common::connected(&here).await?;
    let codecs = receiver.codecs();
    let pressed = codecs.iter().find(|codec| codec.is("telephone-event"));
    let pressed = pressed.ok_or("no key presses")?.payload_type;
    let reading = tokio::spawn(async move {
        let (mut batch, mut events) = (RtpBatch::new(), Vec::new());
        while events.len() < 3 && receiver.recv_rtp(&mut batch).await {
            for packet in batch
                .iter()
                .filter_map(|packet| Packet::parse(&packet.bytes).ok())
            {
                let payload = packet.payload();
                // The end of an event is told three times; the last one of each is as good.
                let is_end = payload.get(1).is_some_and(|flags| flags & 0x80 != 0);
                if packet.payload_type().value() == pressed
                    && is_end
                    && events.last() != Some(&payload[0])
                {
                    events.push(payload[0]);
                }
            }
        }
        events
    });
    sender.send_frame(&OutgoingFrame::new(0, false, &common::sound(0)))?;
    sender.insert_dtmf("1#A", Duration::from_millis(80), Duration::from_millis(40))?;
    Ok(reading.await?)
}

#[tokio::main]
async fn main() -> common::Result<()> {
    println!("pressed: {:?}", run().await?);
    Ok(())
}
