//! Real agents on real sockets behind the kernel's own NATs, in network namespaces. Needs root and
//! nftables; without them it says why it did nothing, or fails if VISAVIS_LAB is `required`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "processes talk by their streams"
)]

mod common;
#[path = "kernel/lab.rs"]
mod lab;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, ChildStdin};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use common::address;
use common::server::{PASSWORD, Server, USER};
use lab::Lab;
use visavis_datagram::{Ecn, Path, Protocol, Random, TransmitBuf};
use visavis_ice::{
    Agent, CandidateKind, Config, ConnectionState, Credentials, Event, GatheringState,
    LocalAddress, Received, RemoteParameters, Role,
};
use visavis_namespaces::Nat;
use visavis_netsim::Endpoint;

/// Which process of a lab this is; unset in the test itself.
pub const ROLE: &str = "VISAVIS_LAB_ROLE";
const SERVER: &str = "198.51.100.10:3478";

/// Not a test: what a process in a namespace runs.
#[test]
fn process() {
    match std::env::var(ROLE).as_deref() {
        Ok("left") => agent_process(Role::Controlling, "192.168.1.10:5000"),
        Ok("right") => agent_process(Role::Controlled, "192.168.2.10:5000"),
        Ok("server") => server_process(),
        _ => {}
    }
}

/// Lines from a stream, read by a thread.
fn lines(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || forward(stream, &sender));
    receiver
}

fn forward(stream: impl std::io::Read, sender: &Sender<String>) {
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        if sender.send(line).is_err() {
            return;
        }
    }
}

fn agent_process(role: Role, local: &str) {
    let local = address(local);
    let socket = UdpSocket::bind(local).expect("the namespace has the address");
    let input = lines(std::io::stdin());
    let now = Instant::now();
    let mut config = Config {
        role,
        ..Config::default()
    };
    config
        .servers
        .push(visavis_ice::Server::stun(address(SERVER)));
    config.servers.push(visavis_ice::Server::turn(
        address(SERVER),
        Protocol::Udp,
        USER,
        PASSWORD,
    ));
    let seed = u64::from(std::process::id());
    let mut agent = Agent::new(config, Random::from_u64(seed), now);
    agent
        .add_local_address(now, LocalAddress::udp(local))
        .expect("a good address");
    agent.gather(now);
    let credentials = agent.local_credentials();
    println!("@credentials {} {}", credentials.ufrag, credentials.pwd);
    let mut out = TransmitBuf::new(1, 1400);
    let mut buffer = [0; 2048];
    let mut heard: Option<Instant> = None;
    let mut next_word = now;
    let end = now + Duration::from_secs(60);
    loop {
        let now = Instant::now();
        if now > end {
            return;
        }
        while let Ok(line) = input.try_recv() {
            let mut words = line.splitn(2, ' ');
            match (words.next(), words.next()) {
                (Some("credentials"), Some(rest)) => {
                    let (ufrag, pwd) = rest.split_once(' ').expect("two words");
                    let parameters = RemoteParameters::new(Credentials::new(ufrag, pwd));
                    agent.set_remote(now, parameters).expect("good credentials");
                }
                (Some("candidate"), Some(rest)) => {
                    agent.add_remote_candidate(now, rest.parse().expect("a good line"));
                }
                (Some("complete"), _) => agent.end_of_remote_candidates(now),
                _ => return,
            }
        }
        if agent.poll_timeout().is_some_and(|due| due <= now) {
            agent.handle_timeout(now);
        }
        while let Some(transmit) = agent.poll_transmit(now, &mut out) {
            // A host or network that cannot be reached is an error of some candidates' sends.
            let _ = socket.send_to(out.as_slice(), transmit.destination);
        }
        while let Some(event) = agent.poll_event() {
            match event {
                Event::Candidate(candidate) => println!("@candidate {candidate}"),
                Event::GatheringState(GatheringState::Complete) => println!("@complete"),
                Event::SelectedPair(pair) => {
                    let relayed = [&pair.local, &pair.remote]
                        .iter()
                        .any(|c| c.kind == CandidateKind::Relayed);
                    println!("@path {}", if relayed { "relay" } else { "direct" });
                }
                Event::ConnectionState(ConnectionState::Connected) => {
                    println!(
                        "@connected {}",
                        (now + Duration::from_secs(60) - end).as_millis()
                    );
                }
                _ => {}
            }
        }
        if now >= next_word && agent.selected_pair().is_some() {
            next_word = now + Duration::from_millis(50);
            out.clear();
            out.set_framing(agent.framing());
            assert!(out.push(b"\x80 hello"));
            if let Some(transmit) = agent.send(now, Ecn::NotEct, &mut out) {
                let _ = socket.send_to(out.as_slice(), transmit.destination);
            }
        }
        let wait = agent
            .poll_timeout()
            .map_or(Duration::from_millis(10), |due| {
                due.saturating_duration_since(now)
            })
            .clamp(Duration::from_millis(1), Duration::from_millis(10));
        socket.set_read_timeout(Some(wait)).expect("not zero");
        if let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let path = Path::udp(local, from);
            let received = agent.handle_datagram(Instant::now(), path, &mut buffer[..len]);
            if let Received::Data { payload, .. } = received {
                assert_eq!(&buffer[payload], b"\x80 hello");
                // Now and then, for the test to see that it still comes.
                if heard.is_none_or(|at| at.elapsed() > Duration::from_millis(200)) {
                    heard = Some(Instant::now());
                    println!("@data");
                }
            }
        }
    }
}

fn server_process() {
    let input = lines(std::io::stdin());
    let mut server = Server::new(vec![address(SERVER)]);
    let mut sockets: Vec<(SocketAddr, UdpSocket)> = Vec::new();
    let bind = |at: SocketAddr| {
        let socket = UdpSocket::bind(at).expect("the namespace has the address");
        socket
            .set_read_timeout(Some(Duration::from_millis(1)))
            .expect("not zero");
        (at, socket)
    };
    sockets.push(bind(address(SERVER)));
    println!("@ready");
    let mut out = TransmitBuf::new(1, 2048);
    let mut buffer = [0; 2048];
    let end = Instant::now() + Duration::from_secs(90);
    while Instant::now() < end {
        if let Err(std::sync::mpsc::TryRecvError::Disconnected) = input.try_recv() {
            return;
        }
        let now = Instant::now();
        for (at, socket) in &sockets {
            // One read waits for a millisecond at most.
            if let Ok((len, from)) = socket.recv_from(&mut buffer) {
                server.handle_datagram(now, Path::udp(*at, from), Ecn::NotEct, &mut buffer[..len]);
            }
        }
        for relay in server.relay_addresses() {
            if !sockets.iter().any(|(at, _)| *at == relay) {
                sockets.push(bind(relay));
            }
        }
        while let Some(transmit) = server.poll_transmit(now, &mut out) {
            let socket = sockets.iter().find(|(at, _)| *at == transmit.source);
            if let Some((_, socket)) = socket {
                let _ = socket.send_to(out.as_slice(), transmit.destination);
            }
            out.clear();
        }
    }
}

/// One agent's process, as the test sees it.
struct Process {
    child: Child,
    input: ChildStdin,
    output: Receiver<String>,
    path: Option<String>,
    connected: Option<u32>,
    data: bool,
}

impl Process {
    fn start(lab: &Lab, namespace: &str, role: &str) -> Self {
        let program = std::env::current_exe().expect("a test has a file");
        let mut child = lab.start(namespace, &program, "process", role);
        Self {
            input: child.stdin.take().expect("piped"),
            output: lines(child.stdout.take().expect("piped")),
            child,
            path: None,
            connected: None,
            data: false,
        }
    }

    /// Takes what the process said, and gives the other what is for it.
    fn relay_to(&mut self, other: &mut Self) {
        while let Ok(line) = self.output.try_recv() {
            // The test harness writes to the same stream, without a line's end.
            let Some((_, line)) = line.split_once('@') else {
                continue;
            };
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "path" => self.path = Some(rest.to_owned()),
                "connected" => self.connected = rest.parse().ok(),
                "data" => self.data = true,
                _ => {
                    let _ = writeln!(other.input, "{line}");
                }
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether there is no lab here, or this is a process of one.
fn is_elsewhere() -> bool {
    std::env::var(ROLE).is_ok() || !visavis_namespaces::are_there()
}

/// Lets two agents talk through the test until `done`, or for so long.
fn until(
    a: &mut Process,
    b: &mut Process,
    most: Duration,
    done: impl Fn(&Process, &Process) -> bool,
) {
    let began = Instant::now();
    while !done(a, b) && began.elapsed() < most {
        a.relay_to(b);
        b.relay_to(a);
        // Two real processes and a kernel: nothing tells when, so they are looked at now and then.
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_call_goes_on_when_a_kernel_nat_gets_another_address() {
    if is_elsewhere() {
        return;
    }
    let lab = Lab::new(Nat::PortRestricted, Nat::FullCone);
    let server = Process::start(&lab, "srv", "server");
    assert!(server.output.iter().any(|line| line.contains("@ready")));
    let mut a = Process::start(&lab, "left", "left");
    let mut b = Process::start(&lab, "right", "right");
    let both = |a: &Process, b: &Process| a.data && b.data;
    let direct = |a: &Process, b: &Process| {
        both(a, b) && [a, b].iter().all(|p| p.path.as_deref() == Some("direct"))
    };
    until(&mut a, &mut b, Duration::from_secs(40), direct);
    assert!(direct(&a, &b), "{:?} and {:?}", a.path, b.path);
    lab.rebind_left();
    // What was on its way or said before does not count.
    until(&mut a, &mut b, Duration::from_secs(1), |_, _| false);
    (a.data, b.data) = (false, false);
    let broken = Instant::now();
    until(&mut a, &mut b, Duration::from_secs(25), both);
    println!("both hear each other again after {:?}", broken.elapsed());
    assert!(
        both(&a, &b),
        "left hears: {}, right hears: {}",
        a.data,
        b.data
    );
}

#[test]
fn agents_connect_behind_kernel_nats() {
    if is_elsewhere() {
        return;
    }
    use Nat::{FullCone, PortRestricted, Symmetric};
    for (left, right, expected) in [
        (PortRestricted, PortRestricted, "direct"),
        (FullCone, Symmetric, "direct"),
        (Symmetric, FullCone, "direct"),
        (PortRestricted, Symmetric, "relay"),
        (Symmetric, Symmetric, "relay"),
    ] {
        let lab = Lab::new(left, right);
        let server = Process::start(&lab, "srv", "server");
        let ready = server.output.iter().any(|line| line.contains("@ready"));
        assert!(ready, "the server started");
        let mut a = Process::start(&lab, "left", "left");
        let mut b = Process::start(&lab, "right", "right");
        let done = |a: &Process, b: &Process| {
            [a, b]
                .iter()
                .all(|p| p.data && p.path.as_deref() == Some(expected))
        };
        until(&mut a, &mut b, Duration::from_secs(40), done);
        println!(
            "{left:?} / {right:?}: {:?} and {:?}, connected after {:?} and {:?} ms",
            a.path, b.path, a.connected, b.connected
        );
        assert!(done(&a, &b), "{left:?} / {right:?}: expected {expected}");
    }
}
