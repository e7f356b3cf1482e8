//! The transcript of a handshake: what both ends have said, for signatures and Finished messages.

use visavis_crypto::HashAlgorithm;
use visavis_crypto::hash::{Hash, Output};

use crate::Version;
use crate::message::{FragmentHeader, MessageType, tls_header};

/// All handshake messages so far, in the form of the negotiated version.
#[derive(Debug)]
pub(crate) struct Transcript {
    /// Hellos whose version is not negotiated yet.
    hellos: Vec<(MessageType, u16, Vec<u8>)>,
    stage: Option<Stage>,
}

#[derive(Debug)]
struct Stage {
    version: Version,
    hash: Hash,
    /// What a CertificateVerify of 1.2 signs may need another hash than the PRF.
    bytes: Vec<u8>,
}

impl Transcript {
    pub(crate) fn new() -> Self {
        Self {
            hellos: Vec::new(),
            stage: None,
        }
    }

    /// Appends a message.
    pub(crate) fn add(&mut self, message_type: MessageType, sequence: u16, body: &[u8]) {
        match &mut self.stage {
            Some(stage) => stage.add(message_type, sequence, body),
            None => self.hellos.push((message_type, sequence, body.to_vec())),
        }
    }

    /// Forgets everything: a HelloVerifyRequest and the hello before it do not count
    /// (RFC 6347 section 4.2.1).
    pub(crate) fn clear(&mut self) {
        self.hellos.clear();
    }

    /// Says what was negotiated. Nothing happens the second time.
    pub(crate) fn negotiated(&mut self, version: Version, algorithm: HashAlgorithm) {
        if self.stage.is_some() {
            return;
        }
        let mut stage = Stage {
            version,
            hash: Hash::new(algorithm),
            bytes: Vec::new(),
        };
        for (message_type, sequence, body) in self.hellos.drain(..) {
            stage.add(message_type, sequence, &body);
        }
        self.stage = Some(stage);
    }

    /// Replaces the first ClientHello by its hash, because a HelloRetryRequest follows
    /// (RFC 8446 section 4.4.1).
    pub(crate) fn retry(&mut self) {
        if let Some(stage) = &mut self.stage {
            let hello = stage.hash.current();
            stage.hash = Hash::new(stage.hash.algorithm());
            stage.add(MessageType::MESSAGE_HASH, 0, &hello);
        }
    }

    /// Starts with the hash of a first ClientHello that a cookie carried.
    pub(crate) fn resume_retry(&mut self, algorithm: HashAlgorithm, hello_hash: &[u8]) {
        self.negotiated(Version::Dtls13, algorithm);
        self.add(MessageType::MESSAGE_HASH, 0, hello_hash);
    }

    /// The hash of everything so far.
    pub(crate) fn hash(&self) -> Output {
        match &self.stage {
            Some(stage) => stage.hash.current(),
            None => HashAlgorithm::Sha256.hash(&[]),
        }
    }

    /// Everything so far as it stands; for 1.2 only.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.stage.as_ref().map_or(&[], |stage| &stage.bytes)
    }
}

impl Stage {
    fn add(&mut self, message_type: MessageType, sequence: u16, body: &[u8]) {
        if self.version == Version::Dtls13 {
            // RFC 9147 section 5.2: as in TLS, without sequence and fragment fields.
            self.hash.update(&tls_header(message_type, body.len()));
            self.hash.update(body);
        } else {
            // RFC 6347 section 4.2.6: as if each message were one fragment.
            let header = FragmentHeader::whole(message_type, sequence, body.len()).encode();
            self.hash.update(&header);
            self.hash.update(body);
            self.bytes.extend_from_slice(&header);
            self.bytes.extend_from_slice(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use visavis_crypto::HashAlgorithm;

    use super::Transcript;
    use crate::Version;
    use crate::message::MessageType;

    #[test]
    fn the_forms_of_both_versions() {
        let mut of_13 = Transcript::new();
        of_13.add(MessageType::CLIENT_HELLO, 3, b"abc");
        of_13.negotiated(Version::Dtls13, HashAlgorithm::Sha256);
        assert_eq!(
            of_13.hash(),
            HashAlgorithm::Sha256.hash(&[1, 0, 0, 3, b'a', b'b', b'c'])
        );
        let mut of_12 = Transcript::new();
        of_12.add(MessageType::CLIENT_HELLO, 3, b"abc");
        of_12.negotiated(Version::Dtls12, HashAlgorithm::Sha384);
        let bytes = [1, 0, 0, 3, 0, 3, 0, 0, 0, 0, 0, 3, b'a', b'b', b'c'];
        assert_eq!(of_12.bytes(), bytes);
        assert_eq!(of_12.hash(), HashAlgorithm::Sha384.hash(&bytes));
    }

    #[test]
    fn a_retry_leaves_the_hash_of_the_first_hello() {
        let mut transcript = Transcript::new();
        transcript.add(MessageType::CLIENT_HELLO, 0, b"abc");
        transcript.negotiated(Version::Dtls13, HashAlgorithm::Sha256);
        let hello = transcript.hash();
        transcript.retry();
        let mut resumed = Transcript::new();
        resumed.resume_retry(HashAlgorithm::Sha256, &hello);
        assert_eq!(transcript.hash(), resumed.hash());
        let mut bytes = vec![254, 0, 0, 32];
        bytes.extend_from_slice(&hello);
        assert_eq!(transcript.hash(), HashAlgorithm::Sha256.hash(&bytes));
    }
}
