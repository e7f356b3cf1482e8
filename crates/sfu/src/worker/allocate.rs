//! Who gets which layers: the estimate of a connection, shared among its subscriptions; and what that
//! means for publishers.
//!
//! Sound first: it is never paused. Then the lowest layers of all pictures, the most important first,
//! then higher ones in the same order. What does not fit is paused, with notice.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use visavis_media::forward::{LayerTarget, MAX_ENCODINGS};
use visavis_peer::Kind;

use super::Worker;
use super::connection::Connection;
use super::subscription::Subscription;
use super::track::{Track, Variant};
use crate::events::Event;
use crate::options::{LayerSize, Source, Wish};

/// How often a connection with pictures is looked at, whatever happens.
const INTERVAL: Duration = Duration::from_millis(250);
/// A step up needs so much more than it costs, so that it is not taken back at once.
const MARGIN: f64 = 1.15;
/// The path is probed for a little more than the next step needs.
const HEADROOM: f64 = 1.05;
/// What a layer is taken to cost before it was measured, in bits per second.
const NOMINAL: [u64; 3] = [150_000, 500_000, 1_700_000];
/// What sound is taken to cost before it was measured.
const SOUND: u64 = 40_000;

/// One step of a subscription's ladder: what is sent, and what it costs in all.
#[derive(Debug, Clone, Copy)]
struct Step {
    target: LayerTarget,
    bitrate: u64,
}

/// One subscription in the sharing.
#[derive(Debug)]
struct Claim {
    key: usize,
    /// Whom it goes before: pinned, shared screens, the subscriber's own weight, size.
    rank: (bool, bool, u32, u32),
    steps: SmallVec<[Step; 8]>,
    /// The step that is sent now; 0 for none, else one more than its index.
    now: usize,
    given: usize,
}

impl Connection {
    /// The estimate may have changed: soon the layers are looked at.
    pub(super) fn follow_estimate(&mut self, now: Instant) {
        let Some(estimate) = self.egress.estimate() else {
            return;
        };
        let last = self.allocated_for.max(1);
        let change = estimate.abs_diff(last) as f64 / last as f64;
        if change > 0.05 && self.allocate_at.is_some_and(|at| at > now) {
            // Down at once; up with the next regular look at the latest.
            if estimate < last {
                self.allocate_at = Some(now);
            }
        }
    }
}

impl Worker {
    /// Shares a connection's estimate among its subscriptions.
    pub(super) fn allocate(&mut self, now: Instant, slot: usize) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        connection.allocate_at = None;
        let estimate = connection.egress.estimate();
        let mut sound = 0;
        let mut claims: SmallVec<[Claim; 16]> = SmallVec::new();
        for (key, subscription) in &connection.subscriptions {
            let Some(track) = self.tracks.get(subscription.track) else {
                continue;
            };
            let Some(variant) = track.variants.get(usize::from(subscription.variant)) else {
                continue;
            };
            if subscription.forwarder.is_none() {
                continue;
            }
            if subscription.kind == Kind::Audio {
                if subscription.wish.enabled && !track.muted {
                    let rate = variant.encoding(0).map_or(0, |found| found.rates.total());
                    sound += if rate == 0 { SOUND } else { rate };
                }
                continue;
            }
            claims.push(claim(now, key, subscription, track, variant));
        }
        if claims.is_empty() {
            connection.egress.set_wanted(now, None, 0);
            return;
        }
        connection.allocate_at = Some(now + INTERVAL);
        claims.sort_by_key(|claim| Reverse(claim.rank));
        let budget = estimate.map(|estimate| estimate.saturating_sub(sound));
        share(&mut claims, budget);
        let wanted: u64 = claims
            .iter()
            .filter_map(|claim| claim.steps.last())
            .map(|step| step.bitrate)
            .sum();
        connection
            .egress
            .set_demand(now, (wanted + sound) * 11 / 10);
        let wants = next_step(&claims)
            .map(|extra| ((spent(&claims) + sound + extra) as f64 * HEADROOM) as u64);
        connection
            .egress
            .set_wanted(now, wants, sound + floor(&claims));
        connection.allocated_for = estimate.unwrap_or(0);
        let id = connection.id;
        let mut keyframes: SmallVec<[(usize, usize, u8); 8]> = SmallVec::new();
        let mut events: SmallVec<[Event; 4]> = SmallVec::new();
        for claim in &claims {
            let Some(subscription) = connection.subscriptions.get_mut(claim.key) else {
                continue;
            };
            let Some(forwarder) = &mut subscription.forwarder else {
                continue;
            };
            let step = claim.given.checked_sub(1).map(|index| claim.steps[index]);
            let target = step.map(|step| step.target);
            if forwarder.target() != target {
                forwarder.set_target(target);
            }
            if let Some(encoding) = forwarder.wants_keyframe() {
                let variant = usize::from(subscription.variant);
                keyframes.push((subscription.track, variant, encoding));
            }
            // Only the want of bandwidth is a pause: the others chose it, or have nothing to send.
            let paused = target.is_none() && !claim.steps.is_empty();
            if paused != subscription.paused {
                subscription.paused = paused;
                events.push(Event::StreamState {
                    subscription: subscription.id,
                    connection: id,
                    track: subscription.track_id,
                    paused,
                });
                events.push(Event::Decision {
                    connection: id,
                    text: format!(
                        "{:?} {}: the estimate is {} kbit/s, the pictures want {} kbit/s",
                        subscription.id,
                        if paused { "paused" } else { "goes on" },
                        estimate.unwrap_or(0) / 1000,
                        wanted / 1000,
                    ),
                });
            }
        }
        for event in events {
            self.tell(event);
        }
        for (track, variant, encoding) in keyframes {
            self.want_keyframe(now, track, variant, encoding);
        }
    }

    /// All subscribers of a track look at their layers anew.
    pub(super) fn allocate_subscribers(&mut self, now: Instant, track: usize) {
        let Some(track) = self.tracks.get(track) else {
            return;
        };
        for (slot, _) in track.subscribers.clone() {
            if let Some(connection) = self.connections.get_mut(slot) {
                connection.allocate_at = Some(now);
            }
            self.touch(slot);
        }
    }

    /// Tells the publisher which layers are wanted, if that changed (dynacast).
    pub(super) fn judge_wants(&mut self, now: Instant, track_slot: usize) {
        let Some(track) = self.tracks.get_mut(track_slot) else {
            return;
        };
        if track.id.kind() == Kind::Audio {
            return;
        }
        let layers = track.layers().min(usize::from(u8::MAX)) as u8;
        let elsewhere = track.followers.iter().map(|found| found.wants);
        let mut wanted = elsewhere.max().unwrap_or(0);
        if !track.taps.is_empty() {
            wanted = layers;
        }
        for &(slot, key) in &track.subscribers {
            let found = self
                .connections
                .get(slot)
                .and_then(|connection| connection.subscriptions.get(key));
            if let Some(subscription) = found
                && subscription.wish.enabled
            {
                let highest = highest_layer(&subscription.wish, &track.options.layers, layers);
                wanted = wanted.max(highest + 1);
            }
        }
        let wanted = wanted.min(layers);
        let told = track.wanted.told;
        if told == Some(wanted) {
            track.wanted.fewer_since = None;
            return;
        }
        // Less only after a while; more at once.
        if told.is_some_and(|told| wanted < told) {
            let delay = self.settings.forwarding.dynacast_delay;
            let since = *track.wanted.fewer_since.get_or_insert(now);
            if now < since + delay {
                return self.wake_track(track_slot, since + delay);
            }
        }
        track.wanted.fewer_since = None;
        track.wanted.told = Some(wanted);
        let (id, home) = (track.id, track.home);
        if home != self.settings.index {
            self.links.wants(home, id, wanted);
            return;
        }
        let codec = track
            .variants
            .first()
            .and_then(|variant| variant.codec.as_ref())
            .map_or_else(String::new, |codec| codec.name.to_string());
        self.tell(Event::WantedLayers {
            track: id,
            codec,
            layers: (0..layers).map(|layer| layer < wanted).collect(),
        });
    }
}

/// The highest layer that a wish has use for.
fn highest_layer(wish: &Wish, sizes: &[LayerSize], layers: u8) -> u8 {
    let top = layers.saturating_sub(1);
    let mut highest = top.min(wish.max_quality);
    let bounded = wish.max_width != 0 || wish.max_height != 0;
    if bounded && sizes.len() >= usize::from(layers) {
        // The smallest that fills what is shown.
        let fills = |size: &LayerSize| {
            (wish.max_width == 0 || size.width >= wish.max_width)
                && (wish.max_height == 0 || size.height >= wish.max_height)
        };
        // Sizes are of the picture as captured: turned phones fill either way.
        let turned = |size: &LayerSize| {
            fills(&LayerSize {
                width: size.height,
                height: size.width,
                bitrate: 0,
            })
        };
        let enough = sizes.iter().position(|size| fills(size) || turned(size));
        if let Some(enough) = enough {
            highest = highest.min(enough as u8);
        }
    }
    highest
}

/// What a subscription may get, and where it stands.
fn claim(
    now: Instant,
    key: usize,
    subscription: &Subscription,
    track: &Track,
    variant: &Variant,
) -> Claim {
    let wish = &subscription.wish;
    let mut steps = SmallVec::new();
    if wish.enabled && !track.muted {
        let layers = track.layers().min(usize::from(u8::MAX)) as u8;
        let highest = highest_layer(wish, &track.options.layers, layers);
        ladder(
            now,
            variant,
            &track.options.layers,
            highest,
            wish,
            &mut steps,
        );
    }
    let target = subscription.forwarder.as_ref().and_then(|f| f.target());
    let at = target.and_then(|target| steps.iter().position(|step| step.target == target));
    let area = wish.max_width.saturating_mul(wish.max_height);
    Claim {
        key,
        rank: (
            wish.pinned,
            track.options.source == Source::ScreenShare,
            wish.priority,
            if area == 0 { u32::MAX } else { area },
        ),
        steps,
        now: at.map_or(0, |at| at + 1),
        given: 0,
    }
}

/// The steps from the lowest layer to the highest that is wanted, each dearer than the one before.
fn ladder(
    now: Instant,
    variant: &Variant,
    sizes: &[LayerSize],
    highest: u8,
    wish: &Wish,
    steps: &mut SmallVec<[Step; 8]>,
) {
    let nominal = |layer: usize| {
        let told = sizes.get(layer).map_or(0, |size| size.bitrate);
        if told != 0 {
            told
        } else {
            NOMINAL[layer.min(2)]
        }
    };
    let mut push = |target: LayerTarget, bitrate: u64| {
        let dearer = steps
            .last()
            .is_none_or(|last: &Step| bitrate > last.bitrate);
        if dearer {
            steps.push(Step { target, bitrate });
        }
    };
    let is_svc = variant.is_svc();
    let mut lowest_flowing = true;
    for encoding in 0..MAX_ENCODINGS as u8 {
        let Some(found) = variant.encoding(encoding) else {
            continue;
        };
        if !found.is_flowing(now) {
            continue;
        }
        // The lowest that flows is better than nothing.
        if !is_svc && encoding > highest && !lowest_flowing {
            break;
        }
        lowest_flowing = false;
        let spatial = if is_svc {
            found.rates.max_spatial().min(highest)
        } else {
            found.rates.max_spatial()
        };
        let temporal = found.rates.max_temporal();
        let temporal = match wish.max_fps {
            // Each temporal layer halves the rate below it; 30 pictures per second at the top.
            0 => temporal,
            fps if fps <= 8 => temporal.saturating_sub(2),
            fps if fps <= 16 => temporal.saturating_sub(1),
            _ => temporal,
        };
        let spatials = if is_svc {
            0..=spatial
        } else {
            spatial..=spatial
        };
        for spatial_id in spatials {
            let layer = if is_svc { spatial_id } else { encoding };
            for temporal_id in 0..=temporal {
                let measured = found.rates.up_to(spatial_id, temporal_id);
                let bitrate = measured.filter(|&rate| rate > 0);
                push(
                    LayerTarget {
                        encoding,
                        spatial_id,
                        temporal_id,
                    },
                    bitrate.unwrap_or_else(|| nominal(usize::from(layer))),
                );
            }
        }
    }
}

/// What all claims together get.
fn spent(claims: &[Claim]) -> u64 {
    let steps = claims
        .iter()
        .filter_map(|claim| claim.steps.get(claim.given.checked_sub(1)?));
    steps.map(|step| step.bitrate).sum()
}

/// What the next step up costs: of the first that gets nothing, else the cheapest. `None` where all have all.
fn next_step(claims: &[Claim]) -> Option<u64> {
    let extra = |claim: &Claim| {
        let next = claim.steps.get(claim.given)?.bitrate;
        let has = claim
            .given
            .checked_sub(1)
            .map_or(0, |at| claim.steps[at].bitrate);
        Some(((next - has) as f64 * MARGIN) as u64)
    };
    let mut paused = claims.iter().filter(|claim| claim.given == 0);
    paused
        .find_map(extra)
        .or_else(|| claims.iter().filter_map(extra).min())
}

/// What is not taken away for want of evidence that the path does not bear it: the lowest layer of the first picture.
fn floor(claims: &[Claim]) -> u64 {
    let lowest = claims.iter().find_map(|claim| claim.steps.first());
    lowest.map_or(0, |step| (step.bitrate as f64 * MARGIN) as u64)
}

/// Gives each claim a step. Claims stand in the order of their importance; without a budget all get
/// everything.
fn share(claims: &mut [Claim], budget: Option<u64>) {
    let Some(mut left) = budget else {
        for claim in claims {
            claim.given = claim.steps.len();
        }
        return;
    };
    // What a claim costs beyond what it has, if it may have it.
    let cost = |claim: &Claim, to: usize, left: u64| -> Option<u64> {
        let step = claim.steps.get(to - 1)?;
        let from = claim
            .given
            .checked_sub(1)
            .map_or(0, |at| claim.steps[at].bitrate);
        let extra = step.bitrate - from;
        let needed = if to > claim.now {
            (extra as f64 * MARGIN) as u64
        } else {
            extra
        };
        (needed <= left).then_some(extra)
    };
    for claim in claims.iter_mut() {
        if let Some(extra) = cost(claim, 1, left) {
            claim.given = 1;
            left -= extra;
        }
    }
    // Up by one step each, the more important as far as they go first.
    let mut begin = 0;
    while begin < claims.len() {
        let rank = claims[begin].rank;
        let group = claims[begin..]
            .iter()
            .take_while(|claim| {
                (claim.rank.0, claim.rank.1, claim.rank.2) == (rank.0, rank.1, rank.2)
            })
            .count();
        let group = &mut claims[begin..begin + group];
        loop {
            let mut raised = false;
            for claim in group.iter_mut().filter(|claim| claim.given > 0) {
                if let Some(extra) = cost(claim, claim.given + 1, left) {
                    claim.given += 1;
                    left -= extra;
                    raised = true;
                }
            }
            if !raised {
                break;
            }
        }
        begin += group.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(pinned: bool, rates: &[u64], now: usize) -> Claim {
        let step = |(index, &bitrate): (usize, &u64)| Step {
            target: LayerTarget {
                encoding: index as u8,
                spatial_id: 0,
                temporal_id: 0,
            },
            bitrate,
        };
        Claim {
            key: 0,
            rank: (pinned, false, 0, 0),
            steps: rates.iter().enumerate().map(step).collect(),
            now,
            given: 0,
        }
    }

    fn given(claims: &mut [Claim], budget: u64) -> Vec<usize> {
        share(claims, Some(budget));
        claims.iter().map(|claim| claim.given).collect()
    }

    const LAYERS: &[u64] = &[100, 400, 1_500];

    #[test]
    fn all_get_something_before_one_gets_more() {
        let all = || {
            [
                claim(true, LAYERS, 0),
                claim(false, LAYERS, 0),
                claim(false, LAYERS, 0),
            ]
        };
        assert_eq!(given(&mut all(), 360), [1, 1, 1]);
        assert_eq!(given(&mut all(), 700), [2, 1, 1]);
        assert_eq!(given(&mut all(), 2_300), [3, 2, 1]);
        assert_eq!(given(&mut all(), 90), [0, 0, 0]);
        assert_eq!(given(&mut all(), 10_000), [3, 3, 3]);
    }

    #[test]
    fn what_is_sent_stays_and_what_is_not_needs_a_margin() {
        assert_eq!(given(&mut [claim(false, LAYERS, 0)], 410), [1]);
        assert_eq!(given(&mut [claim(false, LAYERS, 2)], 410), [2]);
        assert_eq!(given(&mut [claim(false, LAYERS, 1)], 480), [2]);
    }

    #[test]
    fn the_path_is_probed_for_what_is_paused_first_and_then_for_the_cheapest_step() {
        let mut claims = [claim(true, LAYERS, 0), claim(false, &[200, 800], 0)];
        assert_eq!(given(&mut claims, 150), [1, 0]);
        assert_eq!((spent(&claims), next_step(&claims)), (100, Some(229)));
        assert_eq!(floor(&claims), 114);
        assert_eq!(given(&mut claims, 400), [1, 1]);
        assert_eq!((spent(&claims), next_step(&claims)), (300, Some(345)));
        assert_eq!(given(&mut claims, 10_000), [3, 2]);
        assert_eq!(next_step(&claims), None);
    }

    #[test]
    fn a_wish_takes_the_smallest_layer_that_fills_it() {
        let size = |width, height| LayerSize {
            width,
            height,
            bitrate: 0,
        };
        let sizes = [size(320, 180), size(640, 360), size(1280, 720)];
        let wish = |max_width, max_height| Wish {
            max_width,
            max_height,
            ..Wish::default()
        };
        assert_eq!(highest_layer(&wish(0, 0), &sizes, 3), 2);
        assert_eq!(highest_layer(&wish(300, 170), &sizes, 3), 0);
        assert_eq!(highest_layer(&wish(640, 360), &sizes, 3), 1);
        assert_eq!(highest_layer(&wish(360, 640), &sizes, 3), 1);
        assert_eq!(highest_layer(&wish(4000, 2000), &sizes, 3), 2);
        let low = Wish {
            max_quality: 0,
            ..Wish::default()
        };
        assert_eq!(highest_layer(&low, &sizes, 3), 0);
    }
}
