//! Logs of what strangers do, at most once a second for each source: whoever floods the server does not flood the disk.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Instant;

use visavis_datagram::Path;
use visavis_turn::server::ServerStats;

/// Sources that are told apart; two that meet in one place share their second.
const PLACES: usize = 4096;

#[derive(Debug)]
pub(super) struct Quiet {
    hasher: RandomState,
    start: Instant,
    /// The second of the latest log of each place, from 1.
    latest: Box<[u32]>,
    redact: bool,
}

impl Quiet {
    pub(super) fn new(redact: bool) -> Self {
        Self {
            hasher: RandomState::new(),
            start: Instant::now(),
            latest: vec![0; PLACES].into_boxed_slice(),
            redact,
        }
    }

    /// Whether a source may be logged now.
    pub(super) fn allows(&mut self, now: Instant, ip: IpAddr) -> bool {
        let place = self.hasher.hash_one(ip) as usize % PLACES;
        let second = now.saturating_duration_since(self.start).as_secs() as u32 + 1;
        let allowed = self.latest[place] != second;
        self.latest[place] = second;
        allowed
    }

    /// Logs what one request of a client made the counters show.
    pub(super) fn compare(
        &mut self,
        now: Instant,
        path: Path,
        before: &ServerStats,
        after: &ServerStats,
    ) {
        let what = if after.unauthenticated != before.unauthenticated {
            "wrong credentials"
        } else if after.forbidden_peers != before.forbidden_peers {
            "forbidden peer"
        } else if after.over_quota != before.over_quota {
            "over quota"
        } else if after.malformed != before.malformed {
            "malformed"
        } else if after.bad_fingerprints != before.bad_fingerprints {
            "wrong fingerprint"
        } else if after.rate_limited != before.rate_limited {
            "too many requests without credentials"
        } else {
            return;
        };
        self.say(now, path, what);
    }

    pub(super) fn say(&mut self, now: Instant, path: Path, what: &str) {
        if !self.allows(now, path.remote.ip()) {
            return;
        }
        if self.redact {
            tracing::info!(protocol = %path.protocol, "request refused: {what}");
        } else {
            tracing::info!(protocol = %path.protocol, client = %path.remote, "request refused: {what}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Quiet;

    #[test]
    fn a_source_is_logged_once_a_second() {
        let mut quiet = Quiet::new(false);
        let now = Instant::now();
        let ip = [192, 0, 2, 1].into();
        let count = (0..10_000).filter(|_| quiet.allows(now, ip)).count();
        assert_eq!(count, 1);
        assert!(quiet.allows(now + Duration::from_secs(1), ip));
    }
}
