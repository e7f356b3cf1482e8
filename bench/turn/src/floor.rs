//! The least that a user-space relay costs: a loop that looks a client up and forwards, and knows nothing of users,
//! lifetimes, permissions, quotas or statistics. IPv4, UDP, loopback; one relay socket per client, as real relays have.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use visavis_datagram::Ecn;
use visavis_net::direct::{DirectOptions, DirectSocket, Exchange, Incoming, Outgoing};
use visavis_stun::attributes::{
    Channel, Lifetime, XorMappedAddress, XorPeerAddress, XorRelayedAddress,
};
use visavis_stun::{Class, Message, MessageBuilder, Method};

struct Client {
    address: SocketAddr,
    relay: DirectSocket,
    channels: Vec<(u16, SocketAddr)>,
}

/// Runs for ever. With `offload`, runs are received and sent as one (GRO, GSO); without, datagrams by recvmmsg and sendmmsg.
pub fn run(listen: SocketAddr, offload: bool) -> ! {
    let mut options = DirectOptions::default();
    options.coalesce = offload;
    options.receive_buffer = 4 << 20;
    options.send_buffer = 4 << 20;
    let listener = DirectSocket::bind(listen, &options).expect("a port");
    // SAFETY: plain system calls with values of this frame.
    let epoll = unsafe { libc::epoll_create1(0) };
    let register = |socket: &DirectSocket, number: u64| {
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: number,
        };
        // SAFETY: as above.
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &mut event) };
    };
    register(&listener, 0);
    let mut exchange = Exchange::new(64, offload);
    let mut clients: Vec<Client> = Vec::new();
    let mut by_address: HashMap<SocketAddr, usize> = HashMap::new();
    let mut runs: Vec<Incoming> = Vec::new();
    // SAFETY: all zeroes is a valid event.
    let mut events: [libc::epoll_event; 64] = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: the kernel writes up to 64 events into an array of 64.
        let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), 64, -1) };
        for event in &events[..count.max(0) as usize] {
            let number = event.u64 as usize;
            let socket = match number {
                0 => &listener,
                _ => &clients[number - 1].relay,
            };
            let _ = exchange.receive(socket, 64, |run| runs.push(run));
            for run in runs.drain(..) {
                let mut start = run.range.start;
                while start < run.range.end {
                    let end = run.range.end.min(start + run.segment);
                    if number == 0 {
                        let bytes = exchange.bytes(start..end);
                        if bytes[0] < 4 {
                            if let Some(answer) =
                                control(bytes, run.from, &mut clients, &mut by_address, &options)
                            {
                                let _ = listener.send(&answer, run.from);
                            }
                            if let Some(client) = clients.last()
                                && clients.len() == by_address.len()
                            {
                                // Again for those that are registered: refused, and no harm.
                                register(&client.relay, clients.len() as u64);
                            }
                        } else if let Some(&index) = by_address.get(&run.from) {
                            let channel = u16::from_be_bytes([bytes[0], bytes[1]]);
                            let client = &clients[index];
                            let found = client
                                .channels
                                .iter()
                                .find(|(number, _)| *number == channel);
                            if let Some((_, peer)) = found {
                                let to = outgoing(index as u32 + 1, *peer);
                                let _ = exchange.queue(to, &[], start + 4..end, 0);
                            }
                        }
                    } else {
                        let client = &clients[number - 1];
                        let found = client.channels.iter().find(|(_, peer)| *peer == run.from);
                        if let Some((channel, _)) = found {
                            let [a, b] = channel.to_be_bytes();
                            let [c, d] = ((end - start) as u16).to_be_bytes();
                            let to = outgoing(0, client.address);
                            let _ = exchange.queue(to, &[a, b, c, d], start..end, 0);
                        }
                    }
                    start = end;
                }
            }
            exchange.flush(|socket| match socket {
                0 => Some(&listener),
                number => clients.get(number as usize - 1).map(|client| &client.relay),
            });
            exchange.clear();
        }
    }
}

const fn outgoing(socket: u32, destination: SocketAddr) -> Outgoing {
    Outgoing {
        socket,
        destination,
        source: None,
        ecn: Ecn::NotEct,
    }
}

fn control(
    bytes: &[u8],
    from: SocketAddr,
    clients: &mut Vec<Client>,
    by_address: &mut HashMap<SocketAddr, usize>,
    options: &DirectOptions,
) -> Option<Vec<u8>> {
    let message = Message::parse(bytes).ok()?;
    let mut buffer = [0; 200];
    let mut builder = MessageBuilder::response(&mut buffer, Class::Success, &message);
    match message.method() {
        Method::ALLOCATE => {
            let index = *by_address.entry(from).or_insert_with(|| {
                let any = SocketAddr::from(([127, 0, 0, 1], 0));
                clients.push(Client {
                    address: from,
                    relay: DirectSocket::bind(any, options).expect("a port"),
                    channels: Vec::new(),
                });
                clients.len() - 1
            });
            builder
                .add(&XorRelayedAddress(clients[index].relay.local_addr()))
                .add(&XorMappedAddress(from))
                .add(&Lifetime(600));
        }
        Method::CHANNEL_BIND => {
            let XorPeerAddress(peer) = message.get()?;
            let channel: Channel = message.get()?;
            let client = &mut clients[*by_address.get(&from)?];
            client.channels.push((channel.number, peer));
        }
        _ => {}
    }
    let len = builder.finish().ok()?;
    Some(buffer[..len].to_vec())
}
