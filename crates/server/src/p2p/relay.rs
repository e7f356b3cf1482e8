//! The relay: what one sends on a path goes to everyone else on it, and never back to its sender. (A
//! server that echoes makes both ends apply their own descriptions.)

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use axum::{
    extract::ws::{Message as Frame, WebSocket, WebSocketUpgrade},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{MAX_MESSAGE_BYTES, QUEUE, RATE};
use crate::{
    bucket::Bucket,
    websocket::{bounded, close, send},
};

/// Those on one path at a time.
const MAX_MEMBERS: usize = 64;

/// Paths at a time.
const MAX_PATHS: usize = 10_000;

/// The longest path, in bytes.
const MAX_PATH_BYTES: usize = 512;

/// Who is on which path.
#[derive(Debug, Default)]
pub(crate) struct Relay {
    paths: Mutex<HashMap<String, HashMap<u64, mpsc::Sender<Frame>>>>,
    next: AtomicU64,
}

impl Relay {
    fn lock(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<String, HashMap<u64, mpsc::Sender<Frame>>>> {
        self.paths
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn enter(&self, path: &str) -> Option<(u64, mpsc::Receiver<Frame>)> {
        let mut paths = self.lock();
        if !paths.contains_key(path) && paths.len() >= MAX_PATHS {
            return None;
        }
        let members = paths.entry(path.to_owned()).or_default();
        if members.len() >= MAX_MEMBERS {
            return None;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(QUEUE);
        members.insert(id, sender);
        Some((id, receiver))
    }

    fn pass_on(&self, path: &str, from: u64, frame: &Frame) {
        let mut paths = self.lock();
        if let Some(members) = paths.get_mut(path) {
            // Who does not keep up is dropped: its receiver ends, and with it its connection.
            members.retain(|id, member| *id == from || member.try_send(frame.clone()).is_ok());
        }
    }

    fn leave(&self, path: &str, id: u64) {
        let mut paths = self.lock();
        if let Some(members) = paths.get_mut(path) {
            members.remove(&id);
            if members.is_empty() {
                paths.remove(path);
            }
        }
    }
}

/// Whether messages are wrapped: `{"message": X}` comes, `{"message": X, "user": NAME}` goes.
pub(crate) type Envelope = Option<String>;

/// Takes a connection in.
pub(crate) fn accept(
    relay: Arc<Relay>,
    upgrade: WebSocketUpgrade,
    path: String,
    envelope: Envelope,
) -> Response {
    if path.len() > MAX_PATH_BYTES {
        return StatusCode::URI_TOO_LONG.into_response();
    }
    let Some((id, inbox)) = relay.enter(&path) else {
        return (StatusCode::SERVICE_UNAVAILABLE, "this path is full").into_response();
    };
    let member = Member { relay, path, id };
    bounded(upgrade, MAX_MESSAGE_BYTES)
        .on_upgrade(move |socket| run(socket, member, inbox, envelope))
}

/// Someone on a path, until dropped.
struct Member {
    relay: Arc<Relay>,
    path: String,
    id: u64,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.relay.leave(&self.path, self.id);
    }
}

async fn run(
    mut socket: WebSocket,
    member: Member,
    mut inbox: mpsc::Receiver<Frame>,
    envelope: Envelope,
) {
    let mut bucket = Bucket::new(RATE, Instant::now());
    let (code, reason) = loop {
        tokio::select! {
            frame = inbox.recv() => {
                let Some(frame) = frame else { return };
                if !send(&mut socket, frame).await {
                    return;
                }
            }
            frame = socket.recv() => {
                let Some(Ok(frame)) = frame else { return };
                if !bucket.take(Instant::now()) {
                    break (1008, "too many messages");
                }
                let frame = match (frame, &envelope) {
                    (Frame::Text(text), Some(user)) => match wrap(&text, user) {
                        Some(text) => Frame::Text(text.into()),
                        None => break (1007, "the message is no JSON"),
                    },
                    (frame @ (Frame::Text(_) | Frame::Binary(_)), _) => frame,
                    (Frame::Close(_), _) => return,
                    _ => continue,
                };
                member.relay.pass_on(&member.path, member.id, &frame);
            }
        }
    };
    drop(member);
    close(socket, code, reason).await;
}

fn wrap(text: &str, user: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    let message = value.get("message").cloned().unwrap_or(Value::Null);
    Some(json!({"message": message, "user": user}).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_to_everyone_on_the_path_but_their_sender() {
        let relay = Relay::default();
        let (alice, mut to_alice) = relay.enter("/a").unwrap();
        let (_, mut to_bob) = relay.enter("/a").unwrap();
        let (_, mut to_carol) = relay.enter("/b").unwrap();
        relay.pass_on("/a", alice, &Frame::Text("hello".into()));
        assert_eq!(to_bob.try_recv().unwrap(), Frame::Text("hello".into()));
        assert!(to_alice.try_recv().is_err() && to_carol.try_recv().is_err());
    }

    #[test]
    fn a_slow_reader_is_dropped_and_the_others_are_untouched() {
        let relay = Relay::default();
        let (alice, _to_alice) = relay.enter("/a").unwrap();
        let (_, mut to_slow) = relay.enter("/a").unwrap();
        let (_, mut to_bob) = relay.enter("/a").unwrap();
        for index in 0..QUEUE + 10 {
            relay.pass_on("/a", alice, &Frame::Text(index.to_string().into()));
            assert!(to_bob.try_recv().is_ok());
        }
        let mut received = 0;
        while to_slow.try_recv().is_ok() {
            received += 1;
        }
        assert_eq!(received, QUEUE);
        assert!(to_slow.is_closed());
    }

    #[test]
    fn a_path_is_bounded_and_forgotten_when_empty() {
        let relay = Relay::default();
        let members: Vec<_> = (0..MAX_MEMBERS)
            .map(|_| relay.enter("/a").unwrap())
            .collect();
        assert!(relay.enter("/a").is_none());
        for (id, _) in members {
            relay.leave("/a", id);
        }
        assert!(relay.lock().is_empty());
    }

    #[test]
    fn the_envelope_names_the_user() {
        assert_eq!(
            wrap(r#"{"message":{"type":"offer"}}"#, "guest").unwrap(),
            r#"{"message":{"type":"offer"},"user":"guest"}"#
        );
        assert_eq!(wrap("{", "guest"), None);
    }
}
