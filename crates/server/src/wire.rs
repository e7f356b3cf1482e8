//! Signalling messages on the wire: protobuf in binary frames, JSON in text frames. A message that goes
//! to many participants is encoded once per form.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use livekit_protocol as proto;
use prost::Message as _;

/// A message from the server.
#[derive(Debug)]
pub struct Outgoing {
    response: proto::SignalResponse,
    binary: OnceLock<Bytes>,
    text: OnceLock<String>,
}

impl Outgoing {
    /// The message, not encoded yet.
    pub fn new(message: proto::signal_response::Message) -> Arc<Self> {
        Arc::new(Self {
            response: proto::SignalResponse {
                message: Some(message),
            },
            binary: OnceLock::new(),
            text: OnceLock::new(),
        })
    }

    /// What the message says.
    pub fn message(&self) -> Option<&proto::signal_response::Message> {
        self.response.message.as_ref()
    }

    /// The message as protobuf.
    pub fn binary(&self) -> Bytes {
        self.binary
            .get_or_init(|| self.response.encode_to_vec().into())
            .clone()
    }

    /// The message as JSON, in protobuf's mapping.
    pub fn text(&self) -> &str {
        // The types serialise without fallible parts: maps have string keys.
        self.text
            .get_or_init(|| serde_json::to_string(&self.response).unwrap_or_default())
    }
}
