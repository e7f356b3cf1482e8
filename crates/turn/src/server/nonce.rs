//! Stateless nonces: the time and an HMAC over time, client and realm (RFC 8489 section 9.2, TURN-wide attack "nonce table
//! growth"). Nothing is stored; a nonce is worth something only over the protocol, and from the address and port, that it was
//! given to. Over streams the port does not count: their handshake proves the address, and the data connections of RFC 6062
//! carry on with the nonce of the control connection, which coturn's client cannot do without.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use visavis_crypto::{HashAlgorithm, constant_time_eq, hmac};
use visavis_datagram::Path;
use visavis_stun::{NonceCookie, SecurityFeatures};

/// Seconds since the start in 3 bytes, which wrap after 194 days.
const TIME_LEN: usize = 3;
/// 56 bits: nobody guesses them against a server, and 401 stays short.
const MAC_LEN: usize = 7;
const TAIL_LEN: usize = 14;

/// Characters of a nonce with the cookie that tells of features.
const NONCE_LEN: usize = NonceCookie::LEN + TAIL_LEN;

/// A nonce.
#[derive(Debug, Clone, Copy)]
pub(super) struct NonceText {
    bytes: [u8; NONCE_LEN],
    len: usize,
}

impl std::ops::Deref for NonceText {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Makes and checks nonces.
#[derive(Debug)]
pub(super) struct Nonces {
    key: hmac::Key,
    start: Instant,
    lifetime: Duration,
}

/// What a nonce turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NonceState {
    /// Ours, for this client, and fresh: with these features.
    Fresh(SecurityFeatures),
    /// Expired, another client's, or made up: 438.
    Stale,
}

impl Nonces {
    pub(super) fn new(now: Instant, lifetime: Duration, key: &[u8; 32]) -> Self {
        Self {
            key: hmac::Key::new(HashAlgorithm::Sha256, key),
            start: now,
            lifetime,
        }
    }

    pub(super) fn set_lifetime(&mut self, lifetime: Duration) {
        self.lifetime = lifetime;
    }

    pub(super) fn make(
        &self,
        now: Instant,
        path: Path,
        realm: usize,
        features: Option<SecurityFeatures>,
    ) -> NonceText {
        let seconds = self.seconds(now).to_be_bytes();
        let time = [seconds[1], seconds[2], seconds[3]];
        let cookie = features.map(NonceCookie::new);
        self.at(time, path, realm, cookie)
    }

    pub(super) fn check(&self, now: Instant, nonce: &[u8], path: Path, realm: usize) -> NonceState {
        // Without the cookie of RFC 8489 section 9.2 there are no features.
        let (cookie, features, tail) = match nonce.split_first_chunk::<{ NonceCookie::LEN }>() {
            Some((cookie, tail)) => match SecurityFeatures::of_nonce(nonce) {
                Some(features) => (Some(NonceCookie(*cookie)), features, tail),
                None => (None, SecurityFeatures::default(), nonce),
            },
            None => (None, SecurityFeatures::default(), nonce),
        };
        let mut bytes = [0; TIME_LEN + MAC_LEN];
        // 14 characters hold 84 bits: the last four have to be zero, or two nonces would mean one.
        if URL_SAFE_NO_PAD.decode_slice(tail, &mut bytes) != Ok(bytes.len()) {
            return NonceState::Stale;
        }
        let time = [bytes[0], bytes[1], bytes[2]];
        let expected = self.at(time, path, realm, cookie);
        if !constant_time_eq(&expected, nonce) {
            return NonceState::Stale;
        }
        let made = u32::from_be_bytes([0, time[0], time[1], time[2]]);
        let age = self.seconds(now).wrapping_sub(made) & 0x00ff_ffff;
        if u64::from(age) > self.lifetime.as_secs() {
            return NonceState::Stale;
        }
        NonceState::Fresh(features)
    }

    fn seconds(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.start).as_secs() as u32
    }

    fn at(
        &self,
        time: [u8; TIME_LEN],
        path: Path,
        realm: usize,
        cookie: Option<NonceCookie>,
    ) -> NonceText {
        let ip = match path.remote.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        let port = match path.protocol.is_stream() {
            true => 0,
            false => path.remote.port(),
        };
        let mac = self.key.sign(&[
            cookie.as_ref().map_or(&[][..], |cookie| &cookie.0),
            &time,
            &[path.protocol as u8],
            &ip,
            &port.to_be_bytes(),
            &(realm as u64).to_be_bytes(),
        ]);
        let mut bytes = [0; TIME_LEN + MAC_LEN];
        bytes[..TIME_LEN].copy_from_slice(&time);
        bytes[TIME_LEN..].copy_from_slice(&mac[..MAC_LEN]);
        let mut nonce = NonceText {
            bytes: [0; NONCE_LEN],
            len: TAIL_LEN,
        };
        let mut start = 0;
        if let Some(cookie) = cookie {
            nonce.bytes[..NonceCookie::LEN].copy_from_slice(&cookie.0);
            start = NonceCookie::LEN;
            nonce.len = NONCE_LEN;
        }
        // Ten bytes are always fourteen characters, for which there is room.
        let _ = URL_SAFE_NO_PAD.encode_slice(bytes, &mut nonce.bytes[start..]);
        nonce
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use visavis_datagram::Path;
    use visavis_stun::SecurityFeatures;

    use super::{NonceState, Nonces};

    #[test]
    fn a_nonce_is_good_for_one_client_and_a_while() {
        let now = Instant::now();
        let lifetime = Duration::from_secs(600);
        let nonces = Nonces::new(now, lifetime, &[1; 32]);
        let server = "192.0.2.1:3478".parse().unwrap();
        let path = Path::udp(server, "198.51.100.1:1000".parse().unwrap());
        let features = SecurityFeatures {
            password_algorithms: true,
            username_anonymity: false,
        };
        // Also where the 24 bits of seconds have wrapped, and without the cookie.
        let late = now + Duration::from_secs((1 << 24) - 3);
        for (now, cookie) in [(now, Some(features)), (late, Some(features)), (now, None)] {
            let nonce = nonces.make(now, path, 0, cookie);
            let fresh = NonceState::Fresh(cookie.unwrap_or_default());
            assert_eq!(nonces.check(now, &nonce, path, 0), fresh);
            assert_eq!(nonces.check(now + lifetime, &nonce, path, 0), fresh);
            let late = now + lifetime + Duration::from_secs(1);
            assert_eq!(nonces.check(late, &nonce, path, 0), NonceState::Stale);
            assert_eq!(nonces.check(now, &nonce, path, 1), NonceState::Stale);
            let port = Path::udp(server, "198.51.100.1:1001".parse().unwrap());
            assert_eq!(nonces.check(now, &nonce, port, 0), NonceState::Stale);
            let host = Path::udp(server, "198.51.100.2:1000".parse().unwrap());
            assert_eq!(nonces.check(now, &nonce, host, 0), NonceState::Stale);
            let tcp = Path::tcp(path.local, path.remote);
            assert_eq!(nonces.check(now, &nonce, tcp, 0), NonceState::Stale);
            for bit in 0..nonce.len() * 8 {
                let mut forged = nonce.to_vec();
                forged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(nonces.check(now, &forged, path, 0), NonceState::Stale);
            }
            assert_eq!(nonces.check(now, b"", path, 0), NonceState::Stale);
        }
    }

    #[test]
    fn over_streams_a_nonce_is_good_for_each_connection_of_an_address() {
        let now = Instant::now();
        let nonces = Nonces::new(now, Duration::from_secs(600), &[1; 32]);
        let server = "192.0.2.1:3478".parse().unwrap();
        let from = |remote: &str| Path::tcp(server, remote.parse().unwrap());
        let nonce = nonces.make(now, from("198.51.100.1:1000"), 0, None);
        let check = |path| nonces.check(now, &nonce, path, 0);
        let fresh = NonceState::Fresh(SecurityFeatures::default());
        assert_eq!(check(from("198.51.100.1:1001")), fresh);
        assert_eq!(check(from("198.51.100.2:1000")), NonceState::Stale);
    }
}
