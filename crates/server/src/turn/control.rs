//! The control side: events become logs, unknown users are looked up, certificates are renewed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};

use visavis_turn::server::Event;

use super::certificates::{Acme, Certificates, acme_event, dtls_of_cache};
use super::quiet::Quiet;
use super::service::{Inner, TurnService};
use super::webhook::Webhook;

/// How often certificate files are looked at.
const LOOK: Duration = Duration::from_secs(30);
/// How long what is only told waits for more of it: waking the control side for each allocation would cost as much as making
/// the allocation.
const LINGER: Duration = Duration::from_millis(50);
/// How many events wait to be told, and how many lookups to be made; what comes beyond is lost.
const MOST_EVENTS: usize = 4096;

/// Where workers leave what happened. Clones lead to the same control side.
#[derive(Clone)]
pub(super) struct Events {
    lookups: mpsc::Sender<Lookup>,
    story: Arc<Story>,
}

/// Somebody whom another service may know, and the worker that asks.
struct Lookup {
    worker: u8,
    realm: String,
    username: String,
}

/// What is told and needs no answer.
#[derive(Default)]
struct Story {
    events: Mutex<VecDeque<Event>>,
    bell: Notify,
}

/// The other end of [`Events`].
pub(super) struct Received {
    lookups: mpsc::Receiver<Lookup>,
    story: Arc<Story>,
}

/// Both ends.
pub(super) fn events() -> (Events, Received) {
    let (lookups, received) = mpsc::channel(MOST_EVENTS);
    let story = Arc::new(Story::default());
    let events = Events {
        lookups,
        story: Arc::clone(&story),
    };
    let received = Received {
        lookups: received,
        story,
    };
    (events, received)
}

impl Events {
    /// Leaves one. A control side that is too slow loses the story, not the service.
    pub(super) fn send(&self, worker: u8, event: Event) {
        if let Event::Lookup { realm, username } = event {
            let _ = self.lookups.try_send(Lookup {
                worker,
                realm,
                username,
            });
            return;
        }
        let mut events = self.story.lock();
        if events.len() < MOST_EVENTS {
            events.push_back(event);
        }
        let first = events.len() == 1;
        drop(events);
        if first {
            self.story.bell.notify_one();
        }
    }
}

impl Story {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells it, some of it at a time.
    async fn tell(&self, service: &Weak<Inner>) {
        let mut quiet = Quiet::new(false);
        loop {
            self.bell.notified().await;
            tokio::time::sleep(LINGER).await;
            let events = std::mem::take(&mut *self.lock());
            let Some(inner) = service.upgrade() else {
                return;
            };
            let redact = TurnService::of(inner).with_state(|state| state.config.redact);
            for event in &events {
                log(&mut quiet, redact, event);
            }
        }
    }
}

pub(super) async fn run(service: Weak<Inner>, received: Received, acme: Option<Acme>) {
    let Received { lookups, story } = received;
    // Whichever ends first: both end with the service.
    tokio::select! {
        () = story.tell(&service) => {}
        () = serve(&service, lookups, acme) => {}
    }
}

async fn serve(service: &Weak<Inner>, mut lookups: mpsc::Receiver<Lookup>, mut acme: Option<Acme>) {
    let mut look = tokio::time::interval(LOOK);
    let mut webhook: Option<Webhook> = None;
    let mut changed = None;
    loop {
        tokio::select! {
            lookup = lookups.recv() => {
                let Some(Lookup { worker, realm, username }) = lookup else { return };
                let Some(inner) = service.upgrade() else { return };
                let service = TurnService::of(inner);
                let url = service.with_state(|state| state.config.webhook.clone());
                if webhook.as_ref().map(Webhook::url) != url.as_ref() {
                    webhook = url.map(Webhook::new);
                }
                match &webhook {
                    Some(webhook) => webhook.ask(service, worker, realm, username),
                    None => service.answer_lookup(worker, realm, username, None),
                }
            }
            event = next_acme(&mut acme) => {
                let Some(inner) = service.upgrade() else { return };
                match event {
                    Ok(event) => {
                        tracing::info!(%event, "ACME");
                        let service = TurnService::of(inner);
                        let renewed = service.with_state(|state| {
                            let Certificates::Acme { cache, .. } = &state.config.certificates else {
                                return false;
                            };
                            dtls_of_cache(cache).map(|dtls| state.loaded.dtls = dtls).is_some()
                        });
                        if renewed {
                            service.send_config();
                        }
                    }
                    Err(error) => tracing::warn!(
                        %error,
                        "no certificate from ACME: it has to reach port 443 of each name"
                    ),
                }
            }
            _ = look.tick() => {
                let Some(inner) = service.upgrade() else { return };
                let service = TurnService::of(inner);
                let certificates = service.with_state(|state| state.config.certificates.clone());
                let now = certificates.changed();
                if now.is_some() && now != changed {
                    // The first look tells only what the start has read.
                    if changed.is_some() {
                        renew(&service, &certificates);
                    }
                    changed = now;
                }
            }
        }
    }
}

/// The files have changed: new connections get what they hold now, if it is any good.
fn renew(service: &TurnService, certificates: &Certificates) {
    let loaded = service.with_state(|state| {
        let mut random = state.random.fork();
        certificates
            .load(&mut random)
            .map(|(loaded, _)| state.loaded = loaded)
    });
    match loaded {
        Ok(()) => {
            tracing::info!("the certificate was renewed");
            service.send_config();
        }
        Err(error) => tracing::warn!(%error, "the new certificate is not used"),
    }
}

async fn next_acme(acme: &mut Option<Acme>) -> Result<String, String> {
    match acme {
        Some(state) => match acme_event(state).await {
            Some(event) => event,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// One line for each allocation that begins or ends, at most one a second for each client address. Names are what strangers
/// wrote: escaped.
fn log(quiet: &mut Quiet, redact: bool, event: &Event) {
    let (info, what) = match event {
        Event::Allocated(info) => (info, "allocated".to_owned()),
        Event::Ended(info, reason) => (info, format!("ended: {reason:?}")),
        Event::Moved(info) => (info, "moved".to_owned()),
        _ => return,
    };
    if !quiet.allows(Instant::now(), info.client.remote.ip()) {
        return;
    }
    let client = if redact {
        None
    } else {
        Some(info.client.remote)
    };
    tracing::info!(
        allocation = %info.id,
        user = ?info.username,
        realm = ?info.realm,
        protocol = %info.client.protocol,
        client = client.map(tracing::field::display),
        relayed = ?info.relayed,
        bytes_to_peers = info.bytes_to_peers,
        bytes_to_client = info.bytes_to_client,
        "{what}"
    );
}
