//! Where two programs that share a short code find each other before they are connected.
//!
//! A host takes a slot and waits; guests who know its number join; messages pass between the host and
//! each guest, unread: what is in them is sealed by the two ends. What lives here: slots and the
//! WebSocket that they are reached by. What does not: the code's secret, which never comes here.
//!
//! On the wire (`GET /api/rendezvous`, JSON in text frames):
//!
//! | who | sends | gets |
//! |---|---|---|
//! | host, `?host=KEY[&slot=N]` | `{"to": guest, "message": any}`, `{"drop": guest}` | `{"type":"slot","slot","ice_servers"}`, `{"type":"guest","guest"}`, `{"type":"message","guest","message"}`, `{"type":"left","guest"}` |
//! | guest, `?slot=N` | `{"message": any}` | `{"type":"joined","ice_servers"}`, `{"type":"message","message"}`, `{"type":"left"}` |
//!
//! Either gets `{"type":"error","code","message"}` before the server closes. A host that lost its
//! socket takes its slot back: at once with the same key, with another one as soon as the server has
//! noticed that it went away.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::websocket::{NORMAL, bounded, close, send};

/// Hosts that got no slot, by the limit that was reached.
const REFUSED: &str = "visavis_rendezvous_refused_total";

/// Bounds of a [`Rendezvous`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// Slots at a time. Default 10,000.
    pub slots: usize,
    /// Slots that hosts of one address hold at a time; an IPv6 address counts by its /64. Hosts whose address is not known
    /// (see [`ClientAddress`]) are not counted. Default 64.
    pub slots_per_address: usize,
    /// Guests of a slot at a time. Default 32.
    pub guests: usize,
    /// Guests that may join a slot in its lifetime, which bounds how often a code can be guessed.
    /// Default 1,000.
    pub joins: u32,
    /// The longest message in bytes. Default 64 KiB.
    pub message: usize,
    /// Messages that wait for a slow reader before it is cut off. Default 256.
    pub queue: usize,
    /// How long a slot is kept for a host that went away. Default 10 minutes.
    pub keep: Duration,
    /// How long a socket may be silent: it is pinged after half of it and closed after the whole.
    /// Default 60 s.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            slots: 10_000,
            slots_per_address: 64,
            guests: 32,
            joins: 1_000,
            message: 64 << 10,
            queue: 256,
            keep: Duration::from_secs(600),
            silence: Duration::from_secs(60),
        }
    }
}

/// An ICE server as browsers take it (W3C `RTCIceServer`).
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, Default)]
pub struct IceServer {
    /// URLs of RFC 7064 and RFC 7065.
    pub urls: Vec<String>,
    /// Username, for TURN.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Password, for TURN.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub credential: String,
}

/// Gives the ICE servers for one client, with credentials that live as long as it needs them. The headers of its request
/// say by which host it reached the server.
pub type IceServers = Arc<dyn Fn(&HeaderMap) -> Vec<IceServer> + Send + Sync>;

/// Where a request comes from: put it into the request's extensions, so that hosts are counted by address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl ClientAddress {
    /// What one subscriber has of addresses: one of IPv4, a /64 of IPv6.
    pub(crate) fn network(self) -> IpAddr {
        match self.0.to_canonical() {
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            ip => ip,
        }
    }
}

/// The slots. Cheap to clone.
#[derive(Clone)]
pub struct Rendezvous {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Rendezvous {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let slots = self.slots().len();
        f.debug_struct("Rendezvous").field("slots", &slots).finish()
    }
}

struct Shared {
    limits: Limits,
    ice_servers: IceServers,
    slots: Mutex<HashMap<String, Slot>>,
}

/// A queue towards one socket; dropping it closes the socket.
type Outbox = mpsc::Sender<Out>;

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Out {
    Slot {
        slot: String,
        ice_servers: Vec<IceServer>,
    },
    Joined {
        ice_servers: Vec<IceServer>,
    },
    Guest {
        guest: u32,
    },
    Message {
        #[serde(skip_serializing_if = "Option::is_none")]
        guest: Option<u32>,
        message: Box<RawValue>,
    },
    Left {
        #[serde(skip_serializing_if = "Option::is_none")]
        guest: Option<u32>,
    },
    Error {
        code: &'static str,
        message: String,
    },
}

struct Slot {
    key: String,
    /// Whose it is, as far as that is known.
    network: Option<IpAddr>,
    host: Option<Outbox>,
    /// When the host went away.
    since: Instant,
    guests: HashMap<u32, Outbox>,
    joins: u32,
}

#[derive(Debug, Deserialize)]
struct Parameters {
    host: Option<String>,
    slot: Option<String>,
}

#[derive(Deserialize)]
struct FromHost {
    to: Option<u32>,
    message: Option<Box<RawValue>>,
    drop: Option<u32>,
}

#[derive(Deserialize)]
struct FromGuest {
    message: Box<RawValue>,
}

impl Rendezvous {
    /// No slots yet.
    pub fn new(limits: Limits, ice_servers: IceServers) -> Self {
        Self {
            shared: Arc::new(Shared {
                limits,
                ice_servers,
                slots: Mutex::default(),
            }),
        }
    }

    /// The HTTP routes.
    pub fn routes(self) -> Router {
        Router::new()
            .route("/api/rendezvous", get(upgrade))
            .with_state(self)
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.shared
            .slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a slot for a host.
    fn take(
        &self,
        wanted: Option<String>,
        key: String,
        network: Option<IpAddr>,
        host: Outbox,
    ) -> Result<String, Out> {
        let limits = &self.shared.limits;
        let mut slots = self.slots();
        let now = Instant::now();
        slots.retain(|_, slot| slot.host.is_some() || now - slot.since < limits.keep);
        let name = match wanted {
            Some(name) => {
                if !is_slot(&name) {
                    return Err(error("bad-slot", "a slot is a number of 4 to 9 digits"));
                }
                if let Some(slot) = slots.get_mut(&name) {
                    // Who asks for a slot by its number knew the code, or guessed 1 of 9,000: while the
                    // host is away that is enough, for the code's words are what guests check.
                    let same =
                        visavis_crypto::constant_time_eq(slot.key.as_bytes(), key.as_bytes());
                    if slot.host.is_some() && !same {
                        return Err(error(
                            "slot-taken",
                            "somebody else waits under this code; try again in a minute, or take a new one",
                        ));
                    }
                    slot.key = key;
                    slot.network = network;
                    slot.host = Some(host);
                    // Guests of the socket that it had are unknown to the host now, and may come again.
                    for (_, guest) in slot.guests.drain() {
                        let _ = guest.try_send(Out::Left { guest: None });
                    }
                    return Ok(name);
                }
                Some(name)
            }
            None => None,
        };
        if network.is_some() {
            let same = slots.values().filter(|slot| slot.network == network);
            if same.count() >= limits.slots_per_address {
                metrics::counter!(REFUSED, "limit" => "address").increment(1);
                return Err(error(
                    "too-many-slots",
                    "too many wait under codes from this address; end some of them, or try again in ten minutes",
                ));
            }
        }
        if slots.len() >= limits.slots {
            metrics::counter!(REFUSED, "limit" => "slots").increment(1);
            return Err(error(
                "full",
                "the server has no free slot; try again later",
            ));
        }
        let name = match name {
            Some(name) => name,
            None => {
                free_slot(&slots).ok_or_else(|| error("full", "the server has no free slot"))?
            }
        };
        let slot = Slot {
            key,
            network,
            host: Some(host),
            since: now,
            guests: HashMap::new(),
            joins: 0,
        };
        slots.insert(name.clone(), slot);
        Ok(name)
    }

    fn leave_host(&self, name: &str, host: &Outbox) {
        let mut slots = self.slots();
        let Some(slot) = slots.get_mut(name) else {
            return;
        };
        // Another socket may have taken the slot over since.
        if slot.host.as_ref().is_some_and(|now| now.same_channel(host)) {
            slot.host = None;
            slot.since = Instant::now();
            for (_, guest) in slot.guests.drain() {
                let _ = guest.try_send(Out::Left { guest: None });
            }
        }
    }

    fn join(&self, name: &str, guest: Outbox) -> Result<u32, Out> {
        let limits = &self.shared.limits;
        let mut slots = self.slots();
        let slot = slots
            .get_mut(name)
            .filter(|slot| slot.host.is_some() || slot.since.elapsed() < limits.keep)
            .ok_or_else(|| error("no-such-slot", "nobody waits under this code"))?;
        let Some(host) = &slot.host else {
            return Err(error(
                "host-away",
                "the other side went away; it may come back",
            ));
        };
        if slot.guests.len() >= limits.guests || slot.joins >= limits.joins {
            return Err(error("full", "too many have joined under this code"));
        }
        slot.joins += 1;
        let number = slot.joins;
        if host.try_send(Out::Guest { guest: number }).is_err() {
            return Err(error("host-away", "the other side does not answer"));
        }
        slot.guests.insert(number, guest);
        Ok(number)
    }

    fn leave_guest(&self, name: &str, number: u32) {
        let mut slots = self.slots();
        if let Some(slot) = slots.get_mut(name)
            && slot.guests.remove(&number).is_some()
            && let Some(host) = &slot.host
        {
            let _ = host.try_send(Out::Left {
                guest: Some(number),
            });
        }
    }

    /// What a host said. False if it is to be cut off.
    fn hear_host(&self, name: &str, text: &str) -> bool {
        let Ok(said) = serde_json::from_str::<FromHost>(text) else {
            return false;
        };
        let mut slots = self.slots();
        let Some(slot) = slots.get_mut(name) else {
            return false;
        };
        if let Some(number) = said.drop
            && let Some(guest) = slot.guests.remove(&number)
        {
            let _ = guest.try_send(Out::Left { guest: None });
        }
        if let (Some(number), Some(message)) = (said.to, said.message) {
            let out = Out::Message {
                guest: None,
                message,
            };
            // A guest that does not read is dropped; its socket closes with its queue.
            if let Some(guest) = slot.guests.get(&number)
                && guest.try_send(out).is_err()
            {
                slot.guests.remove(&number);
            }
        }
        true
    }

    /// What a guest said. False if it is to be cut off.
    fn hear_guest(&self, name: &str, number: u32, text: &str) -> bool {
        let Ok(said) = serde_json::from_str::<FromGuest>(text) else {
            return false;
        };
        let slots = self.slots();
        let Some(slot) = slots
            .get(name)
            .filter(|slot| slot.guests.contains_key(&number))
        else {
            return false;
        };
        let out = Out::Message {
            guest: Some(number),
            message: said.message,
        };
        slot.host
            .as_ref()
            .is_some_and(|host| host.try_send(out).is_ok())
    }

    async fn serve_host(
        &self,
        socket: WebSocket,
        wanted: Option<String>,
        key: String,
        network: Option<IpAddr>,
        ice_servers: Vec<IceServer>,
    ) {
        let (outbox, inbox) = mpsc::channel(self.shared.limits.queue);
        match self.take(wanted, key, network, outbox.clone()) {
            Ok(slot) => {
                let welcome = Out::Slot {
                    slot: slot.clone(),
                    ice_servers,
                };
                let _ = outbox.try_send(welcome);
                let hear = |text: &str| self.hear_host(&slot, text);
                converse(socket, inbox, &self.shared.limits, hear).await;
                self.leave_host(&slot, &outbox);
            }
            Err(refusal) => refuse(socket, refusal).await,
        }
    }

    async fn serve_guest(&self, socket: WebSocket, slot: String, ice_servers: Vec<IceServer>) {
        let (outbox, inbox) = mpsc::channel(self.shared.limits.queue);
        let _ = outbox.try_send(Out::Joined { ice_servers });
        match self.join(&slot, outbox) {
            Ok(number) => {
                let hear = |text: &str| self.hear_guest(&slot, number, text);
                converse(socket, inbox, &self.shared.limits, hear).await;
                self.leave_guest(&slot, number);
            }
            Err(refusal) => refuse(socket, refusal).await,
        }
    }
}

fn error(code: &'static str, message: &str) -> Out {
    Out::Error {
        code,
        message: message.to_owned(),
    }
}

fn is_slot(name: &str) -> bool {
    (4..=9).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_digit())
}

/// A number that is free: of four digits while few are taken, so that codes stay short.
fn free_slot(slots: &HashMap<String, Slot>) -> Option<String> {
    let digits = if slots.len() < 2_000 { 4 } else { 6 };
    let (low, span) = (10_u32.pow(digits - 1), 9 * 10_u32.pow(digits - 1));
    (0..1_000).find_map(|_| {
        let name = (low + getrandom::u32().ok()? % span).to_string();
        (!slots.contains_key(&name)).then_some(name)
    })
}

async fn upgrade(
    State(rendezvous): State<Rendezvous>,
    Query(parameters): Query<Parameters>,
    from: Option<Extension<ClientAddress>>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let network = from.map(|Extension(from)| from.network());
    let ice_servers = (rendezvous.shared.ice_servers)(&headers);
    let upgrade = bounded(upgrade, rendezvous.shared.limits.message);
    upgrade.on_upgrade(async move |socket| match parameters {
        Parameters {
            host: Some(key),
            slot,
        } if (16..=128).contains(&key.len()) => {
            rendezvous
                .serve_host(socket, slot, key, network, ice_servers)
                .await;
        }
        Parameters {
            host: None,
            slot: Some(slot),
        } => rendezvous.serve_guest(socket, slot, ice_servers).await,
        _ => {
            let refusal = error(
                "bad-request",
                "?host=KEY of 16 to 128 characters, or ?slot=NUMBER",
            );
            refuse(socket, refusal).await;
        }
    })
}

async fn refuse(mut socket: WebSocket, refusal: Out) {
    send(&mut socket, text(&refusal)).await;
    close(socket, NORMAL, "").await;
}

fn text(out: &Out) -> Message {
    Message::Text(Utf8Bytes::from(
        serde_json::to_string(out).unwrap_or_default(),
    ))
}

/// Moves messages until either side ends it.
async fn converse(
    mut socket: WebSocket,
    mut inbox: mpsc::Receiver<Out>,
    limits: &Limits,
    mut hear: impl FnMut(&str) -> bool,
) {
    let mut heard = Instant::now();
    loop {
        let due = tokio::time::sleep(limits.silence / 2);
        tokio::select! {
            said = socket.recv() => match said {
                Some(Ok(Message::Text(text))) => {
                    heard = Instant::now();
                    if !hear(&text) {
                        break;
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => heard = Instant::now(),
                _ => break,
            },
            out = inbox.recv() => {
                let Some(out) = out else { break };
                let last = matches!(out, Out::Left { guest: None });
                if socket.send(text(&out)).await.is_err() || last {
                    break;
                }
            }
            () = due => {
                if heard.elapsed() >= limits.silence {
                    break;
                }
                if socket.send(Message::Ping(bytes::Bytes::new())).await.is_err() {
                    break;
                }
            }
        }
    }
    let _ = socket.send(Message::Close(None)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(rendezvous: &Rendezvous, address: &str) -> Result<(String, Outbox), Out> {
        let (outbox, _) = mpsc::channel(1);
        let network = ClientAddress(address.parse().unwrap()).network();
        let key = "a key of some length".to_owned();
        let slot = rendezvous.take(None, key, Some(network), outbox.clone())?;
        Ok((slot, outbox))
    }

    #[test]
    fn guests_of_a_host_that_came_back_are_told_to_come_again() {
        let rendezvous = Rendezvous::new(Limits::default(), Arc::new(|_| Vec::new()));
        let key = || "a key of some length".to_owned();
        let (old, _old) = mpsc::channel(1);
        let slot = rendezvous.take(None, key(), None, old).unwrap();
        let (guest, mut told) = mpsc::channel(1);
        rendezvous.join(&slot, guest).unwrap();
        // The old socket is dead, and nobody has noticed.
        let (new, _new) = mpsc::channel(1);
        rendezvous.take(Some(slot), key(), None, new).unwrap();
        assert!(matches!(told.try_recv(), Ok(Out::Left { guest: None })));
        assert!(told.try_recv().is_err(), "its queue is closed");
    }

    #[test]
    fn an_address_holds_so_many_slots_at_a_time() {
        let limits = Limits {
            slots_per_address: 2,
            keep: Duration::ZERO,
            ..Limits::default()
        };
        let rendezvous = Rendezvous::new(limits, Arc::new(|_| Vec::new()));
        let (slot, outbox) = host(&rendezvous, "198.51.100.1").unwrap();
        host(&rendezvous, "::ffff:198.51.100.1").unwrap();
        let refused = host(&rendezvous, "198.51.100.1").unwrap_err();
        assert!(matches!(
            refused,
            Out::Error {
                code: "too-many-slots",
                ..
            }
        ));
        host(&rendezvous, "198.51.100.2").unwrap();
        // Two addresses of one /64 are one subscriber's.
        host(&rendezvous, "2001:db8:1:2::1").unwrap();
        host(&rendezvous, "2001:db8:1:2:ffff::1").unwrap();
        assert!(host(&rendezvous, "2001:db8:1:2::3").is_err());
        host(&rendezvous, "2001:db8:1:3::1").unwrap();
        // Who leaves makes room.
        rendezvous.leave_host(&slot, &outbox);
        host(&rendezvous, "198.51.100.1").unwrap();
    }
}
