//! Probing: when to send a cluster of packets faster than the estimate, and what it has shown.

use std::time::Duration;

use crate::packet::{ProbeCluster, ProbeId};

/// First probes, as multiples of the start rate.
const FIRST_PROBES: [f64; 2] = [3.0, 6.0];
/// The next probe after one that was borne, as a multiple of what it found.
const FURTHER_PROBE: f64 = 2.0;
/// A probe that found this share of what it tried is worth another.
const FURTHER_THRESHOLD: f64 = 0.7;
/// The same for probes of a sender that its estimate holds back.
const CAREFUL_THRESHOLD: f64 = 0.97;
/// How long a result is waited for.
const RESULT_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a sender is probed that has less to send than it may, and how far.
const ALR_INTERVAL: Duration = Duration::from_secs(5);
const ALR_PROBE: f64 = 2.0;
/// After a large drop: from which ratio on, how soon a probe may tell that it is over, and how far.
const LARGE_DROP: f64 = 0.66;
const DROP_RECOVERY: f64 = 0.85;
/// Length of the first probes, of which nobody knows whether the path bears them.
const FIRST_LENGTH: f64 = 0.015;
const PROBE_PACKETS: u32 = 5;
/// How often they are repeated where jitter has left nothing to measure, each time so much longer.
const FIRST_REPEATS: u32 = 2;
const FIRST_LONGER: f64 = 2.0;
/// How far beyond what they have found they are followed at once by a probe of full length.
const FIRST_CHECK: f64 = 1.5;
/// How often the path is probed for what waits for more bandwidth: first, how much rarer after each probe in vain, and
/// at least. How far beyond what it needs, for the measurement is of a little less; and at most how far beyond the
/// estimate, for nobody knows what the path bears.
const WANTED_FIRST: Duration = Duration::from_millis(1000);
const WANTED_BACKOFF: f64 = 1.5;
const WANTED_LEAST: Duration = Duration::from_millis(3000);
const WANTED_MARGIN: f64 = 1.3;
const WANTED_FACTOR: f64 = 3.0;
/// How long such a probe is towards a receiver that reads in lumps: longer than most of them.
const UNEVEN_LENGTH: f64 = 0.15;
/// A change of what is wanted by so much begins anew.
const WANTED_CHANGE: f64 = 0.2;
/// Probes never go beyond this multiple of what the application could send.
const BEYOND_DEMAND: f64 = 1.5;

/// Settings of probing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProbeConfig {
    /// How often a sender is probed whose estimate holds it back while the queue is steady.
    /// Browsers do without it, and climb slowly after a capacity has risen.
    pub interval: Duration,
    /// How far such a probe goes, as a multiple of the estimate. Its queue, where the path does not
    /// bear it, is this factor's excess over 1 times its length.
    pub factor: f64,
    /// How long a probe is, unless it is one of the first two. The longer, the less jitter disturbs it:
    /// one of 15 ms, as browsers send, is measured wrong by a third where packets arrive 5 ms early or late.
    pub length: Duration,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(1000),
            factor: 1.25,
            length: Duration::from_millis(60),
        }
    }
}

/// Times are since the controller's start, rates in bits per second.
#[derive(Debug)]
pub(crate) struct ProbeController {
    config: ProbeConfig,
    next_id: u32,
    ready: Vec<ProbeCluster>,
    /// The clusters whose result is waited for, by the rate that a further probe needs.
    waiting: Option<(Duration, f64)>,
    last_probe: Option<Duration>,
    before_drop: Option<(Duration, f64)>,
    /// The rate that is waited for, and after how long since the last probe the next one comes.
    wanted: Option<(f64, Duration)>,
    /// Whether the latest probe arrived in lumps.
    uneven: bool,
    started: bool,
    /// How often the first probes may still be repeated, as long as they have shown nothing; `None` once they have.
    repeats: Option<u32>,
}

/// What a probe decision rests on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation {
    pub(crate) now: Duration,
    pub(crate) estimate: f64,
    /// The most that the application could send.
    pub(crate) demand: f64,
    pub(crate) max: f64,
    pub(crate) alr_since: Option<Duration>,
    /// From when on no queue stands and loss does not limit the rate, however uneven the delay is; or nothing is
    /// known of either any more.
    pub(crate) idle_from: Duration,
    /// Whether the delay is steady and loss does not limit the rate.
    pub(crate) calm: bool,
}

impl ProbeController {
    pub(crate) fn new(config: ProbeConfig) -> Self {
        Self {
            config,
            next_id: 0,
            ready: Vec::with_capacity(4),
            waiting: None,
            last_probe: None,
            before_drop: None,
            wanted: None,
            uneven: false,
            started: false,
            repeats: Some(FIRST_REPEATS),
        }
    }

    pub(crate) fn poll(&mut self) -> Option<ProbeCluster> {
        if self.ready.is_empty() {
            None
        } else {
            Some(self.ready.remove(0))
        }
    }

    /// Starts: the first packet has left.
    pub(crate) fn start(&mut self, situation: Situation) {
        if !self.started {
            self.started = true;
            let start = situation.estimate;
            let rates = FIRST_PROBES.map(|factor| factor * start);
            self.probe(situation, &rates, FIRST_LENGTH, FURTHER_THRESHOLD);
        }
    }

    /// The estimate has come down far: a probe may soon tell that the reason is gone.
    pub(crate) fn dropped(&mut self, now: Duration, from: f64, to: f64) {
        if to < LARGE_DROP * from {
            self.before_drop = Some((now, from));
        }
    }

    /// Something waits for this rate, or nothing does.
    pub(crate) fn set_wanted(&mut self, wanted: Option<f64>) {
        self.wanted = wanted.map(|rate| match self.wanted {
            Some((former, wait)) if (rate - former).abs() < WANTED_CHANGE * former => (rate, wait),
            _ => (rate, WANTED_FIRST),
        });
    }

    /// Whether something waits for more than the estimate.
    pub(crate) fn is_wanted(&self, situation: &Situation) -> bool {
        self.wanted_beyond(situation).is_some()
    }

    fn wanted_beyond(&self, situation: &Situation) -> Option<(f64, Duration)> {
        self.wanted.filter(|&(rate, _)| situation.estimate < rate)
    }

    /// A probe has arrived, in lumps or not.
    pub(crate) fn arrived(&mut self, uneven: bool) {
        self.uneven = uneven;
    }

    /// A cluster has arrived, and shows nothing.
    pub(crate) fn spoiled(&mut self, situation: Situation, id: ProbeId) {
        let Some(left) = self.repeats.and_then(|left| left.checked_sub(1)) else {
            return;
        };
        if id.0 == self.next_id {
            self.repeats = Some(left);
            let rates = FIRST_PROBES.map(|factor| factor * situation.estimate);
            let length = FIRST_LENGTH * FIRST_LONGER.powi((FIRST_REPEATS - left) as i32);
            self.probe(situation, &rates, length, FURTHER_THRESHOLD);
        }
    }

    /// A probe has shown what the path bears.
    pub(crate) fn result(&mut self, situation: Situation, id: ProbeId, found: f64) {
        let is_first = id.0 == self.next_id && self.repeats.take().is_some();
        // What brings it nearer is not in vain.
        if let Some((rate, wait)) = &mut self.wanted
            && found >= situation.estimate
            && found < *rate
        {
            *wait = WANTED_FIRST;
        }
        if let Some((_, threshold)) = self.waiting
            && found > threshold
        {
            let rate = FURTHER_PROBE * found;
            self.probe(situation, &[rate], self.length(), FURTHER_THRESHOLD);
        } else if is_first {
            // They are short, and what jitter has left of them is looked at once more at length.
            let rate = FIRST_CHECK * found;
            self.probe(situation, &[rate], self.length(), FURTHER_THRESHOLD);
        }
    }

    /// When [`process`](Self::process) has something to do.
    pub(crate) fn due(&self, situation: &Situation) -> Option<Duration> {
        if !self.started {
            return None;
        }
        let last = self.last_probe.unwrap_or_default();
        if let Some((since, _)) = self.waiting {
            return Some(since + RESULT_TIMEOUT);
        }
        if let Some((_, wait)) = self.wanted_beyond(situation) {
            return Some((last + wait).max(situation.idle_from));
        }
        if !situation.calm || situation.estimate >= situation.demand * BEYOND_DEMAND {
            return None;
        }
        if let Some(since) = situation.alr_since {
            return Some(since.max(last) + ALR_INTERVAL);
        }
        (situation.estimate < situation.demand).then(|| last + self.config.interval)
    }

    pub(crate) fn process(&mut self, situation: Situation) {
        let Situation { now, estimate, .. } = situation;
        if self.due(&situation).is_none_or(|due| due > now) {
            return;
        }
        if self.waiting.take().is_some() {
            return;
        }
        // Also where it would show nothing new: the next one is not due at once.
        self.last_probe = Some(now);
        if let Some((rate, wait)) = self.wanted_beyond(&situation) {
            let longer = wait.mul_f64(WANTED_BACKOFF).min(WANTED_LEAST);
            self.wanted = Some((rate, longer));
            let rate = (WANTED_MARGIN * rate).min(WANTED_FACTOR * estimate);
            let length = match self.uneven {
                true => UNEVEN_LENGTH,
                false => self.length(),
            };
            self.probe(situation, &[rate], length, FURTHER_THRESHOLD);
            return;
        }
        if !situation.calm {
            return;
        }
        if let Some((at, before)) = self.before_drop.take()
            && now.saturating_sub(at) < ALR_INTERVAL
            && DROP_RECOVERY * before > estimate
        {
            let rate = DROP_RECOVERY * before;
            self.probe(situation, &[rate], self.length(), f64::INFINITY);
            return;
        }
        if situation.alr_since.is_some() {
            let rate = ALR_PROBE * estimate;
            self.probe(situation, &[rate], self.length(), FURTHER_THRESHOLD);
        } else {
            let rate = self.config.factor * estimate;
            self.probe(situation, &[rate], self.length(), CAREFUL_THRESHOLD);
        }
    }

    fn length(&self) -> f64 {
        self.config.length.as_secs_f64()
    }

    /// Makes clusters at these rates, of this length in seconds. One that finds more than
    /// `threshold` of its rate is followed by a further one.
    fn probe(&mut self, situation: Situation, rates: &[f64], length: f64, threshold: f64) {
        let wanted = self.wanted.map_or(0.0, |(rate, _)| WANTED_MARGIN * rate);
        let useful = (situation.demand * BEYOND_DEMAND).max(wanted);
        let most = situation.max.min(useful.max(situation.estimate));
        for &rate in rates {
            let rate = rate.min(most);
            if rate <= situation.estimate * 1.05 || !rate.is_finite() {
                continue;
            }
            // A second probe at the same bound shows nothing new.
            if self
                .ready
                .last()
                .is_some_and(|last| last.bitrate == rate as u64)
            {
                continue;
            }
            self.next_id = self.next_id.wrapping_add(1);
            if self.ready.len() >= 4 {
                self.ready.remove(0);
            }
            self.ready.push(ProbeCluster {
                id: ProbeId(self.next_id),
                bitrate: rate as u64,
                packets: PROBE_PACKETS,
                bytes: (rate * length / 8.0) as usize,
            });
            let wanted = if rate < most {
                threshold * rate
            } else {
                f64::INFINITY
            };
            self.waiting = Some((situation.now, wanted));
            self.last_probe = Some(situation.now);
        }
    }
}

/// Clusters whose packets are followed at a time.
const CLUSTERS: usize = 8;
/// Shares of a cluster's packets and bytes that must have arrived.
const MIN_ARRIVED: f64 = 0.8;
/// The longest time that a cluster may be spread over (microseconds).
const MAX_INTERVAL: i64 = 1_000_000;
/// Arriving faster than sent by more than this is a batch of the receiver's.
const MAX_RATIO: f64 = 2.0;
/// A packet that comes after this share of the time after which it was sent has waited together with the one before;
/// where so many of a cluster's do, it is the receiver that is late.
const TOGETHER: i64 = 4;
const UNEVEN_SHARE: f64 = 0.5;
/// Below this share of the rate that it was sent at, a probe has met the capacity; then so much of it is believed.
const CAPACITY_RATIO: f64 = 0.9;
const CAPACITY_SHARE: f64 = 0.95;

#[derive(Debug, Clone, Copy)]
struct Cluster {
    id: ProbeId,
    packets: u32,
    bytes: usize,
    arrived: u32,
    /// Packets that arrived together with the one before.
    together: u32,
    size: usize,
    first_sent: i64,
    last_sent: i64,
    last_sent_size: usize,
    first_arrival: i64,
    last_arrival: i64,
    first_arrival_size: usize,
}

/// What a cluster shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shown {
    /// What the path bears, by how far apart the packets arrived, in bits per second; `None` where that says nothing.
    pub(crate) borne: Option<f64>,
    /// How fast it was sent, in bits per second, and in how long (milliseconds).
    pub(crate) sent: f64,
    pub(crate) length: f64,
    /// Whether it arrived in lumps that are the receiver's making.
    pub(crate) uneven: bool,
}

impl Shown {
    /// What the path bears, by the queue (milliseconds) that the cluster has left behind. A receiver that takes the time
    /// late disturbs how far apart packets are, and not how long the latest one waited.
    pub(crate) fn borne_by_queue(&self, queue: f64) -> f64 {
        self.sent / (1.0 + queue.max(0.0) / self.length)
    }
}

/// What arrived of the clusters.
#[derive(Debug)]
pub(crate) struct ProbeEstimator {
    clusters: [Option<Cluster>; CLUSTERS],
    next: usize,
}

impl ProbeEstimator {
    pub(crate) fn new() -> Self {
        Self {
            clusters: [None; CLUSTERS],
            next: 0,
        }
    }

    /// Expects the packets of a cluster.
    pub(crate) fn expect(&mut self, cluster: &ProbeCluster) {
        self.clusters[self.next] = Some(Cluster {
            id: cluster.id,
            packets: cluster.packets,
            bytes: cluster.bytes,
            arrived: 0,
            together: 0,
            size: 0,
            first_sent: i64::MAX,
            last_sent: i64::MIN,
            last_sent_size: 0,
            first_arrival: i64::MAX,
            last_arrival: i64::MIN,
            first_arrival_size: 0,
        });
        self.next = (self.next + 1) % CLUSTERS;
    }

    /// Takes a packet of a cluster (times in microseconds); answers what the cluster shows so far.
    pub(crate) fn packet(
        &mut self,
        id: ProbeId,
        sent: i64,
        arrival: i64,
        size: usize,
    ) -> Option<Shown> {
        let cluster = self
            .clusters
            .iter_mut()
            .flatten()
            .find(|cluster| cluster.id == id)?;
        cluster.arrived += 1;
        cluster.size += size;
        if cluster.arrived > 1 {
            let after = sent - cluster.last_sent;
            let together = arrival - cluster.last_arrival < after / TOGETHER;
            cluster.together += u32::from(after > 0 && together);
        }
        cluster.first_sent = cluster.first_sent.min(sent);
        if sent >= cluster.last_sent {
            cluster.last_sent = sent;
            cluster.last_sent_size = size;
        }
        if arrival < cluster.first_arrival {
            cluster.first_arrival = arrival;
            cluster.first_arrival_size = size;
        }
        cluster.last_arrival = cluster.last_arrival.max(arrival);
        let enough = f64::from(cluster.arrived) >= MIN_ARRIVED * f64::from(cluster.packets)
            && cluster.size as f64 >= MIN_ARRIVED * cluster.bytes as f64;
        let send_interval = cluster.last_sent - cluster.first_sent;
        let receive_interval = cluster.last_arrival - cluster.first_arrival;
        let sane = |interval| (1..=MAX_INTERVAL).contains(&interval);
        if !enough || !sane(send_interval) {
            return None;
        }
        let rate = |bytes: usize, micros: i64| bytes as f64 * 8e6 / micros as f64;
        let sent = rate(cluster.size - cluster.last_sent_size, send_interval);
        let mut shown = Shown {
            borne: None,
            sent,
            length: send_interval as f64 / 1e3,
            uneven: f64::from(cluster.together) >= UNEVEN_SHARE * f64::from(cluster.arrived),
        };
        if sane(receive_interval) {
            let received = rate(cluster.size - cluster.first_arrival_size, receive_interval);
            if received < CAPACITY_RATIO * sent {
                shown.borne = Some(CAPACITY_SHARE * received);
            } else if received <= MAX_RATIO * sent {
                shown.borne = Some(sent.min(received));
            }
        }
        Some(shown)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ProbeConfig, ProbeController, ProbeEstimator, Shown, Situation};
    use crate::packet::{ProbeCluster, ProbeId};

    fn run(spacing: i64) -> Option<Shown> {
        let mut estimator = ProbeEstimator::new();
        estimator.expect(&ProbeCluster {
            id: ProbeId(1),
            bitrate: 4_000_000,
            packets: 5,
            bytes: 7500,
        });
        let mut found = None;
        for packet in 0..6 {
            let (sent, arrival) = (packet * 2_500, 50_000 + packet * spacing);
            found = estimator.packet(ProbeId(1), sent, arrival, 1250);
        }
        found
    }

    #[test]
    fn where_a_probe_would_show_nothing_new_the_next_one_is_not_due_at_once() {
        // The application would send more than it ever may.
        let mut situation = Situation {
            now: Duration::ZERO,
            estimate: 1e6,
            demand: 2e6,
            max: 1e6,
            alr_since: None,
            idle_from: Duration::ZERO,
            calm: true,
        };
        let mut probes = ProbeController::new(ProbeConfig::default());
        probes.start(situation);
        for seconds in 1..10 {
            situation.now = Duration::from_secs(seconds);
            probes.process(situation);
            assert!(
                probes
                    .due(&situation)
                    .is_some_and(|due| due > situation.now)
            );
        }
        assert_eq!(probes.poll(), None);
    }

    /// A beginning at 300 kbit/s, and the ids of the first two probes.
    fn begun() -> (ProbeController, Situation, [ProbeId; 2]) {
        let situation = Situation {
            now: Duration::from_millis(200),
            estimate: 3e5,
            demand: 4e6,
            max: 1e8,
            alr_since: None,
            idle_from: Duration::ZERO,
            calm: true,
        };
        let mut probes = ProbeController::new(ProbeConfig::default());
        probes.start(situation);
        let ids = [(); 2].map(|()| probes.poll().unwrap().id);
        (probes, situation, ids)
    }

    #[test]
    fn first_probes_that_jitter_has_spoiled_are_repeated_longer_and_no_more_than_twice() {
        let (mut probes, situation, [first, second]) = begun();
        probes.spoiled(situation, first);
        assert_eq!(probes.poll(), None, "the other one may show something");
        probes.spoiled(situation, second);
        let again: Vec<_> = std::iter::from_fn(|| probes.poll()).collect();
        let sizes: Vec<_> = again.iter().map(|it| (it.bitrate, it.bytes)).collect();
        assert_eq!(sizes, [(900_000, 3_375), (1_800_000, 6_750)]);
        for rounds in 0..3 {
            let latest = ProbeId(probes.next_id);
            probes.spoiled(situation, latest);
            let count = std::iter::from_fn(|| probes.poll()).count();
            assert_eq!(count, if rounds == 0 { 2 } else { 0 });
        }
    }

    #[test]
    fn what_first_probes_find_is_looked_at_once_more_at_length() {
        let (mut probes, situation, [_, second]) = begun();
        probes.result(situation, second, 1e6);
        let check = probes.poll().unwrap();
        // 60 ms of it.
        assert_eq!((check.bitrate, check.bytes), (1_500_000, 11_250));
        probes.result(situation, check.id, 1e6);
        assert_eq!(probes.poll(), None, "no more than once");
    }

    #[test]
    fn a_probe_shows_the_rate_sent_or_a_little_less_than_the_capacity() {
        let borne = |spacing| run(spacing).unwrap().borne;
        assert_eq!(borne(2_500), Some(4e6));
        // 1250 bytes every 5 ms are 2 Mbit/s.
        assert_eq!(borne(5_000), Some(1.9e6));
        assert_eq!(borne(100), None, "batched by the receiver");
        assert!(run(100).unwrap().uneven && !run(2_500).unwrap().uneven);
        // In 12.5 ms at twice the capacity, as much has gathered.
        assert_eq!(run(100).unwrap().borne_by_queue(12.5), 2e6);
        let mut estimator = ProbeEstimator::new();
        assert_eq!(estimator.packet(ProbeId(9), 0, 0, 1), None, "never sent");
    }
}
