//! Hosting: a slot that is held for as long as the host runs, wherever its server is.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use super::client::{Correspondent, Host, RendezvousError, Server};
use super::connect::HostSecrets;
use super::lan::LanRendezvous;
use super::{Code, Link};

use crate::output::{err, out};

/// How long to wait before a server that went away is tried again: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_secs(3);
/// How long to wait for a slot to be free again.
const FREED: Duration = Duration::from_secs(75);

/// Which server introduces the two sides.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ServerArgs {
    /// The server that introduces the two sides: any `visavis serve`. Without one, both must be on the
    /// same local network.
    #[arg(long, env = "VISAVIS_SERVER", value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Accept any certificate of the server. What passes between the two sides stays encrypted end to
    /// end.
    #[arg(long)]
    pub(crate) insecure: bool,
}

impl ServerArgs {
    /// The server, if one is named.
    pub(crate) fn server(&self) -> Result<Option<Server>, RendezvousError> {
        let server = self.server.as_deref();
        server
            .map(|text| Server::parse(text, self.insecure))
            .transpose()
    }
}

/// A slot that is held.
pub(crate) struct Hosting {
    /// What guests must know.
    pub(crate) secrets: HostSecrets,
    server: Server,
    /// The server as the user named it; `None` on the LAN.
    named: Option<String>,
    /// Whether the LAN can find us.
    published: bool,
    _lan: Option<LanRendezvous>,
    key: String,
    slot: String,
    host: Option<Host>,
    /// How long to wait before the next try.
    pause: Duration,
}

/// A guest, with what is needed to connect to it.
pub(crate) struct Guest {
    /// Messages to and from it.
    pub(crate) correspondent: Correspondent,
    /// The slot it came to.
    pub(crate) slot: String,
    /// ICE servers that the server recommends.
    pub(crate) ice_servers: Vec<visavis::IceServer>,
}

/// Takes a slot. One that is named may still be held by an earlier run of ours, which the server
/// notices in a minute at the latest.
async fn open(server: &Server, key: &str, code: Option<&Code>) -> Result<Host, RendezvousError> {
    let since = Instant::now();
    loop {
        match Host::open(server, key, code.map(|code| code.slot.as_str())).await {
            Err(RendezvousError::Refused { code: refusal, .. })
                if code.is_some() && refusal == "slot-taken" && since.elapsed() < FREED => {}
            result => return result,
        }
        tokio::time::sleep(RETRY).await;
    }
}

impl Hosting {
    /// Takes a slot, that of `code` if there is one.
    pub(crate) async fn start(
        args: &ServerArgs,
        code: Option<&Code>,
    ) -> Result<Self, RendezvousError> {
        let words = match code {
            Some(code) => code.words.clone(),
            None => Code::random_words()?,
        };
        let secrets = HostSecrets {
            words,
            link: Link::random_secret()?,
        };
        let mut key = [0; 16];
        getrandom::fill(&mut key)?;
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut lan = None;
        let server = match args.server()? {
            Some(server) => server,
            None => {
                let started = LanRendezvous::start()
                    .await
                    .map_err(|error| RendezvousError::Listen(error.to_string()))?;
                lan.insert(started).server.clone()
            }
        };
        let host = open(&server, &key, code).await;
        let host = host.map_err(|error| match error {
            // That was this machine itself.
            RendezvousError::Unreachable { .. } if lan.is_some() => RendezvousError::NoLan,
            error => error,
        })?;
        let published = lan.as_mut().is_some_and(|lan| lan.publish(&host.slot));
        Ok(Self {
            secrets,
            server,
            named: args.server.clone(),
            published,
            _lan: lan,
            key,
            slot: host.slot.clone(),
            host: Some(host),
            pause: RETRY_FIRST,
        })
    }

    /// The code to tell.
    pub(crate) fn code(&self) -> Code {
        Code {
            slot: self.slot.clone(),
            words: self.secrets.words.clone(),
        }
    }

    /// The link to pass on, where there is a server with a page.
    pub(crate) fn link(&self) -> Option<Link> {
        self.named.is_some().then(|| Link {
            server: self.server.address().to_owned(),
            slot: self.slot.clone(),
            secret: self.secrets.link,
        })
    }

    /// Tells the user what to pass on: the command for the other side, the link, and a QR code of it.
    pub(crate) fn invite(&self, command: &str, browser: bool, qr: bool) {
        let server = match &self.named {
            Some(server) => format!(" --server {server}"),
            None => String::new(),
        };
        out!(
            "On the other machine:\n\n    visavis {command}{server} {}\n",
            self.code()
        );
        match self.link().filter(|_| browser) {
            Some(link) => {
                out!("or in a browser:\n\n    {link}\n");
                if qr && std::io::stdout().is_terminal() {
                    out!("{}", crate::qr::render(&link.to_string()));
                }
            }
            None if self.named.is_some() => {}
            None if self.published => {
                out!("It must be on this network. For elsewhere, name a server: --server URL");
            }
            None => out!(
                "There is no multicast on this network, so only this machine can find it. Name a server: --server URL"
            ),
        }
    }

    /// Looks whether the server is still reached, as after a change of networks it is not. [`next_guest`](Self::next_guest) does
    /// what there is to do then.
    pub(crate) fn check(&self) {
        if let Some(host) = &self.host {
            host.check();
        }
    }

    /// This machine's addresses changed: what is lost with them is taken back at once.
    pub(crate) fn network_changed(&mut self) {
        self.pause = RETRY_FIRST;
        tracing::debug!(
            cut_off = self.host.as_ref().is_some_and(Host::is_cut_off),
            "the network changed"
        );
        if self.host.as_ref().is_some_and(Host::is_cut_off) {
            self.host = None;
        } else {
            self.check();
        }
    }

    /// The next guest. Takes the slot back when the server went away, for as long as it takes.
    /// Cancel-safe.
    ///
    /// # Errors
    /// When somebody else has the slot.
    pub(crate) async fn next_guest(&mut self) -> Result<Guest, RendezvousError> {
        loop {
            if let Some(host) = &mut self.host {
                if let Some(correspondent) = host.next_guest().await {
                    return Ok(Guest {
                        correspondent,
                        slot: self.slot.clone(),
                        ice_servers: host.ice_servers.clone(),
                    });
                }
                self.host = None;
                err!("the server is gone; trying to get it back");
            }
            tokio::time::sleep(self.pause).await;
            self.pause = RETRY.min(self.pause * 2);
            match Host::open(&self.server, &self.key, Some(&self.slot)).await {
                Ok(host) => {
                    tracing::debug!("the slot is taken back");
                    (self.host, self.pause) = (Some(host), RETRY_FIRST);
                }
                Err(error @ RendezvousError::Refused { .. }) => return Err(error),
                Err(error) => tracing::debug!(%error, "the slot is not taken back"),
            }
        }
    }
}
