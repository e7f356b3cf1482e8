//! The crate `webrtc`'s end: its async API on tokio.
#![allow(dead_code, reason = "each benchmark uses its part")]

use std::sync::Arc;

use bytes::BytesMut;
use tokio::sync::mpsc;
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
    RTCIceGatheringState, RTCSessionDescription,
};

use crate::end::{self, Load};
use crate::process::cpu_seconds;

/// Bytes that wait to be sent.
const WAITING: usize = 4 << 20;

/// What the library calls.
struct Handler {
    gathered: mpsc::UnboundedSender<()>,
    channels: mpsc::UnboundedSender<Arc<dyn DataChannel>>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _ = self.gathered.send(());
        }
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        let _ = self.channels.send(channel);
    }
}

/// A connection, and what happens to it.
pub struct End {
    pub connection: Box<dyn PeerConnection>,
    gathered: mpsc::UnboundedReceiver<()>,
    pub channels: mpsc::UnboundedReceiver<Arc<dyn DataChannel>>,
}

impl End {
    pub async fn new() -> Self {
        let (gathering, gathered) = mpsc::unbounded_channel();
        let (sender, channels) = mpsc::unbounded_channel();
        let handler = Handler {
            gathered: gathering,
            channels: sender,
        };
        let connection = PeerConnectionBuilder::new()
            .with_configuration(RTCConfigurationBuilder::new().build())
            .with_handler(Arc::new(handler))
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .with_data_channel_send_buffer_limit(WAITING)
            .build()
            .await
            .expect("a connection");
        Self {
            connection: Box::new(connection),
            gathered,
            channels,
        }
    }

    async fn described(&mut self, description: RTCSessionDescription) -> String {
        let connection = &self.connection;
        let set = connection.set_local_description(description).await;
        set.expect("a description");
        self.gathered.recv().await.expect("candidates");
        let description = connection.local_description().await;
        description.expect("a description").sdp
    }

    pub async fn offer(&mut self) -> String {
        let offer = self.connection.create_offer(None).await;
        self.described(offer.expect("an offer")).await
    }

    pub async fn answer(&mut self, offer: String) -> String {
        let offer = RTCSessionDescription::offer(offer).expect("an offer");
        let set = self.connection.set_remote_description(offer).await;
        set.expect("an offer that fits");
        let answer = self.connection.create_answer(None).await;
        self.described(answer.expect("an answer")).await
    }

    pub async fn accept(&self, answer: String) {
        let answer = RTCSessionDescription::answer(answer).expect("an answer");
        let set = self.connection.set_remote_description(answer).await;
        set.expect("an answer that fits");
    }
}

/// Waits until a channel is open.
pub async fn opened(channel: &dyn DataChannel) {
    while let Some(event) = channel.poll().await {
        if matches!(event, DataChannelEvent::OnOpen) {
            return;
        }
    }
    panic!("the channel did not open");
}

/// As the crate's examples have it.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Sends the load.
pub fn send(load: Load) {
    runtime().block_on(async {
        end::wait_for_start();
        let mut end = End::new().await;
        let options = RTCDataChannelInit {
            ordered: load.ordered,
            ..RTCDataChannelInit::default()
        };
        let created = end.connection.create_data_channel("load", Some(options));
        let channel = created.await.expect("a channel");
        let offer = end.offer().await;
        end::say(&offer);
        end.accept(end::hear()).await;
        opened(&*channel).await;
        let cpu = cpu_seconds();
        end::begin();
        let message = vec![7; load.message];
        for _ in 0..load.total / load.message {
            let message = BytesMut::from(&message[..]);
            channel.send(message).await.expect("room");
        }
        let _ = tokio::task::spawn_blocking(end::wait_for_end).await;
        end::used(cpu_seconds() - cpu);
    });
}

/// Receives the load.
pub fn receive(load: Load) {
    runtime().block_on(async {
        end::ready();
        let offer = end::hear();
        let mut end = End::new().await;
        let answer = end.answer(offer).await;
        end::say(&answer);
        let channel = end.channels.recv().await.expect("a channel");
        let cpu = cpu_seconds();
        let mut received = 0;
        while received < load.total {
            match channel.poll().await.expect("a message") {
                DataChannelEvent::OnMessage(message) => received += message.data.len(),
                _ => {}
            }
        }
        end::used(cpu_seconds() - cpu);
        // Until this process is ended, what is still on its way is answered.
        std::future::pending::<()>().await;
    });
}
