//! Forwarding of rooms: what one forwarded packet costs, beside the bare loop (encrypt and send), a loop on
//! str0m and LiveKit's server, under one load generator. `cargo xtask sfu-bench`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it prints its table, and before that what it has measured so far"
)]

mod bare;
mod server;
mod str0m_loop;

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bench_sfu::client::{self, Ask, Asks, Counts, Publishes, Setup};
use bench_sfu::livekit;
use bench_sfu::process::{Killed, usage};
use serde_json::json;
use server::Served;
use tokio::sync::{mpsc, oneshot};
use visavis_peer::IceCandidate;
use visavis_report::{Options, Table};

/// One shape of load.
#[derive(Debug, Clone, Copy)]
struct Scenario {
    name: &'static str,
    rooms: u64,
    publishers: u64,
    subscribers: u64,
    publishes: Publishes,
    /// Sections for receiving of each subscriber: sound and pictures of all publishers.
    receives: (usize, usize),
    /// Packets of one frame, and frames per second, for the bare loop.
    burst: (usize, f64),
    size: usize,
    /// Packets per second that all subscribers together would get at the real rate.
    real: f64,
}

/// Forwarded packets per second that a processor carries beside its part of the load generator, whose packets are to be
/// sent, received and answered too.
const CARRIED: f64 = 80_000.0;

/// What was measured of one server.
#[derive(Debug, Default, Clone)]
struct Measured {
    packets: u64,
    seconds: f64,
    nanos: f64,
    memory: f64,
    p50: u32,
    p99: u32,
    complete: f64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let served = match std::env::args().nth(1).as_deref() {
        Some("serve-visavis") => Some(server::serve_visavis().await),
        Some("serve-str0m") => Some(str0m_loop::serve().await),
        Some("serve-sinks") => Some(server::serve_sinks().await),
        _ => None,
    };
    if let Some(served) = served {
        return match served {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let (options, names) = Options::from_arguments();
    match table(options, &names).await {
        Ok(code) => code,
        Err(error) => {
            println!("sfu-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn scenarios(quick: bool) -> Vec<Scenario> {
    let big = if quick { 200 } else { 1000 };
    let rooms = if quick { 2 } else { 50 };
    let mut scenarios = vec![
        Scenario {
            name: "1 x N video",
            rooms: 1,
            publishers: 1,
            subscribers: big,
            publishes: Publishes {
                video: [5_200, 0, 0],
                audio: false,
                share: 1.0,
            },
            receives: (0, 1),
            burst: (5, 30.0),
            size: 1080,
            real: big as f64 * 150.0,
        },
        Scenario {
            name: "rooms of 10 x 10, simulcast",
            rooms,
            publishers: 10,
            subscribers: 10,
            publishes: Publishes {
                video: [600, 2_000, 4_200],
                audio: true,
                share: 1.0,
            },
            receives: (10, 10),
            burst: (3, 30.0),
            size: 900,
            // Of each publisher the highest encoding, four packets thirty times, and sound fifty times a second.
            real: rooms as f64 * 100.0 * 170.0,
        },
        Scenario {
            name: "1 x 100 audio",
            rooms: 1,
            publishers: 1,
            subscribers: 100,
            publishes: Publishes {
                video: [0; 3],
                audio: true,
                share: 1.0,
            },
            receives: (1, 0),
            burst: (1, 50.0),
            size: 130,
            real: 100.0 * 50.0,
        },
    ];
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    for scenario in &mut scenarios {
        let share = CARRIED * processors as f64 / scenario.real;
        // The size of a frame stays: only fewer of them are sent.
        scenario.publishes.share = share.min(1.0);
    }
    scenarios
}

async fn table(options: Options, names: &[String]) -> io::Result<ExitCode> {
    let wanted = |name: &str| names.is_empty() || names.iter().any(|found| name.contains(&**found));
    let seconds: f64 = if options.quick { 4.0 } else { 10.0 };
    let mut table = Table::new(
        "forwarding: processor time per packet, one worker",
        &[
            "scenario",
            "server",
            "packets/s",
            "arrived",
            "CPU ns/packet",
            "packets/s/core",
            "x bare",
            "delay p50 us",
            "p99 us",
            "KiB/subscriber",
        ],
    );
    for scenario in scenarios(options.quick) {
        if !wanted(scenario.name) {
            continue;
        }
        let share = scenario.publishes.share;
        if share < 1.0 {
            let note = format!(
                "{}, {} of them: this machine does not carry {:.0} packets per second and their load generator: \
                 frames and sound are sent at {:.0} % of the real rate; what counts is packets per second and processor",
                scenario.name,
                scenario.rooms,
                scenario.real,
                share * 100.0
            );
            eprintln!("{note}");
            table.note(note);
        }
        let bare = floor(&scenario, seconds.min(5.0)).await?;
        eprintln!("{}: bare loop: {bare:.0} ns per packet", scenario.name);
        table.row(vec![
            json!(scenario.name),
            json!("bare loop"),
            json!(null),
            json!(null),
            json!(bare.round()),
            json!((1e9 / bare).round()),
            json!(1.0),
            json!(null),
            json!(null),
            json!(null),
        ]);
        let ours = measure_served("serve-visavis", &scenario, seconds).await?;
        row(&mut table, &scenario, "visavis", &ours, bare);
        table.at_most(
            &format!("{}: x bare loop", scenario.name),
            ours.nanos / bare,
            1.5,
        );
        match measure_served("serve-str0m", &scenario, seconds).await {
            Ok(theirs) => {
                row(&mut table, &scenario, "loop on str0m", &theirs, bare);
                table.at_least(
                    &format!("{}: x str0m's per core", scenario.name),
                    theirs.nanos / ours.nanos,
                    2.0,
                );
            }
            Err(error) => table.note(format!("{}: str0m: {error}", scenario.name)),
        }
        match measure_livekit(&scenario, seconds).await {
            Ok(theirs) => {
                row(&mut table, &scenario, "livekit-server", &theirs, bare);
                table.at_least(
                    &format!("{}: x LiveKit's per core", scenario.name),
                    theirs.nanos / ours.nanos,
                    4.0,
                );
            }
            Err(error) => table.note(format!("{}: LiveKit's server: {error}", scenario.name)),
        }
    }
    table.note(
        "the load generator and the server share this machine; the server's figure is its own processor time, kernel included",
    );
    Ok(table.finish(options))
}

fn row(table: &mut Table, scenario: &Scenario, name: &str, m: &Measured, bare: f64) {
    let (packets, share) = (m.packets as f64 / m.seconds, m.nanos / bare);
    eprintln!(
        "{}: {name}: {:.0} ns per packet, {share:.2} bare loops, {packets:.0} packets per second",
        scenario.name, m.nanos
    );
    table.row(vec![
        json!(scenario.name),
        json!(name),
        json!((m.packets as f64 / m.seconds).round()),
        json!((m.complete * 1000.0).round() / 1000.0),
        json!(m.nanos.round()),
        json!((1e9 / m.nanos.max(1.0)).round()),
        json!((m.nanos / bare * 100.0).round() / 100.0),
        json!(m.p50),
        json!(m.p99),
        json!((m.memory / 1024.0).round()),
    ]);
}

/// The bare loop with the scenario's bursts and destinations.
async fn floor(scenario: &Scenario, seconds: f64) -> io::Result<f64> {
    let destinations = (scenario.rooms * scenario.subscribers).min(1000) as usize;
    // Somebody takes the datagrams, as the load generator does: full queues would be cheaper.
    let (_sinks, ports) = Served::sinks(destinations).await?;
    let (burst, rate) = scenario.burst;
    Ok(bare::run(&ports, scenario.size, burst, rate, seconds).await)
}

/// The clients of a scenario.
struct Load {
    publishers: Vec<(u64, u64, Asks)>,
    subscribers: Vec<(u64, u64, Asks)>,
}

/// A client that sends nothing and loses nothing.
fn setup() -> Setup {
    Setup {
        number: 0,
        certificate: client::certificate(),
        publishes: Publishes::default(),
        light: false,
        epoch: Instant::now(),
        loss: 0.0,
    }
}

async fn counted(clients: &[(u64, u64, Asks)]) -> Vec<Counts> {
    let mut all = Vec::new();
    for (_, _, asks) in clients {
        let (reply, counts) = oneshot::channel();
        let _ = asks.send(Ask::Count(reply));
        if let Ok(counts) = counts.await {
            all.push(counts);
        }
    }
    all
}

async fn all_connected(clients: &[(u64, u64, Asks)], within: Duration) -> io::Result<()> {
    let deadline = Instant::now() + within;
    loop {
        let up = counted(clients)
            .await
            .iter()
            .filter(|c| c.connected)
            .count();
        if up == clients.len() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(io::Error::other(format!(
                "{up} of {} connected",
                clients.len()
            )));
        }
        // Asked again: clients tell their state when asked, and asking costs them time.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn offer(
    server: &mut Served,
    client: &(u64, u64, Asks),
    more: (usize, usize),
) -> io::Result<()> {
    let (reply, sdp) = oneshot::channel();
    let _ = client.2.send(Ask::Offer(more.0, more.1, reply));
    let sdp = sdp.await.map_err(io::Error::other)?;
    let answer = server.offer(client.0, client.1, &sdp).await?;
    let _ = client.2.send(Ask::Answer(answer));
    Ok(())
}

async fn measure_served(what: &str, scenario: &Scenario, seconds: f64) -> io::Result<Measured> {
    let mut server = Served::start(what)?;
    let setup = setup();
    let mut load = Load {
        publishers: Vec::new(),
        subscribers: Vec::new(),
    };
    let mut number = 0;
    for room in 0..scenario.rooms {
        for _ in 0..scenario.publishers {
            number += 1;
            let (asks, _trickled) = client::start(Setup {
                number,
                publishes: scenario.publishes,
                ..setup.clone()
            });
            let made = (number, room, asks);
            offer(&mut server, &made, (0, 0)).await?;
            load.publishers.push(made);
        }
    }
    all_connected(&load.publishers, Duration::from_secs(60)).await?;
    let (_, before) = usage(server.pid());
    for room in 0..scenario.rooms {
        for index in 0..scenario.subscribers {
            number += 1;
            // One of each room decrypts, to time what comes.
            let light = index > 0;
            let (asks, _trickled) = client::start(Setup {
                number,
                light,
                ..setup.clone()
            });
            let made = (number, room, asks);
            offer(&mut server, &made, scenario.receives).await?;
            load.subscribers.push(made);
        }
    }
    all_connected(&load.subscribers, Duration::from_secs(120)).await?;
    measure(server.pid(), before, scenario, &load, seconds).await
}

async fn measure_livekit(scenario: &Scenario, seconds: f64) -> io::Result<Measured> {
    let named = std::env::var("LIVEKIT_SERVER").ok();
    let binary = named.unwrap_or_else(|| "livekit-server".to_owned());
    let is_there = std::process::Command::new(&binary)
        .arg("--version")
        .output();
    if is_there.is_err() {
        return Err(io::Error::other(
            "not at hand: `go build -o livekit-server github.com/livekit/livekit-server/cmd/server` in a module that requires it, and name it by LIVEKIT_SERVER or put it into PATH",
        ));
    }
    let port = 17_880;
    let child = std::process::Command::new(binary)
        .args(["--bind", "127.0.0.1", "--node-ip", "127.0.0.1", "--udp-port", "17882"])
        .args(["--keys", &format!("devkey: {}", livekit::SECRET), "--config-body"])
        .arg(format!(
            "port: {port}\nrtc:\n  tcp_port: 17881\n  enable_loopback_candidate: true\n  interfaces:\n    includes: [lo]\nlogging:\n  level: error\n"
        ))
        .env("GOMAXPROCS", "1")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()?;
    let mut child = Killed(child);
    let pid = child.0.id();
    let measured = livekit_load(port, pid, scenario, seconds).await;
    let _ = child.0.kill();
    measured
}

async fn livekit_load(
    port: u16,
    pid: u32,
    scenario: &Scenario,
    seconds: f64,
) -> io::Result<Measured> {
    for _ in 0..100 {
        if tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .is_ok()
        {
            break;
        }
        // Another's process: it says nowhere else that it listens.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let setup = setup();
    let mut load = Load {
        publishers: Vec::new(),
        subscribers: Vec::new(),
    };
    let mut number = 0;
    for room in 0..scenario.rooms {
        for _ in 0..scenario.publishers {
            number += 1;
            let (asks, trickled) = client::start(Setup {
                number,
                publishes: scenario.publishes,
                ..setup.clone()
            });
            join(port, room, number, true, &asks, trickled).await?;
            load.publishers.push((number, room, asks));
        }
    }
    all_connected(&load.publishers, Duration::from_secs(60)).await?;
    // It tells nobody when what was published can be subscribed to.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (_, before) = usage(pid);
    for room in 0..scenario.rooms {
        for index in 0..scenario.subscribers {
            number += 1;
            let (asks, trickled) = client::start(Setup {
                number,
                light: index > 0,
                ..setup.clone()
            });
            join(port, room, number, false, &asks, trickled).await?;
            load.subscribers.push((number, room, asks));
        }
    }
    all_connected(&load.subscribers, Duration::from_secs(180)).await?;
    measure(pid, before, scenario, &load, seconds).await
}

async fn join(
    port: u16,
    room: u64,
    number: u64,
    publisher: bool,
    asks: &Asks,
    trickled: mpsc::UnboundedReceiver<IceCandidate>,
) -> io::Result<()> {
    let (room, identity) = (format!("room{room}"), format!("client{number}"));
    let joining = livekit::join(port, &room, &identity, publisher, asks.clone(), trickled);
    tokio::time::timeout(Duration::from_secs(10), joining)
        .await
        .map_err(|_| io::Error::other("a client's join took more than 10 s"))?
}

async fn measure(
    pid: u32,
    before: u64,
    scenario: &Scenario,
    load: &Load,
    seconds: f64,
) -> io::Result<Measured> {
    // Estimates find their place first, which takes as many feedbacks however far apart they are.
    let settling = seconds.min(5.0) / scenario.publishes.share;
    tokio::time::sleep(Duration::from_secs_f64(settling)).await;
    counted(&load.publishers).await;
    counted(&load.subscribers).await;
    let begun = Instant::now();
    let (cpu_before, _) = usage(pid);
    // What is measured is this stretch of time.
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let sent = counted(&load.publishers).await;
    let counts = counted(&load.subscribers).await;
    let elapsed = begun.elapsed().as_secs_f64();
    let (cpu_after, memory) = usage(pid);
    let packets: u64 = counts.iter().map(|counts| counts.packets).sum();
    let sent: u64 = sent.iter().map(|counts| counts.sent).sum();
    let mut delays: Vec<u32> = counts
        .into_iter()
        .flat_map(|counts| counts.delays)
        .collect();
    delays.sort_unstable();
    let at = |share: f64| {
        let index = (delays.len() as f64 * share) as usize;
        delays
            .get(index.min(delays.len().saturating_sub(1)))
            .copied()
    };
    let single = scenario.publishes.video[1] == 0;
    let expected = if single {
        sent * scenario.subscribers
    } else {
        packets
    };
    Ok(Measured {
        packets,
        seconds: elapsed,
        nanos: (cpu_after - cpu_before) * 1e9 / packets.max(1) as f64,
        memory: memory.saturating_sub(before) as f64
            / (scenario.rooms * scenario.subscribers) as f64,
        p50: at(0.5).unwrap_or(0),
        p99: at(0.99).unwrap_or(0),
        complete: packets as f64 / expected.max(1) as f64,
    })
}
