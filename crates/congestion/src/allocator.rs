//! Shares an estimate among tracks, simulcast layers and data channels.

/// What one part of the traffic wants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Request {
    /// Bits per second below which it is of no use. What cannot have it gets nothing, the lowest
    /// priority first, unless [`essential`](Self::essential).
    pub min: u64,
    /// Bits per second beyond which more is of no use.
    pub max: u64,
    /// Its weight: of what is left over, a track of weight 4 gets four times what one of weight 1
    /// gets. The W3C's very-low, low, medium and high are 0.5, 1, 2 and 4.
    pub priority: f64,
    /// Whether it gets its minimum however little there is (audio).
    pub essential: bool,
    /// The part that must be whole before this one gets anything: a simulcast or SVC layer names
    /// the one below it. An index into the requests, lower than its own.
    pub depends_on: Option<usize>,
}

/// What one part may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allocation {
    /// Bits per second; 0: pause.
    pub bitrate: u64,
}

/// Shares `available` bits per second. `out` gets one allocation per request, in their order; its
/// memory is reused. Parts that run (their allocation in `out` was not 0) stay on at their minimum;
/// paused ones come back when `hysteresis` (e.g. 1.1) times their minimum is there.
///
/// ```
/// use visavis_congestion::{Request, allocate};
///
/// let audio = Request { min: 20_000, max: 50_000, priority: 4.0, essential: true, depends_on: None };
/// let video = Request { min: 150_000, max: 2_500_000, priority: 1.0, essential: false, depends_on: None };
/// let mut out = Vec::new();
/// allocate(1_000_000, &[audio, video], 1.1, &mut out);
/// assert_eq!((out[0].bitrate, out[1].bitrate), (50_000, 950_000));
/// allocate(100_000, &[audio, video], 1.1, &mut out);
/// assert_eq!((out[0].bitrate, out[1].bitrate), (50_000, 0));
/// ```
pub fn allocate(available: u64, requests: &[Request], hysteresis: f64, out: &mut Vec<Allocation>) {
    let hysteresis = if hysteresis.is_finite() {
        hysteresis.max(1.0)
    } else {
        1.0
    };
    out.resize(requests.len(), Allocation::default());
    let mut left = available;
    // Bit by bit, who is in: essential ones, then by priority; among equals, in their order.
    for (request, allocation) in requests.iter().zip(out.iter_mut()) {
        if request.essential {
            allocation.bitrate = request.min.max(1);
            left = left.saturating_sub(request.min);
        }
    }
    // Essential ones are marked by a rate; the others are decided from the highest weight down.
    let mut bar = f64::INFINITY;
    loop {
        let next = requests
            .iter()
            .filter(|request| !request.essential)
            .map(weight)
            .filter(|&weight| weight < bar)
            .fold(f64::NEG_INFINITY, f64::max);
        if next == f64::NEG_INFINITY {
            break;
        }
        bar = next;
        for index in 0..requests.len() {
            let request = &requests[index];
            if request.essential || weight(request) != bar {
                continue;
            }
            let was_paused = out[index].bitrate == 0;
            let needed = if was_paused {
                (request.min as f64 * hysteresis) as u64
            } else {
                request.min
            };
            let base = request
                .depends_on
                .filter(|&base| base < index)
                .is_none_or(|base| out[base].bitrate > 0);
            if base && needed <= left && request.max > 0 {
                out[index].bitrate = request.min.max(1);
                left -= request.min;
            } else {
                out[index].bitrate = 0;
            }
        }
    }
    // A layer whose base was decided after it, and left out, is left out too.
    for index in 0..requests.len() {
        if let Some(base) = requests[index].depends_on.filter(|&base| base < index)
            && out[base].bitrate == 0
            && out[index].bitrate != 0
            && !requests[index].essential
        {
            left = left.saturating_add(requests[index].min);
            out[index].bitrate = 0;
        }
    }
    share(left, requests, out);
}

/// Shares what is left over by weight, up to each one's maximum; a layer that others depend on is
/// filled before them.
fn share(mut left: u64, requests: &[Request], out: &mut [Allocation]) {
    // Each round fills at least one part, or is the last.
    for _ in 0..=requests.len() {
        let open = |index: usize, out: &[Allocation]| {
            let request = &requests[index];
            let base_full = request
                .depends_on
                .filter(|&base| base < index)
                .is_none_or(|base| out[base].bitrate >= requests[base].max);
            out[index].bitrate > 0 && out[index].bitrate < request.max && base_full
        };
        let total: f64 = (0..requests.len())
            .filter(|&index| open(index, out))
            .map(|index| weight(&requests[index]))
            .sum();
        if left == 0 || total <= 0.0 {
            return;
        }
        let round = left;
        let mut filled = false;
        for index in 0..requests.len() {
            if !open(index, out) {
                continue;
            }
            let part = (round as f64 * weight(&requests[index]) / total) as u64;
            let room = requests[index].max - out[index].bitrate;
            let given = part.min(room).min(left);
            filled |= given == room;
            out[index].bitrate += given;
            left -= given;
        }
        if !filled {
            return;
        }
    }
}

fn weight(request: &Request) -> f64 {
    if request.priority.is_finite() {
        request.priority.clamp(1e-3, 1e3)
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Allocation, Request, allocate};

    fn request(min: u64, max: u64, priority: f64) -> Request {
        Request {
            min,
            max,
            priority,
            essential: false,
            depends_on: None,
        }
    }

    fn rates(out: &[Allocation]) -> Vec<u64> {
        out.iter().map(|allocation| allocation.bitrate).collect()
    }

    #[test]
    fn what_is_left_over_goes_by_weight_and_beyond_the_maximum_to_the_others() {
        let requests = [request(100, 10_000, 1.0), request(100, 10_000, 3.0)];
        let mut out = Vec::new();
        allocate(4_200, &requests, 1.0, &mut out);
        assert_eq!(rates(&out), [1_100, 3_100]);
        let requests = [request(100, 10_000, 1.0), request(100, 500, 3.0)];
        allocate(4_200, &requests, 1.0, &mut out);
        assert_eq!(rates(&out), [3_700, 500]);
    }

    #[test]
    fn layers_fill_from_below_and_come_back_with_hysteresis() {
        let mut requests = [
            request(100, 200, 1.0),
            request(300, 700, 1.0),
            request(1_000, 2_500, 1.0),
        ];
        requests[1].depends_on = Some(0);
        requests[2].depends_on = Some(1);
        let mut out = Vec::new();
        allocate(450, &requests, 1.1, &mut out);
        assert_eq!(rates(&out), [150, 300, 0]);
        allocate(1_450, &requests, 1.1, &mut out);
        assert_eq!(rates(&out), [200, 700, 0], "1000 are there, 1100 needed");
        allocate(1_600, &requests, 1.1, &mut out);
        assert_eq!(rates(&out), [200, 400, 1_000]);
        allocate(1_400, &requests, 1.1, &mut out);
        assert_eq!(rates(&out), [100, 300, 1_000], "what runs stays");
    }

    proptest! {
        #[test]
        fn never_more_than_there_is_and_never_beyond_a_bound(
            available in 0u64..10_000_000,
            parts in proptest::collection::vec(
                (0u64..1_000_000, 0u64..5_000_000, -1.0f64..10.0, proptest::option::of(0usize..8)),
                0..8,
            ),
        ) {
            let requests: Vec<Request> = parts
                .iter()
                .map(|&(min, max, priority, depends_on)| Request {
                    depends_on,
                    ..request(min, max.max(min), priority)
                })
                .collect();
            let mut out = Vec::new();
            for _ in 0..2 {
                allocate(available, &requests, 1.1, &mut out);
                let total: u64 = rates(&out).iter().sum();
                // One bit per part marks those whose minimum is 0.
                prop_assert!(total <= available + requests.len() as u64);
                for (allocation, request) in out.iter().zip(&requests) {
                    let rate = allocation.bitrate;
                    prop_assert!(rate == 0 || (request.min..=request.max.max(1)).contains(&rate));
                }
            }
        }
    }
}
