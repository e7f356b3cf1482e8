//! Clients that are slow, silent or half open, over real sockets. They are cut off, counted, and cost no memory that lasts.
//!
//! The patience of the server is real time: all attacks run at once, each against a server of its own, within the slowest one's.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use interop_turn::client::{Client, Secret};
use interop_turn::service::{Service, USER};

/// Connections of each attack.
const MANY: usize = 100;

fn server() -> Service {
    Service::start(
        [127, 0, 0, 1].into(),
        &["--log", "error", "--allow-peer", "127.0.0.0/8"],
    )
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("the server accepts");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// Waits until the server has ended a connection.
fn is_cut_off(stream: &mut TcpStream, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        stream.set_read_timeout(Some(left)).expect("a time limit");
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => {
                return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            }
        }
    }
}

fn within(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

/// A Binding request is answered however many others are slow.
fn still_answers(service: &Service) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .expect("a time limit");
    let mut request = [0; 20];
    request[..8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
    let answered = (0..5).any(|_| {
        socket.send_to(&request, service.plain).expect("sent");
        socket.recv(&mut [0; 512]).is_ok()
    });
    assert!(answered, "it answers others");
}

/// The header of a request that announces so many bytes.
fn header(method: u8, len: u16) -> Vec<u8> {
    let mut header = vec![0, method];
    header.extend_from_slice(&len.to_be_bytes());
    header.extend_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
    header.extend_from_slice(&[7; 12]);
    header
}

#[test]
fn attack_17_one_byte_at_a_time() {
    let service = server();
    let mut streams: Vec<_> = (0..MANY).map(|_| connect(service.plain)).collect();
    let request = header(3, 600);
    let begun = Instant::now();
    let mut bytes = request.iter().chain(std::iter::repeat(&0));
    // A byte a second: the server's patience is for the whole frame, not for the next byte.
    let all_gone = within(Duration::from_secs(40), || {
        let byte = *bytes.next().expect("endless");
        streams.retain_mut(|stream| stream.write_all(&[byte]).is_ok());
        std::thread::sleep(Duration::from_secs(1));
        streams.is_empty()
    });
    assert!(all_gone, "{} live on", streams.len());
    assert!(
        begun.elapsed() >= Duration::from_secs(25),
        "nobody is cut off early"
    );
    assert_eq!(
        service.metric("visavis_turn_tcp_too_slow_total"),
        MANY as u64
    );
    still_answers(&service);
}

#[test]
fn attack_17_connections_that_say_nothing() {
    let service = server();
    let mut streams: Vec<_> = (0..MANY).map(|_| connect(service.plain)).collect();
    for stream in &mut streams {
        assert!(is_cut_off(stream, Duration::from_secs(40)));
    }
    assert_eq!(
        service.metric("visavis_turn_tcp_too_slow_total"),
        MANY as u64
    );
}

#[test]
fn attack_17_a_long_frame_is_announced() {
    let service = server();
    let before = service.resident();
    let filler = vec![0; 60_000];
    let mut streams: Vec<_> = (0..4 * MANY).map(|_| connect(service.plain)).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        let start = match number % 2 {
            0 => header(3, 65_532),
            _ => vec![0x40, 0, 0xff, 0xff],
        };
        stream.write_all(&start).expect("the beginning");
        // What has been announced may have been refused already.
        let _ = stream.write_all(&filler);
    }
    for stream in &mut streams {
        assert!(is_cut_off(stream, Duration::from_secs(5)), "at once");
    }
    assert_eq!(
        service.metric("visavis_turn_tcp_oversized_total"),
        4 * MANY as u64
    );
    // 26 MB were announced; less than half of it may be there. Each worker's buffers for one pass, 4 MB, are touched
    // for the first time, and so is code.
    let grown = service.resident().saturating_sub(before);
    assert!(grown < 12 << 20, "{grown} bytes");
    still_answers(&service);
}

#[test]
fn attack_17_half_open_tls() {
    let service = server();
    let mut silent: Vec<_> = (0..MANY).map(|_| connect(service.secure)).collect();
    // The header of a handshake record of 512 bytes, and half of them.
    let mut hello = vec![22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    hello.resize(256, 9);
    let mut halfway: Vec<_> = (0..MANY).map(|_| connect(service.secure)).collect();
    for stream in &mut halfway {
        stream.write_all(&hello).expect("half a hello");
    }
    for stream in silent.iter_mut().chain(&mut halfway) {
        assert!(is_cut_off(stream, Duration::from_secs(15)));
    }
    assert_eq!(
        service.metric("visavis_turn_tcp_too_slow_total"),
        2 * MANY as u64
    );
    still_answers(&service);
}

#[test]
fn attack_17_no_tls_at_all() {
    let service = server();
    let mut streams: Vec<_> = (0..MANY).map(|_| connect(service.secure)).collect();
    for stream in &mut streams {
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .expect("written");
        assert!(is_cut_off(stream, Duration::from_secs(5)), "at once");
    }
    assert_eq!(
        service.metric("visavis_turn_tls_failures_total"),
        MANY as u64
    );
}

#[test]
fn attack_17_connections_of_one_address_are_capped() {
    let service = Service::start(
        [127, 0, 0, 1].into(),
        &["--address-connections", "20", "--workers", "1"],
    );
    let mut streams: Vec<_> = (0..MANY).map(|_| connect(service.plain)).collect();
    let refused = streams
        .iter_mut()
        .filter(|stream| {
            let stream = &mut stream.try_clone().expect("a clone");
            is_cut_off(stream, Duration::from_millis(100))
        })
        .count();
    assert_eq!(refused, MANY - 20);
    // Who leaves makes room.
    drop(streams);
    let mut request = header(1, 0);
    request[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
    let answered = within(Duration::from_secs(10), || {
        let mut stream = connect(service.plain);
        stream
            .set_read_timeout(Some(Duration::from_secs(1)))
            .expect("a time limit");
        stream.write_all(&request).is_ok() && stream.read_exact(&mut [0; 20]).is_ok()
    });
    assert!(answered, "others are let in");
}

/// Workers count allocations together: a user who comes to all of them at once gets no more.
#[test]
fn attack_18_a_quota_is_not_outrun_by_coming_to_all_workers_at_once() {
    let service = Service::start(
        [127, 0, 0, 1].into(),
        &["--workers", "4", "--user-allocations", "7"],
    );
    let plain = service.plain;
    let threads: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                let mut clients = Vec::new();
                for _ in 0..10 {
                    let mut client = Client::new(plain, USER.0, Secret::Password(USER.1));
                    let code = client.allocate().err();
                    clients.push((client, code));
                }
                clients
            })
        })
        .collect();
    // All of them live until everybody has asked.
    let clients: Vec<_> = threads
        .into_iter()
        .flat_map(|thread| thread.join().expect("a client"))
        .collect();
    let made = clients.iter().filter(|(_, code)| code.is_none()).count();
    assert_eq!(made, 7);
    assert!(
        clients
            .iter()
            .all(|(_, code)| matches!(code, None | Some(486)))
    );
    assert_eq!(service.metric("visavis_turn_allocations"), 7);
}

/// ClientHellos whose senders never come back with the cookie cost nothing (RFC 9147 section 5.1).
#[test]
fn attack_17_half_open_dtls() {
    let service = server();
    let mut hello = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut body = vec![0xfe, 0xfd];
    body.extend_from_slice(&[5; 32]);
    // No session, no cookie, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, no compression.
    body.extend_from_slice(&[0, 0, 0, 2, 0xc0, 0x2b, 1, 0]);
    let len = body.len() as u8;
    hello.extend_from_slice(&[0, len + 12, 1, 0, 0, len, 0, 0, 0, 0, 0, 0, 0, len]);
    hello.extend_from_slice(&body);
    let flood = |count| {
        let mut answers = 0;
        for _ in 0..count {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            socket
                .set_read_timeout(Some(Duration::from_millis(500)))
                .expect("a time limit");
            socket.send_to(&hello, service.plain).expect("sent");
            let mut answer = [0; 2048];
            if let Ok(len) = socket.recv(&mut answer) {
                answers += 1;
                assert!(len <= hello.len() * 3, "{len} bytes for {}", hello.len());
            }
        }
        answers
    };
    flood(200);
    let before = service.resident();
    let answers = flood(5_000);
    assert!(answers > 4_000, "{answers} answers");
    let grown = service.resident().saturating_sub(before);
    assert!(grown < 1 << 20, "{grown} bytes");
    assert_eq!(service.metric("visavis_turn_dtls_accepted_total"), 0);
    still_answers(&service);
}

#[test]
fn attack_21_a_reader_that_never_reads() {
    let service = server();
    let peer = UdpSocket::bind("127.0.0.2:0").expect("a socket");
    let mut client = Client::new(service.plain, USER.0, Secret::Password(USER.1));
    let relayed = client.allocate().expect("a relay");
    let peer_address = peer.local_addr().expect("its address");
    client.bind(0x4000, peer_address).expect("a channel");
    let before = service.resident();
    let payload = [7; 1200];
    let begun = Instant::now();
    // What the kernel's buffers and the server's queue do not hold is dropped, and in the end the client is.
    let ended = within(Duration::from_secs(30), || {
        for _ in 0..200 {
            let _ = peer.send_to(&payload, relayed);
        }
        service.metric("visavis_turn_allocations") == 0
    });
    assert!(ended, "cut off");
    assert!(begun.elapsed() >= Duration::from_secs(8), "not early");
    assert!(service.metric("visavis_turn_tcp_dropped_total") > 0);
    assert_eq!(service.metric("visavis_turn_tcp_too_slow_total"), 1);
    let grown = service.resident().saturating_sub(before);
    assert!(grown < 10 << 20, "{grown} bytes");
}

#[test]
fn attack_37_the_largest_frames_of_a_client() {
    let service = server();
    let peer = UdpSocket::bind("127.0.0.2:0").expect("a socket");
    peer.set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a time limit");
    let mut client = Client::new(service.plain, USER.0, Secret::Password(USER.1));
    client.allocate().expect("a relay");
    let peer_address = peer.local_addr().expect("its address");
    client.bind(0x4000, peer_address).expect("a channel");
    // The largest that a datagram to the peer holds arrives, in pieces as TCP pleases; one byte more does not fit.
    for (len, arrives) in [(65_507_u16, true), (65_508, false), (100, true)] {
        let mut frame = vec![0x40, 0];
        frame.extend_from_slice(&len.to_be_bytes());
        frame.resize(4 + usize::from(len).next_multiple_of(4), 3);
        for piece in frame.chunks(7_000) {
            client.stream.write_all(piece).expect("a piece");
        }
        if arrives {
            let mut datagram = vec![0; 1 << 16];
            let got = peer.recv(&mut datagram).expect("the datagram");
            assert_eq!(got, usize::from(len));
        }
    }
    // 65,535 bytes of data are more than TURN's frames hold: the stream ends.
    client
        .stream
        .write_all(&[0x40, 0, 0xff, 0xff])
        .expect("a header");
    assert!(is_cut_off(&mut client.stream, Duration::from_secs(5)));
    assert_eq!(service.metric("visavis_turn_tcp_oversized_total"), 1);
}
