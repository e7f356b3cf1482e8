//! When each packet leaves: by priority, at the pacing rate, with probes in between.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::controller::Target;
use crate::packet::{MAX_PACKET, PacketKind, ProbeCluster, ProbeId};

/// Settings of a [`Pacer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacerConfig {
    /// The most packets that wait. Default 4096.
    pub max_packets: usize,
    /// The longest that a packet should wait: the rate is raised so that the queue drains in time. Default 2 s.
    pub max_wait: Duration,
    /// Bits per second at which retransmissions leave however low the rate is, and however much of it audio takes. A
    /// target that loss has brought down must not keep back what mends the loss. Default 50,000.
    pub least_retransmission: u64,
    /// How much may leave at once when time has passed, as time at the pacing rate. Default 5 ms.
    pub burst: Duration,
    /// The size of padding packets in bytes. Default 1200.
    pub padding_size: usize,
    /// Packets of each kind that the queues have memory for from the start. Default 256.
    pub reserve: usize,
}

impl Default for PacerConfig {
    fn default() -> Self {
        Self {
            max_packets: 4096,
            max_wait: Duration::from_secs(2),
            least_retransmission: 50_000,
            burst: Duration::from_millis(5),
            padding_size: 1200,
            reserve: 256,
        }
    }
}

/// A packet that waits in a [`Pacer`]: the caller's name for it, not its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queued<T> {
    /// What the caller knows it by.
    pub token: T,
    /// Bytes on the wire.
    pub size: usize,
    /// What it carries.
    pub kind: PacketKind,
}

/// What is to be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release<T> {
    /// A packet that waited.
    Packet {
        /// The packet.
        packet: Queued<T>,
        /// How long it waited.
        waited: Duration,
        /// The probe that it belongs to.
        probe: Option<ProbeId>,
    },
    /// So many bytes of padding (a retransmission of something recent is padding too).
    Padding {
        /// Bytes on the wire.
        size: usize,
        /// The probe that it belongs to.
        probe: Option<ProbeId>,
    },
}

/// Counters of a [`Pacer`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PacerStats {
    /// Packets that left.
    pub released: u64,
    /// Padding packets that were asked for.
    pub padding: u64,
    /// Packets that found the queue full.
    pub refused: u64,
    /// How often the congestion window held the queue.
    pub held: u64,
}

#[derive(Debug, Clone, Copy)]
struct Given {
    size: usize,
    probe: Option<ProbeId>,
    kind: PacketKind,
}

#[derive(Debug, Clone, Copy)]
struct Probing {
    cluster: ProbeCluster,
    started: Option<Instant>,
    sent_bytes: usize,
    sent_packets: u32,
}

/// Probes that wait at a time; more are dropped.
const MAX_PROBES: usize = 4;
/// The least size of a probe's packet is what the rate gives in this time.
const PROBE_STEP: Duration = Duration::from_millis(2);
/// A probe that cannot be sent for this long is given up.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);

/// A full congestion window lets a packet through so long after the last one (browsers: 500 ms).
const HELD_INTERVAL: Duration = Duration::from_millis(500);
/// A debt of less than this many bytes is none.
const DEBT_ROUNDING: f64 = 0.5;
/// Timeouts for the rate lie at least so far ahead.
const LEAST_WAIT: Duration = Duration::from_micros(10);

#[derive(Debug, Clone, Copy)]
struct Entry<T> {
    packet: Queued<T>,
    since: Instant,
}

/// A queue per [`PacketKind`]; the lowest kind leaves first. Audio never waits for the rate, but
/// takes from it.
#[derive(Debug)]
pub struct Pacer<T> {
    config: PacerConfig,
    queues: [VecDeque<Entry<T>>; 5],
    bytes: usize,
    packets: usize,
    /// Sum of the times at which waiting packets came, for the mean wait: nanoseconds since `epoch`.
    epoch: Option<Instant>,
    rate: f64,
    window: Option<usize>,
    in_flight: usize,
    /// Bytes that were sent ahead of the rate.
    debt: f64,
    /// Bytes of retransmissions that were sent ahead of their least rate.
    repair_debt: f64,
    updated: Option<Instant>,
    probes: VecDeque<Probing>,
    /// What was given to be sent last, until it is told how much left.
    given: Option<Given>,
    /// When something left last.
    left_at: Option<Instant>,
    started: bool,
    stats: PacerStats,
}

impl<T: Copy> Pacer<T> {
    /// An empty pacer. Its queues get their memory here ([`PacerConfig::reserve`]).
    pub fn new(config: PacerConfig) -> Self {
        Self {
            queues: std::array::from_fn(|_| VecDeque::with_capacity(config.reserve)),
            config,
            bytes: 0,
            packets: 0,
            epoch: None,
            rate: 300_000.0,
            window: None,
            in_flight: 0,
            debt: 0.0,
            repair_debt: 0.0,
            updated: None,
            probes: VecDeque::with_capacity(MAX_PROBES),
            given: None,
            left_at: None,
            started: false,
            stats: PacerStats::default(),
        }
    }

    /// Takes a packet; gives it back where the queue is full.
    pub fn push(&mut self, now: Instant, mut packet: Queued<T>) -> Result<(), Queued<T>> {
        packet.size = packet.size.min(MAX_PACKET);
        if self.packets >= self.config.max_packets {
            self.stats.refused += 1;
            return Err(packet);
        }
        self.epoch.get_or_insert(now);
        self.queues[packet.kind as usize].push_back(Entry { packet, since: now });
        self.bytes += packet.size;
        self.packets += 1;
        Ok(())
    }

    /// What is to be sent now; asked again until `None`. What really leaves is told to [`left`](Self::left).
    pub fn poll(&mut self, now: Instant) -> Option<Release<T>> {
        self.take_back();
        self.pay(now);
        if let Some(entry) = self.queues[PacketKind::Audio as usize].front()
            && self.probes.is_empty()
        {
            let entry = *entry;
            return Some(self.release(now, entry, None));
        }
        if let Some(release) = self.poll_probe(now) {
            return Some(release);
        }
        if let Some(entry) = self.queues[PacketKind::Audio as usize].front() {
            let entry = *entry;
            return Some(self.release(now, entry, None));
        }
        if self.debt > DEBT_ROUNDING && !self.is_repair_due() {
            return None;
        }
        let entry = self.first()?;
        // Where all that is in flight was lost, or its feedback, only what is sent brings the news.
        if self.is_held() && self.held_until().is_some_and(|until| now < until) {
            self.stats.held += 1;
            return None;
        }
        Some(self.release(now, entry, None))
    }

    /// When [`poll`](Self::poll) has something to give; `None` while it waits for nothing but
    /// packets, or for the congestion window.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let updated = self.updated.or(self.epoch)?;
        if !self.queues[PacketKind::Audio as usize].is_empty() {
            return Some(updated);
        }
        if let Some(probe) = self.probes.front()
            && (self.packets > 0 || self.started)
        {
            return Some(probe.due().unwrap_or(updated));
        }
        if self.packets == 0 {
            return None;
        }
        if self.is_held() {
            return self.held_until();
        }
        if self.debt <= DEBT_ROUNDING {
            return Some(updated);
        }
        let mut wait = self.debt * 8.0 / self.drain_rate(updated);
        if self.waits_repair() {
            wait = wait.min(self.repair_debt * 8.0 / self.repair_rate());
        }
        Some(updated + Duration::from_secs_f64(wait.clamp(0.0, 1.0)) + LEAST_WAIT)
    }

    /// Reads what a packet will touch.
    pub(crate) fn warm(&self) {
        let lengths = self.queues.each_ref().map(VecDeque::len);
        std::hint::black_box((lengths, self.debt, self.updated, self.stats.released));
        std::hint::black_box((
            self.config.burst,
            self.given,
            self.left_at,
            self.probes.len(),
        ));
    }

    /// Follows a controller's target.
    pub fn set_target(&mut self, target: &Target) {
        self.rate = target.pacing.max(1_000) as f64;
        self.window = target.window;
    }

    /// Says how many bytes are in flight.
    pub fn set_in_flight(&mut self, bytes: usize) {
        self.in_flight = bytes;
    }

    /// Adds a probe, to be sent once something has been or is to be sent.
    pub fn add_probe(&mut self, cluster: ProbeCluster) {
        if self.probes.len() < MAX_PROBES {
            self.probes.push_back(Probing {
                cluster,
                started: None,
                sent_bytes: 0,
                sent_packets: 0,
            });
        }
    }

    /// Says that what [`poll`](Self::poll) gave last has left, and how large it was: RTP has no more than 255 bytes of
    /// padding in a packet. What is not told of before the next `poll` did not leave.
    pub fn left(&mut self, now: Instant, size: usize) {
        self.left_at = Some(now);
        if let Some(given) = self.given.take() {
            self.correct(given, size);
        }
    }

    /// What was given last did not leave: its source had forgotten it, or has no padding.
    fn take_back(&mut self) {
        let Some(given) = self.given.take() else {
            return;
        };
        self.correct(given, 0);
        if given.kind == PacketKind::Padding
            && self.probes.front().map(|probe| probe.cluster.id) == given.probe
        {
            self.probes.pop_front();
        }
    }

    fn correct(&mut self, given: Given, size: usize) {
        let change = size as f64 - given.size as f64;
        self.debt += change;
        if given.kind == PacketKind::Retransmission {
            self.repair_debt = (self.repair_debt + change).max(0.0);
        }
        if let Some(probe) = self.probes.front_mut()
            && Some(probe.cluster.id) == given.probe
        {
            probe.sent_bytes = (probe.sent_bytes + size).saturating_sub(given.size);
            probe.sent_packets -= u32::from(size == 0 && probe.sent_packets > 0);
        }
    }

    /// Bytes that wait.
    pub fn queued_bytes(&self) -> usize {
        self.bytes
    }

    /// Packets that wait.
    pub fn queued_packets(&self) -> usize {
        self.packets
    }

    /// How long what waits will take to leave: what encoders should know before they add to it.
    pub fn expected_wait(&self) -> Duration {
        Duration::from_secs_f64((self.bytes as f64 * 8.0 / self.rate).min(3600.0))
    }

    /// Drops what waits for which `keep` says no: a track has stopped.
    pub fn retain(&mut self, mut keep: impl FnMut(&Queued<T>) -> bool) {
        for queue in &mut self.queues {
            queue.retain(|entry| keep(&entry.packet));
        }
        let entries = self.queues.iter().flatten();
        self.packets = entries.clone().count();
        self.bytes = entries.map(|entry| entry.packet.size).sum();
    }

    /// Counters.
    pub fn stats(&self) -> &PacerStats {
        &self.stats
    }

    fn first(&self) -> Option<Entry<T>> {
        self.queues.iter().find_map(|queue| queue.front().copied())
    }

    fn is_held(&self) -> bool {
        self.window.is_some_and(|window| self.in_flight >= window)
    }

    /// Until when a full window holds what waits.
    fn held_until(&self) -> Option<Instant> {
        Some(self.left_at? + HELD_INTERVAL)
    }

    fn release(&mut self, now: Instant, entry: Entry<T>, probe: Option<ProbeId>) -> Release<T> {
        let packet = entry.packet;
        let queue = &mut self.queues[packet.kind as usize];
        queue.pop_front();
        if queue.is_empty() {
            // The next ones take the place of these rather than going round in memory that no cache has.
            queue.clear();
        }
        self.bytes -= packet.size;
        self.packets -= 1;
        self.debt += packet.size as f64;
        if packet.kind == PacketKind::Retransmission {
            self.repair_debt += packet.size as f64;
        }
        self.in_flight += packet.size;
        self.given = Some(Given {
            size: packet.size,
            probe,
            kind: packet.kind,
        });
        self.started = true;
        self.stats.released += 1;
        Release::Packet {
            packet,
            waited: now.saturating_duration_since(entry.since),
            probe,
        }
    }

    fn poll_probe(&mut self, now: Instant) -> Option<Release<T>> {
        loop {
            let media = self.first();
            // Padding cannot come before there is media.
            if media.is_none() && !self.started {
                return None;
            }
            let probe = self.probes.front_mut()?;
            let started = *probe.started.get_or_insert(now);
            if now.saturating_duration_since(started) > PROBE_PATIENCE {
                self.probes.pop_front();
                continue;
            }
            if probe.is_complete() {
                self.probes.pop_front();
                continue;
            }
            if probe.due().is_some_and(|due| due > now) {
                return None;
            }
            let id = probe.cluster.id;
            let step = probe.cluster.bitrate as f64 / 8.0 * PROBE_STEP.as_secs_f64();
            let padding = self
                .config
                .padding_size
                .min((step as usize).max(200))
                .max(200);
            let size = media.map_or(padding, |entry| entry.packet.size);
            probe.sent_bytes += size;
            probe.sent_packets += 1;
            return Some(match media {
                Some(entry) => self.release(now, entry, Some(id)),
                None => {
                    self.debt += size as f64;
                    self.in_flight += size;
                    self.stats.padding += 1;
                    self.given = Some(Given {
                        size,
                        probe: Some(id),
                        kind: PacketKind::Padding,
                    });
                    Release::Padding {
                        size,
                        probe: Some(id),
                    }
                }
            });
        }
    }

    /// Lets the debt shrink by what the rate has given since.
    fn pay(&mut self, now: Instant) {
        let Some(updated) = self.updated.replace(now) else {
            return;
        };
        if now <= updated {
            // Within one moment, as the packets of one run, nothing is to be paid.
            self.updated = Some(updated);
            return;
        }
        let rate = self.drain_rate(now);
        let elapsed = now.duration_since(updated).as_secs_f64();
        let credit = -self.config.burst.as_secs_f64() * rate / 8.0;
        self.debt = (self.debt - elapsed * rate / 8.0).max(credit.min(0.0));
        self.repair_debt = (self.repair_debt - elapsed * self.repair_rate() / 8.0).max(0.0);
        // What a probe sent beyond the rate is made good, within reason.
        self.debt = self.debt.min(rate / 8.0 * 0.5);
    }

    fn waits_repair(&self) -> bool {
        !self.queues[PacketKind::Retransmission as usize].is_empty()
    }

    /// Whether a retransmission may leave although the rate is used up.
    fn is_repair_due(&self) -> bool {
        self.waits_repair() && self.repair_debt <= DEBT_ROUNDING
    }

    fn repair_rate(&self) -> f64 {
        self.config.least_retransmission.max(1) as f64
    }

    /// The rate, raised where the queue would not drain in time.
    fn drain_rate(&self, now: Instant) -> f64 {
        let oldest = self.queues.iter().filter_map(VecDeque::front);
        let waited = oldest
            .map(|entry| now.saturating_duration_since(entry.since))
            .max()
            .unwrap_or_default();
        let left = self.config.max_wait.saturating_sub(waited);
        let least = Duration::from_millis(1);
        let needed = self.bytes as f64 * 8.0 / left.max(least).as_secs_f64();
        self.rate.max(needed)
    }
}

impl Probing {
    fn is_complete(&self) -> bool {
        self.sent_bytes >= self.cluster.bytes && self.sent_packets >= self.cluster.packets
    }

    /// When its next packet leaves.
    fn due(&self) -> Option<Instant> {
        let sent = self.sent_bytes as f64 * 8.0 / self.cluster.bitrate.max(1) as f64;
        Some(self.started? + Duration::from_secs_f64(sent.min(3600.0)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use visavis_datagram::Ecn;

    use super::{Pacer, PacerConfig, Queued, Release};
    use crate::controller::Target;
    use crate::packet::{PacketKind, ProbeCluster, ProbeId};

    fn pacer(rate: u64, window: Option<usize>) -> Pacer<u32> {
        let mut pacer = Pacer::new(PacerConfig::default());
        pacer.set_target(&Target {
            bitrate: rate,
            pacing: rate,
            window,
            ecn: Ecn::NotEct,
        });
        pacer
    }

    fn packet(token: u32, kind: PacketKind) -> Queued<u32> {
        Queued {
            token,
            size: 1250,
            kind,
        }
    }

    /// Runs for a time; answers when which token left (padding: none).
    fn run(pacer: &mut Pacer<u32>, start: Instant, time: Duration) -> Vec<(Duration, Option<u32>)> {
        run_padded(pacer, start, time, Some(usize::MAX))
    }

    /// The same, with so many bytes of padding at most in a packet, or without any.
    fn run_padded(
        pacer: &mut Pacer<u32>,
        start: Instant,
        time: Duration,
        most: Option<usize>,
    ) -> Vec<(Duration, Option<u32>)> {
        let mut now = start;
        let mut left = Vec::new();
        loop {
            while let Some(release) = pacer.poll(now) {
                left.push((
                    now - start,
                    match release {
                        Release::Packet { packet, .. } => {
                            pacer.left(now, packet.size);
                            Some(packet.token)
                        }
                        Release::Padding { size, .. } => {
                            let Some(most) = most else { continue };
                            pacer.left(now, size.min(most));
                            None
                        }
                    },
                ));
            }
            match pacer.poll_timeout() {
                Some(due) if due <= start + time => now = due.max(now + Duration::from_micros(10)),
                _ => return left,
            }
        }
    }

    #[test]
    fn packets_leave_by_priority_at_the_rate_and_audio_at_once() {
        let mut pacer = pacer(1_000_000, None);
        let now = Instant::now();
        let kinds = [
            PacketKind::Fec,
            PacketKind::Video,
            PacketKind::Retransmission,
            PacketKind::Audio,
        ];
        for (token, kind) in kinds.into_iter().enumerate() {
            pacer.push(now, packet(token as u32, kind)).unwrap();
        }
        let left = run(&mut pacer, now, Duration::from_secs(1));
        let tokens: Vec<_> = left.iter().map(|(_, token)| token.unwrap()).collect();
        assert_eq!(tokens, [3, 2, 1, 0]);
        let gap = left[3].0 - left[2].0;
        assert!((9..=11).contains(&gap.as_millis()), "{left:?}");
    }

    #[test]
    fn retransmissions_leave_at_their_least_rate_where_audio_takes_all() {
        // 40 kbit/s, and audio of 100.
        let (mut pacer, start) = (pacer(40_000, None), Instant::now());
        let mut again = Vec::new();
        for tick in 0..50 {
            let now = start + Duration::from_millis(100 * tick);
            pacer.push(now, packet(0, PacketKind::Audio)).unwrap();
            pacer.push(now, packet(1, PacketKind::Video)).unwrap();
            if tick % 5 == 0 {
                // 25 kbit/s are missed.
                pacer
                    .push(now, packet(2, PacketKind::Retransmission))
                    .unwrap();
            }
            let left = run(&mut pacer, now, Duration::from_millis(99));
            let of_them = left.iter().filter(|(_, token)| *token == Some(2));
            again.extend(of_them.map(|(after, _)| now + *after - start));
        }
        assert_eq!(again.len(), 10);
        for (nth, left) in (0u32..).zip(again) {
            let waited = left - Duration::from_millis(500) * nth;
            assert!(waited < Duration::from_millis(20), "{nth}: {waited:?}");
        }
        // And no faster than that, however many are asked for.
        let (mut pacer, now) = (self::pacer(1_000, None), Instant::now());
        for token in 0..100 {
            let kind = PacketKind::Retransmission;
            pacer.push(now, packet(token, kind)).unwrap();
        }
        let left = run(&mut pacer, now, Duration::from_secs(1));
        assert!(left.len() <= 100, "{left:?}");
    }

    #[test]
    fn a_probe_leaves_at_its_own_rate_with_padding_where_media_ends() {
        let mut pacer = pacer(1_000_000, None);
        let now = Instant::now();
        pacer.add_probe(ProbeCluster {
            id: ProbeId(1),
            bitrate: 10_000_000,
            packets: 5,
            bytes: 18_750,
        });
        assert!(pacer.poll(now).is_none(), "no padding before media");
        for token in 0..3 {
            pacer.push(now, packet(token, PacketKind::Video)).unwrap();
        }
        let left = run(&mut pacer, now, Duration::from_millis(100));
        let padding = left.iter().filter(|(_, token)| token.is_none()).count();
        assert_eq!(left.len() - padding, 3);
        let length = left.last().unwrap().0;
        assert!((13..=16).contains(&length.as_millis()), "{left:?}");
    }

    #[test]
    fn a_probe_of_small_padding_packets_has_the_rate_and_the_bytes_all_the_same() {
        let probe = ProbeCluster {
            id: ProbeId(1),
            bitrate: 2_000_000,
            packets: 5,
            bytes: 15_000,
        };
        let (mut pacer, now) = (pacer(1_000_000, None), Instant::now());
        pacer.push(now, packet(0, PacketKind::Audio)).unwrap();
        run(&mut pacer, now, Duration::ZERO);
        pacer.add_probe(probe);
        let left = run_padded(&mut pacer, now, Duration::from_secs(1), Some(250));
        assert_eq!(left.len(), 60);
        let length = left.last().unwrap().0;
        assert!((58..=61).contains(&length.as_millis()), "{length:?}");
        // Where there is nothing to pad with, it ends.
        pacer.add_probe(probe);
        let later = now + Duration::from_secs(2);
        assert!(run_padded(&mut pacer, later, Duration::from_secs(3), None).is_empty());
        assert_eq!(pacer.poll_timeout(), None);
    }

    #[test]
    fn what_its_source_has_forgotten_is_no_part_of_a_probe() {
        let (mut pacer, now) = (pacer(1_000_000, None), Instant::now());
        pacer.push(now, packet(0, PacketKind::Audio)).unwrap();
        run(&mut pacer, now, Duration::ZERO);
        pacer.add_probe(ProbeCluster {
            id: ProbeId(1),
            bitrate: 2_000_000,
            packets: 5,
            bytes: 6_000,
        });
        for token in 1..20 {
            pacer.push(now, packet(token, PacketKind::Video)).unwrap();
        }
        for _ in 1..20 {
            assert!(matches!(pacer.poll(now), Some(Release::Packet { .. })));
        }
        let left = run(&mut pacer, now, Duration::from_secs(1));
        assert_eq!(left.len(), 12, "all of it padding, of 500 bytes");
    }

    #[test]
    fn a_full_window_holds_everything_but_audio() {
        let mut pacer = pacer(1_000_000, Some(10_000));
        let now = Instant::now();
        pacer.set_in_flight(10_000);
        pacer.push(now, packet(1, PacketKind::Video)).unwrap();
        pacer.push(now, packet(2, PacketKind::Audio)).unwrap();
        pacer.push(now, packet(3, PacketKind::Video)).unwrap();
        let left = run(&mut pacer, now, Duration::from_millis(400));
        assert_eq!(left.len(), 1);
        // Nothing comes back: one packet now and then finds out whether the path is there.
        let left = run(&mut pacer, now, Duration::from_millis(900));
        let tokens: Vec<_> = left.iter().map(|(_, token)| token.unwrap()).collect();
        assert_eq!(tokens, [1]);
        pacer.set_in_flight(0);
        assert!(pacer.poll(now + Duration::from_secs(1)).is_some());
    }

    #[test]
    fn a_long_queue_drains_within_its_bound_and_never_grows_beyond_it() {
        let mut pacer = pacer(10_000, None);
        let now = Instant::now();
        for token in 0..100 {
            pacer.push(now, packet(token, PacketKind::Video)).unwrap();
        }
        let left = run(&mut pacer, now, Duration::from_secs(10));
        assert_eq!(left.len(), 100);
        assert!(left.last().unwrap().0 <= Duration::from_millis(2100));
        for token in 0..5000 {
            let _ = pacer.push(now, packet(token, PacketKind::Video));
        }
        assert_eq!(pacer.queued_packets(), 4096);
        assert_eq!(pacer.stats().refused, 904);
    }
}
