//! Webhooks: what happens in rooms, told to the application's server.
//!
//! Each event is a POST of JSON, signed by a token that holds the SHA-256 of the body. Events of one room
//! arrive in the order in which they happened: the next is sent when the one before was taken. Rooms do
//! not wait for each other. With a state directory every event is a file until it was taken, so that a
//! restart loses none.

use std::{
    collections::{HashMap, VecDeque},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::body::Bytes;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::Full;
use hyper::{Request, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use livekit_protocol as proto;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use visavis_crypto::HashAlgorithm;

use crate::token::{Claims, Keys};

/// Events that may wait, over all rooms and receivers. Beyond it the newest are dropped, and counted.
const MAX_WAITING: usize = 10_000;

/// For how long the receiver may think about one event.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The waits between attempts; the last is repeated.
const RETRIES: [u64; 6] = [1, 2, 5, 10, 30, 60];

/// After so many attempts an event is given up, so that a receiver that refuses one still gets the others.
const MAX_ATTEMPTS: usize = 100;

/// For how long a token of an event is valid, in seconds.
const TOKEN_SECONDS: u64 = 300;

/// An event on its way to one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Delivery {
    /// Rises by one per event: files are sent in this order after a restart.
    number: u64,
    url: String,
    room: String,
    event: String,
    body: String,
}

impl Delivery {
    fn file(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{:020}.json", self.number))
    }
}

/// The sender of webhooks. Cheap to clone; sending never waits.
#[derive(Clone)]
pub struct Webhooks {
    events: Option<mpsc::Sender<proto::WebhookEvent>>,
}

impl std::fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhooks")
            .field("enabled", &self.events.is_some())
            .finish()
    }
}

type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

struct Sender {
    urls: Vec<String>,
    keys: Arc<Keys>,
    key: String,
    directory: Option<PathBuf>,
    client: HttpClient,
}

impl Webhooks {
    /// Starts sending to `urls`, signed with the API key `key`. What an earlier process left in `directory`
    /// is sent first.
    ///
    /// # Errors
    /// What the system says of the directory.
    pub fn start(
        urls: Vec<String>,
        keys: Arc<Keys>,
        key: String,
        directory: Option<PathBuf>,
    ) -> io::Result<Self> {
        if urls.is_empty() {
            return Ok(Self { events: None });
        }
        let mut left = Vec::new();
        if let Some(directory) = &directory {
            std::fs::create_dir_all(directory)?;
            left = read_left(directory)?;
        }
        let (events, inbox) = mpsc::channel(MAX_WAITING);
        let connector = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let sender = Sender {
            urls,
            keys,
            key,
            directory,
            client,
        };
        tokio::spawn(run(Arc::new(sender), inbox, left));
        Ok(Self {
            events: Some(events),
        })
    }

    /// Sends an event, some time.
    pub fn send(&self, event: proto::WebhookEvent) {
        if let Some(events) = &self.events
            && events.try_send(event).is_err()
        {
            metrics::counter!("visavis_webhooks_dropped_total").increment(1);
        }
    }
}

fn read_left(directory: &Path) -> io::Result<Vec<Delivery>> {
    let mut left: Vec<Delivery> = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        match std::fs::read(&path).map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(delivery)) => left.push(delivery),
            // Half a file of a process that was killed while it wrote.
            _ => tracing::warn!("{} is no webhook event: skipped", path.display()),
        }
    }
    left.sort_by_key(|delivery| delivery.number);
    Ok(left)
}

/// Deals events out to one task per room and receiver, which ends when its queue is empty.
async fn run(
    sender: Arc<Sender>,
    mut inbox: mpsc::Receiver<proto::WebhookEvent>,
    left: Vec<Delivery>,
) {
    let mut number = left.last().map_or(0, |delivery| delivery.number);
    let mut waiting = 0usize;
    let mut queues: HashMap<(String, String), VecDeque<Delivery>> = HashMap::new();
    let (done, mut finished) = mpsc::unbounded_channel::<Delivery>();
    let begin = |delivery: Delivery| {
        let (sender, done) = (Arc::clone(&sender), done.clone());
        tokio::spawn(async move {
            sender.deliver(&delivery).await;
            let _ = done.send(delivery);
        });
    };
    let add = |delivery: Delivery, queues: &mut HashMap<(String, String), VecDeque<Delivery>>| {
        let queue = queues
            .entry((delivery.url.clone(), delivery.room.clone()))
            .or_default();
        queue.push_back(delivery.clone());
        // The first of a queue is the one that is being sent.
        if queue.len() == 1 {
            begin(delivery);
        }
    };
    for delivery in left {
        waiting += 1;
        add(delivery, &mut queues);
    }
    loop {
        tokio::select! {
            event = inbox.recv() => {
                let Some(event) = event else { break };
                let Ok(body) = serde_json::to_string(&event) else { continue };
                for url in &sender.urls {
                    if waiting >= MAX_WAITING {
                        metrics::counter!("visavis_webhooks_dropped_total").increment(1);
                        continue;
                    }
                    number += 1;
                    waiting += 1;
                    let room = event.room.as_ref().map(|room| room.name.clone()).unwrap_or_default();
                    let (url, event, body) = (url.clone(), event.event.clone(), body.clone());
                    let delivery = Delivery { number, url, room, event, body };
                    sender.keep(&delivery).await;
                    add(delivery, &mut queues);
                }
            }
            Some(delivery) = finished.recv() => {
                waiting -= 1;
                let key = (delivery.url, delivery.room);
                if let Some(queue) = queues.get_mut(&key) {
                    queue.pop_front();
                    match queue.front().cloned() {
                        Some(next) => begin(next),
                        None => { queues.remove(&key); }
                    }
                }
            }
        }
    }
}

impl Sender {
    /// Writes an event down until it was taken: complete under its name, or not there.
    async fn keep(&self, delivery: &Delivery) {
        let Some(directory) = &self.directory else {
            return;
        };
        let file = delivery.file(directory);
        let partial = file.with_extension("partial");
        let Ok(bytes) = serde_json::to_vec(delivery) else {
            return;
        };
        let written = async {
            tokio::fs::write(&partial, bytes).await?;
            tokio::fs::rename(&partial, &file).await
        };
        if let Err(error) = written.await {
            tracing::warn!(
                "a webhook event could not be kept in {}: {error}",
                file.display()
            );
        }
    }

    async fn deliver(&self, delivery: &Delivery) {
        for attempt in 0..MAX_ATTEMPTS {
            match self.post(delivery).await {
                Ok(()) => {
                    metrics::counter!("visavis_webhooks_sent_total").increment(1);
                    break;
                }
                Err(error) if attempt + 1 == MAX_ATTEMPTS => {
                    metrics::counter!("visavis_webhooks_dropped_total").increment(1);
                    tracing::error!(
                        "webhook {} to {} given up: {error}",
                        delivery.event,
                        delivery.url
                    );
                }
                Err(error) => {
                    let wait = RETRIES[attempt.min(RETRIES.len() - 1)];
                    tracing::warn!(
                        "webhook {} to {}: {error}; again in {wait} s",
                        delivery.event,
                        delivery.url
                    );
                    tokio::time::sleep(Duration::from_secs(wait)).await;
                }
            }
        }
        if let Some(directory) = &self.directory {
            let _ = tokio::fs::remove_file(delivery.file(directory)).await;
        }
    }

    async fn post(&self, delivery: &Delivery) -> Result<(), String> {
        let hash = HashAlgorithm::Sha256.hash(delivery.body.as_bytes());
        let claims = Claims {
            sha256: STANDARD.encode(hash.as_ref()),
            ..Claims::default()
        };
        // Keys may have been replaced since the start.
        let key = match self.keys.first() {
            Some((first, _)) if self.keys.secret(&self.key).is_none() => first,
            _ => self.key.clone(),
        };
        let token = self
            .keys
            .sign(&key, &claims, TOKEN_SECONDS)
            .map_err(|error| error.to_string())?;
        let request = Request::post(&delivery.url)
            .header(header::CONTENT_TYPE, "application/webhook+json")
            // As LiveKit sends it: the token alone, without `Bearer`.
            .header(header::AUTHORIZATION, token)
            .body(Full::new(Bytes::from(delivery.body.clone())))
            .map_err(|error| error.to_string())?;
        let response = tokio::time::timeout(TIMEOUT, self.client.request(request))
            .await
            .map_err(|_| "no answer in time".to_owned())?
            .map_err(|error| error.to_string())?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("the answer was {status}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::{Router, extract::State, http::HeaderMap, http::StatusCode, routing::post};

    use super::*;

    type Seen = Arc<Mutex<Vec<(String, String)>>>;

    /// A receiver on loopback: notes (room, event) of what it takes, after refusing the first `refusals`.
    async fn receiver(keys: Arc<Keys>, refusals: usize) -> (String, Seen) {
        let seen = Seen::default();
        let left = Arc::new(Mutex::new(refusals));
        let take = move |State(seen): State<Seen>, headers: HeaderMap, body: String| async move {
            let token = headers[header::AUTHORIZATION].to_str().unwrap();
            let claims = keys.verify(token).expect("signed");
            assert_eq!(
                claims.sha256,
                STANDARD.encode(HashAlgorithm::Sha256.hash(body.as_bytes()).as_ref())
            );
            {
                let mut left = left.lock().unwrap();
                if *left > 0 {
                    *left -= 1;
                    return StatusCode::INTERNAL_SERVER_ERROR;
                }
            }
            let event: proto::WebhookEvent = serde_json::from_str(&body).unwrap();
            seen.lock()
                .unwrap()
                .push((event.room.unwrap().name, event.event));
            StatusCode::OK
        };
        let app = Router::new()
            .route("/", post(take))
            .with_state(Arc::clone(&seen));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (url, seen)
    }

    fn keys() -> Arc<Keys> {
        Arc::new(Keys::new([(
            "key".to_owned(),
            "a secret that is long enough to be one".to_owned(),
        )]))
    }

    fn event(room: &str, event: &str) -> proto::WebhookEvent {
        let room = proto::Room {
            name: room.into(),
            ..Default::default()
        };
        proto::WebhookEvent {
            event: event.into(),
            room: Some(room),
            ..Default::default()
        }
    }

    async fn until(seen: &Seen, count: usize) -> Vec<(String, String)> {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while seen.lock().unwrap().len() < count {
            assert!(
                std::time::Instant::now() < deadline,
                "only {:?}",
                seen.lock().unwrap()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        seen.lock().unwrap().clone()
    }

    fn events_of<'a>(seen: &'a [(String, String)], room: &str) -> Vec<&'a str> {
        seen.iter()
            .filter(|(of, _)| of == room)
            .map(|(_, event)| event.as_str())
            .collect()
    }

    #[tokio::test]
    async fn events_of_a_room_arrive_in_order_although_one_is_refused() {
        let (url, seen) = receiver(keys(), 1).await;
        let webhooks = Webhooks::start(vec![url], keys(), "key".into(), None).unwrap();
        let names = [
            "room_started",
            "participant_joined",
            "participant_left",
            "room_finished",
        ];
        for name in names {
            webhooks.send(event("a", name));
            webhooks.send(event("b", name));
        }
        let seen = until(&seen, 8).await;
        assert_eq!(events_of(&seen, "a"), names);
        assert_eq!(events_of(&seen, "b"), names);
    }

    #[tokio::test]
    async fn events_survive_a_restart() {
        let directory =
            std::env::temp_dir().join(format!("visavis-webhooks-{}", crate::ids::random_text(8)));
        std::fs::create_dir_all(&directory).unwrap();
        let (url, seen) = receiver(keys(), 0).await;
        // What a process that was killed has left, and half of what it was writing.
        for (number, name) in [(7, "room_started"), (8, "room_finished")] {
            let body = serde_json::to_string(&event("a", name)).unwrap();
            let delivery = Delivery {
                number,
                url: url.clone(),
                room: "a".into(),
                event: name.into(),
                body,
            };
            std::fs::write(
                delivery.file(&directory),
                serde_json::to_vec(&delivery).unwrap(),
            )
            .unwrap();
        }
        std::fs::write(directory.join("9.json"), b"{\"number\":9").unwrap();
        let webhooks =
            Webhooks::start(vec![url], keys(), "key".into(), Some(directory.clone())).unwrap();
        webhooks.send(event("a", "room_started"));
        let seen = until(&seen, 3).await;
        assert_eq!(
            events_of(&seen, "a"),
            ["room_started", "room_finished", "room_started"]
        );
        let left = || std::fs::read_dir(&directory).unwrap().count();
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while left() > 1 && std::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(left(), 1, "what was taken is gone");
        std::fs::remove_dir_all(directory).unwrap();
    }
}
