//! The control side: events become logs, unknown users are looked up, certificates are renewed.

use std::sync::Weak;
use std::time::{Duration, Instant};

use visavis_turn::server::Event;

use super::certificates::{Acme, Certificates, acme_event, dtls_of_cache};
use super::quiet::Quiet;
use super::service::{Inner, TurnService};
use super::webhook::Webhook;

/// How often certificate files are looked at.
const LOOK: Duration = Duration::from_secs(30);

pub(super) async fn run(
    service: Weak<Inner>,
    mut events: tokio::sync::mpsc::Receiver<(u8, Event)>,
    mut acme: Option<Acme>,
) {
    let mut look = tokio::time::interval(LOOK);
    let mut quiet = Quiet::new(false);
    let mut webhook: Option<Webhook> = None;
    let mut changed = None;
    loop {
        tokio::select! {
            event = events.recv() => {
                let Some((worker, event)) = event else { return };
                let Some(inner) = service.upgrade() else { return };
                let service = TurnService::of(inner);
                let (url, redact) =
                    service.with_state(|state| (state.config.webhook.clone(), state.config.redact));
                match event {
                    Event::Lookup { realm, username } => {
                        if webhook.as_ref().map(Webhook::url) != url.as_ref() {
                            webhook = url.map(Webhook::new);
                        }
                        match &webhook {
                            Some(webhook) => webhook.ask(service, worker, realm, username),
                            None => service.answer_lookup(worker, realm, username, None),
                        }
                    }
                    event => log(&mut quiet, redact, &event),
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
