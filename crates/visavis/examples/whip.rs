//! Publishes to a WHIP server (RFC 9725): one HTTP request carries the offer, its response the answer.
#![allow(clippy::print_stdout, reason = "the program tells what it did")]

#[path = "common/mod.rs"]
mod common;
#[path = "common/http.rs"]
mod http;

use std::time::Duration;

use visavis::{Configuration, Description, Direction, Kind, OutgoingFrame, TransceiverInit};

/// Publishes so many frames to `http://HOST/PATH`.
pub(crate) async fn publish(url: &str, frames: u32) -> common::Result<()> {
    let connection = common::connection(Configuration::default())?;
    let init = TransceiverInit {
        // RFC 9725 section 4.2: a publisher offers sendonly.
        direction: Direction::SendOnly,
        ..TransceiverInit::default()
    };
    let sender = connection.add_transceiver(Kind::Video, init)?.sender();
    connection.set_local_description(None).await?;
    let offer = connection.gathered().await.ok_or("closed")?;
    let response = http::request("POST", url, &offer.sdp).await?;
    if response.status != 201 {
        return Err(format!("the server answered {}: {}", response.status, response.body).into());
    }
    connection.set_remote_description(&Description::answer(response.body))?;
    common::connected(&connection).await?;
    for number in 0..frames {
        let data = common::picture(number, number == 0);
        sender.send_frame(&OutgoingFrame::new(number * 3000, number == 0, &data))?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if let Some(location) = response.location {
        let host = url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        http::request("DELETE", &format!("{host}{location}"), "").await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> common::Result<()> {
    let url = std::env::args().nth(1).ok_or("usage: whip URL")?;
    publish(&url, 300).await?;
    println!("published");
    Ok(())
}
