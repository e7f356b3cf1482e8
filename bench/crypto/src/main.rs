//! `cargo xtask bench crypto`: what each primitive costs here and in other libraries. The choice
//! of library for each primitive of visavis-crypto rests on this table.

mod asymmetric;
mod symmetric;

use std::process::ExitCode;

use bench_crypto::{Contestant, compare, machine};
use serde_json::{Value, json};
use visavis_report::{Options, Table};

const COLUMNS: [&str; 5] = ["visavis", "aws-lc-rs", "ring", "openssl", "RustCrypto"];

fn main() -> ExitCode {
    let (options, only) = Options::from_arguments();
    let rounds = if options.quick { 60 } else { 600 };
    let mut table = Table::new(
        "Primitives: nanoseconds of CPU time per operation",
        &[&["primitive"], &COLUMNS[..], &["against the best other"]].concat(),
    );
    let mut add = |name: &str, contestants: Vec<Contestant<'_>>| {
        if !only.is_empty() && !only.iter().any(|word| name.contains(word.as_str())) {
            return;
        }
        let figures = compare(rounds, contestants);
        let ours = figures[0].1;
        let best = figures[1..]
            .iter()
            .map(|figure| figure.1)
            .fold(f64::INFINITY, f64::min);
        let mut row = vec![json!(name)];
        row.extend(COLUMNS.iter().map(|column| {
            figures
                .iter()
                .find(|figure| figure.0 == *column)
                .map_or(Value::Null, |figure| json!(figure.1.round()))
        }));
        row.push(if best.is_finite() {
            json!((ours / best * 100.0).round() / 100.0)
        } else {
            Value::Null
        });
        table.row(row);
        if best.is_finite() {
            let goal = match name {
                // A scalar from the caller's seed is checked, and its point computed twice.
                _ if name.contains("exchange") => 1.5,
                // Ten nanoseconds, of which a call is a part.
                _ if name.contains("mask") => 1.5,
                _ => 1.15,
            };
            table.at_most(
                &format!("{name}: ratio to the best other"),
                ours / best,
                goal,
            );
        }
    };
    symmetric::rows(&mut add);
    asymmetric::rows(&mut add);
    table.note(format!(
        "{}; median of {rounds} interleaved rounds. openssl: {}.",
        machine(),
        openssl::version::version()
    ));
    table.finish(options)
}
