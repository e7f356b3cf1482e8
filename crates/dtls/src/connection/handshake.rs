//! What a handshake knows until it is complete, and the steps that both roles share.

use std::time::Instant;

use visavis_crypto::{Group, KeyExchange, PeerCertificate, Secret, SignatureScheme};

use super::{Connection, Phase};
use crate::alert::AlertDescription;
use crate::codec::{Decode, u16s};
use crate::event::{CloseReason, Connected};
use crate::front::Cookie;
use crate::key_schedule::{self, KeySchedule, TrafficSecrets};
use crate::message::MessageType;
use crate::message::authentication::{self, signed_content};
use crate::reassembly::Message;
use crate::record::RecordKeys;
use crate::transcript::Transcript;
use crate::{CipherSuite, Event, PeerVerification, Role, SrtpKeys, SrtpProfile, Version};

/// The epochs of 1.3 (RFC 9147 section 6.1) and of 1.2.
pub(super) const HANDSHAKE_EPOCH: u64 = 2;
pub(super) const APPLICATION_EPOCH: u64 = 3;
pub(super) const EPOCH_12: u64 = 1;

/// Which message comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Server.
    ClientHello,
    /// Client: or a HelloRetryRequest, or a HelloVerifyRequest.
    ServerHello,
    /// Client, 1.3.
    EncryptedExtensions,
    /// Client, 1.3.
    RequestOrCertificate,
    Certificate,
    /// Client, 1.2.
    ServerKeyExchange,
    /// Client, 1.2.
    RequestOrHelloDone,
    /// Client, 1.2.
    HelloDone,
    /// Server, 1.2.
    ClientKeyExchange,
    CertificateVerify,
    Finished,
}

impl State {
    /// Whether a message may come now.
    pub(super) fn expects(self, message_type: MessageType) -> bool {
        use MessageType as M;
        match self {
            Self::ClientHello => message_type == M::CLIENT_HELLO,
            Self::ServerHello => [M::SERVER_HELLO, M::HELLO_VERIFY_REQUEST].contains(&message_type),
            Self::EncryptedExtensions => message_type == M::ENCRYPTED_EXTENSIONS,
            Self::RequestOrCertificate => {
                [M::CERTIFICATE_REQUEST, M::CERTIFICATE].contains(&message_type)
            }
            Self::Certificate => message_type == M::CERTIFICATE,
            Self::ServerKeyExchange => message_type == M::SERVER_KEY_EXCHANGE,
            Self::RequestOrHelloDone => {
                [M::CERTIFICATE_REQUEST, M::SERVER_HELLO_DONE].contains(&message_type)
            }
            Self::HelloDone => message_type == M::SERVER_HELLO_DONE,
            Self::ClientKeyExchange => message_type == M::CLIENT_KEY_EXCHANGE,
            Self::CertificateVerify => message_type == M::CERTIFICATE_VERIFY,
            Self::Finished => message_type == M::FINISHED,
        }
    }
}

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) alert: AlertDescription,
    pub(super) reason: CloseReason,
}

impl From<AlertDescription> for Failure {
    fn from(alert: AlertDescription) -> Self {
        Self {
            alert,
            reason: CloseReason::LocalAlert(alert),
        }
    }
}

/// The state of a handshake. It goes when the handshake is complete.
#[derive(Debug)]
pub(super) struct Handshake {
    pub(super) state: State,
    pub(super) transcript: Transcript,
    pub(super) client_random: [u8; 32],
    pub(super) server_random: [u8; 32],
    pub(super) version: Option<Version>,
    pub(super) suite: Option<CipherSuite>,
    pub(super) group: Option<Group>,
    /// Key exchanges that were started and wait for the peer's share.
    pub(super) exchanges: Vec<KeyExchange>,
    /// The cookie of a HelloRetryRequest.
    pub(super) cookie: Vec<u8>,
    /// The cookie of a HelloVerifyRequest.
    pub(super) legacy_cookie: Vec<u8>,
    /// A HelloRetryRequest came or went.
    pub(super) retried: bool,
    /// Server: the cookie that a `Front` found in the second ClientHello.
    pub(super) front_cookie: Option<Cookie>,
    /// The connection ID that this end wants to receive.
    pub(super) local_id: Vec<u8>,
    /// Signature schemes that the peer verifies; on a client only once it was asked.
    pub(super) peer_schemes: Option<Vec<u16>>,
    /// Which of our certificates is used, and how it signs.
    pub(super) certificate: Option<(usize, SignatureScheme)>,
    pub(super) schedule: Option<KeySchedule>,
    /// 1.3: the handshake traffic secrets.
    pub(super) handshake_traffic: Option<TrafficSecrets>,
    /// 1.3: the application traffic secrets and the exporter's.
    pub(super) application_traffic: Option<(TrafficSecrets, Secret)>,
    /// 1.2: what the key exchange gave, until the master secret is made of it.
    pub(super) premaster: Option<Secret>,
    /// 1.2: our share of the key exchange.
    pub(super) share: Vec<u8>,
    /// 1.2: the master secret.
    pub(super) master: Option<Secret>,
    pub(super) srtp: Option<SrtpProfile>,
    pub(super) alpn: Option<Vec<u8>>,
    /// Whether the owner was told that fingerprints are missing.
    pub(super) asked_for_fingerprints: bool,
}

impl Handshake {
    pub(super) fn new(state: State) -> Self {
        Self {
            state,
            transcript: Transcript::new(),
            client_random: [0; 32],
            server_random: [0; 32],
            version: None,
            suite: None,
            group: None,
            exchanges: Vec::new(),
            cookie: Vec::new(),
            legacy_cookie: Vec::new(),
            retried: false,
            front_cookie: None,
            local_id: Vec::new(),
            peer_schemes: None,
            certificate: None,
            schedule: None,
            handshake_traffic: None,
            application_traffic: None,
            premaster: None,
            share: Vec::new(),
            master: None,
            srtp: None,
            alpn: None,
            asked_for_fingerprints: false,
        }
    }

    pub(super) fn negotiated(&self) -> Result<(Version, CipherSuite), Failure> {
        self.version
            .zip(self.suite)
            .ok_or(AlertDescription::INTERNAL_ERROR.into())
    }
}

/// What stays of a handshake.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) version: Version,
    pub(super) suite: CipherSuite,
    pub(super) srtp: Option<SrtpProfile>,
    pub(super) secrets: Secrets,
}

#[derive(Debug)]
pub(super) enum Secrets {
    Dtls13 {
        /// Of the latest epoch in which this end sends, and receives.
        local: Secret,
        remote: Secret,
        exporter: Secret,
    },
    Dtls12 {
        master: Secret,
        /// The client's, then the server's.
        randoms: Box<[u8; 64]>,
    },
}

impl Connection {
    /// Adds a message to the current flight and to the transcript.
    pub(super) fn send(
        &mut self,
        handshake: &mut Handshake,
        message_type: MessageType,
        epoch: u64,
        body: Vec<u8>,
    ) {
        let sequence = self.take_sequence();
        handshake.transcript.add(message_type, sequence, &body);
        self.flight.push(message_type, epoch, sequence, body);
    }

    /// One message of a handshake, which its state expects or not.
    pub(super) fn handle_handshake_message(
        &mut self,
        now: Instant,
        handshake: &mut Handshake,
        message: &Message,
    ) -> Result<(), Failure> {
        use MessageType as M;
        let kind = message.message_type;
        if !handshake.state.expects(kind) {
            return Err(AlertDescription::UNEXPECTED_MESSAGE.into());
        }
        // RFC 9147 section 6.1: each message has its epoch.
        let right_epoch = match handshake.version {
            Some(Version::Dtls13) if kind != M::SERVER_HELLO && kind != M::CLIENT_HELLO => {
                message.epoch == HANDSHAKE_EPOCH
            }
            Some(Version::Dtls12) if kind == M::FINISHED => message.epoch == EPOCH_12,
            _ => message.epoch == 0,
        };
        if !right_epoch {
            return Err(AlertDescription::UNEXPECTED_MESSAGE.into());
        }
        match kind {
            M::CLIENT_HELLO => self.handle_client_hello(now, handshake, message),
            M::SERVER_HELLO => self.handle_server_hello(now, handshake, message),
            M::HELLO_VERIFY_REQUEST => self.handle_hello_verify_request(now, handshake, message),
            M::ENCRYPTED_EXTENSIONS => self.handle_encrypted_extensions(handshake, message),
            M::CERTIFICATE_REQUEST => self.handle_certificate_request(handshake, message),
            M::CERTIFICATE => self.handle_certificate(handshake, message),
            M::SERVER_KEY_EXCHANGE => self.handle_server_key_exchange(handshake, message),
            M::SERVER_HELLO_DONE => self.handle_server_hello_done(now, handshake, message),
            M::CLIENT_KEY_EXCHANGE => self.handle_client_key_exchange(handshake, message),
            M::CERTIFICATE_VERIFY => self.handle_certificate_verify(handshake, message),
            M::FINISHED => self.handle_finished(now, handshake, message),
            _ => Err(AlertDescription::UNEXPECTED_MESSAGE.into()),
        }
    }

    /// The peer's certificate. Fingerprints are known, or the caller judges.
    fn handle_certificate(
        &mut self,
        handshake: &mut Handshake,
        message: &Message,
    ) -> Result<(), Failure> {
        let (version, suite) = handshake.negotiated()?;
        let certificate = authentication::parse_certificate(version, &message.body)?;
        handshake
            .transcript
            .add(message.message_type, message.sequence, &message.body);
        let Some(der) = certificate else {
            if self.role == Role::Client {
                return Err(AlertDescription::DECODE_ERROR.into());
            }
            if self.config.verification != PeerVerification::Caller {
                return Err(match version {
                    Version::Dtls13 => AlertDescription::CERTIFICATE_REQUIRED.into(),
                    Version::Dtls12 => AlertDescription::HANDSHAKE_FAILURE.into(),
                });
            }
            handshake.state = match version {
                Version::Dtls13 => State::Finished,
                Version::Dtls12 => State::ClientKeyExchange,
            };
            return Ok(());
        };
        let certificate = PeerCertificate::parse(der).map_err(|error| match error {
            visavis_crypto::Error::Unsupported => AlertDescription::UNSUPPORTED_CERTIFICATE,
            _ => AlertDescription::BAD_CERTIFICATE,
        })?;
        if self.config.verification == PeerVerification::Fingerprint
            && !certificate.is_in(&self.fingerprints)
        {
            return Err(Failure {
                alert: AlertDescription::BAD_CERTIFICATE,
                reason: CloseReason::FingerprintMismatch,
            });
        }
        if self.role == Role::Client && !suite.suits(certificate.public_key().algorithm()) {
            return Err(AlertDescription::ILLEGAL_PARAMETER.into());
        }
        self.peer_certificate = Some(certificate);
        handshake.state = match (version, self.role) {
            (Version::Dtls13, _) => State::CertificateVerify,
            (Version::Dtls12, Role::Client) => State::ServerKeyExchange,
            (Version::Dtls12, Role::Server) => State::ClientKeyExchange,
        };
        Ok(())
    }

    /// The proof that the peer has its certificate's key.
    fn handle_certificate_verify(
        &mut self,
        handshake: &mut Handshake,
        message: &Message,
    ) -> Result<(), Failure> {
        let (version, _) = handshake.negotiated()?;
        let (scheme, signature) = authentication::parse_certificate_verify(&message.body)?;
        let signer = match self.role {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        };
        match version {
            Version::Dtls13 => {
                let content = signed_content(signer, &handshake.transcript.hash());
                self.verify_signature(version, scheme, &content, signature)?;
            }
            Version::Dtls12 => {
                self.verify_signature(version, scheme, handshake.transcript.bytes(), signature)?;
            }
        }
        handshake
            .transcript
            .add(message.message_type, message.sequence, &message.body);
        self.push_event(Event::PeerCertificate);
        handshake.state = State::Finished;
        if version == Version::Dtls12 {
            self.require_epoch(EPOCH_12);
        }
        Ok(())
    }

    /// Checks a signature of the peer's certificate key.
    pub(super) fn verify_signature(
        &self,
        version: Version,
        scheme: u16,
        content: &[u8],
        signature: &[u8],
    ) -> Decode<()> {
        let certificate = self
            .peer_certificate
            .as_ref()
            .ok_or(AlertDescription::UNEXPECTED_MESSAGE)?;
        let algorithm = certificate.public_key().algorithm();
        let scheme = SignatureScheme::from_codepoint(scheme)
            .filter(|scheme| match version {
                Version::Dtls13 => scheme.is_for_tls13(algorithm),
                Version::Dtls12 => scheme.is_for_tls12(algorithm),
            })
            .ok_or(AlertDescription::ILLEGAL_PARAMETER)?;
        certificate
            .verify(scheme, content, signature)
            .map_err(|_| AlertDescription::DECRYPT_ERROR)
    }

    /// The first of our certificates that the peer can verify, and how it signs.
    pub(super) fn choose_certificate(
        &self,
        version: Version,
        peer_schemes: &[u16],
        suits: impl Fn(visavis_crypto::KeyAlgorithm) -> bool,
    ) -> Option<(usize, SignatureScheme)> {
        self.config
            .certificates
            .iter()
            .enumerate()
            .find_map(|(index, certificate)| {
                let key = certificate.signing_key();
                let algorithm = key.public_key().algorithm();
                if !suits(algorithm) {
                    return None;
                }
                key.schemes()
                    .iter()
                    .copied()
                    .find(|scheme| {
                        peer_schemes.contains(&scheme.codepoint())
                            && match version {
                                Version::Dtls13 => scheme.is_for_tls13(algorithm),
                                Version::Dtls12 => scheme.is_for_tls12(algorithm),
                            }
                    })
                    .map(|scheme| (index, scheme))
            })
    }

    /// Signs with the chosen certificate's key.
    pub(super) fn sign(&self, handshake: &Handshake, content: &[u8]) -> Decode<(u16, Vec<u8>)> {
        let (index, scheme) = handshake
            .certificate
            .ok_or(AlertDescription::INTERNAL_ERROR)?;
        let signature = self.config.certificates[index]
            .signing_key()
            .sign(scheme, content)
            .map_err(|_| AlertDescription::INTERNAL_ERROR)?;
        Ok((scheme.codepoint(), signature))
    }

    /// Sends Certificate, and CertificateVerify of 1.3 if there is one.
    pub(super) fn send_certificate(&mut self, handshake: &mut Handshake, epoch: u64) {
        let (Some(version), certificate) = (handshake.version, handshake.certificate) else {
            return;
        };
        let body = match certificate {
            Some((index, _)) => {
                authentication::encode_certificate(version, self.config.certificates[index].chain())
            }
            None => authentication::encode_certificate(version, std::iter::empty()),
        };
        self.send(handshake, MessageType::CERTIFICATE, epoch, body);
    }

    /// Sends CertificateVerify.
    pub(super) fn send_certificate_verify(
        &mut self,
        handshake: &mut Handshake,
        epoch: u64,
    ) -> Result<(), Failure> {
        let (version, _) = handshake.negotiated()?;
        let (scheme, signature) = match version {
            Version::Dtls13 => self.sign(
                handshake,
                &signed_content(self.role, &handshake.transcript.hash()),
            )?,
            Version::Dtls12 => self.sign(handshake, handshake.transcript.bytes())?,
        };
        let body = authentication::encode_certificate_verify(scheme, &signature);
        self.send(handshake, MessageType::CERTIFICATE_VERIFY, epoch, body);
        Ok(())
    }

    /// 1.3: the handshake keys of both directions, behind the ServerHello.
    pub(super) fn install_handshake_keys(
        &mut self,
        handshake: &mut Handshake,
        shared: &Secret,
    ) -> Result<(), Failure> {
        let (_, suite) = handshake.negotiated()?;
        let schedule = KeySchedule::new(suite.hash(), shared);
        let traffic = schedule.handshake_traffic(&handshake.transcript.hash());
        let random = handshake.client_random;
        self.log_key("CLIENT_HANDSHAKE_TRAFFIC_SECRET", &random, &traffic.client);
        self.log_key("SERVER_HANDSHAKE_TRAFFIC_SECRET", &random, &traffic.server);
        let (local, remote) = self.sides(&traffic);
        let write = RecordKeys::dtls13(suite, local);
        let read = RecordKeys::dtls13(suite, remote);
        self.records.add_write(HANDSHAKE_EPOCH, write);
        self.records.add_read(HANDSHAKE_EPOCH, read);
        self.require_epoch(HANDSHAKE_EPOCH);
        handshake.schedule = Some(schedule);
        handshake.handshake_traffic = Some(traffic);
        Ok(())
    }

    /// 1.3: the application secrets, behind the server's Finished; and the keys to send with.
    pub(super) fn install_application_keys(
        &mut self,
        handshake: &mut Handshake,
    ) -> Result<(), Failure> {
        let (_, suite) = handshake.negotiated()?;
        let schedule = handshake
            .schedule
            .take()
            .ok_or(AlertDescription::INTERNAL_ERROR)?;
        let (traffic, exporter) = schedule.application_traffic(&handshake.transcript.hash());
        let random = handshake.client_random;
        self.log_key("CLIENT_TRAFFIC_SECRET_0", &random, &traffic.client);
        self.log_key("SERVER_TRAFFIC_SECRET_0", &random, &traffic.server);
        self.log_key("EXPORTER_SECRET", &random, &exporter);
        let (local, _) = self.sides(&traffic);
        let write = RecordKeys::dtls13(suite, local);
        self.records.add_write(APPLICATION_EPOCH, write);
        handshake.application_traffic = Some((traffic, exporter));
        Ok(())
    }

    /// 1.2: the master secret and the keys of both directions, behind the ClientKeyExchange.
    pub(super) fn install_keys_12(&mut self, handshake: &mut Handshake) -> Result<(), Failure> {
        let (_, suite) = handshake.negotiated()?;
        let premaster = handshake
            .premaster
            .take()
            .ok_or(AlertDescription::INTERNAL_ERROR)?;
        let master =
            key_schedule::extended_master(suite.hash(), &premaster, &handshake.transcript.hash());
        let random = handshake.client_random;
        self.log_key("CLIENT_RANDOM", &random, &master);
        let (client, server) = RecordKeys::dtls12(
            suite,
            &master,
            &handshake.client_random,
            &handshake.server_random,
        );
        let (write, read) = match self.role {
            Role::Client => (client, server),
            Role::Server => (server, client),
        };
        self.records.add_write(EPOCH_12, write);
        self.records.add_read(EPOCH_12, read);
        handshake.master = Some(master);
        Ok(())
    }

    /// The content of a Finished message of one end, over the transcript so far.
    fn finished(&self, handshake: &Handshake, of: Role) -> Result<Vec<u8>, Failure> {
        let (version, suite) = handshake.negotiated()?;
        let transcript = handshake.transcript.hash();
        Ok(match version {
            Version::Dtls13 => {
                let traffic = handshake
                    .handshake_traffic
                    .as_ref()
                    .ok_or(AlertDescription::INTERNAL_ERROR)?;
                let secret = match of {
                    Role::Client => &traffic.client,
                    Role::Server => &traffic.server,
                };
                key_schedule::finished13(suite.hash(), secret, &transcript).to_vec()
            }
            Version::Dtls12 => {
                let master = handshake
                    .master
                    .as_ref()
                    .ok_or(AlertDescription::INTERNAL_ERROR)?;
                let of_client = of == Role::Client;
                key_schedule::finished12(suite.hash(), master, of_client, &transcript).to_vec()
            }
        })
    }

    pub(super) fn send_finished(
        &mut self,
        handshake: &mut Handshake,
        epoch: u64,
    ) -> Result<(), Failure> {
        let body = self.finished(handshake, self.role)?;
        self.send(handshake, MessageType::FINISHED, epoch, body);
        Ok(())
    }

    /// The peer's Finished: the end of its handshake.
    fn handle_finished(
        &mut self,
        now: Instant,
        handshake: &mut Handshake,
        message: &Message,
    ) -> Result<(), Failure> {
        let (version, _) = handshake.negotiated()?;
        let peer = match self.role {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        };
        let expected = self.finished(handshake, peer)?;
        if !visavis_crypto::constant_time_eq(&expected, &message.body) {
            return Err(AlertDescription::DECRYPT_ERROR.into());
        }
        handshake
            .transcript
            .add(message.message_type, message.sequence, &message.body);
        match (version, self.role) {
            (Version::Dtls13, Role::Client) => {
                self.start_flight(now, true);
                // The keys come first: their secrets reach to the server's Finished only.
                self.install_application_keys(handshake)?;
                if let Some(schemes) = handshake.peer_schemes.take() {
                    handshake.certificate = self.choose_certificate(version, &schemes, |_| true);
                    self.send_certificate(handshake, HANDSHAKE_EPOCH);
                    if handshake.certificate.is_some() {
                        self.send_certificate_verify(handshake, HANDSHAKE_EPOCH)?;
                    }
                }
                self.send_finished(handshake, HANDSHAKE_EPOCH)?;
            }
            (Version::Dtls13, Role::Server) => {
                self.answered(now);
                self.flight.clear();
                self.acks.request();
            }
            (Version::Dtls12, Role::Client) => {
                self.answered(now);
                self.flight.clear();
            }
            (Version::Dtls12, Role::Server) => {
                self.start_flight(now, false);
                self.flight.push_change_cipher_spec();
                self.send_finished(handshake, EPOCH_12)?;
            }
        }
        self.complete(now, handshake)
    }

    /// Both ends have proved themselves.
    fn complete(&mut self, now: Instant, handshake: &mut Handshake) -> Result<(), Failure> {
        let (version, suite) = handshake.negotiated()?;
        let group = handshake.group.ok_or(AlertDescription::INTERNAL_ERROR)?;
        let secrets = match version {
            Version::Dtls13 => {
                let (traffic, exporter) = handshake
                    .application_traffic
                    .take()
                    .ok_or(AlertDescription::INTERNAL_ERROR)?;
                let (local, remote) = self.sides(&traffic);
                let read = RecordKeys::dtls13(suite, remote);
                self.records.add_read(APPLICATION_EPOCH, read);
                if self.role == Role::Server {
                    // Its flight is answered, and acknowledgements go in the highest epoch.
                    self.records.retain_write(|epoch| epoch != HANDSHAKE_EPOCH);
                }
                self.require_epoch(APPLICATION_EPOCH);
                Secrets::Dtls13 {
                    local: local.clone(),
                    remote: remote.clone(),
                    exporter,
                }
            }
            Version::Dtls12 => {
                self.require_epoch(EPOCH_12);
                let mut randoms = Box::new([0; 64]);
                randoms[..32].copy_from_slice(&handshake.client_random);
                randoms[32..].copy_from_slice(&handshake.server_random);
                Secrets::Dtls12 {
                    master: handshake
                        .master
                        .take()
                        .ok_or(AlertDescription::INTERNAL_ERROR)?,
                    randoms,
                }
            }
        };
        self.session = Some(Session {
            version,
            suite,
            srtp: handshake.srtp,
            secrets,
        });
        self.phase = Phase::Connected;
        self.timers.deadline = None;
        self.timers.linger = Some(now + super::LINGER);
        let srtp = self.srtp_keys();
        self.push_event(Event::Connected(Box::new(Connected {
            version,
            cipher_suite: suite,
            group,
            srtp,
            alpn: handshake.alpn.take(),
        })));
        Ok(())
    }

    /// Our secret and the peer's.
    fn sides<'a>(&self, traffic: &'a TrafficSecrets) -> (&'a Secret, &'a Secret) {
        match self.role {
            Role::Client => (&traffic.client, &traffic.server),
            Role::Server => (&traffic.server, &traffic.client),
        }
    }

    /// SRTP's keys of a complete handshake.
    pub(super) fn derive_srtp_keys(&self, session: &Session) -> Option<SrtpKeys> {
        let profile = session.srtp?;
        let len = 2 * (profile.key_len() + profile.salt_len());
        let mut material = zeroize::Zeroizing::new([0; 2 * (32 + 14)]);
        self.export_keying_material(SrtpKeys::LABEL, None, &mut material[..len])
            .ok()?;
        Some(SrtpKeys::split(
            profile,
            &material[..len],
            self.role == Role::Client,
        ))
    }

    /// A line of SSLKEYLOGFILE, if the settings ask for it.
    fn log_key(&mut self, label: &str, client_random: &[u8; 32], secret: &Secret) {
        if !self.config.key_log {
            return;
        }
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        let line = format!("{label} {} {}", hex(client_random), hex(secret.as_ref()));
        self.push_event(Event::KeyLog(line));
    }

    /// Drops keys of completed stages and takes no new message of an earlier epoch.
    pub(super) fn require_epoch(&mut self, epoch: u64) {
        self.min_epoch = epoch;
        self.reassembler.forget_below(epoch);
    }
}

/// The profile that both lists hold, by the order of `ours`.
pub(super) fn choose_srtp(ours: &[SrtpProfile], theirs: &[u8]) -> Decode<Option<SrtpProfile>> {
    let theirs = u16s(theirs)?;
    Ok(ours
        .iter()
        .copied()
        .find(|profile| theirs.clone().any(|number| number == profile.number())))
}

/// The profile that a server chose, if we offered it.
pub(super) fn accept_srtp(ours: &[SrtpProfile], theirs: (&[u8], &[u8])) -> Decode<SrtpProfile> {
    // RFC 5764 section 4.1.1: exactly one profile, and the identifier that we sent: none.
    let (&[high, low], []) = theirs else {
        return Err(AlertDescription::ILLEGAL_PARAMETER);
    };
    SrtpProfile::from_number(u16::from_be_bytes([high, low]))
        .filter(|profile| ours.contains(profile))
        .ok_or(AlertDescription::ILLEGAL_PARAMETER)
}
