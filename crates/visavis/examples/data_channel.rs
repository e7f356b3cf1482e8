//! A data channel in 30 lines: two ends, a question and its answer.
#![allow(clippy::print_stdout, reason = "the program tells what it did")]

#[path = "common/mod.rs"]
mod common;

use visavis::{ChannelOptions, Configuration, Event, Message};

pub(crate) async fn run() -> common::Result<Message> {
    let here = common::connection(Configuration::default())?;
    let there = common::connection(Configuration::default())?;
    let mut channel = here.create_data_channel("chat", ChannelOptions::default())?;
    common::negotiate(&here, &there).await?;
    tokio::spawn(async move {
        while let Some(event) = there.next_event().await {
            if let Event::DataChannel(mut channel) = event {
                while let Some(message) = channel.recv().await {
                    channel.feed(message).await?;
                }
            }
        }
        Ok::<_, visavis::Error>(())
    });
    channel.feed("hello").await?;
    channel.recv().await.ok_or_else(|| "closed".into())
}

#[tokio::main]
async fn main() -> common::Result<()> {
    println!("came back: {:?}", run().await?);
    Ok(())
}
