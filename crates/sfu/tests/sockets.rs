//! The threads and sockets around the state machine, over loopback: UDP on all workers and media over TCP.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use visavis_datagram::{Path, Protocol, Random, TransmitBuf};
use visavis_ice::{LocalAddress, TcpType};
use visavis_net::tcp::FrameReader;
use visavis_net::udp::{ReceiveBatch, UdpSocket};
use visavis_peer::{
    ChannelOptions, Configuration, ConnectionState, Kind, MessageKind, OutgoingRtp, PeerConnection,
    Received, TransceiverInit,
};
use visavis_sdp::Direction;
use visavis_sfu::{
    Balance, Config, ConnectionConfig, ConnectionId, Event, ParticipantId, PublishOptions, RoomId,
    Sfu, SubscribeOptions,
};
use visavis_stun::StreamFraming;

/// A client on a socket of its own.
struct Client {
    pc: PeerConnection,
    socket: UdpSocket,
    batch: ReceiveBatch,
    out: TransmitBuf,
    packets: u64,
    messages: Vec<Bytes>,
    number: u16,
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn configuration() -> Configuration {
    let mut configuration = Configuration {
        wall_clock: Duration::from_secs(1_790_000_000),
        ..Configuration::default()
    };
    configuration.ice.filter.loopback = true;
    configuration
}

impl Client {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let socket = UdpSocket::bind(loopback()).unwrap();
        let configuration = configuration();
        let mut pc = PeerConnection::new(configuration, Random::from_u64(seed), now).unwrap();
        pc.add_local_address(now, LocalAddress::udp(socket.local_addr()))
            .unwrap();
        Self {
            pc,
            socket,
            batch: ReceiveBatch::new(4),
            out: TransmitBuf::new(16, 1500),
            packets: 0,
            messages: Vec::new(),
            number: 0,
        }
    }

    async fn negotiate(&mut self, sfu: &Sfu, connection: ConnectionId) {
        let now = Instant::now();
        self.pc.set_local_description(now, None).unwrap();
        let offer = self.pc.local_description().unwrap();
        sfu.set_remote_description(connection, offer).await.unwrap();
        let answer = sfu.create_answer(connection).await.unwrap();
        self.pc.set_remote_description(now, &answer).unwrap();
    }

    /// Sends what is due and takes what is there.
    async fn turn(&mut self) {
        let now = Instant::now();
        if self.pc.poll_timeout().is_some_and(|due| due <= now) {
            self.pc.handle_timeout(now);
        }
        while let Some(transmit) = self.pc.poll_transmit(now, &mut self.out) {
            self.socket
                .send(&transmit, self.out.as_slice())
                .await
                .unwrap();
        }
        let wait = Duration::from_millis(5);
        if tokio::time::timeout(wait, self.socket.recv(&mut self.batch))
            .await
            .is_ok()
        {
            for mut run in self.batch.runs() {
                let path = run.path;
                for datagram in run.datagrams() {
                    let received = self.pc.handle_datagram(Instant::now(), path, datagram);
                    self.packets += u64::from(matches!(received, Received::Rtp(_)));
                }
            }
        }
        while let Some(event) = self.pc.poll_event() {
            if let visavis_peer::Event::Message { data, .. } = event {
                self.messages.push(data);
            }
        }
    }

    fn send_packet(&mut self) {
        let found = self
            .pc
            .transceivers()
            .iter()
            .find(|t| t.direction == Direction::SendOnly.into());
        let Some(transceiver) = found else { return };
        let id = transceiver.id;
        let Some(codec) = transceiver
            .sender
            .codecs
            .iter()
            .find(|codec| codec.is("opus"))
        else {
            return;
        };
        self.number = self.number.wrapping_add(1);
        let packet = OutgoingRtp {
            payload_type: codec.payload_type,
            sequence: self.number,
            timestamp: u32::from(self.number) * 960,
            payload: &[7; 100],
            ..OutgoingRtp::default()
        };
        // It is refused until the connection is up.
        let _ = self.pc.send_rtp(Instant::now(), id, 0, &packet);
    }
}

fn sound(direction: Direction) -> TransceiverInit {
    TransceiverInit {
        direction,
        ..TransceiverInit::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_over_two_workers_hears_and_writes() {
    let config = Config {
        udp: vec![loopback()],
        workers: 2,
        limits: visavis_sfu::Limits {
            room_spread: 1,
            ..visavis_sfu::Limits::default()
        },
        ..Config::default()
    };
    let (sfu, mut events) = Sfu::start(config).unwrap();
    let room = RoomId(1);
    let (mut alice, mut bob) = (Client::new(1), Client::new(2));
    let mut ids = Vec::new();
    for number in 1..=2 {
        let made = sfu.create_connection(room, ParticipantId(number), ConnectionConfig::default());
        ids.push(made.await.unwrap());
    }
    alice
        .pc
        .add_transceiver(Kind::Audio, sound(Direction::SendOnly))
        .unwrap();
    bob.pc
        .add_transceiver(Kind::Audio, sound(Direction::RecvOnly))
        .unwrap();
    let options = ChannelOptions {
        label: "chat".into(),
        ..ChannelOptions::default()
    };
    let chat = alice
        .pc
        .create_data_channel(Instant::now(), options.clone())
        .unwrap();
    bob.pc.create_data_channel(Instant::now(), options).unwrap();
    alice.negotiate(&sfu, ids[0]).await;
    let mid = sfu.sections(ids[0]).await.unwrap()[0].mid.clone();
    let track = sfu
        .publish(ids[0], mid, PublishOptions::default())
        .await
        .unwrap();
    bob.negotiate(&sfu, ids[1]).await;
    let names = SubscribeOptions {
        stream: "s".into(),
        track: "t".into(),
        ..SubscribeOptions::default()
    };
    sfu.subscribe(track, ids[1], names).await.unwrap();
    bob.negotiate(&sfu, ids[1]).await;
    let mut tap = sfu.tap(track).await.unwrap();

    let deadline = Instant::now() + Duration::from_secs(60);
    let (mut channel, mut said, mut tapped, mut heard) = (None, false, 0, Vec::new());
    while bob.packets < 50 || bob.messages.is_empty() || tapped < 50 {
        assert!(
            Instant::now() < deadline,
            "{} packets, {tapped} tapped",
            bob.packets
        );
        alice.turn().await;
        bob.turn().await;
        alice.send_packet();
        if !said && alice.pc.connection_state() == ConnectionState::Connected {
            let text = Bytes::from_static(b"hello");
            said = alice
                .pc
                .send(Instant::now(), chat, MessageKind::Text, text)
                .is_ok();
        }
        while tap.try_next().is_some() {
            tapped += 1;
        }
        if let Some(channel) = channel {
            for (kind, bytes) in heard.drain(..) {
                sfu.send_data(ids[1], channel, kind, bytes).unwrap();
            }
        }
        while let Some(event) = events.try_next() {
            match event {
                Event::DataChannelOpen {
                    connection,
                    channel: opened,
                    ..
                } if connection == ids[1] => {
                    channel = Some(opened);
                }
                Event::Data {
                    bytes,
                    kind,
                    connection,
                    ..
                } if connection == ids[0] => {
                    heard.push((kind, bytes));
                }
                _ => {}
            }
        }
    }
    assert_eq!(bob.messages[0], "hello");
    let stats = sfu.worker_stats().await.unwrap();
    assert_eq!(stats.iter().map(|stats| stats.connections).sum::<u64>(), 2);
    assert!(
        stats.iter().all(|stats| stats.connections == 1),
        "{stats:?}"
    );

    // Bob goes to where Alice is, and she to where he was: he hears and reads on, so does the tap, and all are found by their
    // names.
    sfu.relocate(ids[1], 0).await.unwrap();
    let (packets, messages) = (bob.packets, bob.messages.len());
    let text = Bytes::from_static(b"welcome");
    sfu.send_data(ids[1], channel.unwrap(), MessageKind::Text, text)
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut has_moved = false;
    tapped = 0;
    while bob.packets < packets + 200 || bob.messages.len() == messages || tapped < 200 {
        assert!(
            Instant::now() < deadline,
            "{} packets, {tapped} tapped",
            bob.packets
        );
        alice.turn().await;
        bob.turn().await;
        alice.send_packet();
        while tap.try_next().is_some() {
            tapped += 1;
        }
        if !has_moved && bob.packets >= packets + 50 {
            sfu.relocate(ids[0], 1).await.unwrap();
            has_moved = true;
        }
    }
    let stats = sfu.worker_stats().await.unwrap();
    assert_eq!((stats[0].connections, stats[1].connections), (1, 1));
    assert_eq!((stats[0].tracks_elsewhere, stats[1].tracks), (1, 1));
    assert!(sfu.stats(ids[1]).await.is_ok());
    let of_alice = sfu.stats(ids[0]).await.unwrap();
    assert_eq!(of_alice.tracks[0].track, track);
    sfu.unpublish(track).unwrap();
    while sfu.stats(ids[1]).await.unwrap().subscriptions.len() == 1 {
        assert!(Instant::now() < deadline, "the subscription ends");
    }

    sfu.close_room(room);
    for id in ids {
        assert!(sfu.sections(id).await.is_err());
    }
}

/// A number at a time, to a reader and from it, while it goes to and fro between workers that have much else to do. Nobody takes
/// events for a while, so that they wait where it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_keep_their_order_while_who_reads_and_writes_them_moves() {
    const ROUNDS: u32 = 400;
    let config = Config {
        udp: vec![loopback()],
        workers: 2,
        limits: visavis_sfu::Limits {
            events: 400,
            ..visavis_sfu::Limits::default()
        },
        ..Config::default()
    };
    let (sfu, mut events) = Sfu::start(config).unwrap();
    let made = sfu.create_connection(RoomId(1), ParticipantId(1), ConnectionConfig::default());
    let (mut client, id) = (Client::new(7), made.await.unwrap());
    let chat = client
        .pc
        .create_data_channel(Instant::now(), ChannelOptions::default())
        .unwrap();
    client.negotiate(&sfu, id).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut channel = None;
    while channel.is_none() || client.pc.connection_state() != ConnectionState::Connected {
        assert!(Instant::now() < deadline, "it connects");
        client.turn().await;
        while let Some(event) = events.try_next() {
            if let Event::DataChannelOpen {
                channel: opened, ..
            } = event
            {
                channel = Some(opened);
            }
        }
    }
    let mut others = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let sfu = sfu.clone();
        others.spawn(async move { while sfu.worker_stats().await.is_ok() {} });
    }
    let mover = sfu.clone();
    others.spawn(async move {
        let mut to = 0;
        while mover.relocate(id, to).await.is_ok() {
            to = 1 - to;
        }
    });
    let (mut sent, mut heard) = (0, Vec::new());
    let written = |number: u32| Bytes::copy_from_slice(&number.to_be_bytes());
    let read = |bytes: &Bytes| u32::from_be_bytes(bytes[..].try_into().unwrap());
    let all = 4 * ROUNDS;
    while client.messages.len() < all as usize || heard.len() < all as usize {
        let came = (client.messages.len(), heard.len());
        assert!(Instant::now() < deadline, "{came:?} of {all}");
        if sent < all {
            for number in sent..sent + 4 {
                client
                    .pc
                    .send(Instant::now(), chat, MessageKind::Binary, written(number))
                    .unwrap();
                sfu.send_data(id, channel.unwrap(), MessageKind::Binary, written(number))
                    .unwrap();
            }
            sent += 4;
        }
        client.turn().await;
        // What waits is more than there is room for in the queue, and less than what may wait with a worker.
        if sent == all || sent % 800 == 0 {
            while let Some(event) = events.try_next() {
                if let Event::Data { bytes, .. } = event {
                    heard.push(read(&bytes));
                }
            }
        }
    }
    others.abort_all();
    let expected: Vec<u32> = (0..all).collect();
    let got: Vec<u32> = client.messages.iter().map(read).collect();
    let first_wrong = |got: &[u32]| {
        got.iter()
            .zip(&expected)
            .position(|(one, other)| one != other)
    };
    assert_eq!(first_wrong(&got), None, "to the client: {got:?}");
    assert_eq!(first_wrong(&heard), None, "from the client: {heard:?}");
}

/// Ends overtake what else a worker is told, and are not overtaken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_closed_is_gone_for_whoever_asks_next() {
    let config = Config {
        udp: vec![loopback()],
        workers: 1,
        ..Config::default()
    };
    let (sfu, _events) = Sfu::start(config).unwrap();
    // Others ask all the time.
    let mut others = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let sfu = sfu.clone();
        others.spawn(async move { while sfu.worker_stats().await.is_ok() {} });
    }
    for round in 0..500 {
        let (room, who) = (RoomId(round), ParticipantId(round));
        let made = sfu.create_connection(room, who, ConnectionConfig::default());
        let id = made.await.unwrap();
        match round % 2 {
            0 => sfu.close(id),
            _ => sfu.close_room(room),
        }
        assert!(sfu.sections(id).await.is_err(), "round {round}");
    }
    others.abort_all();
}

/// A worker that has all the work gives participants away, publishers all of them, until the other one shares it. Nobody is
/// without sound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_worker_gives_participants_away() {
    let config = Config {
        udp: vec![loopback()],
        workers: 2,
        // On any machine whatever one worker has is too much for it, and the other one has room.
        balance: Balance {
            hot: 0.0,
            cool: 1.0,
            ..Balance::default()
        },
        ..Config::default()
    };
    let (sfu, mut events) = Sfu::start(config).unwrap();
    let mut clients = Vec::new();
    let mut tracks = Vec::new();
    for number in 0..6 {
        let made = sfu.create_connection(
            RoomId(1),
            ParticipantId(number),
            ConnectionConfig::default(),
        );
        let (mut client, id) = (Client::new(number), made.await.unwrap());
        for direction in [Direction::SendOnly, Direction::RecvOnly] {
            client
                .pc
                .add_transceiver(Kind::Audio, sound(direction))
                .unwrap();
        }
        client.negotiate(&sfu, id).await;
        let sections = sfu.sections(id).await.unwrap();
        let sends = sections.iter().find(|section| section.receives).unwrap();
        let track = sfu.publish(id, &*sends.mid, PublishOptions::default());
        tracks.push(track.await.unwrap());
        clients.push((client, id));
    }
    // Each hears the next one.
    for (at, (client, id)) in clients.iter_mut().enumerate() {
        let names = SubscribeOptions {
            stream: "s".into(),
            track: "t".into(),
            ..SubscribeOptions::default()
        };
        let next = tracks[(at + 1) % tracks.len()];
        sfu.subscribe(next, *id, names).await.unwrap();
        client.negotiate(&sfu, *id).await;
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    let (mut moved, mut heard) = (0, None);
    loop {
        let packets: Vec<u64> = clients.iter().map(|(client, _)| client.packets).collect();
        assert!(Instant::now() < deadline, "{moved} moved, {packets:?}");
        for (client, _) in &mut clients {
            client.turn().await;
            client.send_packet();
        }
        while let Some(event) = events.try_next() {
            // Once it is seen they stay where they are.
            if let Event::Crowded { connection, to } = event
                && heard.is_none()
            {
                sfu.relocate(connection, to).await.unwrap();
                moved += 1;
            }
        }
        match &heard {
            None => {
                let stats = sfu.worker_stats().await.unwrap();
                let shared = stats.iter().all(|stats| stats.connections >= 2);
                let flows = packets.iter().all(|&packets| packets > 0);
                if shared && flows && moved >= 2 {
                    let away: u64 = stats.iter().map(|stats| stats.tracks_elsewhere).sum();
                    assert!(away >= 2, "publishers moved: {stats:?}");
                    let busy = stats.iter().any(|stats| stats.load > 0.0);
                    assert!(busy, "it is told how much: {stats:?}");
                    heard = Some(packets);
                }
            }
            Some(before) => {
                let mut both = packets.iter().zip(before);
                if both.all(|(now, before)| *now >= before + 50) {
                    break;
                }
            }
        }
    }
}

/// A connection may be on its way from one worker to another when it is ended. It does not outlive that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_closed_on_the_way_arrives_nowhere() {
    let config = Config {
        udp: vec![loopback()],
        workers: 2,
        ..Config::default()
    };
    let (sfu, _events) = Sfu::start(config).unwrap();
    for round in 0..400 {
        let (room, who) = (RoomId(round), ParticipantId(round));
        let made = sfu.create_connection(room, who, ConnectionConfig::default());
        let id = made.await.unwrap();
        let movers: Vec<_> = (0..2)
            .map(|to| {
                let sfu = sfu.clone();
                tokio::spawn(async move { while sfu.relocate(id, to).await.is_ok() {} })
            })
            .collect();
        for _ in 0..round % 7 {
            let _ = sfu.sections(id).await;
        }
        match round % 2 {
            0 => sfu.close(id),
            _ => sfu.close_room(room),
        }
        for mover in movers {
            mover.await.unwrap();
        }
        // What is closed says goodbye for a second; what is not is new.
        for left in sfu.room_stats(room).await.unwrap() {
            assert_eq!(left.state, ConnectionState::Closed, "round {round}");
        }
    }
    let stats = sfu.worker_stats().await.unwrap();
    assert!(stats.iter().all(|stats| stats.tracks == 0), "{stats:?}");
}

/// Media over TCP, as a front listener hands it on: framed as RFC 4571 says. It comes to who was moved before, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_comes_by_tcp_too() {
    let listener = tokio::net::TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = Config {
        udp: vec![loopback()],
        tcp: vec![address],
        workers: 2,
        ..Config::default()
    };
    let (sfu, _events) = Sfu::start(config).unwrap();
    let front = sfu.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, remote)) = listener.accept().await {
            let mut first = vec![0; 2048];
            let read = stream.read(&mut first).await.unwrap();
            first.truncate(read);
            front.accept_tcp(stream, first.into(), address, remote);
        }
    });
    for moves in [false, true] {
        connect_by_tcp(&sfu, moves).await;
    }
}

/// A client that has TCP and nothing else; the server may have moved its connection meanwhile.
async fn connect_by_tcp(sfu: &Sfu, moves: bool) {
    let made = sfu.create_connection(RoomId(1), ParticipantId(1), ConnectionConfig::default());
    let connection = made.await.unwrap();

    let now = Instant::now();
    let mut pc = PeerConnection::new(configuration(), Random::from_u64(9), now).unwrap();
    let active = LocalAddress {
        protocol: Protocol::Tcp,
        tcp_type: Some(TcpType::Active),
        ..LocalAddress::udp(loopback())
    };
    pc.add_local_address(now, active).unwrap();
    pc.add_transceiver(Kind::Audio, sound(Direction::SendOnly))
        .unwrap();
    pc.set_local_description(now, None).unwrap();
    let offer = pc.local_description().unwrap();
    sfu.set_remote_description(connection, offer).await.unwrap();
    let answer = sfu.create_answer(connection).await.unwrap();
    assert!(answer.sdp.contains("tcptype passive"), "{}", answer.sdp);
    pc.set_remote_description(now, &answer).unwrap();
    if moves {
        let born = (connection.get() >> 48) as usize;
        sfu.relocate(connection, 1 - born).await.unwrap();
    }

    let mut out = TransmitBuf::new(1, 1500);
    let mut stream = None;
    let deadline = Instant::now() + Duration::from_secs(60);
    while pc.connection_state() != ConnectionState::Connected {
        let now = Instant::now();
        assert!(
            now < deadline,
            "moves: {moves}, {:?}",
            pc.connection_state()
        );
        if pc.poll_timeout().is_some_and(|due| due <= now) {
            pc.handle_timeout(now);
        }
        while let Some(event) = pc.poll_event() {
            if let visavis_peer::Event::IceConnect(connect) = event {
                let opened = tokio::net::TcpStream::connect(connect.remote)
                    .await
                    .unwrap();
                let local = opened.local_addr().unwrap();
                let (read, write) = opened.into_split();
                let reader = FrameReader::new(read, StreamFraming::Rfc4571);
                stream = Some((reader, write, Path::tcp(local, connect.remote)));
                pc.ice_connected(now, connect.id, local);
            }
        }
        while let Some(transmit) = pc.poll_transmit(now, &mut out) {
            if let Some((_, write, _)) = &mut stream
                && transmit.protocol == Protocol::Tcp
            {
                // In two pieces, as networks may cut it.
                write.write_u16(transmit.len as u16).await.unwrap();
                write.write_all(out.as_slice()).await.unwrap();
            }
        }
        let Some((reader, _, path)) = &mut stream else {
            tokio::task::yield_now().await;
            continue;
        };
        let mut datagram = Vec::new();
        let wait = Duration::from_millis(5);
        if let Ok(read) = tokio::time::timeout(wait, reader.next(&mut datagram)).await {
            assert!(read.unwrap(), "the stream stays open");
            pc.handle_datagram(Instant::now(), *path, &mut datagram);
        }
    }
}
