//! What the workers count, for Prometheus. No label comes from a client.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::inbox::Report;

/// The counters of a service at one moment.
#[derive(Debug, Clone)]
pub struct Metrics {
    reports: Vec<(u8, Report)>,
    uptime: Duration,
    draining: bool,
}

/// The totals that people ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Totals {
    /// Living allocations.
    pub allocations: usize,
    /// Users who have one.
    pub users: usize,
    /// Datagrams to peers and to clients.
    pub packets: u64,
    /// Their payload in bytes.
    pub bytes: u64,
    /// Requests that failed authentication.
    pub unauthenticated: u64,
}

impl Metrics {
    pub(super) fn new(reports: Vec<(u8, Report)>, uptime: Duration, draining: bool) -> Self {
        Self {
            reports,
            uptime,
            draining,
        }
    }

    /// Living allocations.
    pub fn allocations(&self) -> usize {
        self.reports
            .iter()
            .map(|(_, report)| report.allocations)
            .sum()
    }

    /// How many workers answered.
    pub fn workers(&self) -> usize {
        self.reports.len()
    }

    /// The totals.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for (_, report) in &self.reports {
            totals.allocations += report.allocations;
            totals.users += report.users;
            totals.packets += report.core.packets_to_peers + report.core.packets_to_clients;
            totals.bytes += report.core.bytes_to_peers + report.core.bytes_to_clients;
            totals.unauthenticated += report.core.unauthenticated;
        }
        totals
    }

    /// The text that Prometheus reads.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(8 << 10);
        let one = |text: &mut String, name: &str, kind: &str, help: &str, value: u64| {
            let _ = writeln!(
                text,
                "# HELP visavis_turn_{name} {help}\n# TYPE visavis_turn_{name} {kind}\nvisavis_turn_{name} {value}"
            );
        };
        one(
            &mut text,
            "uptime_seconds",
            "gauge",
            "Seconds since the start.",
            self.uptime.as_secs(),
        );
        one(
            &mut text,
            "draining",
            "gauge",
            "1 while no new allocations are taken.",
            self.draining.into(),
        );
        type Value = fn(&Report) -> u64;
        let families: &[(&str, &str, &str, Value)] = &[
            ("allocations", "gauge", "Living allocations.", |r| {
                r.allocations as u64
            }),
            ("users", "gauge", "Users with an allocation.", |r| {
                r.users as u64
            }),
            (
                "relay_ports_free",
                "gauge",
                "Relay ports that are free.",
                |r| r.free_ports as u64,
            ),
            (
                "tcp_connections",
                "gauge",
                "TCP and TLS connections.",
                |r| r.tcp_clients as u64,
            ),
            ("dtls_connections", "gauge", "DTLS connections.", |r| {
                r.dtls_clients as u64
            }),
            (
                "allocations_made_total",
                "counter",
                "Allocations made.",
                |r| r.core.allocations,
            ),
            ("requests_total", "counter", "Requests.", |r| {
                r.core.requests
            }),
            ("successes_total", "counter", "Success responses.", |r| {
                r.core.successes
            }),
            ("errors_total", "counter", "Error responses.", |r| {
                r.core.errors
            }),
            (
                "challenges_total",
                "counter",
                "401 and 438 responses.",
                |r| r.core.challenges,
            ),
            (
                "unauthenticated_total",
                "counter",
                "Requests with wrong credentials.",
                |r| r.core.unauthenticated,
            ),
            (
                "rate_limited_total",
                "counter",
                "Answers withheld from sources that had too many.",
                |r| r.core.rate_limited,
            ),
            (
                "replies_dropped_total",
                "counter",
                "Answers that found no room.",
                |r| r.core.replies_dropped,
            ),
            (
                "forbidden_peers_total",
                "counter",
                "Requests for peers that the filter refuses.",
                |r| r.core.forbidden_peers,
            ),
            (
                "over_quota_total",
                "counter",
                "Requests refused by a quota.",
                |r| r.core.over_quota,
            ),
            (
                "over_rate_total",
                "counter",
                "Datagrams beyond a rate.",
                |r| r.core.over_rate,
            ),
            (
                "malformed_total",
                "counter",
                "Datagrams that are no STUN message and no ChannelData.",
                |r| r.core.malformed,
            ),
            (
                "bad_fingerprints_total",
                "counter",
                "Messages with a wrong FINGERPRINT.",
                |r| r.core.bad_fingerprints,
            ),
            (
                "unexpected_data_total",
                "counter",
                "Data without an allocation, a channel or a permission.",
                |r| r.core.unexpected_data,
            ),
            (
                "packets_to_peers_total",
                "counter",
                "Datagrams relayed to peers.",
                |r| r.core.packets_to_peers,
            ),
            (
                "bytes_to_peers_total",
                "counter",
                "Their payload in bytes.",
                |r| r.core.bytes_to_peers,
            ),
            (
                "packets_to_clients_total",
                "counter",
                "Datagrams relayed to clients.",
                |r| r.core.packets_to_clients,
            ),
            (
                "bytes_to_clients_total",
                "counter",
                "Their payload in bytes.",
                |r| r.core.bytes_to_clients,
            ),
            (
                "short_circuits_total",
                "counter",
                "Datagrams from client to client inside the process.",
                |r| r.core.short_circuits,
            ),
            (
                "udp_received_total",
                "counter",
                "Datagrams received.",
                |r| r.exchange.received,
            ),
            (
                "udp_receive_calls_total",
                "counter",
                "System calls that received them.",
                |r| r.exchange.receive_calls,
            ),
            ("udp_sent_total", "counter", "Datagrams sent.", |r| {
                r.exchange.sent
            }),
            (
                "udp_send_calls_total",
                "counter",
                "System calls that sent them.",
                |r| r.exchange.send_calls,
            ),
            (
                "udp_send_full_total",
                "counter",
                "Datagrams dropped at a full socket.",
                |r| r.exchange.send_full,
            ),
            (
                "udp_send_errors_total",
                "counter",
                "Datagrams that the kernel refused.",
                |r| r.exchange.send_errors,
            ),
            (
                "udp_offload_failures_total",
                "counter",
                "Runs that the kernel did not segment.",
                |r| r.exchange.offload_failures,
            ),
            (
                "tcp_accepted_total",
                "counter",
                "TCP and TLS connections accepted.",
                |r| r.streams.accepted,
            ),
            (
                "tcp_refused_total",
                "counter",
                "TCP and TLS connections refused by a limit.",
                |r| r.streams.refused,
            ),
            (
                "tls_failures_total",
                "counter",
                "TLS handshakes and records that failed.",
                |r| r.streams.tls_failures,
            ),
            (
                "tcp_desynchronised_total",
                "counter",
                "Streams that could not be followed.",
                |r| r.streams.desynchronised,
            ),
            (
                "tcp_oversized_total",
                "counter",
                "Streams closed for a frame that is too long for a client, or for one without an allocation.",
                |r| r.streams.oversized,
            ),
            (
                "tcp_too_slow_total",
                "counter",
                "Streams cut off for taking too long.",
                |r| r.streams.too_slow,
            ),
            (
                "tcp_dropped_total",
                "counter",
                "Frames dropped for slow streams.",
                |r| r.streams.dropped,
            ),
            (
                "dtls_accepted_total",
                "counter",
                "DTLS connections that proved their address.",
                |r| r.dtls_accepted,
            ),
            (
                "dtls_refused_total",
                "counter",
                "DTLS connections refused by a limit.",
                |r| r.dtls_refused,
            ),
            (
                "passes_total",
                "counter",
                "Passes of the workers' loops.",
                |r| r.passes,
            ),
            (
                "gathers_total",
                "counter",
                "Passes that packets were let gather before.",
                |r| r.waits,
            ),
            (
                "handed_over_total",
                "counter",
                "Datagrams and streams handed to another worker.",
                |r| r.handed_over,
            ),
        ];
        for (name, kind, help, value) in families {
            let _ = writeln!(
                text,
                "# HELP visavis_turn_{name} {help}\n# TYPE visavis_turn_{name} {kind}"
            );
            for (worker, report) in &self.reports {
                let value = value(report);
                let _ = writeln!(text, "visavis_turn_{name}{{worker=\"{worker}\"}} {value}");
            }
        }
        text
    }
}
