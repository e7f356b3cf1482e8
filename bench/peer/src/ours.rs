//! This project's end: the async API.

use bytes::Bytes;
use visavis::{
    ChannelOptions, Configuration, Description, Endpoint, Event, Message, PeerConnection, SdpType,
    Settings,
};

use crate::end::{self, Load};
use crate::process::cpu_seconds;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn connection() -> PeerConnection {
    let endpoint = Endpoint::new(Settings::loopback()).expect("a socket");
    endpoint
        .peer_connection(Configuration::default())
        .expect("a connection")
}

async fn described(connection: &PeerConnection) -> String {
    connection
        .set_local_description(None)
        .await
        .expect("a description");
    connection.gathered().await.expect("candidates").sdp
}

fn description(kind: SdpType, sdp: String) -> Description {
    Description { kind, sdp }
}

/// Sends the load.
pub fn send(load: Load) {
    runtime().block_on(async {
        end::wait_for_start();
        let connection = connection();
        let options = ChannelOptions {
            ordered: load.ordered,
            ..ChannelOptions::default()
        };
        let channel = connection
            .create_data_channel("load", options)
            .expect("a channel");
        end::say(&described(&connection).await);
        connection
            .set_remote_description(&description(SdpType::Answer, end::hear()))
            .expect("an answer");
        channel.opened().await.expect("an open channel");
        let cpu = cpu_seconds();
        end::begin();
        let message = Bytes::from(vec![7; load.message]);
        for _ in 0..load.total / load.message {
            channel
                .feed(Message::Binary(message.clone()))
                .await
                .expect("room");
        }
        channel.buffered_amount_low(0).await;
        // What was lost of the last flight is sent again as long as the receiver asks for it.
        let _ = tokio::task::spawn_blocking(end::wait_for_end).await;
        end::used(cpu_seconds() - cpu);
    });
}

/// Receives the load.
pub fn receive(load: Load) {
    runtime().block_on(async {
        end::ready();
        let offer = description(SdpType::Offer, end::hear());
        let connection = connection();
        connection.set_remote_description(&offer).expect("an offer");
        end::say(&described(&connection).await);
        let mut channel = loop {
            if let Some(Event::DataChannel(channel)) = connection.next_event().await {
                break channel;
            }
        };
        let cpu = cpu_seconds();
        let mut received = 0;
        while received < load.total {
            received += match channel.recv().await.expect("a message") {
                Message::Binary(bytes) => bytes.len(),
                Message::Text(text) => text.len(),
            };
        }
        end::used(cpu_seconds() - cpu);
        // Until this process is ended, what is still on its way is answered.
        std::future::pending::<()>().await;
    });
}
