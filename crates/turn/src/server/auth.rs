//! Whether a request comes from a user (RFC 8489 section 9.2.4).

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use visavis_crypto::{HashAlgorithm, Zeroizing};
use visavis_datagram::Path;
use visavis_stun::attributes::{
    AccessToken, ErrorCode, Nonce, Origin, PasswordAlgorithm, PasswordAlgorithms, Realm, UserHash,
    Username,
};
use visavis_stun::{
    AttributeType, IntegrityKey, Message, MessageBuilder, PasswordAlgorithmId, SecurityFeatures,
    Verdict,
};

use super::event::Event;
use super::nonce::NonceState;
use super::worker::Server;

/// What the server offers; its bytes have to come back unchanged.
pub(super) const OFFERED: PasswordAlgorithms<'static> = PasswordAlgorithms::SHA256_MD5;

/// How long the answer to a lookup is kept.
const LOOKUP_LIFETIME: Duration = Duration::from_secs(60);

/// How to sign what is answered to a user.
#[derive(Debug, Clone)]
pub(super) struct Signer {
    key: IntegrityKey,
    algorithm: PasswordAlgorithmId,
    /// MESSAGE-INTEGRITY-SHA256 in place of MESSAGE-INTEGRITY.
    sha256: bool,
}

impl Signer {
    pub(super) fn sign(&self, builder: &mut MessageBuilder<'_>) {
        if self.sha256 {
            builder.integrity_sha256(&self.key);
        } else {
            builder.integrity(&self.key);
        }
    }
}

/// Who sent a request.
#[derive(Debug)]
pub(super) struct User {
    pub(super) name: Box<str>,
    pub(super) realm: usize,
    pub(super) signer: Signer,
    /// Whom allocations are counted for, if that is not the name: those who come with tokens share one.
    pub(super) owner: Option<Box<str>>,
    /// How long a token is still good: no allocation lives longer.
    pub(super) longest: Option<Duration>,
}

impl User {
    /// Whom an allocation is counted for.
    pub(super) fn owner(&self) -> Box<str> {
        self.owner.as_ref().unwrap_or(&self.name).clone()
    }
}

/// Why a request is not from a user.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Answer with this, and with a realm and a nonce.
    Challenge(ErrorCode<'static>, usize),
    /// Answer with this alone.
    Plain(ErrorCode<'static>),
    /// The answer follows when the driver knows the user.
    Wait,
}

/// A user whom the driver was asked about.
#[derive(Debug)]
pub(super) struct Known {
    realm: usize,
    name: Box<str>,
    /// `None`: no such user.
    password: Option<Zeroizing<String>>,
    until: Instant,
}

/// A request that waits for [`Server::lookup_done`].
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) realm: usize,
    pub(super) name: Box<str>,
    pub(super) path: Path,
    pub(super) request: Box<[u8]>,
    pub(super) until: Instant,
}

impl Server {
    pub(super) fn authenticate(
        &mut self,
        now: Instant,
        path: Path,
        message: &Message<'_>,
    ) -> Result<User, Refusal> {
        if self.config.realms.is_empty() {
            return Err(Refusal::Plain(ErrorCode::FORBIDDEN));
        }
        let own_realm = self.realm_of_origin(message);
        if !message.has_integrity() {
            return Err(Refusal::Challenge(ErrorCode::UNAUTHENTICATED, own_realm));
        }
        let bad_request = Refusal::Plain(ErrorCode::BAD_REQUEST);
        let (Ok(Some(Realm(realm))), Ok(Some(Nonce(nonce)))) = (
            message.try_get::<Realm<'_>>(),
            message.try_get::<Nonce<'_>>(),
        ) else {
            return Err(bad_request);
        };
        if !message.has(AttributeType::USERNAME) && !message.has(AttributeType::USERHASH) {
            return Err(bad_request);
        }
        let Some(realm) = self.config.realms.iter().position(|r| r.name == realm) else {
            return Err(Refusal::Challenge(ErrorCode::UNAUTHENTICATED, own_realm));
        };
        // The nonce comes before the HMAC: a forged request costs one HMAC over 40 bytes.
        let NonceState::Fresh(features) = self.nonces.check(now, nonce, path, realm) else {
            return Err(Refusal::Challenge(ErrorCode::STALE_NONCE, realm));
        };
        let Some(algorithm) = password_algorithm(message, features) else {
            return Err(bad_request);
        };
        let sha256 = message.has_integrity_sha256();
        let wrong = Refusal::Challenge(ErrorCode::UNAUTHENTICATED, realm);

        if let Some(AccessToken(token)) = message.get::<AccessToken<'_>>() {
            return self
                .user_of_token(now, realm, message, token, algorithm)
                .ok_or_else(|| {
                    self.stats.unauthenticated += 1;
                    wrong
                });
        }
        // Whoever has the allocation has its key: nothing is derived or looked up again.
        let name = self.name(realm, message);
        if let (Some(name), Some(allocation)) = (&name, self.allocation_of(path))
            && *allocation.username == **name
            && allocation.realm == realm
            && allocation.signer.algorithm == algorithm
        {
            let expired = self.config.strict_expiry
                && self.config.realms[realm]
                    .credentials
                    .is_expired(name, self.unix_time(now));
            let signer = Signer {
                sha256,
                ..allocation.signer.clone()
            };
            if expired || message.authenticate(&signer.key) != Verdict::Valid {
                self.stats.unauthenticated += 1;
                return Err(wrong);
            }
            return Ok(User {
                name: name.clone(),
                realm,
                signer,
                owner: None,
                longest: None,
            });
        }

        let passwords = match &name {
            Some(name) => self.passwords(now, realm, name),
            None => Some(Vec::new()),
        };
        let Some(mut passwords) = passwords else {
            return self.park(now, realm, name.unwrap_or_default(), path, message);
        };
        // A stranger costs as much time as a wrong password, and gets the same answer.
        let is_stranger = passwords.is_empty();
        if is_stranger {
            passwords.push(Zeroizing::new(String::from("nobody's password")));
        }
        let name = name.unwrap_or_default();
        let realm_name = &self.config.realms[realm].name;
        for password in &passwords {
            let Some(key) = IntegrityKey::long_term(&name, realm_name, password, algorithm) else {
                break;
            };
            if message.authenticate(&key) == Verdict::Valid && !is_stranger {
                let signer = Signer {
                    key,
                    algorithm,
                    sha256,
                };
                return Ok(User {
                    name,
                    realm,
                    signer,
                    owner: None,
                    longest: None,
                });
            }
        }
        self.stats.unauthenticated += 1;
        Err(wrong)
    }

    /// Who brings an access token (RFC 7635 section 7).
    fn user_of_token(
        &self,
        now: Instant,
        realm: usize,
        message: &Message<'_>,
        token: &[u8],
        algorithm: PasswordAlgorithmId,
    ) -> Option<User> {
        let server = self.config.oauth_server.as_deref()?;
        let Username(kid) = message.get()?;
        let unix_now = self.unix_time(now);
        let token = self.config.realms[realm]
            .credentials
            .oauth(kid)
            .find_map(|key| key.open(token, server, unix_now))?;
        let key = IntegrityKey::from_bytes(&token.mac_key);
        if message.authenticate(&key) != Verdict::Valid {
            return None;
        }
        // The session key tells one client of the authorization server from another; a digest of it tells nothing more.
        let digest = HashAlgorithm::Sha256.hash(&token.mac_key);
        Some(User {
            name: kid.into(),
            realm,
            signer: Signer {
                key,
                algorithm,
                sha256: message.has_integrity_sha256(),
            },
            owner: Some(URL_SAFE_NO_PAD.encode(&digest[..16]).into()),
            longest: Some(token.rest),
        })
    }

    /// The driver's answer to [`Event::Lookup`]: the user's password, or that there is no such user. It is kept for a
    /// minute, and the requests that waited for it are answered.
    pub fn lookup_done(
        &mut self,
        now: Instant,
        realm: &str,
        username: &str,
        password: Option<&str>,
    ) {
        let Some(realm) = self.config.realms.iter().position(|r| r.name == realm) else {
            return;
        };
        let is_same = |other: usize, name: &str| other == realm && name == username;
        self.known
            .retain(|known| known.until > now && !is_same(known.realm, &known.name));
        if self.known.len() >= 4 * self.config.limits.waiting_lookups {
            // As many names as would fill the memory: begin anew, which costs lookups only.
            self.known.clear();
        }
        self.known.push(Known {
            realm,
            name: username.into(),
            password: password.map(|password| Zeroizing::new(password.to_owned())),
            until: now + LOOKUP_LIFETIME,
        });
        let parked = std::mem::take(&mut self.parked);
        for mut parked in parked {
            if is_same(parked.realm, &parked.name) {
                self.handle_client(now, parked.path, &mut parked.request);
            } else if parked.until > now {
                self.parked.push(parked);
            }
        }
    }

    /// The realm that a request without credentials is shown.
    fn realm_of_origin(&self, message: &Message<'_>) -> usize {
        message
            .get::<Origin<'_>>()
            .and_then(|origin| {
                self.config
                    .realms
                    .iter()
                    .position(|realm| realm.origins.iter().any(|known| known == origin.0))
            })
            .unwrap_or(self.realm_of_host)
    }

    fn name(&self, realm: usize, message: &Message<'_>) -> Option<Box<str>> {
        if let Some(UserHash(hash)) = message.get() {
            return self.user_hashes.get(realm)?.get(&hash).cloned();
        }
        message.get::<Username<'_>>().map(|name| name.0.into())
    }

    /// A user's passwords; `None` if only the driver knows.
    fn passwords(&self, now: Instant, realm: usize, name: &str) -> Option<Vec<Zeroizing<String>>> {
        let credentials = &self.config.realms[realm].credentials;
        let passwords = credentials.passwords(name, self.unix_time(now));
        if !passwords.is_empty() || !credentials.wants_lookup() {
            return Some(passwords);
        }
        self.known
            .iter()
            .find(|known| known.realm == realm && *known.name == *name && known.until > now)
            .map(|known| known.password.iter().cloned().collect())
    }

    fn park(
        &mut self,
        now: Instant,
        realm: usize,
        name: Box<str>,
        path: Path,
        message: &Message<'_>,
    ) -> Result<User, Refusal> {
        self.parked.retain(|parked| parked.until > now);
        let asked = self
            .parked
            .iter()
            .any(|parked| parked.realm == realm && parked.name == name);
        if self.parked.len() >= self.config.limits.waiting_lookups {
            self.stats.over_quota += 1;
            return Err(Refusal::Plain(ErrorCode::SERVER_ERROR));
        }
        if !asked {
            self.event(Event::Lookup {
                realm: self.config.realms[realm].name.clone(),
                username: name.to_string(),
            });
        }
        let is_repetition = self
            .parked
            .iter()
            .any(|parked| parked.path == path && *parked.request == *message.as_bytes());
        if !is_repetition {
            self.parked.push(Parked {
                realm,
                name,
                path,
                request: message.as_bytes().into(),
                until: now + LOOKUP_LIFETIME,
            });
        }
        Err(Refusal::Wait)
    }
}

/// The algorithm that a request uses; `None` if somebody tampered with what was offered: 400.
fn password_algorithm(
    message: &Message<'_>,
    features: SecurityFeatures,
) -> Option<PasswordAlgorithmId> {
    let offered = message.raw(AttributeType::PASSWORD_ALGORITHMS);
    let chosen = message.try_get::<PasswordAlgorithm<'_>>();
    match (offered, chosen) {
        (None, Ok(None)) => Some(PasswordAlgorithmId::MD5),
        (Some(offered), Ok(Some(chosen)))
            if features.password_algorithms && offered == OFFERED.0 =>
        {
            OFFERED
                .iter()
                .any(|known| known == chosen)
                .then_some(chosen.algorithm)
        }
        _ => None,
    }
}
