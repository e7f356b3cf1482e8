//! Restarts ICE: new credentials and candidates, while channels and tracks go on.
#![allow(clippy::print_stdout, reason = "the program tells what it did")]

#[path = "common/mod.rs"]
mod common;

use visavis::{ChannelOptions, Configuration, Event, Message, PeerConnection};

fn ufrag(connection: &PeerConnection) -> String {
    connection.with_core(|core| core.ice().local_credentials().ufrag.to_string())
}

/// The username fragments before and after, and a message that came after.
pub(crate) async fn run() -> common::Result<(String, String, Message)> {
    let here = common::connection(Configuration::default())?;
    let there = common::connection(Configuration::default())?;
    let channel = here.create_data_channel("x", ChannelOptions::default())?;
    common::negotiate(&here, &there).await?;
    channel.opened().await?;
    let before = ufrag(&here);
    here.restart_ice();
    common::negotiate(&here, &there).await?;
    channel.feed("still here").await?;
    let mut incoming = loop {
        if let Event::DataChannel(channel) = there.next_event().await.ok_or("closed")? {
            break channel;
        }
    };
    let message = incoming.recv().await.ok_or("closed")?;
    Ok((before, ufrag(&here), message))
}

#[tokio::main]
async fn main() -> common::Result<()> {
    let (before, after, message) = run().await?;
    println!("{before} -> {after}, {message:?}");
    Ok(())
}
