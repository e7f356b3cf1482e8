//! A page and a connection of ours, and the signalling between them.

use std::net::SocketAddr;
use std::sync::Arc;

use interop_common::{in_namespace, meets, within, without_bundle};
use serde_json::{Value, json};
use visavis::{Configuration, DataChannel, Description, Endpoint, Event, PeerConnection, Settings};

use crate::line::{Conditions, Line};
use crate::{Browser, Kind, Page};

/// One of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// This stack.
    Here,
    /// The browser.
    Page,
}

/// What a call is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The browser.
    pub kind: Kind,
    /// What it is started with.
    pub flags: Vec<&'static str>,
    /// The page's `RTCConfiguration`.
    pub page: Value,
    /// Ours.
    pub configuration: Configuration,
    /// Our sockets.
    pub settings: Settings,
    /// Candidates that reach the other side; all by default.
    pub candidates: fn(&str) -> bool,
    /// Whether descriptions say that sections share a transport. If not, each has its own.
    pub bundles: bool,
    /// What the line between the two is like; none by default: they reach each other directly.
    pub line: Option<Conditions>,
}

impl Plan {
    /// A plain call.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            flags: Vec::new(),
            page: json!({}),
            configuration: Configuration::default(),
            settings: Settings::default(),
            candidates: |_| true,
            bundles: true,
            line: None,
        }
    }

    /// As it is, with one codec for pictures, and what belongs to it.
    #[must_use]
    pub fn video(mut self, codec: &str) -> Self {
        let codecs = &mut Arc::make_mut(&mut self.configuration.advanced.codecs).video;
        codecs.retain(|known| known.is(codec) || known.is_auxiliary());
        self
    }
}

/// A page and a connection of ours.
pub struct Call {
    /// The page; its connection is `pc`.
    pub page: Page,
    /// Ours.
    pub connection: PeerConnection,
    /// The browser.
    pub browser: Arc<Browser>,
    /// The line between the two, once there is one.
    pub line: Option<Line>,
    plan: Plan,
}

impl Drop for Call {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.connection.with_core(|core| {
                core.log().for_each(|entry| eprintln!("{entry:?}"));
            });
        }
    }
}

impl Call {
    /// Opens a page and makes both connections. `None`, with the reason printed, where this cannot be
    /// tested.
    pub async fn new(plan: Plan) -> Option<Self> {
        if !in_namespace() {
            return None;
        }
        let browser = Browser::launch(plan.kind, &plan.flags).await?;
        meets(&browser.name());
        let page = browser.open().await;
        page.call(include_str!("page.js"), json!(null)).await;
        page.call("begin(argument)", plan.page.clone()).await;
        let endpoint = Endpoint::new(plan.settings.clone()).expect("sockets");
        let connection = endpoint.peer_connection(plan.configuration.clone());
        Some(Self {
            page,
            connection: connection.expect("a connection"),
            browser,
            line: None,
            plan,
        })
    }

    /// What the call is made of.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Offer and answer, offered by one side; the other sends back what it can.
    pub async fn negotiate(&mut self, offerer: Side) {
        match offerer {
            Side::Here => {
                let offer = self.our_description().await;
                let answer = within(
                    "an answer",
                    self.page.call("return answer(argument, true)", offer),
                );
                let answer = answer.await;
                self.take(&answer);
            }
            Side::Page => {
                let offer = within("an offer", self.page.eval("offer()")).await;
                self.take(&offer);
                let answer = self.our_description().await;
                self.page
                    .call("await pc.setRemoteDescription(argument)", answer)
                    .await;
            }
        }
    }

    /// Sets the offer or answer that is due here, and answers what the page is to be told.
    pub async fn our_description(&mut self) -> Value {
        self.connection.set_local_description(None).await.unwrap();
        let description = within("gathering", self.connection.gathered()).await;
        let mut description = description.expect("an open connection");
        description.sdp = candidates_only(&description.sdp, self.plan.candidates);
        if !self.plan.bundles {
            description.sdp = without_bundle(&description.sdp);
        }
        if let Some(conditions) = self.plan.line {
            if self.line.is_none() {
                let ours = first_address(&description.sdp).expect("a UDP candidate");
                self.line = Some(Line::before(ours, conditions).await);
            }
            let line = self.line.as_ref().map(Line::address);
            description.sdp = behind(&description.sdp, line.expect("a line"));
        }
        to_json(&description)
    }

    /// Takes the page's description.
    pub fn take(&self, description: &Value) {
        let text = |key: &str| description[key].as_str().expect("a description");
        let mut sdp = candidates_only(text("sdp"), self.plan.candidates);
        if !self.plan.bundles {
            sdp = without_bundle(&sdp);
        }
        if self.plan.line.is_some() {
            // It is to be found by its checks, which come through the line.
            sdp = candidates_only(&sdp, |_| false);
        }
        let description = Description::from_parts(text("type"), sdp).unwrap();
        self.connection
            .set_remote_description(&description)
            .unwrap();
    }

    /// Waits for an event of our connection; those before it are dropped.
    pub async fn event<T>(&self, what: &str, mut look: impl FnMut(Event) -> Option<T>) -> T {
        within(what, async {
            loop {
                let event = self.connection.next_event().await.expect("open");
                if let Some(found) = look(event) {
                    return found;
                }
            }
        })
        .await
    }

    /// The channel that the page opens.
    pub async fn channel(&self) -> DataChannel {
        self.event("a channel", |event| match event {
            Event::DataChannel(channel) => Some(channel),
            _ => None,
        })
        .await
    }

    /// A channel between the two, opened by who offers.
    pub async fn connect(&mut self, offerer: Side) -> DataChannel {
        match offerer {
            Side::Here => {
                let ours = self
                    .connection
                    .create_data_channel("chat", Default::default());
                self.negotiate(offerer).await;
                let ours = ours.unwrap();
                within("an open channel", ours.opened()).await.unwrap();
                within(
                    "a channel in the page",
                    self.page.eval(
                        "(async () => { while (!globalThis.dc) await pause(10); await opened })()",
                    ),
                )
                .await;
                ours
            }
            Side::Page => {
                self.page.eval("follow(pc.createDataChannel('chat'))").await;
                self.negotiate(offerer).await;
                let channel = self.channel().await;
                within("an open channel", self.page.eval("opened")).await;
                channel
            }
        }
    }
}

fn to_json(description: &Description) -> Value {
    json!({ "type": description.kind.name(), "sdp": description.sdp })
}

/// A description with some of its candidates.
fn candidates_only(sdp: &str, keep: impl Fn(&str) -> bool) -> String {
    let lines = sdp
        .lines()
        .filter(|line| line.strip_prefix("a=candidate:").is_none_or(&keep));
    lines.flat_map(|line| [line, "\r\n"]).collect()
}

/// The address of the first UDP candidate over IPv4.
fn first_address(sdp: &str) -> Option<SocketAddr> {
    let candidates = sdp.lines().filter(|line| line.starts_with("a=candidate:"));
    candidates
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(|words| words[2].eq_ignore_ascii_case("udp"))
        .filter_map(|words| {
            Some(SocketAddr::new(
                words[4].parse().ok()?,
                words[5].parse().ok()?,
            ))
        })
        .find(SocketAddr::is_ipv4)
}

/// A description whose only candidate is another one's address.
fn behind(sdp: &str, address: SocketAddr) -> String {
    let mut sdp = candidates_only(sdp, |_| false);
    sdp = sdp.replace("a=end-of-candidates\r\n", "");
    let candidate = format!(
        "a=candidate:1 1 udp 2130706431 {} {} typ host\r\n",
        address.ip(),
        address.port()
    );
    // Into the first section, behind its credentials.
    let at = sdp.find("a=ice-pwd:").expect("a section");
    let end = at + sdp[at..].find('\n').expect("a line") + 1;
    sdp.insert_str(end, &candidate);
    sdp
}
