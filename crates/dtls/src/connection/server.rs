//! The server's half of a handshake: the ClientHello and what only a client sends.

use std::time::Instant;

use visavis_crypto::{Group, SignatureScheme, kx};

use super::Connection;
use super::handshake::{Failure, HANDSHAKE_EPOCH, Handshake, State, choose_srtp};
use crate::alert::AlertDescription;
use crate::codec::{Decode, Write, u16s};
use crate::front::Cookie;
use crate::message::MessageType;
use crate::message::authentication::CertificateRequest;
use crate::message::extension::{self, Extensions};
use crate::message::hello::{ClientHello, DOWNGRADE_SENTINEL, RETRY_RANDOM, encode_server_hello};
use crate::message::key_exchange::{ServerKeyExchange, parse_client_key_exchange};
use crate::reassembly::Message;
use crate::{CipherSuite, Config, Version};

/// The suite number with which a client says what a renegotiation_info extension would
/// (RFC 5746 section 3.3).
const RENEGOTIATION_SCSV: u16 = 0x00ff;

/// The version that a server answers a ClientHello with.
pub(crate) fn choose_version(config: &Config, hello: &ClientHello<'_>) -> Decode<Version> {
    let offered = hello.extensions.offered_versions()?;
    let offers = |version: Version| match offered {
        Some(numbers) => numbers
            .chunks_exact(2)
            .any(|pair| u16::from_be_bytes([pair[0], pair[1]]) == version.number()),
        // Without the extension a client speaks 1.2 at most; versions count downwards.
        None => version == Version::Dtls12 && hello.legacy_version <= Version::Dtls12.number(),
    };
    [Version::Dtls13, Version::Dtls12]
        .into_iter()
        .find(|&version| config.speaks(version) && offers(version))
        .ok_or(AlertDescription::PROTOCOL_VERSION)
}

/// The suite of 1.3 that a server answers with.
pub(crate) fn choose_suite_13(config: &Config, hello: &ClientHello<'_>) -> Decode<CipherSuite> {
    config
        .suites(Version::Dtls13)
        .find(|suite| hello.suites().any(|number| number == suite.number()))
        .ok_or(AlertDescription::HANDSHAKE_FAILURE)
}

/// How a server gets at a key exchange of 1.3.
pub(crate) enum GroupChoice<'a> {
    /// The client sent this share.
    Share(Group, &'a [u8]),
    /// The client can do this group but sent no share of it.
    Ask(Group),
}

/// The group of 1.3 that a server answers with.
pub(crate) fn choose_group_13<'a>(
    config: &Config,
    extensions: Extensions<'a>,
    retried: Option<Group>,
) -> Decode<GroupChoice<'a>> {
    let listed = extensions
        .numbers(extension::SUPPORTED_GROUPS)?
        .ok_or(AlertDescription::MISSING_EXTENSION)?;
    let lists = |group: Group| {
        listed
            .chunks_exact(2)
            .any(|pair| u16::from_be_bytes([pair[0], pair[1]]) == group.codepoint())
    };
    if extensions.client_key_shares()?.is_none() {
        return Err(AlertDescription::MISSING_EXTENSION);
    }
    let share = |group: Group| {
        extensions
            .client_key_shares()
            .ok()??
            .find_map(|(number, share)| {
                (number == group.codepoint()).then_some(GroupChoice::Share(group, share))
            })
    };
    let mut usable = config.groups(Version::Dtls13).filter(|&group| lists(group));
    let first = usable.next().ok_or(AlertDescription::HANDSHAKE_FAILURE)?;
    if let Some(asked) = retried {
        return share(asked).ok_or(AlertDescription::ILLEGAL_PARAMETER);
    }
    let with_share = if config.insist_on_first_group {
        share(first)
    } else {
        share(first).or_else(|| usable.find_map(share))
    };
    Ok(with_share.unwrap_or(GroupChoice::Ask(first)))
}

/// Writes the extensions of a HelloRetryRequest.
pub(crate) fn retry_extensions(group: Option<Group>, cookie: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + cookie.len());
    extension::write_selected_version(&mut out, Version::Dtls13);
    if let Some(group) = group {
        extension::write(&mut out, extension::KEY_SHARE, |out| {
            out.u16(group.codepoint());
        });
    }
    if !cookie.is_empty() {
        extension::write(&mut out, extension::COOKIE, |out| {
            out.vec16(|out| out.bytes(cookie));
        });
    }
    out
}

impl Connection {
    /// Goes on where a `Front` has begun: it took messages number 0 of both ends.
    pub(crate) fn continue_from_front(&mut self, record: u64, cookie: Option<Cookie>) {
        self.reassembler.start_at(1);
        self.next_sequence = 1;
        // RFC 6347 section 4.2.1: the ServerHello takes the number of the hello that it answers.
        self.records.set_plain_sequence(record);
        if let Some(handshake) = &mut self.handshake {
            handshake.front_cookie = cookie;
        }
    }

    pub(super) fn handle_client_hello(
        &mut self,
        now: Instant,
        handshake: &mut Handshake,
        message: &Message,
    ) -> Result<(), Failure> {
        let hello = ClientHello::parse(&message.body)?;
        let version = choose_version(&self.config, &hello)?;
        if handshake.version.is_some_and(|known| known != version) {
            return Err(AlertDescription::ILLEGAL_PARAMETER.into());
        }
        handshake.client_random = hello.random;
        handshake.version = Some(version);
        handshake.local_id = self.new_connection_id();
        match version {
            Version::Dtls13 => self.client_hello_13(now, handshake, message, &hello),
            Version::Dtls12 => self.client_hello_12(now, handshake, message, &hello),
        }
    }

    fn client_hello_13(
        &mut self,
        now: Instant,
        handshake: &mut Handshake,
        message: &Message,
        hello: &ClientHello<'_>,
    ) -> Result<(), Failure> {
        // RFC 9147 section 5.3, RFC 8446 section 4.1.2.
        if !hello.cookie.is_empty() || hello.compression != [0] {
            return Err(AlertDescription::ILLEGAL_PARAMETER.into());
        }
        let extensions = hello.extensions;
        let suite = choose_suite_13(&self.config, hello)?;
        if handshake.suite.is_some_and(|known| known != suite) {
            return Err(AlertDescription::ILLEGAL_PARAMETER.into());
        }
        handshake.suite = Some(suite);
        if let Some(cookie) = handshake.front_cookie.take() {
            let (hello_hash, retry) = cookie.resume(&message.body)?;
            if cookie.suite != suite {
                return Err(AlertDescription::ILLEGAL_PARAMETER.into());
            }
            handshake.retried = true;
            handshake.group = cookie.group;
            handshake.transcript.resume_retry(suite.hash(), &hello_hash);
            handshake
                .transcript
                .add(MessageType::SERVER_HELLO, 0, &retry);
        }
        let schemes: Vec<u16> = u16s(
            extensions
                .numbers(extension::SIGNATURE_ALGORITHMS)?
                .ok_or(AlertDescription::MISSING_EXTENSION)?,
        )?
        .collect();
        handshake
            .transcript
            .add(message.message_type, message.sequence, &message.body);
        handshake
            .transcript
            .negotiated(Version::Dtls13, suite.hash());
        let asked = handshake.group.filter(|_| handshake.retried);
        let (group, share) = match choose_group_13(&self.config, extensions, asked)? {
            GroupChoice::Share(group, share) => (group, share),
            GroupChoice::Ask(_) if handshake.retried => {
                return Err(AlertDescription::ILLEGAL_PARAMETER.into());
            }
            GroupChoice::Ask(group) => {
                handshake.group = Some(group);
                self.send_hello_retry_request(now, handshake, suite, group);
                return Ok(());
            }
        };
        handshake.certificate = self.choose_certificate(Version::Dtls13, &schemes, |_| true);
        if handshake.certificate.is_none() {
            return Err(AlertDescription::HANDSHAKE_FAILURE.into());
        }
        self.answer_extensions(handshake, extensions)?;
        let (our_share, shared) = kx::start_and_complete(group, share, &mut self.random)
            .map_err(|_| AlertDescription::ILLEGAL_PARAMETER)?;
        handshake.group = Some(group);
        handshake.server_random = self.random.bytes();

        self.start_flight(now, true);
        let mut out = Vec::with_capacity(64 + our_share.len());
        extension::write_selected_version(&mut out, Version::Dtls13);
        extension::write(&mut out, extension::KEY_SHARE, |out| {
            out.u16(group.codepoint());
            out.vec16(|out| out.bytes(&our_share));
        });
        self.answer_connection_id(handshake, extensions, &mut out)?;
        let body = encode_server_hello(&handshake.server_random, suite.number(), &out);
        self.send(handshake, MessageType::SERVER_HELLO, 0, body);
        self.install_handshake_keys(handshake, &shared)?;

        let mut out = Vec::new();
        self.write_answers(handshake, extensions, &mut out);
        let mut body = Vec::with_capacity(2 + out.len());
        body.vec16(|body| body.bytes(&out));
        self.send(
            handshake,
            MessageType::ENCRYPTED_EXTENSIONS,
            HANDSHAKE_EPOCH,
            body,
        );
        if self.config.request_client_certificate {
            let body = CertificateRequest::encode(Version::Dtls13, &our_schemes());
            self.send(
                handshake,
                MessageType::CERTIFICATE_REQUEST,
                HANDSHAKE_EPOCH,
                body,
            );
        }
        self.send_certificate(handshake, HANDSHAKE_EPOCH);
        self.send_certificate_verify(handshake, HANDSHAKE_EPOCH)?;
        self.send_finished(handshake, HANDSHAKE_EPOCH)?;
        self.install_application_keys(handshake)?;
        handshake.state = if self.config.request_client_certificate {
            State::Certificate
        } else {
            State::Finished
        };
        Ok(())
    }

    fn send_hello_retry_request(
        &mut self,
        now: Instant,
        handshake: &mut Handshake,
        suite: CipherSuite,
        group: Group,
    ) {
        handshake.retried = true;
        handshake.transcript.retry();
        self.start_flight(now, true);
        let extensions = retry_extensions(Some(group), &[]);
        let body = encode_server_hello(&RETRY_RANDOM, suite.number(), &extensions);
        self.send(handshake, MessageType::SERVER_HELLO, 0, body);
        handshake.state = State::ClientHello;
    }

    fn client_hello_12(
        &mut self,
        now: Instant,
        handshake: &mut Handshake,
        message: &Message,
        hello: &ClientHello<'_>,
    ) -> Result<(), Failure> {
        if !hello.compression.contains(&0) {
            return Err(AlertDescription::ILLEGAL_PARAMETER.into());
        }
        let extensions = hello.extensions;
        // RFC 7627 section 5.3: a deliberate requirement.
        if !extensions.flag(extension::EXTENDED_MASTER_SECRET)? {
            return Err(AlertDescription::HANDSHAKE_FAILURE.into());
        }
        let renegotiation = extensions.renegotiation_info()?
            || hello.suites().any(|number| number == RENEGOTIATION_SCSV);
        let schemes: Vec<u16> = match extensions.numbers(extension::SIGNATURE_ALGORITHMS)? {
            Some(list) => u16s(list)?.collect(),
            // Its default would be SHA-1 (RFC 5246 section 7.4.1.4.1).
            None => return Err(AlertDescription::HANDSHAKE_FAILURE.into()),
        };
        let group = match extensions.numbers(extension::SUPPORTED_GROUPS)? {
            Some(list) => {
                let numbers = u16s(list)?;
                self.config
                    .groups(Version::Dtls12)
                    .find(|group| numbers.clone().any(|number| number == group.codepoint()))
            }
            // RFC 8422 section 4: then any will do.
            None => self
                .config
                .groups(Version::Dtls12)
                .find(|&group| group == Group::Secp256r1),
        }
        .ok_or(AlertDescription::HANDSHAKE_FAILURE)?;
        let (suite, certificate) = self
            .config
            .suites(Version::Dtls12)
            .filter(|suite| hello.suites().any(|number| number == suite.number()))
            .find_map(|suite| {
                self.choose_certificate(Version::Dtls12, &schemes, |algorithm| {
                    suite.suits(algorithm)
                })
                .map(|certificate| (suite, certificate))
            })
            .ok_or(AlertDescription::HANDSHAKE_FAILURE)?;
        handshake.suite = Some(suite);
        handshake.group = Some(group);
        handshake.certificate = Some(certificate);
        handshake
            .transcript
            .add(message.message_type, message.sequence, &message.body);
        handshake
            .transcript
            .negotiated(Version::Dtls12, suite.hash());
        self.answer_extensions(handshake, extensions)?;
        handshake.server_random = self.random.bytes();
        if self.config.speaks(Version::Dtls13) {
            handshake.server_random[24..].copy_from_slice(&DOWNGRADE_SENTINEL);
        }
        let exchange =
            kx::start(group, &mut self.random).map_err(|_| AlertDescription::INTERNAL_ERROR)?;

        self.start_flight(now, true);
        let mut out = Vec::with_capacity(64);
        extension::write(&mut out, extension::EXTENDED_MASTER_SECRET, |_| {});
        if renegotiation {
            extension::write(&mut out, extension::RENEGOTIATION_INFO, |out| out.u8(0));
        }
        if extensions.find(extension::EC_POINT_FORMATS).is_some() {
            extension::write(&mut out, extension::EC_POINT_FORMATS, |out| {
                out.vec8(|out| out.u8(0));
            });
        }
        self.write_answers(handshake, extensions, &mut out);
        self.answer_connection_id(handshake, extensions, &mut out)?;
        let body = encode_server_hello(&handshake.server_random, suite.number(), &out);
        self.send(handshake, MessageType::SERVER_HELLO, 0, body);
        self.send_certificate(handshake, 0);
        let parameters = ServerKeyExchange::encode_parameters(group.codepoint(), exchange.share());
        let content = ServerKeyExchange::signed_content(
            &handshake.client_random,
            &handshake.server_random,
            &parameters,
        );
        let (scheme, signature) = self.sign(handshake, &content)?;
        let body = ServerKeyExchange::encode(parameters, scheme, &signature);
        self.send(handshake, MessageType::SERVER_KEY_EXCHANGE, 0, body);
        if self.config.request_client_certificate {
            let body = CertificateRequest::encode(Version::Dtls12, &our_schemes());
            self.send(handshake, MessageType::CERTIFICATE_REQUEST, 0, body);
        }
        self.send(handshake, MessageType::SERVER_HELLO_DONE, 0, Vec::new());
        handshake.exchanges = vec![exchange];
        handshake.state = if self.config.request_client_certificate {
            State::Certificate
        } else {
            State::ClientKeyExchange
        };
        Ok(())
    }

    /// 1.2: the client's share.
    pub(super) fn handle_client_key_exchange(
        &mut self,
        handshake: &mut Handshake,
        message: &Message,
    ) -> Result<(), Failure> {
        let share = parse_client_key_exchange(&message.body)?;
        let exchange = handshake
            .exchanges
            .pop()
            .ok_or(AlertDescription::INTERNAL_ERROR)?;
        handshake.premaster = Some(
            exchange
                .complete(share)
                .map_err(|_| AlertDescription::ILLEGAL_PARAMETER)?,
        );
        handshake
            .transcript
            .add(message.message_type, message.sequence, &message.body);
        self.install_keys_12(handshake)?;
        if self.peer_certificate.is_some() {
            handshake.state = State::CertificateVerify;
        } else {
            handshake.state = State::Finished;
            self.require_epoch(super::handshake::EPOCH_12);
        }
        Ok(())
    }

    /// Decides on the extensions that stand in different messages in the two versions.
    fn answer_extensions(
        &mut self,
        handshake: &mut Handshake,
        extensions: Extensions<'_>,
    ) -> Result<(), Failure> {
        if let Some((profiles, _)) = extensions.use_srtp()? {
            handshake.srtp = choose_srtp(&self.config.srtp_profiles, profiles)?;
        }
        if let Some(protocols) = extensions.alpn()?
            && !self.config.alpn.is_empty()
        {
            let chosen = self
                .config
                .alpn
                .iter()
                .find(|ours| protocols.clone().any(|theirs| theirs == ours.as_slice()))
                .ok_or(AlertDescription::NO_APPLICATION_PROTOCOL)?;
            handshake.alpn = Some(chosen.clone());
        }
        if let Some(limit) = extensions.record_size_limit()? {
            self.set_content_limit(handshake, limit);
        }
        Ok(())
    }

    /// Writes what was decided.
    fn write_answers(&self, handshake: &Handshake, extensions: Extensions<'_>, out: &mut Vec<u8>) {
        if let Some(profile) = handshake.srtp {
            extension::write_use_srtp(out, &[profile]);
        }
        if let Some(protocol) = &handshake.alpn {
            extension::write_alpn(out, std::iter::once(protocol.as_slice()));
        }
        if extensions.find(extension::RECORD_SIZE_LIMIT).is_some() {
            // RFC 8449 section 4: 1.3 counts the content type.
            let most = match handshake.version {
                Some(Version::Dtls13) => (1 << 14) + 1,
                _ => 1 << 14,
            };
            let limit = self.config.record_size_limit.unwrap_or(most).min(most);
            extension::write(out, extension::RECORD_SIZE_LIMIT, |out| out.u16(limit));
        }
    }

    fn answer_connection_id(
        &mut self,
        handshake: &mut Handshake,
        extensions: Extensions<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        if let Some(id) = extensions.connection_id()?
            && self.config.connection_id.is_some()
        {
            extension::write_connection_id(out, &handshake.local_id);
            self.records.remote_id = id.to_vec();
            self.records.local_id = std::mem::take(&mut handshake.local_id);
        }
        Ok(())
    }
}

/// What we can verify, as numbers.
fn our_schemes() -> Vec<u16> {
    SignatureScheme::ALL
        .iter()
        .map(|scheme| scheme.codepoint())
        .collect()
}
