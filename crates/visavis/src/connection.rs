//! One connection as its driver and its user share it: the sans-IO core behind a lock that is held for
//! as long as one call takes, never across a wait.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Instant;

use bytes::Bytes;
use visavis_datagram::Arrival;
use visavis_peer::{
    ChannelId, DtlsState, Event as PeerEvent, MessageKind, Received, TransceiverId,
};

use crate::driver::{Key, Request};
use crate::endpoint::Shared;
use crate::incoming::Incoming;

/// Events that wait for a user who does not read them; beyond that the newest are dropped.
const EVENTS: usize = 4096;
/// Username fragments of former ICE sessions under which checks are still accepted.
const FORMER_UFRAGS: usize = 3;

#[derive(Debug)]
pub(crate) struct Connection {
    state: Mutex<State>,
    shared: Arc<Shared>,
    key: OnceLock<Key>,
    /// Whether the driver knows already that something changed.
    touched: AtomicBool,
    own_sockets: bool,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) core: visavis_peer::PeerConnection,
    events: VecDeque<PeerEvent>,
    events_dropped: u64,
    channels: HashMap<ChannelId, Channel>,
    /// Tracks that somebody reads.
    pub(crate) incoming: HashMap<TransceiverId, Incoming>,
    /// Bytes of messages that wait for their readers.
    waiting_bytes: usize,
    requests: Vec<Request>,
    ufrags: VecDeque<Box<str>>,
    ufrag_changes: Vec<(Box<str>, bool)>,
    event_wakers: Vec<Waker>,
    /// DTLS is over: no media will come.
    pub(crate) media_over: bool,
    /// The driver has let go of the connection.
    pub(crate) finished: bool,
    is_local_ready: bool,
}

/// What waits for the user of one channel.
#[derive(Debug, Default)]
pub(crate) struct Channel {
    pub(crate) messages: VecDeque<Part>,
    pub(crate) readers: Vec<Waker>,
    /// Those who wait for the channel to open, to close, or to have room.
    pub(crate) watchers: Vec<Waker>,
    pub(crate) error: Option<String>,
}

/// A message, or a part of one that is too large to be handed out whole.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) kind: MessageKind,
    pub(crate) data: Bytes,
    pub(crate) first: bool,
    pub(crate) last: bool,
}

impl Connection {
    pub(crate) fn new(
        core: visavis_peer::PeerConnection,
        shared: Arc<Shared>,
        own_sockets: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                core,
                events: VecDeque::new(),
                events_dropped: 0,
                channels: HashMap::new(),
                incoming: HashMap::new(),
                waiting_bytes: 0,
                requests: Vec::new(),
                ufrags: VecDeque::new(),
                ufrag_changes: Vec::new(),
                event_wakers: Vec::new(),
                media_over: false,
                finished: false,
                is_local_ready: false,
            }),
            shared,
            key: OnceLock::new(),
            touched: AtomicBool::new(false),
            own_sockets,
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a call of the user and has the driver look at what came of it.
    pub(crate) fn with<R>(&self, call: impl FnOnce(&mut State, Instant) -> R) -> R {
        let result = call(&mut self.lock(), Instant::now());
        self.touch();
        result
    }

    /// Has the driver look at this connection.
    pub(crate) fn touch(&self) {
        if let Some(&key) = self.key.get()
            && !self.touched.swap(true, Ordering::AcqRel)
        {
            self.shared.touch(key);
        }
    }

    /// The driver looks: later changes have to be told anew.
    pub(crate) fn untouch(&self) {
        self.touched.store(false, Ordering::Release);
    }

    pub(crate) fn set_key(&self, key: Key) {
        // Set once, by the one driver that the connection is given to.
        let _ = self.key.set(key);
    }

    /// The driver has given the connection its addresses.
    pub(crate) fn ready(&self) {
        let mut state = self.lock();
        state.is_local_ready = true;
        state.wake_events();
    }

    /// The driver has let go: nothing will happen any more.
    pub(crate) fn finished(&self) {
        let mut state = self.lock();
        state.finished = true;
        state.wake_events();
        let mut wakers: Vec<Waker> = state
            .channels
            .values_mut()
            .flat_map(|channel| channel.take_wakers())
            .collect();
        let incoming = state.incoming.values_mut();
        wakers.extend(incoming.flat_map(|incoming| incoming.readers.drain(..)));
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn needs_own_sockets(&self) -> bool {
        self.own_sockets
    }
}

impl Channel {
    fn take_wakers(&mut self) -> impl Iterator<Item = Waker> {
        self.readers
            .drain(..)
            .chain(self.watchers.drain(..))
            .collect::<Vec<_>>()
            .into_iter()
    }

    fn wake_readers(&mut self) {
        self.readers.drain(..).for_each(Waker::wake);
    }

    fn wake_watchers(&mut self) {
        self.watchers.drain(..).for_each(Waker::wake);
    }
}

impl State {
    /// Whether the connection is closed and has said its goodbyes, or the driver is gone.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether the driver has told its addresses.
    pub(crate) fn is_local_ready(&self) -> bool {
        self.is_local_ready
    }

    /// Takes a datagram.
    pub(crate) fn receive(&mut self, now: Instant, arrival: Arrival, datagram: &mut [u8]) {
        let received = self.core.handle_arrival(now, arrival, datagram);
        if let Received::Rtp(rtp) = received
            && let Some(incoming) = self.incoming.get_mut(&rtp.transceiver)
        {
            incoming.push(&rtp, &datagram[rtp.packet.clone()]);
        }
    }

    /// Takes in what the core has to tell, as long as readers keep up. Answers what is asked of the
    /// outside world.
    pub(crate) fn drain_events(&mut self, limit: usize) -> Vec<Request> {
        while self.waiting_bytes < limit {
            let Some(event) = self.core.poll_event() else {
                break;
            };
            self.take_event(event);
        }
        self.follow_ufrag();
        std::mem::take(&mut self.requests)
    }

    fn take_event(&mut self, event: PeerEvent) {
        match event {
            PeerEvent::IceConnect(connect) => self.requests.push(Request::Connect(connect)),
            PeerEvent::IceDisconnect(path) => self.requests.push(Request::Disconnect(path)),
            PeerEvent::AddressesWanted(id) => self.requests.push(Request::OpenSockets(id)),
            PeerEvent::TransportClosed(id) => self.requests.push(Request::CloseSockets(id)),
            PeerEvent::ResolveName(name) => self.requests.push(Request::Resolve(name)),
            PeerEvent::Message {
                channel,
                kind,
                data,
            } => {
                self.push_part(
                    channel,
                    Part {
                        kind,
                        data,
                        first: true,
                        last: true,
                    },
                );
            }
            PeerEvent::MessagePart {
                channel,
                kind,
                data,
                first,
                last,
            } => {
                self.push_part(
                    channel,
                    Part {
                        kind,
                        data,
                        first,
                        last,
                    },
                );
            }
            PeerEvent::DataChannelsWritable => {
                self.channels.values_mut().for_each(Channel::wake_watchers);
            }
            PeerEvent::BufferedAmountLow(channel) | PeerEvent::DataChannelOpen(channel) => {
                self.channel(channel).wake_watchers();
            }
            PeerEvent::DataChannelError { channel, reason } => {
                self.channel(channel).error = Some(reason);
            }
            PeerEvent::DataChannelClosing(channel) | PeerEvent::DataChannelClosed(channel) => {
                let channel = self.channel(channel);
                channel.wake_readers();
                channel.wake_watchers();
            }
            PeerEvent::FrameReady(id) => {
                if let Some(incoming) = self.incoming.get_mut(&id) {
                    incoming.wake();
                }
            }
            event => {
                if let PeerEvent::DtlsState(state) = event {
                    self.media_over = matches!(state, DtlsState::Closed | DtlsState::Failed);
                    self.incoming.values_mut().for_each(Incoming::wake);
                }
                if let PeerEvent::TrackEnded(id) = event {
                    let incoming = self.incoming.entry(id).or_default();
                    incoming.ended = true;
                    incoming.wake();
                }
                if let PeerEvent::DataChannel(channel) = event {
                    self.channel(channel);
                }
                if self.events.len() < EVENTS {
                    self.events.push_back(event);
                } else {
                    self.events_dropped += 1;
                }
                self.wake_events();
            }
        }
    }

    fn push_part(&mut self, channel: ChannelId, part: Part) {
        self.waiting_bytes += part.data.len();
        let channel = self.channel(channel);
        channel.messages.push_back(part);
        channel.wake_readers();
    }

    /// Takes the next message or part of a channel. The bool tells that the driver should look again,
    /// because it had stopped for want of room.
    pub(crate) fn pop_part(&mut self, channel: ChannelId, limit: usize) -> Option<(Part, bool)> {
        let part = self.channels.get_mut(&channel)?.messages.pop_front()?;
        let was_full = self.waiting_bytes >= limit;
        self.waiting_bytes -= part.data.len();
        Some((part, was_full && self.waiting_bytes < limit))
    }

    pub(crate) fn channel(&mut self, channel: ChannelId) -> &mut Channel {
        self.channels.entry(channel).or_default()
    }

    /// Nobody reads the channel any more.
    pub(crate) fn forget_channel(&mut self, channel: ChannelId) {
        if let Some(channel) = self.channels.remove(&channel) {
            let bytes: usize = channel.messages.iter().map(|part| part.data.len()).sum();
            self.waiting_bytes -= bytes;
        }
    }

    pub(crate) fn pop_event(&mut self) -> Option<PeerEvent> {
        self.events.pop_front()
    }

    pub(crate) fn register_event_waker(&mut self, waker: &Waker) {
        register(&mut self.event_wakers, waker);
    }

    fn wake_events(&mut self) {
        self.event_wakers.drain(..).for_each(Waker::wake);
    }

    /// Events that found no room because nobody read them.
    pub(crate) fn events_dropped(&self) -> u64 {
        self.events_dropped
    }

    fn follow_ufrag(&mut self) {
        // The main transport is reached by sockets that all share; others have their own.
        let Some(main) = self.core.transports().next() else {
            return;
        };
        let current = &*main.ice.local_credentials().ufrag;
        if self.ufrags.back().is_some_and(|known| &**known == current) {
            return;
        }
        let current: Box<str> = current.into();
        self.ufrag_changes.push((current.clone(), true));
        self.ufrags.push_back(current);
        if self.ufrags.len() > 1 + FORMER_UFRAGS
            && let Some(old) = self.ufrags.pop_front()
        {
            self.ufrag_changes.push((old, false));
        }
    }

    pub(crate) fn take_ufrag_changes(&mut self) -> Vec<(Box<str>, bool)> {
        std::mem::take(&mut self.ufrag_changes)
    }
}

/// Adds a waker unless it is there.
pub(crate) fn register(wakers: &mut Vec<Waker>, waker: &Waker) {
    if !wakers.iter().any(|known| known.will_wake(waker)) {
        wakers.push(waker.clone());
    }
}
