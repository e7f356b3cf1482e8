//! `cargo xtask turn-bench`: what a relayed packet of 1200 bytes costs here, in other servers, and in two bare loops, in one run with
//! one load generator. Servers have one thread and one core, the generator the other. The figure that survives a noisy machine is
//! the server's CPU time per delivered packet.
//!
//! `visavis` is `$VISAVIS_BINARY`, or the target folder's. coturn is the system's `turnserver`, and each `--coturn PATH`;
//! the crate `turn-server` (`cargo install turn-server`) is `--turn-server PATH`. `--runs N`: each cell is the best of so many.

mod allocations;
mod client;
mod floor;
mod load;
mod servers;

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use visavis_report::{Options, Table};

use load::{Load, Way};
use servers::{Kind, Server};

/// A row of the table.
struct Row {
    name: &'static str,
    way: Way,
    allocations: usize,
    /// Packets of one flow that leave together.
    burst: usize,
    /// Packets per second, offered.
    rate: u64,
    tcp: bool,
    goal: Option<Goal>,
}

#[derive(Clone, Copy)]
enum Goal {
    /// How many times the better bare loop it may cost.
    OfFloor(f64),
    /// The share of the cheapest coturn's cost.
    OfCoturn(f64),
}

const fn row(name: &'static str, way: Way, allocations: usize, burst: usize, rate: u64) -> Row {
    Row {
        name,
        way,
        allocations,
        burst,
        rate,
        tcp: false,
        goal: Some(Goal::OfFloor(1.25)),
    }
}

const fn tcp(name: &'static str, way: Way, allocations: usize) -> Row {
    let mut row = row(name, way, allocations, 16, 200_000);
    row.tcp = true;
    // Bare loops speak no TCP.
    row.goal = None;
    row
}

const fn calls(mut row: Row) -> Row {
    row.goal = Some(Goal::OfCoturn(0.7));
    row
}

const ROWS: [Row; 19] = [
    row("bursts up, 1 allocation", Way::Up, 1, 32, 400_000),
    row("bursts down, 1 allocation", Way::Down, 1, 32, 400_000),
    row("mixed one by one, 1 allocation", Way::Both, 1, 1, 150_000),
    row("bursts up, 100 allocations", Way::Up, 100, 32, 400_000),
    row("bursts down, 100 allocations", Way::Down, 100, 32, 400_000),
    row(
        "mixed one by one, 100 allocations",
        Way::Both,
        100,
        1,
        150_000,
    ),
    row("bursts up, 1000 allocations", Way::Up, 1000, 32, 400_000),
    row(
        "bursts down, 1000 allocations",
        Way::Down,
        1000,
        32,
        400_000,
    ),
    row(
        "mixed one by one, 1000 allocations",
        Way::Both,
        1000,
        1,
        150_000,
    ),
    row("client to client, 1 pair", Way::Across, 1, 32, 400_000),
    row("client to client, 100 pairs", Way::Across, 100, 32, 400_000),
    row(
        "client to client, 1000 pairs",
        Way::Across,
        1000,
        32,
        400_000,
    ),
    calls(row(
        "50 calls of 150 packets each way",
        Way::Both,
        50,
        1,
        15_000,
    )),
    tcp("TCP clients up, 1 allocation", Way::Up, 1),
    tcp("TCP clients down, 1 allocation", Way::Down, 1),
    tcp("TCP clients up, 100 allocations", Way::Up, 100),
    tcp("TCP clients down, 100 allocations", Way::Down, 100),
    tcp("TCP clients up, 1000 allocations", Way::Up, 1000),
    tcp("TCP clients down, 1000 allocations", Way::Down, 1000),
];

/// A cell: CPU µs per delivered packet, and packets per second.
type Cell = Option<(f64, f64)>;

fn main() -> ExitCode {
    let (options, mut rest) = Options::from_arguments();
    if let [word, kind, address] = &rest[..]
        && word == "floor"
    {
        floor::run(address.parse().expect("an address"), kind == "offload");
    }
    let coturns = take_all(&mut rest, "--coturn");
    let turn_server = take_all(&mut rest, "--turn-server").pop();
    let runs = take_all(&mut rest, "--runs").pop();
    let runs = runs.map_or(1, |runs| runs.parse().expect("a number of runs"));
    pin_to(1);
    raise_descriptors();
    let servers = servers::all(&coturns, turn_server.as_ref());
    let wanted = |name: &str| rest.is_empty() || rest.iter().any(|part| name.contains(part));
    let mut columns = vec!["load"];
    for server in &servers {
        columns.push(&server.name);
        if !matches!(server.kind, Kind::Offload | Kind::Batches) {
            columns.push("pps");
        }
    }
    columns.extend(["of the better coturn", "of the better loop"]);
    let mut table = Table::new(
        "Relaying 1200 bytes: the server's CPU time per delivered packet in µs, and packets per second",
        &columns,
    );
    for row in ROWS.iter().filter(|row| wanted(row.name)) {
        if options.quick && row.allocations > 100 {
            continue;
        }
        let cells: Vec<Cell> = servers
            .iter()
            .map(|server| best(runs, || measure(server, row, options.quick)))
            .collect();
        fill(&mut table, row, &servers, &cells);
    }
    if wanted("allocations a second") {
        tell_allocations(&mut table, &servers, runs, options.quick);
    }
    table.note(format!("Linux {}, best of {runs}", kernel()));
    table.finish(options)
}

/// Takes a flag's values out of the arguments.
fn take_all(arguments: &mut Vec<String>, flag: &str) -> Vec<String> {
    let mut values = Vec::new();
    while let Some(at) = arguments.iter().position(|argument| argument == flag) {
        values.extend(arguments.drain(at..(at + 2).min(arguments.len())).nth(1));
    }
    values
}

fn best(runs: usize, measure: impl Fn() -> Cell) -> Cell {
    let cells = (0..runs).filter_map(|_| measure());
    cells.min_by(|(one, _), (other, _)| one.total_cmp(other))
}

fn measure(server: &Server, row: &Row, quick: bool) -> Cell {
    let possible = match server.kind {
        Kind::Offload | Kind::Batches => !row.tcp,
        Kind::TurnServer => row.way == Way::Across,
        Kind::Visavis | Kind::Coturn => true,
    };
    if !possible {
        return None;
    }
    let load = Load {
        way: row.way,
        allocations: row.allocations,
        burst: row.burst,
        rate: row.rate,
        tcp: row.tcp,
        duration: Duration::from_millis(if quick { 500 } else { 2000 }),
    };
    let running = server.start()?;
    match load::run(running.address, running.pid(), load) {
        Ok(outcome) if outcome.delivered > 0 => {
            let micros = outcome.per_packet() / 1000.0;
            let per_second = outcome.packets_per_second();
            let (name, way, sent) = (&server.name, row.name, outcome.sent);
            eprintln!("{name}: {way}: {micros:.2} µs, {per_second:.0} pps, {sent} sent");
            Some((micros, per_second))
        }
        Ok(_) => None,
        Err(error) => {
            eprintln!("{}: {}: {error}", server.name, row.name);
            None
        }
    }
}

fn fill(table: &mut Table, row: &Row, servers: &[Server], cells: &[Cell]) {
    let cheapest = |kinds: &[Kind]| {
        let of_kinds = servers.iter().zip(cells);
        of_kinds
            .filter(|(server, _)| kinds.contains(&server.kind))
            .filter_map(|(_, cell)| cell.map(|(micros, _)| micros))
            .min_by(f64::total_cmp)
    };
    let ours = cheapest(&[Kind::Visavis]);
    let of_coturn = ours.zip(cheapest(&[Kind::Coturn])).map(|(a, b)| a / b);
    let of_floor = ours.zip(cheapest(&[Kind::Offload, Kind::Batches]));
    let of_floor = of_floor.map(|(a, b)| a / b);
    let mut values = vec![json!(row.name)];
    for (server, cell) in servers.iter().zip(cells) {
        values.push(rounded(cell.map(|(micros, _)| micros), 2));
        if !matches!(server.kind, Kind::Offload | Kind::Batches) {
            values.push(rounded(cell.map(|(_, per_second)| per_second), 0));
        }
    }
    values.extend([rounded(of_coturn, 2), rounded(of_floor, 2)]);
    table.row(values);
    match (row.goal, of_floor, of_coturn) {
        (Some(Goal::OfFloor(goal)), Some(ratio), _) => {
            table.at_most(
                &format!("{}, of the better bare loop", row.name),
                ratio,
                goal,
            );
        }
        (Some(Goal::OfCoturn(goal)), _, Some(ratio)) => {
            table.at_most(&format!("{}, of the better coturn", row.name), ratio, goal);
        }
        _ => {}
    }
}

fn tell_allocations(table: &mut Table, servers: &[Server], runs: usize, quick: bool) {
    let count = if quick { 400 } else { 4000 };
    let mut costs = Vec::new();
    for server in servers {
        if matches!(server.kind, Kind::Offload | Kind::Batches) {
            continue;
        }
        let cost = (0..runs)
            .filter_map(|_| allocations::measure(server, count))
            .min_by(|one, other| one.micros.total_cmp(&other.micros));
        let Some(cost) = cost else { continue };
        table.note(format!(
            "{}: {:.1} µs of CPU and {:.0} bytes for an allocation, {:.0} a second",
            server.name, cost.micros, cost.bytes, cost.per_second
        ));
        costs.push((server.kind, cost));
    }
    let of = |kind| {
        let of_kind = costs.iter().filter(move |(of, _)| *of == kind);
        let cost = of_kind.map(|(_, cost)| cost);
        cost.min_by(|one, other| one.micros.total_cmp(&other.micros))
    };
    if let Some(ours) = of(Kind::Visavis) {
        table.at_most("bytes of an allocation", ours.bytes, 4096.0);
        if let Some(theirs) = of(Kind::Coturn) {
            let ratio = theirs.micros / ours.micros;
            table.at_least(
                "allocations a second of CPU, times the better coturn's",
                ratio,
                4.0,
            );
        }
    }
}

fn rounded(value: Option<f64>, digits: i32) -> Value {
    let scale = 10f64.powi(digits);
    value.map_or(Value::Null, |value| json!((value * scale).round() / scale))
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
