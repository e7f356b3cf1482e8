//! `cargo xtask turn-bench`: what a relayed packet of 1200 bytes costs here, in coturn, and in two bare loops, in one run with one
//! load generator. Servers have one thread and one core, the generator the other. The figure that survives a noisy machine is the
//! server's CPU time per delivered packet.
//!
//! `visavis` is taken from `$VISAVIS_BINARY`, or from the target folder's `release`; coturn is Debian's `turnserver`, or
//! `$COTURN`.

mod client;
mod floor;
mod load;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use visavis_report::{Options, Table};

use client::{Client, USER};
use load::{Load, Way, cpu_of, resident};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Visavis,
    Coturn,
    /// GRO and GSO.
    Offload,
    /// recvmmsg and sendmmsg.
    Batches,
}

impl Server {
    const ALL: [Self; 4] = [Self::Visavis, Self::Coturn, Self::Offload, Self::Batches];

    const fn name(self) -> &'static str {
        match self {
            Self::Visavis => "visavis",
            Self::Coturn => "coturn",
            Self::Offload => "bare GRO+GSO",
            Self::Batches => "bare mmsg",
        }
    }

    fn start(self, port: u16) -> Option<Running> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]);
        match self {
            Self::Visavis => {
                command
                    .arg(visavis()?)
                    .args(["turn", "--listen", &address.to_string()])
                    .args(["--tls-listen", "none", "--relay-ip", "127.0.0.1"])
                    .args(["--allow-peer", "127.0.0.0/8", "--workers", "1"])
                    .args(["--user", &format!("{}:{}", USER.0, USER.1)])
                    .args([
                        "--user-allocations",
                        "100000",
                        "--address-allocations",
                        "100000",
                    ])
                    .args([
                        "--address-connections",
                        "10000",
                        "--admin",
                        "none",
                        "--log",
                        "error",
                    ]);
            }
            Self::Coturn => {
                let program = std::env::var_os("COTURN").unwrap_or_else(|| "turnserver".into());
                command
                    .arg(program)
                    .args([
                        "-n",
                        "--listening-ip",
                        "127.0.0.1",
                        "--relay-ip",
                        "127.0.0.1",
                    ])
                    .args([
                        "--listening-port",
                        &port.to_string(),
                        "--allow-loopback-peers",
                    ])
                    .args([
                        "--no-tls",
                        "--no-dtls",
                        "--no-cli",
                        "--lt-cred-mech",
                        "-m",
                        "1",
                    ])
                    .args([
                        "--user",
                        &format!("{}:{}", USER.0, USER.1),
                        "--realm",
                        "bench",
                    ])
                    .args([
                        "--log-file",
                        "/dev/null",
                        "--simple-log",
                        "--pidfile",
                        "/dev/null",
                    ]);
            }
            Self::Offload | Self::Batches => {
                let kind = if self == Self::Offload {
                    "offload"
                } else {
                    "batches"
                };
                command.arg(std::env::current_exe().ok()?).args([
                    "floor",
                    kind,
                    &address.to_string(),
                ]);
            }
        }
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut running = Running { child, address };
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if let Ok(mut client) = Client::allocate(address, false) {
                client.free();
                return Some(running);
            }
            if running.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return None;
            }
            thread::sleep(Duration::from_millis(50));
        }
        None
    }
}

struct Running {
    child: Child,
    address: SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn visavis() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("VISAVIS_BINARY") {
        return Some(path.into());
    }
    // Beside this one: they share a target folder.
    let own = std::env::current_exe().ok()?;
    let path = own.parent()?.join("visavis");
    path.exists().then_some(path)
}

fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = tcp.local_addr().expect("its address").port();
        // Below the relays' range, where no relay socket takes it.
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

struct Column {
    name: &'static str,
    load: Load,
    /// How many times the better bare loop it may cost, or the share of coturn's cost.
    goal: Option<Goal>,
}

#[derive(Clone, Copy)]
enum Goal {
    OfFloor(f64),
    OfCoturn(f64),
}

fn columns(quick: bool) -> Vec<Column> {
    let duration = Duration::from_millis(if quick { 500 } else { 2000 });
    let load = |way, allocations, burst, rate, tcp| Load {
        way,
        allocations,
        burst,
        rate,
        tcp,
        duration,
    };
    let floor = Some(Goal::OfFloor(1.25));
    let column = |name, load, goal| Column { name, load, goal };
    let mut all = vec![
        column(
            "bursts up, 1 allocation",
            load(Way::Up, 1, 32, 400_000, false),
            floor,
        ),
        column(
            "bursts down, 1 allocation",
            load(Way::Down, 1, 32, 400_000, false),
            floor,
        ),
        column(
            "bursts up, 100 allocations",
            load(Way::Up, 100, 32, 400_000, false),
            floor,
        ),
        column(
            "bursts down, 100 allocations",
            load(Way::Down, 100, 32, 400_000, false),
            floor,
        ),
        column(
            "mixed one by one, 100 allocations",
            load(Way::Both, 100, 1, 150_000, false),
            floor,
        ),
        column(
            "client to client, 100 allocations",
            load(Way::Across, 100, 32, 400_000, false),
            floor,
        ),
        column(
            "50 calls of 150 packets each way",
            load(Way::Both, 50, 1, 15_000, false),
            Some(Goal::OfCoturn(0.7)),
        ),
        column(
            "TCP clients up, 100 allocations",
            load(Way::Up, 100, 16, 200_000, true),
            None,
        ),
        column(
            "TCP clients down, 100 allocations",
            load(Way::Down, 100, 16, 200_000, true),
            None,
        ),
    ];
    if !quick {
        all.push(column(
            "bursts up, 1000 allocations",
            load(Way::Up, 1000, 32, 400_000, false),
            floor,
        ));
        all.push(column(
            "bursts down, 1000 allocations",
            load(Way::Down, 1000, 32, 400_000, false),
            floor,
        ));
        all.push(column(
            "mixed one by one, 1000 allocations",
            load(Way::Both, 1000, 1, 150_000, false),
            floor,
        ));
    }
    all
}

fn main() -> ExitCode {
    let (options, rest) = Options::from_arguments();
    if let [word, kind, address] = &rest[..]
        && word == "floor"
    {
        floor::run(address.parse().expect("an address"), kind == "offload");
    }
    pin_to(1);
    raise_descriptors();
    let mut table = Table::new(
        "Relaying 1200 bytes: the server's CPU time per delivered packet in µs, and packets per second",
        &[
            "load",
            "visavis",
            "pps",
            "coturn",
            "pps",
            "bare GRO+GSO",
            "bare mmsg",
            "of coturn",
            "of the better loop",
        ],
    );
    for column in columns(options.quick) {
        if !rest.is_empty() && !rest.iter().any(|part| column.name.contains(part.as_str())) {
            continue;
        }
        let outcomes = Server::ALL.map(|server| measure(server, column.load));
        let cost = |at: usize| outcomes[at].map(|(cost, _)| cost);
        let floor = match (cost(2), cost(3)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let ratio = |of: Option<f64>| Some(cost(0)? / of?);
        let number = |value: Option<f64>, digits: i32| -> Value {
            let scale = 10f64.powi(digits);
            value.map_or(Value::Null, |value| json!((value * scale).round() / scale))
        };
        let pps = |at: usize| number(outcomes[at].map(|(_, pps)| pps), 0);
        table.row(vec![
            json!(column.name),
            number(cost(0), 2),
            pps(0),
            number(cost(1), 2),
            pps(1),
            number(cost(2), 2),
            number(cost(3), 2),
            number(ratio(cost(1)), 2),
            number(ratio(floor), 2),
        ]);
        match column.goal {
            Some(Goal::OfFloor(goal)) => {
                if let Some(ratio) = ratio(floor) {
                    table.at_most(
                        &format!("{}, of the better bare loop", column.name),
                        ratio,
                        goal,
                    );
                }
            }
            Some(Goal::OfCoturn(goal)) => {
                if let Some(ratio) = ratio(cost(1)) {
                    table.at_most(&format!("{}, of coturn", column.name), ratio, goal);
                }
            }
            None => {}
        }
    }
    if rest.is_empty() || rest.iter().any(|part| part == "allocations") {
        let count = if options.quick { 400 } else { 4000 };
        let ours = allocations(Server::Visavis, count);
        let theirs = allocations(Server::Coturn, count);
        let tell = |name: &str, figures: Option<(f64, f64, f64)>| match figures {
            Some((per_second, micros, bytes)) => format!(
                "{name}: {per_second:.0} allocations a second of its CPU, {micros:.1} µs and {bytes:.0} bytes each"
            ),
            None => format!("{name}: did not start"),
        };
        table.note(tell("visavis", ours));
        table.note(tell("coturn", theirs));
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            table.at_least(
                "allocations a second, times coturn's",
                ours.0 / theirs.0,
                4.0,
            );
            table.at_most("bytes of an allocation", ours.2, 4096.0);
        }
    }
    table.note(format!("coturn {}, Linux {}", coturn_version(), kernel()));
    table.finish(options)
}

/// CPU µs per packet and packets per second; `None` where the server cannot do it.
fn measure(server: Server, load: Load) -> Option<(f64, f64)> {
    if load.tcp && matches!(server, Server::Offload | Server::Batches) {
        return None;
    }
    let running = server.start(free_port())?;
    match load::run(running.address, running.child.id(), load) {
        Ok(outcome) if outcome.delivered > 0 => {
            eprintln!(
                "{}: {:?} x{}: {:.2} µs, {:.0} pps of {} offered, {} sent",
                server.name(),
                load.way,
                load.allocations,
                outcome.per_packet() / 1000.0,
                outcome.packets_per_second(),
                load.rate,
                outcome.sent,
            );
            Some((outcome.per_packet() / 1000.0, outcome.packets_per_second()))
        }
        Ok(_) => None,
        Err(error) => {
            eprintln!("{}: {error}", server.name());
            None
        }
    }
}

/// Allocations per second of CPU, µs and bytes of each.
fn allocations(server: Server, count: usize) -> Option<(f64, f64, f64)> {
    let running = server.start(free_port())?;
    let pid = running.child.id();
    // The first ones fill caches and pools.
    let mut kept: Vec<Client> = (0..100)
        .filter_map(|_| Client::allocate(running.address, false).ok())
        .collect();
    let (cpu, memory) = (cpu_of(pid), resident(pid));
    let before = kept.len();
    for _ in 0..count {
        kept.push(Client::allocate(running.address, false).ok()?);
    }
    let made = (kept.len() - before) as f64;
    let micros = (cpu_of(pid) - cpu) as f64 / 1000.0 / made;
    let bytes = resident(pid).saturating_sub(memory) as f64 / made;
    Some((1e6 / micros, micros, bytes))
}

fn coturn_version() -> String {
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", "${Version}", "coturn"])
        .output();
    match (std::env::var("COTURN"), output) {
        (Ok(path), _) => path,
        (_, Ok(output)) => String::from_utf8_lossy(&output.stdout).into_owned(),
        _ => "unknown".to_owned(),
    }
}

fn kernel() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}

fn pin_to(cpu: usize) {
    // SAFETY: a set of this frame, and its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set);
    }
}

fn raise_descriptors() {
    // SAFETY: a structure of this frame.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}
