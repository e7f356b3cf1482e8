//! A congestion controller of one's own: here one that sends at a fixed rate, whatever the network says.
#![allow(clippy::print_stdout, reason = "the program tells what it did")]

#[path = "common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use visavis::congestion::{Controller, Feedback, Limits, ProbeCluster, SentPacket, Stats, Target};
use visavis::{Configuration, CongestionControl, ControllerFactory, Kind};

#[derive(Debug)]
struct Fixed(u64);

impl Controller for Fixed {
    fn target(&self) -> Target {
        Target {
            bitrate: self.0,
            pacing: self.0 * 5 / 2,
            window: None,
            ecn: visavis_datagram::Ecn::NotEct,
        }
    }

    fn stats(&self) -> Stats {
        Stats {
            target: self.0,
            ..Stats::default()
        }
    }

    fn set_limits(&mut self, _: Instant, limits: Limits) {
        self.0 = self.0.clamp(limits.min, limits.max);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn poll_probe(&mut self) -> Option<ProbeCluster> {
        None
    }

    // What the network says is not listened to.
    fn packet_sent(&mut self, _: Instant, _: &SentPacket) {}
    fn feedback(&mut self, _: Instant, _: &Feedback<'_>) {}
    fn handle_timeout(&mut self, _: Instant) {}
    fn set_demand(&mut self, _: Instant, _: u64) {}
    fn remb(&mut self, _: Instant, _: u64) {}
    fn receiver_report(&mut self, _: Instant, _: f64, _: Option<Duration>) {}
    fn path_changed(&mut self, _: Instant) {}
}

#[derive(Debug)]
struct FixedRate(u64);

impl ControllerFactory for FixedRate {
    fn controller(&self, _: Instant, _: Limits) -> Box<dyn Controller + Send> {
        Box::new(Fixed(self.0))
    }
}

/// The rate that the sender is told.
pub(crate) async fn run() -> common::Result<u64> {
    let mut configuration = Configuration::default();
    configuration.advanced.congestion = CongestionControl::Custom(Arc::new(FixedRate(1_234_000)));
    let here = common::connection(configuration)?;
    let there = common::connection(Configuration::default())?;
    here.add_track(Kind::Video, "camera", &[])?;
    common::negotiate(&here, &there).await?;
    common::connected(&here).await?;
    Ok(here.target_bitrate())
}

#[tokio::main]
async fn main() -> common::Result<()> {
    println!("{} bit/s", run().await?);
    Ok(())
}
