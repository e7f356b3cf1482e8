//! The path of a datagram: from a client, from a peer, and out.

use std::net::SocketAddr;
use std::ops::Range;

use visavis_datagram::{Ecn, Path, Protocol};
use visavis_net::direct::{DirectSocket, Full, Outgoing};
use visavis_stun::attributes::Icmp;
use visavis_turn::server::{Forward, Server};

use super::super::inbox::Message;
use super::{BUFFERS_PER_SOCKET, LISTENER, RELAY, Worker, flush, token};

impl Worker {
    pub(super) fn read_listener(&mut self, index: usize) {
        let Some(listener) = self.listeners.get(index) else {
            return;
        };
        let address = listener.local_addr();
        let most = self.make_room();
        let mut runs = std::mem::take(&mut self.incoming);
        let received = self
            .exchange
            .receive(&self.listeners[index], most, |run| runs.push(run));
        match received {
            Ok(count) if count == most => self.ready.push(token(LISTENER, index)),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, %address, "cannot receive"),
        }
        for run in runs.drain(..) {
            let local = match run.local {
                Some(ip) => SocketAddr::new(ip, address.port()),
                None => address,
            };
            let path = Path::udp(local, run.from);
            self.busy_bytes += run.range.len();
            let mut start = run.range.start;
            while start < run.range.end {
                let end = run.range.end.min(start + run.segment);
                self.client_datagram(path, start..end, run.ecn);
                start = end;
            }
        }
        self.incoming = runs;
    }

    pub(super) fn client_datagram(&mut self, path: Path, range: Range<usize>, ecn: Ecn) {
        self.datagrams += 1;
        let bytes = &mut self.exchange.bytes_mut()[range.clone()];
        match bytes.first() {
            Some(20..=63) => return self.dtls_datagram(path, range, ecn),
            Some(0..=3) if self.others.len() > 1 => {
                if let Some(home) = Server::home_of(bytes)
                    && home != self.number
                    && !self.core.has_client(path)
                {
                    return self.hand_over(path, range, ecn, home);
                }
            }
            _ => {}
        }
        if !self.foreign.is_empty()
            && let Some((home, last)) = self.foreign.get_mut(&path)
        {
            *last = self.now;
            let home = *home;
            return self.hand_over(path, range, ecn, home);
        }
        self.take_client(path, range, ecn);
    }

    /// A client's datagram or frame that is this worker's.
    pub(super) fn take_client(&mut self, path: Path, range: Range<usize>, ecn: Ecn) {
        let start = range.start;
        let bytes = &mut self.exchange.bytes_mut()[range];
        // Send indications and ChannelData are the relay path: no log there.
        let is_request = matches!(bytes, [0..=3, kind, ..] if *kind != 0x16);
        if !is_request {
            let forward = self.core.handle_client(self.now, path, bytes);
            return self.forward(forward, start, ecn);
        }
        let before = self.core.stats();
        let forward = match self.streams.host(path) {
            Some(host) => self.core.handle_client_of(self.now, path, host, bytes),
            None => self.core.handle_client(self.now, path, bytes),
        };
        self.quiet
            .compare(self.now, path, &before, &self.core.stats());
        self.forward(forward, start, ecn);
    }

    pub(super) fn hand_over(&mut self, path: Path, range: Range<usize>, ecn: Ecn, home: u8) {
        let Some(inbox) = self.others.get(usize::from(home)) else {
            return;
        };
        self.report.handed_over += 1;
        inbox.send(Message::Datagram {
            path,
            ecn,
            bytes: self.exchange.bytes(range).to_vec(),
            from: self.number,
        });
    }

    pub(super) fn forward(&mut self, forward: Option<Forward>, start: usize, ecn: Ecn) {
        match forward {
            Some(Forward::ToPeer {
                relay,
                peer,
                payload,
                dont_fragment,
            }) => {
                let Some(index) = self.relays.find(relay) else {
                    return;
                };
                let body = start + payload.start..start + payload.end;
                if dont_fragment {
                    return self.send_unfragmented(index, peer, body);
                }
                let to = Outgoing {
                    socket: (self.listeners.len() + index) as u32,
                    destination: peer,
                    source: None,
                    ecn,
                };
                self.queue(to, &[], body, 0);
            }
            Some(Forward::ToClient { path, datagram }) => {
                let body = start + datagram.start..start + datagram.end;
                self.send_to_client(path, &[], body, 0, ecn);
            }
            None => {}
        }
    }

    /// In order with what went before, and by itself: the DF bit is the socket's.
    pub(super) fn send_unfragmented(&mut self, index: usize, peer: SocketAddr, body: Range<usize>) {
        self.flush();
        if let Some(relay) = self.relays.get(index)
            && let Err(error) = relay
                .socket
                .send_unfragmented(self.exchange.bytes(body), peer)
        {
            tracing::debug!(%error, %peer, "datagram refused");
        }
    }

    pub(super) fn read_relay(&mut self, index: usize) {
        let most = self.make_room();
        let Some(relay) = self.relays.get(index) else {
            return;
        };
        let address = relay.address;
        let mut runs = std::mem::take(&mut self.incoming);
        let received = self
            .exchange
            .receive(&relay.socket, most, |run| runs.push(run));
        match received {
            Ok(count) if count == most => self.ready.push(token(RELAY, index)),
            Ok(0) => {
                // Nothing to read: the error queue rang.
                while let Some(error) = relay.socket.take_error() {
                    let icmp = Icmp {
                        kind: error.kind,
                        code: error.code,
                        data: error.data,
                    };
                    self.core
                        .handle_icmp(self.now, address, error.destination, icmp);
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, relay = %address, "cannot receive"),
        }
        for run in runs.drain(..) {
            self.busy_bytes += run.range.len();
            let mut start = run.range.start;
            while start < run.range.end {
                let end = run.range.end.min(start + run.segment);
                self.datagrams += 1;
                let routed = self
                    .core
                    .route_peer(self.now, address, run.from, end - start);
                if let Some(wrapped) = routed {
                    let (path, padding) = (wrapped.path, wrapped.padding);
                    self.send_to_client(path, wrapped.header(), start..end, padding, run.ecn);
                }
                start = end;
            }
        }
        self.incoming = runs;
    }

    pub(super) fn send_to_client(
        &mut self,
        path: Path,
        header: &[u8],
        body: Range<usize>,
        padding: usize,
        ecn: Ecn,
    ) {
        match path.protocol {
            Protocol::Udp => {
                if let Some(to) = self.outgoing(path, ecn) {
                    self.queue(to, header, body, padding);
                }
            }
            Protocol::Tcp | Protocol::Tls => {
                let body = self.exchange.bytes(body);
                self.streams.send(path, header, body, padding);
            }
            Protocol::Dtls => {
                let Some(to) = self.outgoing(path, ecn) else {
                    return;
                };
                let body = self.exchange.bytes(body);
                let Some(sealed) = self.dtls.seal(path, header, body, padding) else {
                    return;
                };
                if self.exchange.queue(to, sealed, 0..0, 0) == Err(Full) {
                    flush(&mut self.exchange, &self.listeners, &self.relays);
                    let _ = self.exchange.queue(to, sealed, 0..0, 0);
                }
            }
        }
    }

    /// The socket that a client's datagrams leave by.
    pub(super) fn outgoing(&self, path: Path, ecn: Ecn) -> Option<Outgoing> {
        let is_it = |listener: &DirectSocket| {
            let address = listener.local_addr();
            address.port() == path.local.port()
                && address.is_ipv4() == path.local.is_ipv4()
                && (address.ip() == path.local.ip() || address.ip().is_unspecified())
        };
        let socket = self.listeners.iter().position(is_it)?;
        let wildcard = self.listeners[socket].local_addr().ip().is_unspecified();
        Some(Outgoing {
            socket: socket as u32,
            destination: path.remote,
            source: wildcard.then(|| path.local.ip()),
            ecn,
        })
    }

    pub(super) fn queue(
        &mut self,
        to: Outgoing,
        header: &[u8],
        body: Range<usize>,
        padding: usize,
    ) {
        let queued = self.exchange.queue(to, header, body.clone(), padding);
        if queued == Err(Full) {
            self.flush();
            let _ = self.exchange.queue(to, header, body, padding);
        }
    }

    pub(super) fn flush(&mut self) {
        flush(&mut self.exchange, &self.listeners, &self.relays);
    }

    /// Makes sure that a buffer is free; answers how many may be filled.
    pub(super) fn make_room(&mut self) -> usize {
        if self.exchange.free() < BUFFERS_PER_SOCKET {
            self.finish();
        }
        self.exchange.free().min(BUFFERS_PER_SOCKET)
    }

    /// Sends everything and forgets what was received.
    pub(super) fn finish(&mut self) {
        self.flush();
        self.exchange.clear();
        self.flush_streams();
    }
}
