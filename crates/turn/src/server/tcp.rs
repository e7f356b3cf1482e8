//! TCP to peers (RFC 6062): which connection belongs to whom. The driver connects, accepts and copies bytes.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use visavis_datagram::{Path, Random};
use visavis_stun::attributes::{ConnectionId, ErrorCode, XorPeerAddress};
use visavis_stun::{Class, Message, MessageBuilder, Method, TransactionId};

use super::allocate::required;
use super::allocation::AllocationId;
use super::auth::{Signer, User};
use super::event::{Command, RelayKind};
use super::worker::Server;

/// How long a peer may take to answer, and a client to bring its ConnectionBind (sections 5.2 and 5.4).
const PATIENCE: Duration = Duration::from_secs(30);

/// What a TCP allocation has beside a UDP one.
#[derive(Debug, Default)]
pub(super) struct TcpRelay {
    connections: usize,
}

#[derive(Debug)]
enum State {
    /// The driver connects; the answer to Connect waits.
    Connecting { transaction: TransactionId },
    /// The client was told; it has to bring a connection of its own.
    Waiting,
    /// Bytes flow.
    Bound { client: Path },
}

#[derive(Debug)]
struct Connection {
    allocation: AllocationId,
    peer: SocketAddr,
    state: State,
    until: Option<Instant>,
}

/// Every connection to a peer, by its unguessable number.
#[derive(Debug)]
pub(super) struct Connections {
    worker: u8,
    random: Random,
    by_number: BTreeMap<u32, Connection>,
}

impl Connections {
    pub(super) fn new(worker: u8, random: &mut Random) -> Self {
        Self {
            worker,
            random: random.fork(),
            by_number: BTreeMap::new(),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.by_number.values().filter_map(|c| c.until).min()
    }

    fn add(&mut self, connection: Connection) -> u32 {
        loop {
            // The worker's number, and 26 bits that nobody guesses: ConnectionBind needs the user's password too.
            let number = u32::from(self.worker) << 26 | self.random.u32() >> 6;
            if let Entry::Vacant(entry) = self.by_number.entry(number) {
                entry.insert(connection);
                return number;
            }
        }
    }

    /// Ends every connection of an allocation.
    pub(super) fn allocation_gone(&mut self, id: AllocationId, commands: &mut VecDeque<Command>) {
        self.close(commands, |connection| connection.allocation == id);
    }

    /// Ends the connection that is spliced to a client's.
    pub(super) fn client_gone(&mut self, path: Path, commands: &mut VecDeque<Command>) {
        self.close(
            commands,
            |connection| matches!(connection.state, State::Bound { client } if client == path),
        );
    }

    fn close(&mut self, commands: &mut VecDeque<Command>, is_over: impl Fn(&Connection) -> bool) {
        self.by_number.retain(|&connection, state| {
            let over = is_over(state);
            if over {
                commands.push_back(Command::CloseConnection { connection });
            }
            !over
        });
    }
}

/// The worker that gave a connection its number.
pub(super) const fn worker_of_connection(number: u32) -> u8 {
    (number >> 26) as u8
}

impl Server {
    /// Section 5.2.
    pub(super) fn handle_connect(
        &mut self,
        now: Instant,
        from: Path,
        message: &Message<'_>,
        user: &User,
    ) -> Result<(), ErrorCode<'static>> {
        let allocation = self.own_allocation(from, user)?;
        let id = allocation.id;
        if allocation.tcp.is_none() {
            return Err(ErrorCode::BAD_REQUEST);
        }
        let XorPeerAddress(peer) = required(message.try_get())?;
        let relay = allocation
            .relay_for(peer.ip())
            .ok_or(ErrorCode::PEER_FAMILY_MISMATCH)?
            .bind;
        // Of this host, only where another client's TCP allocation listens: the pool knows, or this worker has it.
        let is_own = self.config.pool.is_none() && self.relay_index(peer, true).is_some();
        let listens = self
            .relay_index(peer, true)
            .and_then(|address| self.ports[address].owner(peer.port()))
            .and_then(|index| self.table.at(index))
            .is_some_and(|allocation| allocation.tcp.is_some());
        if !self.config.allows_peer(peer, RelayKind::Tcp) || is_own && !listens {
            self.stats.forbidden_peers += 1;
            return Err(ErrorCode::FORBIDDEN);
        }
        let exists = self
            .connections
            .by_number
            .values()
            .any(|connection| connection.allocation == id && connection.peer == peer);
        if exists {
            return Err(ErrorCode::CONNECTION_ALREADY_EXISTS);
        }
        self.count(id)?;
        let transaction = message.transaction();
        let connection = self.connections.add(Connection {
            allocation: id,
            peer,
            state: State::Connecting { transaction },
            until: Some(now + PATIENCE),
        });
        self.commands.push_back(Command::Connect {
            relay,
            peer: self.inside(peer),
            connection,
        });
        Ok(())
    }

    /// Section 5.4: the client's connection `from` is for one to a peer. The answer has to be sent before the
    /// [`Command::Splice`] is obeyed.
    pub(super) fn handle_connection_bind(
        &mut self,
        _now: Instant,
        from: Path,
        message: &Message<'_>,
        user: &User,
    ) -> Result<(), ErrorCode<'static>> {
        let ConnectionId(connection) = required(message.try_get())?;
        if !from.protocol.is_stream() || self.by_path.contains_key(&from) {
            return Err(ErrorCode::BAD_REQUEST);
        }
        let entry = self
            .connections
            .by_number
            .get_mut(&connection)
            .filter(|entry| matches!(entry.state, State::Waiting))
            .ok_or(ErrorCode::BAD_REQUEST)?;
        // Only the user who has the allocation; to others the connection does not exist.
        let is_owner = self.table.get(entry.allocation).is_some_and(|allocation| {
            allocation.username == user.name && allocation.realm == user.realm
        });
        if !is_owner {
            return Err(ErrorCode::BAD_REQUEST);
        }
        entry.state = State::Bound { client: from };
        entry.until = None;
        self.succeed(from, message, &user.signer, |builder| {
            builder.add(&ConnectionId(connection));
        });
        self.commands.push_back(Command::Splice {
            client: from,
            connection,
        });
        Ok(())
    }

    /// The driver's answer to [`Command::Connect`]: the peer accepted.
    pub fn peer_connected(&mut self, now: Instant, connection: u32) {
        let Some(entry) = self.connections.by_number.get_mut(&connection) else {
            self.commands
                .push_back(Command::CloseConnection { connection });
            return;
        };
        if let State::Connecting { transaction } = entry.state {
            entry.state = State::Waiting;
            entry.until = Some(now + PATIENCE);
            let id = entry.allocation;
            self.answer_connect(id, transaction, Ok(connection));
        }
    }

    /// The driver's answer to [`Command::Connect`]: it did not.
    pub fn peer_connect_failed(&mut self, connection: u32) {
        let Some(entry) = self.connections.by_number.remove(&connection) else {
            return;
        };
        self.uncount(entry.allocation);
        if let State::Connecting { transaction } = entry.state {
            let code = ErrorCode::CONNECTION_TIMEOUT_OR_FAILURE;
            self.answer_connect(entry.allocation, transaction, Err(code));
        }
    }

    /// A peer connected to a relay address (section 5.3). The connection's number; `None`: close it.
    pub fn peer_accepted(
        &mut self,
        now: Instant,
        relay: SocketAddr,
        peer: SocketAddr,
    ) -> Option<u32> {
        let peer = self.outside(peer);
        let id = self.allocation_at(relay)?;
        let allocation = self.table.get(id)?;
        if allocation.tcp.is_none() || !allocation.is_permitted(now, peer.ip()) {
            self.stats.unexpected_data += 1;
            return None;
        }
        let client = allocation.path;
        self.count(id).ok()?;
        let connection = self.connections.add(Connection {
            allocation: id,
            peer,
            state: State::Waiting,
            until: Some(now + PATIENCE),
        });
        let transaction = TransactionId::random(&mut self.random);
        let limit = self.config.limits.waiting_reply_bytes;
        self.replies.push(limit, client, |buffer| {
            let method = Method::CONNECTION_ATTEMPT;
            MessageBuilder::new(buffer, Class::Indication, method, transaction)
                .add(&ConnectionId(connection))
                .add(&XorPeerAddress(peer))
                .finish()
        });
        Some(connection)
    }

    /// A peer's connection ended; the driver closes the client's.
    pub fn peer_gone(&mut self, connection: u32) {
        if let Some(entry) = self.connections.by_number.remove(&connection) {
            self.uncount(entry.allocation);
        }
    }

    /// Connections that nobody answered or fetched in time.
    pub(super) fn expire_connections(&mut self, now: Instant) {
        let late: Vec<u32> = self
            .connections
            .by_number
            .iter()
            .filter(|(_, connection)| connection.until.is_some_and(|until| until <= now))
            .map(|(&number, _)| number)
            .collect();
        for connection in late {
            self.commands
                .push_back(Command::CloseConnection { connection });
            self.peer_connect_failed(connection);
        }
    }

    fn count(&mut self, id: AllocationId) -> Result<(), ErrorCode<'static>> {
        let limit = self.config.limits.tcp_connections;
        let tcp = self.table.get_mut(id).and_then(|a| a.tcp.as_deref_mut());
        match tcp {
            Some(tcp) if tcp.connections < limit => {
                tcp.connections += 1;
                Ok(())
            }
            _ => {
                self.stats.over_quota += 1;
                Err(ErrorCode::INSUFFICIENT_CAPACITY)
            }
        }
    }

    fn uncount(&mut self, id: AllocationId) {
        if let Some(tcp) = self.table.get_mut(id).and_then(|a| a.tcp.as_deref_mut()) {
            tcp.connections = tcp.connections.saturating_sub(1);
        }
    }

    fn answer_connect(
        &mut self,
        id: AllocationId,
        transaction: TransactionId,
        result: Result<u32, ErrorCode<'static>>,
    ) {
        let Some(allocation) = self.table.get(id) else {
            return;
        };
        let class = match result {
            Ok(_) => Class::Success,
            Err(_) => Class::Error,
        };
        self.stats.successes += u64::from(result.is_ok());
        self.stats.errors += u64::from(result.is_err());
        let signer: &Signer = &allocation.signer;
        let limit = self.config.limits.waiting_reply_bytes;
        self.replies.push(limit, allocation.path, |buffer| {
            let mut builder = MessageBuilder::new(buffer, class, Method::CONNECT, transaction);
            match &result {
                Ok(connection) => builder.add(&ConnectionId(*connection)),
                Err(code) => builder.add(code),
            };
            signer.sign(&mut builder);
            builder.finish()
        });
    }
}
