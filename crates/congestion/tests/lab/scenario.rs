//! The scenarios: RFC 8867 section 5 and 6.3, random and bursty loss, wireless traces (RFC 8869).

use std::time::Duration;

use visavis_datagram::Random;
use visavis_netsim::{
    CoDelConfig, DualQConfig, Jitter, Limit, LinkConfig, Loss, Queue, Rate, RateTrace,
};

/// Which bottlenecks of two a flow crosses (RFC 8867 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Whole,
    FirstOnly,
    SecondOnly,
}

/// One flow of a scenario.
#[derive(Debug, Clone)]
pub struct FlowPlan {
    pub start: Duration,
    pub end: Duration,
    pub pause: Option<(Duration, Duration)>,
    /// Bits per second of video at most, and the first estimate.
    pub max: u64,
    pub start_rate: u64,
    /// Delay of each end's access link, besides the bottleneck's.
    pub access: Duration,
    /// Whether the media goes over the backward path.
    pub backward: bool,
    /// The receiver is kept from reading its socket now and then.
    pub stalls: Option<Stalls>,
    /// The video is a layer of a forwarder's: it flows, at its highest rate, where the estimate is at least this, and
    /// else it is paused.
    pub held_below: Option<u64>,
    pub shape: Shape,
}

impl FlowPlan {
    pub fn is_active(&self, at: Duration) -> bool {
        let paused = self
            .pause
            .is_some_and(|(from, to)| (from..to).contains(&at));
        (self.start..self.end).contains(&at) && !paused
    }

    pub fn next_change(&self, after: Duration) -> Option<Duration> {
        let pauses = self.pause.into_iter().flat_map(|(from, to)| [from, to]);
        [self.start, self.end]
            .into_iter()
            .chain(pauses)
            .filter(|&change| change > after)
            .min()
    }
}

/// How a receiver is kept from reading its socket. It takes the time of arrival when it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stalls {
    /// Each time for so long (from, to), and then it reads all.
    Lumps(Duration, Duration),
    /// Now and then for so long (from, to), and then others take turns with it: it reads one packet after the other,
    /// each a few milliseconds after the one before.
    Drips(Duration, Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cross {
    None,
    LongTcp,
    ShortTcp { connections: usize },
}

#[derive(Debug, Clone)]
pub struct Scenario {
    pub name: &'static str,
    pub duration: Duration,
    pub forward: LinkConfig,
    pub backward: LinkConfig,
    /// A second bottleneck behind the first.
    pub second: Option<LinkConfig>,
    pub flows: Vec<FlowPlan>,
    pub cross: Cross,
    /// When what is possible rises, for the time to 90 % of it.
    pub step: Option<Duration>,
    pub l4s: bool,
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Headers: what is sent on the wire for so much video, and the audio beside it.
fn wire(video: u64) -> f64 {
    video as f64 * 1218.0 / 1160.0 + 54_000.0
}

fn capacity(link: &LinkConfig, at: Duration) -> f64 {
    match &link.rate {
        Rate::Unlimited => f64::INFINITY,
        Rate::Constant(rate) => *rate as f64,
        Rate::Trace(trace) => trace.mean(at, at + ms(100)),
    }
}

impl Scenario {
    /// Bits per second that media could get at a time: what the flows would send, and no more than
    /// the links bear. Against TCP, a fair share.
    pub fn possible(&self, at: Duration) -> f64 {
        let demand = |keep: &dyn Fn(&FlowPlan) -> bool| -> f64 {
            let active = self
                .flows
                .iter()
                .filter(|plan| plan.is_active(at) && keep(plan));
            active.map(|plan| wire(plan.max)).sum()
        };
        let forward = capacity(&self.forward, at);
        if let Some(second) = &self.second {
            // What is possible at both links together; the whole flow counts once.
            let second = capacity(second, at);
            let whole = (forward / 2.0).min(second / 2.0);
            let first = (forward - whole).min(demand(&|plan| plan.shape == Shape::FirstOnly));
            let last = (second - whole).min(demand(&|plan| plan.shape == Shape::SecondOnly));
            return whole.min(demand(&|plan| plan.shape == Shape::Whole)) + first + last;
        }
        let share = match self.cross {
            Cross::LongTcp => {
                let flows = self.flows.len() as f64;
                flows / (flows + 1.0)
            }
            _ => 1.0,
        };
        // What is lost on the way has used the link, and cannot arrive.
        let arrives = match self.forward.loss {
            Loss::None => 1.0,
            Loss::Random(loss) => 1.0 - loss,
            Loss::GilbertElliott {
                enter_bad,
                leave_bad,
                ..
            } => leave_bad / (enter_bad + leave_bad),
        };
        let there = demand(&|plan| !plan.backward).min(forward * share) * arrives;
        let back = demand(&|plan| plan.backward).min(capacity(&self.backward, at));
        there + back
    }

    fn new(name: &'static str, seconds: u64) -> Self {
        // RFC 8867 section 4.2; the jitter is the random one of RFC 8868 with a deviation of 5 ms.
        let link = LinkConfig::new()
            .delay(ms(50))
            .rate(1_000_000)
            .queue(Queue::DropTail(Limit::Time(ms(300))));
        Self {
            name,
            duration: s(seconds),
            forward: link.clone().jitter(Jitter::Normal(ms(5))),
            backward: link.jitter(Jitter::Normal(ms(5))).rate(100_000_000),
            second: None,
            flows: Vec::new(),
            cross: Cross::None,
            step: None,
            l4s: false,
        }
    }

    fn flow(mut self, start: u64, change: impl FnOnce(&mut FlowPlan)) -> Self {
        let mut plan = FlowPlan {
            start: s(start),
            end: self.duration,
            pause: None,
            max: 1_500_000,
            start_rate: 300_000,
            access: Duration::ZERO,
            backward: false,
            stalls: None,
            held_below: None,
            shape: Shape::Whole,
        };
        change(&mut plan);
        self.flows.push(plan);
        self
    }

    fn forward(mut self, change: impl FnOnce(LinkConfig) -> LinkConfig) -> Self {
        self.forward = change(self.forward);
        self
    }
}

fn steps(reference: f64, ratios: &[(u64, f64)]) -> RateTrace {
    RateTrace::new(
        ratios
            .iter()
            .map(|&(from, ratio)| (s(from), (reference * ratio) as u64)),
    )
}

/// What follows is what forwarders on busy machines see; the table leaves it out.
fn busy(
    name: &'static str,
    seconds: u64,
    stalls: Option<Stalls>,
    change: impl FnOnce(&mut FlowPlan),
) -> Scenario {
    let mut scenario = Scenario::new(name, seconds).flow(0, |flow| {
        flow.stalls = stalls;
        flow.start_rate = 1_000_000;
        change(flow);
    });
    scenario.forward = scenario.forward.delay(ms(1)).rate(20_000_000);
    scenario.forward = scenario.forward.jitter(Jitter::None);
    scenario.backward = scenario.backward.delay(ms(1)).jitter(Jitter::None);
    scenario
}

/// Lumps of 100 to 300 ms, all the time.
pub const LUMPS: Stalls = Stalls::Lumps(ms(100), ms(300));
/// Stalls of 100 to 300 ms, about one a second.
pub const DRIPS: Stalls = Stalls::Drips(ms(100), ms(300));

/// A wide path to a receiver that is kept from reading.
pub fn stalls(stalls: Stalls) -> Scenario {
    busy("busy reader", 60, Some(stalls), |flow| flow.max = 800_000)
}

/// The same, and sound alone is sent.
pub fn stalls_sound(stalls: Stalls) -> Scenario {
    busy("sound, busy reader", 120, Some(stalls), |flow| flow.max = 0)
}

/// The same, and a layer that flows whole or not at all; the path is bad for the first ten seconds.
pub fn stalls_layer(stalls: Option<Stalls>) -> Scenario {
    let mut scenario = busy("layer, busy reader", 60, stalls, |flow| {
        flow.max = 300_000;
        flow.held_below = Some(400_000);
    });
    let trace = RateTrace::new([(s(0), 150_000), (s(10), 20_000_000)]);
    scenario.forward = scenario.forward.rate_trace(trace);
    scenario.step = Some(s(10));
    scenario
}

/// Sound alone over a path that no longer bears even that; not in lumps.
pub fn sound_choked() -> Scenario {
    let mut scenario = busy("sound, choked", 60, None, |flow| flow.max = 0);
    let trace = RateTrace::new([(s(0), 20_000_000), (s(20), 30_000)]);
    scenario.forward = scenario.forward.rate_trace(trace);
    scenario
}

/// A small video over a wide path that loses packets of itself, both ways.
pub fn small_lossy(loss: f64, stalls: Option<Stalls>) -> Scenario {
    let mut scenario = busy("small video, loss", 120, stalls, |flow| {
        flow.max = 50_000;
        flow.start_rate = 300_000;
    });
    scenario.forward = scenario.forward.delay(ms(10)).random_loss(loss);
    scenario.backward = scenario.backward.delay(ms(10)).random_loss(loss);
    scenario
}

/// The same, and the path no longer bears even that.
pub fn small_choked() -> Scenario {
    let mut scenario = small_lossy(0.05, None);
    scenario.name = "small video, loss, choked";
    scenario.duration = s(60);
    scenario.flows[0].end = s(60);
    let trace = RateTrace::new([(s(0), 20_000_000), (s(20), 50_000)]);
    scenario.forward = scenario.forward.rate_trace(trace);
    scenario
}

/// A capacity that wanders as a cellular one does: a random walk of its logarithm, with outages.
fn cellular(seed: u64, mean: f64, seconds: u64) -> RateTrace {
    let mut random = Random::from_u64(seed);
    let mut level: f64 = 0.0;
    let mut outage = 0;
    RateTrace::new((0..seconds * 10).map(|tick| {
        level = (level + 0.12 * (2.0 * random.unit() - 1.0) * 1.7) * 0.985;
        if outage == 0 && random.chance(0.002) {
            outage = 3 + random.below(5);
        }
        outage = u64::max(outage, 1) - 1;
        let factor = if outage > 0 {
            0.1
        } else {
            level.clamp(-1.3, 0.9).exp()
        };
        (ms(tick * 100), (mean * factor) as u64)
    }))
}

pub fn all() -> Vec<Scenario> {
    let mut list = vec![
        ramp(),
        case_5_1(),
        case_5_2(),
        case_5_3(),
        case_5_4(),
        case_5_5(),
        case_5_6(),
        case_5_7(),
        case_5_8(),
        case_6_3(),
    ];
    list.extend([0.01, 0.05, 0.10].map(bursty_loss));
    list.push(random_loss(0.05));
    list.extend([cell(), wifi(), codel(), l4s()]);
    list
}

/// 0.3 to 3 Mbit/s: the estimate starts at a tenth of what the path bears.
pub fn ramp() -> Scenario {
    let mut ramp = Scenario::new("ramp 0.3 to 3 Mbit/s", 30)
        .flow(0, |flow| flow.max = 4_000_000)
        .forward(|link| link.rate(3_000_000));
    ramp.step = Some(Duration::ZERO);
    ramp
}

/// Variable available capacity with a single flow.
pub fn case_5_1() -> Scenario {
    let mut case = Scenario::new("5.1 variable capacity", 100)
        .flow(0, |_| {})
        .forward(|link| link.rate_trace(steps(1e6, &[(0, 1.0), (40, 2.5), (60, 0.6), (80, 1.0)])));
    case.step = Some(s(40));
    case
}

/// Variable available capacity with multiple flows.
pub fn case_5_2() -> Scenario {
    let ratios = [(0, 2.0), (25, 1.0), (50, 1.75), (75, 0.5), (100, 1.0)];
    let mut case = Scenario::new("5.2 variable, 2 flows", 125)
        .flow(0, |_| {})
        .flow(0, |_| {})
        .forward(|link| link.rate_trace(steps(2e6, &ratios)));
    case.step = Some(s(50));
    case
}

/// Congested feedback link with bi-directional media flows.
pub fn case_5_3() -> Scenario {
    let forward = [(0, 2.0), (20, 1.0), (40, 0.5), (60, 2.0)];
    let backward = [(0, 2.0), (35, 0.8), (70, 2.0)];
    let mut case = Scenario::new("5.3 congested feedback", 100)
        .flow(0, |_| {})
        .flow(0, |flow| flow.backward = true)
        .forward(|link| link.rate_trace(steps(1e6, &forward)));
    case.backward = case.backward.rate_trace(steps(1e6, &backward));
    case.step = Some(s(60));
    case
}

/// Competing media flows with the same congestion control algorithm.
pub fn case_5_4() -> Scenario {
    Scenario::new("5.4 three flows", 120)
        .flow(0, |_| {})
        .flow(20, |_| {})
        .flow(40, |_| {})
        .forward(|link| link.rate(3_500_000))
}

/// Round trip time fairness.
pub fn case_5_5() -> Scenario {
    let mut case = Scenario::new("5.5 round-trip fairness", 300)
        .forward(|link| link.rate(4_000_000).delay(ms(5)));
    case.backward = case.backward.delay(ms(5));
    for (start, delay) in [(0, 10), (10, 25), (20, 50), (30, 100), (40, 150)] {
        let access = Duration::from_micros((delay - 5) * 500);
        case = case.flow(start, |flow| flow.access = access);
    }
    case
}

/// Media flow competing with a long TCP flow.
pub fn case_5_6() -> Scenario {
    let mut case = Scenario::new("5.6 long TCP", 120)
        .flow(5, |_| {})
        .forward(|link| link.rate(2_000_000));
    case.cross = Cross::LongTcp;
    case
}

/// Media flow competing with short TCP flows.
pub fn case_5_7() -> Scenario {
    let mut case = Scenario::new("5.7 short TCP", 300)
        .flow(5, |_| {})
        .flow(5, |_| {})
        .forward(|link| link.rate(2_000_000));
    case.cross = Cross::ShortTcp { connections: 10 };
    case
}

/// Media pause and resume.
pub fn case_5_8() -> Scenario {
    Scenario::new("5.8 pause and resume", 120)
        .flow(0, |_| {})
        .flow(0, |flow| flow.pause = Some((s(40), s(60))))
        .flow(0, |_| {})
        .forward(|link| link.rate(3_500_000))
}

/// Multiple bottlenecks.
pub fn case_6_3() -> Scenario {
    let mut case = Scenario::new("6.3 two bottlenecks", 300)
        .flow(0, |flow| flow.access = ms(15))
        .flow(0, |flow| flow.shape = Shape::FirstOnly)
        .flow(0, |flow| flow.shape = Shape::SecondOnly)
        .forward(|link| link.rate(2_000_000).delay(ms(35)));
    case.backward = case.backward.delay(ms(35));
    case.second = Some(case.forward.clone().rate(1_500_000));
    case
}

/// Bursts of loss.
pub fn bursty_loss(mean: f64) -> Scenario {
    let name = match (mean * 100.0) as u32 {
        1 => "Gilbert loss 1 %",
        5 => "Gilbert loss 5 %",
        _ => "Gilbert loss 10 %",
    };
    Scenario::new(name, 60)
        .flow(0, |flow| flow.max = 4_000_000)
        .forward(|link| link.rate(2_000_000).loss(Loss::bursts(mean, 3.0)))
}

/// Independent loss.
pub fn random_loss(mean: f64) -> Scenario {
    Scenario::new("random loss 5 %", 60)
        .flow(0, |flow| flow.max = 4_000_000)
        .forward(|link| link.rate(2_000_000).random_loss(mean))
}

/// A cellular capacity (RFC 8869 section 2).
pub fn cell() -> Scenario {
    Scenario::new("cellular", 90)
        .flow(0, |flow| flow.max = 4_000_000)
        .forward(|link| {
            link.rate_trace(cellular(8869, 2e6, 90))
                .queue(Queue::DropTail(Limit::Time(ms(600))))
        })
}

/// A crowded Wi-Fi: jitter, bursts of loss, a capacity that halves now and then (RFC 8869 section 3).
pub fn wifi() -> Scenario {
    let trace = RateTrace::new([(s(0), 4_000_000), (s(20), 2_000_000), (s(30), 3_000_000)])
        .repeated_after(s(40));
    Scenario::new("Wi-Fi", 120)
        .flow(0, |flow| flow.max = 4_000_000)
        .forward(|link| {
            link.rate_trace(trace)
                .jitter(Jitter::Normal(ms(10)))
                .loss(Loss::bursts(0.01, 2.0))
        })
}

/// An active queue that drops.
pub fn codel() -> Scenario {
    Scenario::new("CoDel", 60)
        .flow(0, |flow| flow.max = 4_000_000)
        .forward(|link| {
            link.rate(2_000_000)
                .queue(Queue::CoDel(CoDelConfig::default()))
        })
}

/// A dual queue that marks (RFC 9332); contenders that can send ECT(1).
pub fn l4s() -> Scenario {
    let mut case = Scenario::new("L4S dual queue", 60)
        .flow(0, |flow| flow.max = 4_000_000)
        .forward(|link| {
            link.rate(2_000_000)
                .jitter(Jitter::None)
                .queue(Queue::DualQ(DualQConfig::default()))
        });
    case.l4s = true;
    case
}
