//! Clients over DTLS. A client costs nothing until it has proved its address (`visavis_dtls::Front`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;
use visavis_datagram::{Path, Random, TransmitBuf};
use visavis_dtls::{Config, Connection, Event, Front, FrontAnswer, FrontLimits};

use super::deadlines::Deadlines;
use super::network_of;

/// How long a client may stay without an allocation.
const IDLE_PATIENCE: Duration = Duration::from_secs(60);

struct Client {
    connection: Box<Connection>,
    path: Path,
    since: Instant,
    /// When it is looked at next, as far as the deadlines know.
    due: Option<Instant>,
    generation: u32,
    /// The random of the ClientHello that it began with.
    hello: Option<[u8; RANDOM_LEN]>,
}

/// Where the random of a ClientHello stands: behind the headers of record and handshake message, and the version.
const RANDOM_AT: usize = 13 + 12 + 2;
const RANDOM_LEN: usize = 32;

/// Where the offset of a fragment stands in a handshake message.
const FRAGMENT_OFFSET: std::ops::Range<usize> = 13 + 6..13 + 9;

/// The random of a ClientHello whose beginning a datagram holds, in plaintext. Its later fragments have none.
fn hello_random(datagram: &[u8]) -> Option<[u8; RANDOM_LEN]> {
    let is_hello = matches!(datagram, [22, _, _, 0, 0, _, _, _, _, _, _, _, _, 1, ..]);
    let is_beginning = datagram.get(FRAGMENT_OFFSET)? == [0; 3];
    let random = datagram.get(RANDOM_AT..RANDOM_AT + RANDOM_LEN)?;
    (is_hello && is_beginning)
        .then(|| random.try_into().ok())
        .flatten()
}

/// What came of a datagram.
pub(super) enum Opened {
    Nothing,
    /// An answer of the front stands in [`Dtls::reply`].
    Reply,
    /// A connection took it: drive it.
    Client(usize),
    /// A connection took the place of an older one of the same client, who has forgotten that.
    Anew(usize),
}

pub(super) struct Dtls {
    front: Option<Front>,
    random: Random,
    clients: Slab<Client>,
    by_path: HashMap<Path, usize>,
    per_address: HashMap<IpAddr, usize>,
    deadlines: Deadlines,
    generation: u32,
    limit: usize,
    limit_per_address: usize,
    pub(super) reply: Vec<u8>,
    sealed: Vec<u8>,
    pub(super) refused: u64,
    pub(super) accepted: u64,
}

impl Dtls {
    pub(super) fn new(
        now: Instant,
        config: Option<Arc<Config>>,
        limit: usize,
        limit_per_address: usize,
        random: Random,
    ) -> Self {
        let mut dtls = Self {
            front: None,
            random,
            clients: Slab::new(),
            by_path: HashMap::new(),
            per_address: HashMap::new(),
            deadlines: Deadlines::default(),
            generation: 0,
            limit,
            limit_per_address,
            reply: Vec::new(),
            sealed: Vec::new(),
            refused: 0,
            accepted: 0,
        };
        dtls.set_config(now, config);
        dtls
    }

    /// New handshakes take another certificate; who is connected stays so.
    pub(super) fn set_config(&mut self, now: Instant, config: Option<Arc<Config>>) {
        let limits = FrontLimits::default();
        self.front = config.and_then(|config| {
            Front::new(config, limits, self.random.fork(), now)
                .inspect_err(|error| tracing::error!(%error, "DTLS is off"))
                .ok()
        });
    }

    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Takes a datagram: opened in place where it belongs to a client. `data` gets each piece of application data.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        path: Path,
        datagram: &mut [u8],
        mut data: impl FnMut(&mut [u8]),
    ) -> Opened {
        let hello = hello_random(datagram);
        let known = self.by_path.get(&path).copied();
        // A client that begins anew from the same port has forgotten what it had; once it has proved its address again, so
        // does the server (RFC 6347 section 4.2.8). Its first hello again is only late.
        let anew = hello.is_some() && known.is_some_and(|index| self.clients[index].hello != hello);
        if let Some(index) = known.filter(|_| !anew) {
            let received = self.clients[index]
                .connection
                .handle_datagram(now, datagram);
            for range in received.iter() {
                data(&mut datagram[range]);
            }
            return Opened::Client(index);
        }
        let Some(front) = &mut self.front else {
            return Opened::Nothing;
        };
        match front.handle_datagram(now, path.remote, datagram, &mut self.reply) {
            FrontAnswer::Reply => Opened::Reply,
            FrontAnswer::Accepted(connection) => {
                if let Some(index) = known {
                    let client = &mut self.clients[index];
                    client.connection = connection;
                    client.hello = hello;
                    client.since = now;
                    return Opened::Anew(index);
                }
                let of_address = self
                    .per_address
                    .get(&network_of(path.remote.ip()))
                    .copied()
                    .unwrap_or(0);
                if self.clients.len() >= self.limit || of_address >= self.limit_per_address {
                    self.refused += 1;
                    return Opened::Nothing;
                }
                self.accepted += 1;
                *self
                    .per_address
                    .entry(network_of(path.remote.ip()))
                    .or_default() += 1;
                self.generation = self.generation.wrapping_add(1);
                let index = self.clients.insert(Client {
                    connection,
                    path,
                    since: now,
                    due: None,
                    generation: self.generation,
                    hello,
                });
                self.by_path.insert(path, index);
                Opened::Client(index)
            }
            _ => Opened::Nothing,
        }
    }

    pub(super) fn path(&self, index: usize) -> Option<Path> {
        self.clients.get(index).map(|client| client.path)
    }

    /// What a connection has to say itself. The next datagram is written to `out`, which has to be clear.
    pub(super) fn transmit(
        &mut self,
        now: Instant,
        index: usize,
        out: &mut TransmitBuf,
    ) -> Option<usize> {
        let client = self.clients.get_mut(index)?;
        client
            .connection
            .poll_transmit(now, out)
            .map(|segments| segments.segment_size)
    }

    /// What happened to a connection; true if it is over. Data that overtook the handshake goes to `data`.
    pub(super) fn settle(
        &mut self,
        now: Instant,
        index: usize,
        mut data: impl FnMut(Vec<u8>),
    ) -> bool {
        let Some(client) = self.clients.get_mut(index) else {
            return false;
        };
        while let Some(event) = client.connection.poll_event() {
            match event {
                Event::ApplicationData(bytes) => data(bytes),
                Event::Closed(reason) => {
                    tracing::debug!(client = %client.path.remote, ?reason, "DTLS is over");
                    return true;
                }
                _ => {}
            }
        }
        let due = client
            .connection
            .poll_timeout()
            .unwrap_or(now + IDLE_PATIENCE)
            .min(now + IDLE_PATIENCE);
        if client.due.is_none_or(|known| due < known) {
            client.due = Some(due);
            self.deadlines
                .add(due, u64::from(client.generation) << 32 | index as u64);
        }
        false
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// A connection whose time has come, after its timers ran.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<usize> {
        loop {
            let who = self.deadlines.pop(now)?;
            let index = (who & 0xffff_ffff) as usize;
            if let Some(client) = self.clients.get_mut(index)
                && u64::from(client.generation) == who >> 32
            {
                client.due = None;
                client.connection.handle_timeout(now);
                return Some(index);
            }
        }
    }

    /// Whether a client without an allocation has been there for too long.
    pub(super) fn is_idle(&self, now: Instant, index: usize) -> bool {
        self.clients
            .get(index)
            .is_some_and(|client| now.saturating_duration_since(client.since) >= IDLE_PATIENCE)
    }

    pub(super) fn close(&mut self, now: Instant, index: usize) {
        if let Some(client) = self.clients.get_mut(index) {
            client.connection.close(now);
        }
    }

    pub(super) fn remove(&mut self, index: usize) -> Option<Path> {
        let client = self.clients.try_remove(index)?;
        self.by_path.remove(&client.path);
        let ip = network_of(client.path.remote.ip());
        if let Some(count) = self.per_address.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&ip);
            }
        }
        Some(client.path)
    }

    /// Makes one record for a client; it is good until the next.
    pub(super) fn seal(
        &mut self,
        path: Path,
        header: &[u8],
        body: &[u8],
        padding: usize,
    ) -> Option<&[u8]> {
        let index = *self.by_path.get(&path)?;
        let connection = &mut self.clients[index].connection;
        let framing = connection.framing();
        let sealed = &mut self.sealed;
        sealed.clear();
        sealed.resize(framing.header, 0);
        sealed.extend_from_slice(header);
        sealed.extend_from_slice(body);
        sealed.resize(sealed.len() + padding, 0);
        let end = sealed.len();
        sealed.resize(end + framing.trailer, 0);
        connection.seal(sealed, framing.header..end).ok()?;
        Some(sealed)
    }

    pub(super) fn indices(&self) -> Vec<usize> {
        self.clients.iter().map(|(index, _)| index).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hello with a post-quantum key share comes in two fragments; the second belongs to the client that the first made.
    #[test]
    fn only_the_first_fragment_of_a_hello_tells_its_random() {
        let mut datagram = vec![0; 200];
        (datagram[0], datagram[13]) = (22, 1);
        datagram[RANDOM_AT..RANDOM_AT + RANDOM_LEN].fill(7);
        assert_eq!(hello_random(&datagram), Some([7; RANDOM_LEN]));
        datagram[FRAGMENT_OFFSET].copy_from_slice(&[0, 4, 0]);
        assert_eq!(hello_random(&datagram), None);
    }
}
