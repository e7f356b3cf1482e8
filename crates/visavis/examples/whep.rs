//! Plays from a WHEP server (draft-ietf-wish-whep): one HTTP request carries the offer, its response the
//! answer.
#![allow(clippy::print_stdout, reason = "the program tells what it did")]

#[path = "common/mod.rs"]
mod common;
#[path = "common/http.rs"]
mod http;

use visavis::{Configuration, Description, Direction, Kind, TransceiverInit};

/// Plays so many frames from `http://HOST/PATH`; how many bytes they had.
pub(crate) async fn play(url: &str, frames: u32) -> common::Result<usize> {
    let connection = common::connection(Configuration::default())?;
    let init = TransceiverInit {
        direction: Direction::RecvOnly,
        ..TransceiverInit::default()
    };
    let receiver = connection.add_transceiver(Kind::Video, init)?.receiver();
    connection.set_local_description(None).await?;
    let offer = connection.gathered().await.ok_or("closed")?;
    let response = http::request("POST", url, &offer.sdp).await?;
    if response.status != 201 {
        return Err(format!("the server answered {}: {}", response.status, response.body).into());
    }
    connection.set_remote_description(&Description::answer(response.body))?;
    let mut bytes = 0;
    for _ in 0..frames {
        bytes += receiver
            .recv_frame()
            .await
            .ok_or("the track ended")?
            .data
            .len();
    }
    if let Some(location) = response.location {
        let host = url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        http::request("DELETE", &format!("{host}{location}"), "").await?;
    }
    Ok(bytes)
}

#[tokio::main]
async fn main() -> common::Result<()> {
    let url = std::env::args().nth(1).ok_or("usage: whep URL")?;
    println!("{} bytes in 300 frames", play(&url, 300).await?);
    Ok(())
}
