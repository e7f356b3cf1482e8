//! One worker's thread: a loop over sockets, commands and time.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use visavis_datagram::{Path, Random, Transmit, TransmitBuf};
use visavis_net::udp::{ReceiveBatch, UdpOptions, UdpSocket};

use super::streams::{FromStream, Streams};
use super::{Command, FromPeer, Load};
use crate::config::Balance;
use crate::events::Event;
use crate::stats::WorkerStats;
use crate::worker::{Message, Settings, Worker};

/// Runs that leave in one system call.
const RUNS: usize = 32;
/// Datagrams of one run.
const SEGMENTS: usize = 16;
/// The largest datagram.
const MTU: usize = 1500;
/// Buffers for runs that arrive in one system call.
const RECEIVE_BUFFERS: usize = 16;

/// When what found no room in another queue is tried again.
const RETRY: Duration = Duration::from_millis(5);

/// What a thread begins with.
pub(super) struct Start {
    pub(super) settings: Settings,
    pub(super) sockets: Vec<std::net::UdpSocket>,
    pub(super) random: Random,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) last_words: mpsc::UnboundedReceiver<Command>,
    pub(super) from_peers: mpsc::Receiver<FromPeer>,
    /// The queues of all workers, this one's own among them.
    pub(super) peers: Vec<mpsc::Sender<FromPeer>>,
    pub(super) events: mpsc::Sender<Event>,
    /// How busy each worker is.
    pub(super) loads: Vec<Arc<Load>>,
    pub(super) balance: Balance,
}

/// Binds a socket that all workers share.
pub(super) fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    visavis_net::udp::bind_std(address, &udp_options())
}

fn udp_options() -> UdpOptions {
    let mut options = UdpOptions::default();
    options.reuse_port = true;
    options.receive_buffer = 4 << 20;
    options.send_buffer = 4 << 20;
    options
}

/// Starts the thread; it ends when the last handle is dropped.
pub(super) fn spawn(start: Start) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let name = format!("sfu-{}", start.settings.index);
    std::thread::Builder::new().name(name).spawn(move || {
        if let Err(error) = runtime.block_on(run(start)) {
            tracing::error!(%error, "a worker of the media plane ended");
        }
    })?;
    Ok(())
}

/// Why the loop goes round.
enum Woken {
    Datagrams,
    End(Command),
    Command(Command),
    Peer(FromPeer),
    Stream(FromStream),
    Time,
    Over,
}

async fn run(mut start: Start) -> io::Result<()> {
    let sockets = start
        .sockets
        .drain(..)
        .map(|socket| UdpSocket::from_std(socket, &udp_options()))
        .collect::<io::Result<Vec<_>>>()?;
    let limits = start.settings.limits;
    let index = start.settings.index;
    let mut worker = Worker::new(start.settings, start.random, Instant::now());
    let mut batch = ReceiveBatch::new(RECEIVE_BUFFERS);
    let mut outbox = Outbox::new();
    let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
    let mut streams = Streams::new(limits.tcp_streams);
    let mut unsaid = Unsaid::new(start.peers.len());
    let mut told: VecDeque<Event> = VecDeque::new();
    let mut overload = Overload::default();
    let mut turn = 0;
    let mut was_time = false;
    let mut busy = Busy::new(Instant::now());
    loop {
        let mut deadline = worker.poll_timeout();
        if !unsaid.is_empty() || !told.is_empty() || worker.has_events() {
            let soon = Instant::now() + RETRY;
            deadline = Some(deadline.map_or(soon, |deadline| deadline.min(soon)));
        }
        if let Some(deadline) = deadline {
            timer.as_mut().reset(deadline.into());
        }
        let woken = std::future::poll_fn(|cx| {
            // Ends first, for they free what others wait for.
            match start.last_words.poll_recv(cx) {
                Poll::Ready(Some(end)) => return Poll::Ready(Woken::End(end)),
                Poll::Ready(None) => return Poll::Ready(Woken::Over),
                Poll::Pending => {}
            }
            if let Poll::Ready(Some(command)) = start.commands.poll_recv(cx) {
                return Poll::Ready(Woken::Command(command));
            }
            if let Poll::Ready(Some(message)) = start.from_peers.poll_recv(cx) {
                return Poll::Ready(Woken::Peer(message));
            }
            if let Poll::Ready(message) = streams.poll(cx) {
                return Poll::Ready(Woken::Stream(message));
            }
            // Time and sockets take turns: whoever is due all the time does not keep the others from being heard.
            let is_time = deadline.is_some() && timer.as_mut().poll(cx).is_ready();
            if is_time && !was_time {
                return Poll::Ready(Woken::Time);
            }
            for step in 0..sockets.len() {
                let index = (turn + step) % sockets.len();
                if let Poll::Ready(received) = sockets[index].poll_recv(cx, &mut batch) {
                    turn = index + 1;
                    return Poll::Ready(match received {
                        Ok(_) => Woken::Datagrams,
                        Err(_) => Woken::Over,
                    });
                }
            }
            if is_time {
                return Poll::Ready(Woken::Time);
            }
            Poll::Pending
        })
        .await;
        let now = Instant::now();
        if let Some(share) = busy.share(now) {
            start.loads[usize::from(index)].set(share);
            if let Some((most, to)) = Load::crowd(&start.loads, usize::from(index), &start.balance)
            {
                let crowd = worker.movable(most).into_iter();
                told.extend(crowd.map(|connection| Event::Crowded { connection, to }));
            }
        }
        was_time = matches!(woken, Woken::Time);
        match woken {
            Woken::Over => return Ok(()),
            Woken::Time => {}
            Woken::End(end) => end(&mut worker, now),
            Woken::Command(command) => {
                // What waits behind it is done in the same turn.
                let behind = std::iter::from_fn(|| start.commands.try_recv().ok()).take(63);
                for command in std::iter::once(command).chain(behind) {
                    // What was ended before somebody asks is gone, though ends have a queue of their own.
                    while let Ok(end) = start.last_words.try_recv() {
                        end(&mut worker, now);
                    }
                    command(&mut worker, now);
                }
            }
            Woken::Peer(message) => {
                let behind = std::iter::from_fn(|| start.from_peers.try_recv().ok()).take(64);
                for message in std::iter::once(message).chain(behind) {
                    // A connection that moved here is here before anything is said of it.
                    while let Ok(end) = start.last_words.try_recv() {
                        end(&mut worker, now);
                    }
                    take(now, &mut worker, &mut streams, &start.peers, message);
                }
            }
            Woken::Stream(FromStream::Message(path, mut message)) => {
                if !streams.is_accepted(path) {
                    if worker.accept_stream(now, path, &message) {
                        streams.accept(path);
                    } else {
                        streams.close(path);
                        continue;
                    }
                }
                worker.handle_datagram(now, path, visavis_datagram::Ecn::NotEct, &mut message);
            }
            Woken::Stream(FromStream::Ended(path)) => {
                streams.close(path);
                worker.stream_ended(now, path);
            }
            Woken::Datagrams => {
                for mut run in batch.runs() {
                    let arrival = run.arrival();
                    for datagram in run.datagrams() {
                        worker.handle_arrival(now, arrival, datagram);
                    }
                }
            }
        }
        if worker.poll_timeout().is_some_and(|due| due <= now) {
            worker.handle_timeout(now);
        }
        outbox.flush(&mut worker, &sockets, &mut streams).await?;
        while let Some(path) = worker.poll_closed_stream() {
            streams.close(path);
        }
        unsaid.say(&start.peers);
        while let Some((to, message)) = worker.poll_message() {
            if !unsaid.add(&start.peers, to, message) {
                worker.message_refused();
            }
        }
        if let Some(event) = overload.follow(now, index, &worker.stats()) {
            // When events are the overload, it is told later.
            let _ = start.events.try_send(event);
        }
        // What the control plane has no room for waits with the worker, where it goes along with who moves.
        while !told.is_empty() || worker.has_events() {
            let permit = match start.events.try_reserve() {
                Ok(permit) => Some(permit),
                Err(mpsc::error::TrySendError::Full(())) => break,
                Err(mpsc::error::TrySendError::Closed(())) => None,
            };
            let event = told.pop_front().or_else(|| worker.poll_event());
            if let (Some(permit), Some(event)) = (permit, event) {
                permit.send(event);
            }
        }
    }
}

/// What other workers had no room for and must hear, each in the order in which it was said.
struct Unsaid(Vec<VecDeque<Message>>);

impl Unsaid {
    fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| VecDeque::new()).collect())
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(VecDeque::is_empty)
    }

    /// Says what there is room for now.
    fn say(&mut self, peers: &[mpsc::Sender<FromPeer>]) {
        for (queue, peer) in self.0.iter_mut().zip(peers) {
            while let Some(message) = queue.pop_front() {
                if let Err(message) = say(peer, message) {
                    queue.push_front(message);
                    break;
                }
            }
        }
    }

    /// Says something, or keeps it until there is room. False: it may be lost, and is.
    fn add(&mut self, peers: &[mpsc::Sender<FromPeer>], to: u16, message: Message) -> bool {
        let to = usize::from(to);
        let (Some(queue), Some(peer)) = (self.0.get_mut(to), peers.get(to)) else {
            return false;
        };
        let refused = match queue.is_empty() {
            true => say(peer, message),
            false => Err(message),
        };
        match refused {
            Ok(()) => true,
            Err(message) if message.may_be_lost() => false,
            Err(message) => {
                queue.push_back(message);
                true
            }
        }
    }
}

/// Says something to another worker, or gives it back if that has no room. Who is no more hears nothing.
fn say(peer: &mpsc::Sender<FromPeer>, message: Message) -> Result<(), Message> {
    match peer.try_send(FromPeer::Message(message)) {
        Err(mpsc::error::TrySendError::Full(FromPeer::Message(message))) => Err(message),
        _ => Ok(()),
    }
}

/// How much of the time the thread has a processor.
///
/// What is counted is the processor's time and not the clock's: a thread that is kept from working, on a machine that has
/// too much to do, is not relieved by giving its connections to the next one, which is kept from working as well.
struct Busy {
    since: Instant,
    worked: Duration,
}

impl Busy {
    /// Over what time it is taken.
    const WINDOW: Duration = Duration::from_secs(1);

    fn new(now: Instant) -> Self {
        Self {
            since: now,
            worked: processor_time(),
        }
    }

    /// Once a second, the share of it that the thread had a processor.
    fn share(&mut self, now: Instant) -> Option<f32> {
        let passed = now.saturating_duration_since(self.since);
        if passed < Self::WINDOW {
            return None;
        }
        let worked = processor_time();
        let share = worked.saturating_sub(self.worked).as_secs_f32() / passed.as_secs_f32();
        (self.since, self.worked) = (now, worked);
        Some(share.clamp(0.0, 1.0))
    }
}

/// How long this thread has had a processor. Systems that are no Unix are not asked: no worker counts as hot there.
fn processor_time() -> Duration {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(time).unwrap_or_default()
    }
    #[cfg(not(unix))]
    {
        Duration::ZERO
    }
}

/// Notices that things are dropped.
#[derive(Default)]
struct Overload {
    looked: Option<Instant>,
    handover: u64,
    events: u64,
}

impl Overload {
    /// What was dropped since it was told last; at most once a second.
    fn follow(&mut self, now: Instant, worker: u16, stats: &WorkerStats) -> Option<Event> {
        let soon = |looked: Instant| now.saturating_duration_since(looked).as_secs() < 1;
        if self.looked.is_some_and(soon) {
            return None;
        }
        self.looked = Some(now);
        let handover = stats.handover_dropped - self.handover;
        let events = stats.events_dropped - self.events;
        (self.handover, self.events) = (stats.handover_dropped, stats.events_dropped);
        (handover + events > 0).then_some(Event::Overload {
            worker: usize::from(worker),
            handover_dropped: handover,
            events_dropped: events,
        })
    }
}

/// Takes what another worker or the front listener gives.
fn take(
    now: Instant,
    worker: &mut Worker,
    streams: &mut Streams,
    peers: &[mpsc::Sender<FromPeer>],
    message: FromPeer,
) {
    match message {
        FromPeer::Message(message) => worker.handle_message(now, message),
        FromPeer::Stream {
            stream,
            first,
            local,
            remote,
        } => {
            // Whose connection has moved gets it there, if it is not full: then it is dropped, as it would be here.
            let check = super::first_datagram(&first);
            let home = check.and_then(|check| worker.home_of_stream(check));
            match home.map(|home| peers.get(usize::from(home))) {
                Some(next) => {
                    let stream = FromPeer::Stream {
                        stream,
                        first,
                        local,
                        remote,
                    };
                    let _ = next.map(|next| next.try_send(stream));
                }
                None => streams.add(stream, first, Path::tcp(local, remote)),
            }
        }
    }
}

/// Buffers for what leaves in one system call.
struct Outbox {
    buffers: Vec<TransmitBuf>,
    transmits: Vec<Transmit>,
}

impl Outbox {
    fn new() -> Self {
        Self {
            buffers: (0..RUNS).map(|_| TransmitBuf::new(SEGMENTS, MTU)).collect(),
            transmits: Vec::with_capacity(RUNS),
        }
    }

    /// Sends what the worker has to send.
    async fn flush(
        &mut self,
        worker: &mut Worker,
        sockets: &[UdpSocket],
        streams: &mut Streams,
    ) -> io::Result<()> {
        loop {
            self.transmits.clear();
            // What is said to leave now leaves now, whatever this thread was kept from meanwhile: the feedback of
            // its arrival is held against it.
            let now = Instant::now();
            while self.transmits.len() < RUNS {
                let buffer = &mut self.buffers[self.transmits.len()];
                match worker.poll_transmit(now, buffer) {
                    Some(transmit) if transmit.protocol.is_stream() => {
                        streams.send(&transmit, buffer.as_slice());
                    }
                    Some(transmit) => self.transmits.push(transmit),
                    None => break,
                }
            }
            if self.transmits.is_empty() {
                return Ok(());
            }
            self.send(sockets).await?;
        }
    }

    async fn send(&self, sockets: &[UdpSocket]) -> io::Result<()> {
        let mut runs: smallvec::SmallVec<[(Transmit, &[u8]); RUNS]> = smallvec::SmallVec::new();
        for socket in sockets {
            runs.clear();
            let theirs = self.transmits.iter().zip(&self.buffers);
            runs.extend(
                theirs
                    .filter(|(transmit, _)| serves(socket, transmit.source))
                    .map(|(transmit, buffer)| (*transmit, buffer.as_slice())),
            );
            let mut done = 0;
            while done < runs.len() {
                done += socket.try_send_many(&runs[done..]);
                if done < runs.len() {
                    socket.writable().await?;
                }
            }
        }
        Ok(())
    }
}

/// Whether a socket sends from this address.
fn serves(socket: &UdpSocket, source: SocketAddr) -> bool {
    let local = socket.local_addr();
    local.port() == source.port()
        && local.is_ipv4() == source.is_ipv4()
        && (local.ip().is_unspecified() || local.ip() == source.ip())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn busy_is_who_has_a_processor() {
        let begun = Instant::now();
        let mut busy = Busy::new(begun);
        let before = processor_time();
        while processor_time() - before < Duration::from_millis(50) {}
        assert_eq!(busy.share(begun + Duration::from_millis(999)), None);
        let share = busy.share(begun + Duration::from_secs(1)).unwrap();
        assert!((0.05..0.1).contains(&share), "{share}");
        // Whatever time passes: nothing was done in it.
        let share = busy.share(begun + Duration::from_secs(2)).unwrap();
        assert!(share < 0.05, "{share}");
    }
}
