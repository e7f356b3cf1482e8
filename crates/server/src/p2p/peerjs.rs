//! PeerJS's server, for its clients 0.3 to 1.5: it hands out ids and passes messages between them. An API
//! key is a name space: ids of different keys do not meet.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
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
    ids::random_text,
    websocket::{NORMAL, bounded, close, send},
};

/// For how long a message waits for a peer that is not there.
const PATIENCE: Duration = Duration::from_secs(5);

/// Messages that wait so, over all peers.
const MAX_WAITING: usize = 4096;

/// Peers at a time.
const MAX_PEERS: usize = 50_000;

/// The longest key, id or token, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// A peer's name: its key and its id.
type Name = (String, String);

#[derive(Debug)]
struct Peer {
    token: String,
    session: u64,
    sender: mpsc::Sender<Frame>,
}

#[derive(Debug)]
struct Waiting {
    until: Instant,
    from: String,
    text: String,
}

#[derive(Debug, Default)]
struct State {
    peers: HashMap<Name, Peer>,
    waiting: HashMap<Name, Vec<Waiting>>,
    waiting_count: usize,
    next_session: u64,
}

/// The server.
#[derive(Debug, Default)]
pub(crate) struct PeerServer {
    state: Mutex<State>,
}

impl PeerServer {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// `GET /KEY/id`.
    pub(crate) fn new_id(&self) -> String {
        random_text(16)
    }

    /// A message of a peer for another; one that is not there gets it if it comes soon.
    fn pass_on(self: &Arc<Self>, key: &str, from: &str, text: &str) {
        let Ok(mut message) = serde_json::from_str::<Value>(text) else {
            return;
        };
        let kind = message
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if !matches!(
            kind.as_str(),
            "OFFER" | "ANSWER" | "CANDIDATE" | "LEAVE" | "EXPIRE"
        ) {
            return;
        }
        let Some(to) = message
            .get("dst")
            .and_then(Value::as_str)
            .map(str::to_owned)
        else {
            return;
        };
        // Who speaks is what the server knows, not what the message says.
        message["src"] = Value::from(from);
        let text = message.to_string();
        let name = (key.to_owned(), to);
        let mut state = self.lock();
        if let Some(peer) = state.peers.get(&name) {
            if peer.sender.try_send(Frame::Text(text.into())).is_err() {
                state.peers.remove(&name);
            }
            return;
        }
        if matches!(kind.as_str(), "LEAVE" | "EXPIRE") || state.waiting_count >= MAX_WAITING {
            return;
        }
        let until = Instant::now() + PATIENCE;
        state
            .waiting
            .entry(name.clone())
            .or_default()
            .push(Waiting {
                until,
                from: from.to_owned(),
                text,
            });
        state.waiting_count += 1;
        let server = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(PATIENCE).await;
            server.expire(&name);
        });
    }

    /// Tells senders whose messages waited in vain.
    fn expire(&self, name: &Name) {
        let mut state = self.lock();
        let now = Instant::now();
        let Some(waiting) = state.waiting.get_mut(name) else {
            return;
        };
        let (expired, left): (Vec<_>, Vec<_>) = std::mem::take(waiting)
            .into_iter()
            .partition(|one| one.until <= now);
        if left.is_empty() {
            state.waiting.remove(name);
        } else {
            *waiting = left;
        }
        state.waiting_count -= expired.len();
        let mut told = Vec::new();
        for Waiting { from, .. } in expired {
            let sender = (name.0.clone(), from);
            if !told.contains(&sender)
                && let Some(peer) = state.peers.get(&sender)
            {
                let text = json!({"type": "EXPIRE", "src": name.1, "dst": sender.1}).to_string();
                let _ = peer.sender.try_send(Frame::Text(text.into()));
                told.push(sender);
            }
        }
    }

    fn enter(&self, name: &Name, token: &str) -> Result<(u64, mpsc::Receiver<Frame>), Frame> {
        let mut state = self.lock();
        let refused = |kind: &str, text: &str| {
            Frame::Text(
                json!({"type": kind, "payload": {"msg": text}})
                    .to_string()
                    .into(),
            )
        };
        if state
            .peers
            .get(name)
            .is_some_and(|peer| peer.token != token && !peer.sender.is_closed())
        {
            return Err(refused("ID-TAKEN", "ID is taken"));
        }
        if state.peers.len() >= MAX_PEERS {
            return Err(refused(
                "ERROR",
                "Server has reached its concurrent user limit",
            ));
        }
        let session = state.next_session;
        state.next_session += 1;
        let (sender, inbox) = mpsc::channel(QUEUE);
        let _ = sender.try_send(Frame::Text(json!({"type": "OPEN"}).to_string().into()));
        let waiting = state.waiting.remove(name).unwrap_or_default();
        state.waiting_count -= waiting.len();
        for Waiting { text, .. } in waiting {
            let _ = sender.try_send(Frame::Text(text.into()));
        }
        state.peers.insert(
            name.clone(),
            Peer {
                token: token.to_owned(),
                session,
                sender,
            },
        );
        Ok((session, inbox))
    }

    fn leave(&self, name: &Name, session: u64) {
        let mut state = self.lock();
        if state
            .peers
            .get(name)
            .is_some_and(|peer| peer.session == session)
        {
            state.peers.remove(name);
        }
    }

    /// A message over HTTP, from clients 0.3 before their WebSocket is open: `POST /KEY/ID/TOKEN/TYPE`.
    pub(crate) fn post(
        self: &Arc<Self>,
        key: &str,
        id: &str,
        token: &str,
        body: &str,
    ) -> StatusCode {
        let name = (key.to_owned(), id.to_owned());
        let known = self
            .lock()
            .peers
            .get(&name)
            .is_some_and(|peer| peer.token == token);
        if !known {
            return StatusCode::UNAUTHORIZED;
        }
        self.pass_on(key, id, body);
        StatusCode::OK
    }
}

/// Takes a connection in: `/…/peerjs?key&id&token`.
pub(crate) fn accept(
    server: Arc<PeerServer>,
    upgrade: WebSocketUpgrade,
    keys: &[String],
    query: &HashMap<String, String>,
) -> Response {
    let value = |name: &str| {
        query
            .get(name)
            .filter(|value| value.len() <= MAX_NAME_BYTES)
            .cloned()
            .unwrap_or_default()
    };
    let (key, id, token) = (value("key"), value("id"), value("token"));
    let upgrade = bounded(upgrade, MAX_MESSAGE_BYTES);
    let refuse = |kind: &'static str, text: &'static str| {
        move |mut socket: WebSocket| async move {
            let message = json!({"type": kind, "payload": {"msg": text}}).to_string();
            send(&mut socket, Frame::Text(message.into())).await;
            close(socket, NORMAL, "").await;
        }
    };
    if id.is_empty() || token.is_empty() || key.is_empty() {
        return upgrade.on_upgrade(refuse(
            "ERROR",
            "No id, token, or key supplied to websocket server",
        ));
    }
    if !keys.is_empty() && !keys.contains(&key) {
        return upgrade.on_upgrade(refuse("INVALID-KEY", "Invalid key provided"));
    }
    upgrade
        .on_upgrade(move |socket| run(socket, server, (key, id), token))
        .into_response()
}

async fn run(mut socket: WebSocket, server: Arc<PeerServer>, name: Name, token: String) {
    let (session, mut inbox) = match server.enter(&name, &token) {
        Ok(entered) => entered,
        Err(refusal) => {
            send(&mut socket, refusal).await;
            close(socket, NORMAL, "").await;
            return;
        }
    };
    let mut bucket = Bucket::new(RATE, Instant::now());
    loop {
        tokio::select! {
            frame = inbox.recv() => {
                let Some(frame) = frame else { break };
                if !send(&mut socket, frame).await {
                    break;
                }
            }
            frame = socket.recv() => match frame {
                Some(Ok(Frame::Text(text))) if bucket.take(Instant::now()) => server.pass_on(&name.0, &name.1, &text),
                Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => {}
                _ => break,
            },
        }
    }
    server.leave(&name, session);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(id: &str) -> Name {
        ("key".into(), id.into())
    }

    fn next(inbox: &mut mpsc::Receiver<Frame>) -> Option<Value> {
        match inbox.try_recv() {
            Ok(Frame::Text(text)) => serde_json::from_str(&text).ok(),
            _ => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn messages_name_their_true_sender_and_wait_for_a_peer_that_comes() {
        let server = Arc::new(PeerServer::default());
        let (_, mut alice) = server.enter(&name("alice"), "1").unwrap();
        assert_eq!(next(&mut alice).unwrap()["type"], "OPEN");
        server.pass_on(
            "key",
            "alice",
            r#"{"type":"OFFER","src":"mallory","dst":"bob","payload":{}}"#,
        );
        let (_, mut bob) = server.enter(&name("bob"), "2").unwrap();
        assert_eq!(next(&mut bob).unwrap()["type"], "OPEN");
        let offer = next(&mut bob).unwrap();
        assert_eq!(
            (&offer["type"], &offer["src"]),
            (&json!("OFFER"), &json!("alice"))
        );
        assert_eq!(server.lock().waiting_count, 0);
    }

    #[test]
    fn an_id_belongs_to_its_token() {
        let server = PeerServer::default();
        let first = server.enter(&name("alice"), "1").unwrap();
        let Err(Frame::Text(refusal)) = server.enter(&name("alice"), "2") else {
            panic!()
        };
        assert!(refusal.contains("ID-TAKEN"));
        let second = server.enter(&name("alice"), "1").unwrap();
        server.leave(&name("alice"), first.0);
        assert!(
            server.lock().peers.contains_key(&name("alice")),
            "the newer connection stays"
        );
        server.leave(&name("alice"), second.0);
        assert!(server.lock().peers.is_empty());
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_noise_is_dropped() {
        let server = Arc::new(PeerServer::default());
        for text in [
            "",
            "[]",
            "{}",
            r#"{"type":"OFFER"}"#,
            r#"{"type":"NOISE","dst":"bob"}"#,
        ] {
            server.pass_on("key", "alice", text);
        }
        assert_eq!(server.lock().waiting_count, 0);
        for _ in 0..MAX_WAITING + 10 {
            server.pass_on("key", "alice", r#"{"type":"CANDIDATE","dst":"bob"}"#);
        }
        assert_eq!(server.lock().waiting_count, MAX_WAITING);
    }
}
