//! What an ICE agent costs: memory and processor time of idle ones, time per application datagram and
//! per check. `cargo xtask agent-cost`.

#![allow(clippy::print_stdout, reason = "a table is printed")]

#[path = "agent_cost/crowd.rs"]
mod crowd;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use crowd::{Crowd, address};

use serde_json::json;
use visavis_datagram::{Ecn, Path, TransmitBuf};
use visavis_ice::{ConnectionState, Received};
use visavis_report::{Options, Table};

/// Resident memory in bytes.
fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = text
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .unwrap_or(f64::NAN);
    pages * 4096.0
}

/// Processor time of this thread in nanoseconds: what other processes take does not count.
fn processor() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split(' ').next().and_then(|word| word.parse().ok());
    first.unwrap_or(f64::NAN)
}

/// Nanoseconds per call, the best of several rounds.
fn nanoseconds(rounds: u32, calls: u32, mut call: impl FnMut()) -> f64 {
    (0..rounds)
        .map(|_| {
            let began = processor();
            for _ in 0..calls {
                call();
            }
            (processor() - began) / f64::from(calls)
        })
        .fold(f64::INFINITY, f64::min)
}

fn main() -> ExitCode {
    let (options, _) = Options::from_arguments();
    let count = if options.quick { 1_000 } else { 10_000 };
    let seconds = if options.quick { 60 } else { 300 };
    let mut table = Table::new("What an ICE agent costs", &["what", "figure", "unit"]);

    let before = resident();
    let mut crowd = Crowd::new(count);
    crowd.run(Duration::from_secs(30));
    for agent in &crowd.agents {
        assert!(
            matches!(
                agent.connection_state(),
                ConnectionState::Connected | ConnectionState::Completed
            ),
            "{:?}",
            agent.connection_state()
        );
    }
    let bytes = (resident() - before) / count as f64;
    crowd.datagrams = 0;
    let began = processor();
    crowd.run(Duration::from_secs(seconds));
    let per_second = (processor() - began) / (count as f64 * seconds as f64);
    let rate = crowd.datagrams as f64 / (count as f64 * seconds as f64);
    table.row(vec![
        json!("idle agents in one process"),
        json!(count),
        json!(""),
    ]);
    table.row(vec![
        json!("memory of an idle agent"),
        json!(bytes.round()),
        json!("bytes"),
    ]);
    table.row(vec![
        json!("processor per idle agent and second"),
        json!(per_second.round()),
        json!("ns"),
    ]);
    table.row(vec![
        json!("datagrams per idle agent and second"),
        json!((rate * 1000.0).round() / 1000.0),
        json!(""),
    ]);
    table.row(vec![
        json!("all of them"),
        json!((per_second * count as f64 / 1e7 * 1000.0).round() / 1000.0),
        json!("% of a core"),
    ]);

    // The path of application data.
    let now = crowd.now;
    let agent = &mut crowd.agents[0];
    let from = agent.selected_pair().expect("connected").path;
    let mut datagram = [0x80; 1200];
    let receive = nanoseconds(5, 1_000_000, || {
        let received = agent.handle_datagram(now, from, black_box(&mut datagram));
        assert!(matches!(received, Received::Data { .. }));
    });
    table.row(vec![
        json!("application datagram received"),
        json!((receive * 10.0).round() / 10.0),
        json!("ns"),
    ]);
    let mut out = TransmitBuf::new(16, 1200);
    for _ in 0..16 {
        assert!(out.push(&datagram));
    }
    let send = nanoseconds(5, 1_000_000, || {
        assert!(black_box(agent.send(now, Ecn::NotEct, black_box(&mut out))).is_some());
    });
    table.row(vec![
        json!("run of application datagrams sent"),
        json!((send * 10.0).round() / 10.0),
        json!("ns"),
    ]);
    let stranger = Path::udp(from.local, address(9_999_999));
    let noise = nanoseconds(5, 200_000, || {
        agent.handle_datagram(now, stranger, black_box(&mut datagram));
    });
    table.row(vec![
        json!("datagram of a stranger dropped"),
        json!((noise * 10.0).round() / 10.0),
        json!("ns"),
    ]);

    // A check of the peer, answered: parse, integrity, the agent's own work, the response.
    let local = crowd.agents[0].local_credentials().clone();
    let remote = crowd.agents[1].local_credentials().ufrag.clone();
    let mut check = [0; 200];
    let key = visavis_stun::IntegrityKey::short_term(&local.pwd);
    let username = format!("{}:{remote}", local.ufrag);
    let len = visavis_stun::MessageBuilder::new(
        &mut check,
        visavis_stun::Class::Request,
        visavis_stun::Method::BINDING,
        visavis_stun::TransactionId([7; 12]),
    )
    .add(&visavis_stun::attributes::Username(&username))
    .add(&visavis_stun::attributes::Priority(1))
    .add(&visavis_stun::attributes::IceControlled(1))
    .integrity(&key)
    .fingerprint()
    .finish()
    .expect("fits");
    let agent = &mut crowd.agents[0];
    let mut single = TransmitBuf::new(1, 1400);
    let answered = nanoseconds(5, 100_000, || {
        agent.handle_datagram(now, from, &mut check[..len]);
        assert!(agent.poll_transmit(now, &mut single).is_some());
    });
    table.row(vec![
        json!("check received and answered"),
        json!(answered.round()),
        json!("ns"),
    ]);
    check[len - 20] ^= 1;
    let forged = nanoseconds(5, 100_000, || {
        agent.handle_datagram(now, from, black_box(&mut check[..len]));
    });
    table.row(vec![
        json!("check with a wrong FINGERPRINT dropped"),
        json!(forged.round()),
        json!("ns"),
    ]);

    table.note(format!(
        "{count} agents in pairs, each with one host candidate and a selected pair, over {seconds} virtual seconds; \
         processor time includes both ends' checks, responses and the harness's timer heap"
    ));
    table.at_most("memory of an idle agent, bytes", bytes, 8192.0);
    table.at_most(
        "processor of 10,000 idle agents, % of a core",
        per_second * 10_000.0 / 1e7,
        2.0,
    );
    table.finish(options)
}
