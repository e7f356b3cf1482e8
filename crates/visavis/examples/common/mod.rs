//! What the examples share: two ends in one program, and signalling by a call. In a program of yours the
//! descriptions travel by whatever the two ends have before they are connected.
#![allow(dead_code, reason = "each example uses its part")]

use std::time::Duration;

use visavis::{Configuration, Endpoint, Event, PeerConnection, RtpTransceiver, Settings};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A connection with a socket of its own on the loopback interface.
pub(crate) fn connection(configuration: Configuration) -> Result<PeerConnection> {
    Ok(Endpoint::new(Settings::loopback())?.peer_connection(configuration)?)
}

/// Offer and answer, each with all candidates inside.
pub(crate) async fn negotiate(offerer: &PeerConnection, answerer: &PeerConnection) -> Result<()> {
    offerer.set_local_description(None).await?;
    answerer.set_remote_description(&offerer.gathered().await.ok_or("closed")?)?;
    answerer.set_local_description(None).await?;
    offerer.set_remote_description(&answerer.gathered().await.ok_or("closed")?)?;
    Ok(())
}

/// The next track that the peer sends.
pub(crate) async fn track(connection: &PeerConnection) -> Result<RtpTransceiver> {
    while let Some(event) = connection.next_event().await {
        if let Event::Track { transceiver, .. } = event {
            return Ok(transceiver);
        }
    }
    Err("closed".into())
}

/// Waits until media can flow.
pub(crate) async fn connected(connection: &PeerConnection) -> Result<()> {
    while connection.connection_state() != visavis::ConnectionState::Connected {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// What an encoder would give: the beginning of a VP8 frame, which tells a key frame, and any bytes.
pub(crate) fn picture(number: u32, key: bool) -> Vec<u8> {
    let mut frame = vec![u8::from(!key), 0, 0];
    frame.extend((0..2000 + number % 100).map(|byte| (byte + number) as u8));
    frame
}

/// 20 ms of Opus, 48 kHz: its first byte says so, the rest is any.
pub(crate) fn sound(number: u32) -> Vec<u8> {
    [&[31 << 3], &number.to_be_bytes()[..], &[0; 40]].concat()
}
