//! Long-term credentials: what the server asked for, and how requests answer (RFC 8489 section 9.2).

use visavis_stun::attributes::{
    Nonce, PasswordAlgorithm, PasswordAlgorithms, Realm, UserHash, Username,
};
use visavis_stun::{
    AttributeType, IntegrityKey, Message, MessageBuilder, PasswordAlgorithmId, SecurityFeatures,
    Verdict, user_hash,
};

use super::ClientConfig;
use super::event::Failure;

/// A realm or nonce longer than this is malformed (RFC 8489 sections 14.9 and 14.10).
const MAX_TEXT: usize = 763;

/// What the server asked for last.
#[derive(Debug)]
pub(super) struct Challenge {
    realm: String,
    nonce: Vec<u8>,
    /// PASSWORD-ALGORITHMS as it came; given back byte by byte.
    algorithms: Option<Vec<u8>>,
    algorithm: PasswordAlgorithmId,
    /// Set: USERHASH in place of USERNAME.
    user_hash: Option<[u8; 32]>,
    key: IntegrityKey,
}

/// Whether a response says that it has PASSWORD-ALGORITHMS and does not: somebody took them.
pub(super) fn is_bid_down(message: &Message<'_>) -> bool {
    message
        .get::<Nonce<'_>>()
        .and_then(|nonce| SecurityFeatures::of_nonce(nonce.0))
        .is_some_and(|features| features.password_algorithms)
        && !message.has(AttributeType::PASSWORD_ALGORITHMS)
}

impl Challenge {
    /// From a 401 or 438. `previous` keeps what a 438 leaves out.
    pub(super) fn new(
        message: &Message<'_>,
        previous: Option<&Self>,
        config: &ClientConfig,
    ) -> Result<Self, Failure> {
        if is_bid_down(message) {
            return Err(Failure::PasswordAlgorithms);
        }
        let nonce = message.get::<Nonce<'_>>().map(|nonce| nonce.0);
        let Some(nonce) = nonce.filter(|nonce| nonce.len() <= MAX_TEXT) else {
            return Err(Failure::Malformed);
        };
        let realm = match (message.get::<Realm<'_>>(), previous) {
            (Some(realm), _) => realm.0,
            (None, Some(previous)) => previous.realm.as_str(),
            (None, None) => return Err(Failure::Malformed),
        };
        let features = SecurityFeatures::of_nonce(nonce).unwrap_or_default();
        let offered = message.get::<PasswordAlgorithms<'_>>();
        let algorithm = match offered {
            None => PasswordAlgorithmId::MD5,
            Some(offered) => offered
                .first_supported()
                .ok_or(Failure::PasswordAlgorithms)?,
        };
        // Once the server spoke of algorithms it cannot be made to forget them.
        if previous.is_some_and(|previous| previous.algorithms.is_some() && offered.is_none()) {
            return Err(Failure::PasswordAlgorithms);
        }
        let key = IntegrityKey::long_term(&config.username, realm, &config.password, algorithm)
            .ok_or(Failure::PasswordAlgorithms)?;
        Ok(Self {
            realm: realm.to_owned(),
            nonce: nonce.to_vec(),
            algorithms: offered.map(|offered| offered.0.to_vec()),
            algorithm,
            user_hash: features
                .username_anonymity
                .then(|| user_hash(&config.username, realm)),
            key,
        })
    }

    /// Whether a retry with `self` can succeed where `previous` was refused with 401.
    pub(super) fn differs(&self, previous: &Self) -> bool {
        self.realm != previous.realm
            || self.algorithm != previous.algorithm
            || self.user_hash != previous.user_hash
    }

    /// Adds credentials and integrity, as the last attributes.
    pub(super) fn sign(&self, config: &ClientConfig, builder: &mut MessageBuilder<'_>) {
        match self.user_hash {
            Some(hash) => builder.add(&UserHash(hash)),
            None => builder.add(&Username(&config.username)),
        };
        builder.add(&Realm(&self.realm)).add(&Nonce(&self.nonce));
        match &self.algorithms {
            // "... all the subsequent requests MUST be authenticated using MESSAGE-INTEGRITY-SHA256 only."
            Some(algorithms) => builder
                .add(&PasswordAlgorithms(algorithms))
                .add(&PasswordAlgorithm::new(self.algorithm))
                .integrity_sha256(&self.key),
            None => builder.integrity(&self.key),
        };
    }

    /// Checks a response to a signed request.
    pub(super) fn check(&self, message: &Message<'_>) -> Verdict {
        match self.algorithms {
            Some(_) => message.check_integrity_sha256(&self.key),
            None => message.authenticate(&self.key),
        }
    }
}
