//! Statistics, under webrtc-stats' names.
#![allow(clippy::print_stdout, reason = "the program tells what it did")]

#[path = "common/mod.rs"]
mod common;

use std::time::Duration;

use visavis::{Configuration, Kind, OutgoingFrame, StatsKind};

/// Packets that were sent, and the DTLS version in use.
pub(crate) async fn run() -> common::Result<(u64, String)> {
    let here = common::connection(Configuration::default())?;
    let there = common::connection(Configuration::default())?;
    let sender = here.add_track(Kind::Audio, "voice", &[])?;
    common::negotiate(&here, &there).await?;
    common::connected(&here).await?;
    for number in 0..10 {
        sender.send_frame(&OutgoingFrame::new(
            number * 960,
            false,
            &common::sound(number),
        ))?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let report = here.stats();
    let outbound = report
        .of(StatsKind::OutboundRtp)
        .next()
        .ok_or("no stream")?;
    let transport = report
        .of(StatsKind::Transport)
        .next()
        .ok_or("no transport")?;
    Ok((
        outbound.count("packetsSent").unwrap_or(0),
        transport.text("tlsVersion").unwrap_or("none").to_owned(),
    ))
}

#[tokio::main]
async fn main() -> common::Result<()> {
    let (packets, version) = run().await?;
    println!("{packets} packets, TLS version {version}");
    Ok(())
}
