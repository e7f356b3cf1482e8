//! The client's half of a handshake: hellos and what only a server sends.

use std::time::Instant;

use visavis_crypto::{Group, SignatureScheme, kx};

use super::Connection;
use super::handshake::{EPOCH_12, Failure, Handshake, State, accept_srtp};
use crate::alert::AlertDescription;
use crate::codec::{Decode, Write, u16s};
use crate::message::MessageType;
use crate::message::authentication::CertificateRequest;
use crate::message::extension::{self, Extensions};
use crate::message::hello::{
    ClientHelloParts, DOWNGRADE_SENTINEL, ServerHello, parse_hello_verify_request,
};
use crate::message::key_exchange::{ServerKeyExchange, encode_client_key_exchange};
use crate::reassembly::Message;
use crate::{CipherSuite, Error, Version};

impl Connection {
    /// The first ClientHello.
    pub(super) fn start_client(&mut self, now: Instant) -> Result<(), Error> {
        let mut handshake = Box::new(Handshake::new(State::ServerHello));
        handshake.client_random = self.random.bytes();
        handshake.local_id = self.new_connection_id();
        if self.config.speaks(Version::Dtls13) {
            let groups: Vec<Group> = self
                .config
                .groups(Version::Dtls13)
                .take(self.config.key_shares.max(1))
                .collect();
            for group in groups {
                let exchange = kx::start(group, &mut self.random)
                    .map_err(|_| Error::Config("a key exchange group does not work here"))?;
                handshake.exchanges.push(exchange);
            }
        }
        self.send_client_hello(now, &mut handshake);
        self.handshake = Some(handshake);
        Ok(())
    }

    fn send_client_hello(&mut self, now: Instant, handshake: &mut Handshake) {
        self.start_flight(now, true);
        let suites: Vec<u16> = self
            .config
            .cipher_suites
            .iter()
            .filter(|suite| self.config.speaks(suite.version()))
            .map(|suite| suite.number())
            .collect();
        let extensions = self.client_extensions(handshake);
        let body = ClientHelloParts {
            random: &handshake.client_random,
            cookie: &handshake.legacy_cookie,
            cipher_suites: &suites,
            extensions: &extensions,
        }
        .encode();
        self.send(handshake, MessageType::CLIENT_HELLO, 0, body);
    }

    /// The key shares go last, so that a server sees everything else in the first fragment.
    fn client_extensions(&self, handshake: &Handshake) -> Vec<u8> {
        let config = &self.config;
        let mut out = Vec::with_capacity(1600);
        if config.speaks(Version::Dtls13) {
            extension::write(&mut out, extension::SUPPORTED_VERSIONS, |out| {
                out.vec8(|out| {
                    for version in [Version::Dtls13, Version::Dtls12] {
                        if config.speaks(version) {
                            out.u16(version.number());
                        }
                    }
                });
            });
        }
        if !handshake.cookie.is_empty() {
            extension::write(&mut out, extension::COOKIE, |out| {
                out.vec16(|out| out.bytes(&handshake.cookie));
            });
        }
        if config.speaks(Version::Dtls12) {
            extension::write(&mut out, extension::EXTENDED_MASTER_SECRET, |_| {});
            extension::write(&mut out, extension::RENEGOTIATION_INFO, |out| out.u8(0));
            extension::write(&mut out, extension::EC_POINT_FORMATS, |out| {
                out.vec8(|out| out.u8(0));
            });
        }
        extension::write(&mut out, extension::SUPPORTED_GROUPS, |out| {
            out.vec16(|out| {
                for group in config.groups(config.max_version) {
                    out.u16(group.codepoint());
                }
            });
        });
        extension::write(&mut out, extension::SIGNATURE_ALGORITHMS, |out| {
            out.vec16(|out| {
                for scheme in SignatureScheme::ALL {
                    out.u16(scheme.codepoint());
                }
            });
        });
        if !config.srtp_profiles.is_empty() {
            extension::write_use_srtp(&mut out, &config.srtp_profiles);
        }
        if !config.alpn.is_empty() {
            extension::write_alpn(&mut out, config.alpn.iter().map(Vec::as_slice));
        }
        if config.connection_id.is_some() {
            extension::write_connection_id(&mut out, &handshake.local_id);
        }
        if let Some(limit) = config.record_size_limit {
            extension::write(&mut out, extension::RECORD_SIZE_LIMIT, |out| out.u16(limit));
        }
        if config.speaks(Version::Dtls13) {
            extension::write(&mut out, extension::KEY_SHARE, |out| {
                out.vec16(|out| {
                    for exchange in &handshake.exchanges {
                        out.u16(exchange.group().codepoint());
                        out.vec16(|out| out.bytes(exchange.share()));
                    }
                });
            });
        }
        out
    }

    /// A server of 1.2 wants to see that we are where we say (RFC 6347 section 4.2.1).
    pub(super) fn handle_hello_verify_request(
        &mut self,
        now: Instant,
        handshake: &mut Handshake,
        message: &Message,
    ) -> Result<(), Failure> {
        let cookie = parse_hello_verify_request(&message.body)?;
        if handshake.retried
            || !handshake.legacy_cookie.is_empty()
            || cookie.is_empty()
            || !self.config.speaks(Version::Dtls12)
        {
            return Err(AlertDescription::UNEXPECTED_MESSAGE.into());
        }
        handshake.legacy_cookie = cookie.to_vec();
        handshake.transcript.clear();
        self.send_client_hello(now, handshake);
        Ok(())
    }

    pub(super) fn handle_server_hello(
        &mut self,
        now: Instant,
        handshake: &mut Handshake,
        message: &Message,
    ) -> Result<(), Failure> {
        let hello = ServerHello::parse(&message.body)?;
        if hello.is_retry() {
            return self.handle_hello_retry_request(now, handshake, message, &hello);
        }
        let version = match hello.extensions.selected_version()? {
            None => Version::Dtls12,
            // RFC 8446 section 4.2.1: the extension never selects an older version.
            Some(number) => Version::from_number(number)
                .filter(|&version| version == Version::Dtls13)
                .ok_or(AlertDescription::ILLEGAL_PARAMETER)?,
        };
        if !self.config.speaks(version) {
            return Err(AlertDescription::PROTOCOL_VERSION.into());
        }
        if handshake.version.is_some_and(|known| known != version) {
            return Err(AlertDescription::ILLEGAL_PARAMETER.into());
        }
        let suite = self.accept_suite(handshake, version, hello.cipher_suite)?;
        handshake.version = Some(version);
        handshake.suite = Some(suite);
        handshake.server_random = hello.random;
        handshake.transcript.negotiated(version, suite.hash());
        match version {
            Version::Dtls13 => self.server_hello_13(handshake, message, &hello),
            Version::Dtls12 => self.server_hello_12(handshake, message, &hello),
        }
    }

    fn accept_suite(
        &self,
        handshake: &Handshake,
        version: Version,
        number: u16,
    ) -> Decode<CipherSuite> {
        self.config
            .suites(version)
            .find(|suite| suite.number() == number)
            .filter(|suite| handshake.suite.is_none_or(|known| known == *suite))
            .ok_or(AlertDescription::ILLEGAL_PARAMETER)
    }

    /// A server of 1.3 wants another share, or its cookie back (RFC 8446 section 4.1.4).
    fn handle_hello_retry_request(
        &mut self,
        now: Instant,
        handshake: &mut Handshake,
        message: &Message,
        hello: &ServerHello<'_>,
    ) -> Result<(), Failure> {
        if handshake.retried || !handshake.legacy_cookie.is_empty() {
            return Err(AlertDescription::UNEXPECTED_MESSAGE.into());
        }
        if hello.extensions.selected_version()? != Some(Version::Dtls13.number())
            || !self.config.speaks(Version::Dtls13)
            || !hello.session_id.is_empty()
        {
            return Err(AlertDescription::ILLEGAL_PARAMETER.into());
        }
        hello.extensions.only(&[
            extension::SUPPORTED_VERSIONS,
            extension::COOKIE,
            extension::KEY_SHARE,
        ])?;
        let suite = self.accept_suite(handshake, Version::Dtls13, hello.cipher_suite)?;
        let cookie = hello.extensions.cookie()?;
        let group = hello.extensions.requested_group()?;
        if cookie.is_none() && group.is_none() {
            return Err(AlertDescription::ILLEGAL_PARAMETER.into());
        }
        if let Some(number) = group {
            // One that we listed and sent no share of.
            let group = self
                .config
                .groups(Version::Dtls13)
                .find(|group| group.codepoint() == number)
                .filter(|group| handshake.exchanges.iter().all(|e| e.group() != *group))
                .ok_or(AlertDescription::ILLEGAL_PARAMETER)?;
            let exchange =
                kx::start(group, &mut self.random).map_err(|_| AlertDescription::INTERNAL_ERROR)?;
            handshake.exchanges = vec![exchange];
        }
        handshake.cookie = cookie.unwrap_or_default().to_vec();
        handshake.retried = true;
        handshake.version = Some(Version::Dtls13);
        handshake.suite = Some(suite);
        handshake
            .transcript
            .negotiated(Version::Dtls13, suite.hash());
        handshake.transcript.retry();
        handshake
            .transcript
            .add(message.message_type, message.sequence, &message.body);
        self.send_client_hello(now, handshake);
        Ok(())
    }

    fn server_hello_13(
        &mut self,
        handshake: &mut Handshake,
        message: &Message,
        hello: &ServerHello<'_>,
    ) -> Result<(), Failure> {
        hello.extensions.only(&[
            extension::SUPPORTED_VERSIONS,
            extension::KEY_SHARE,
            extension::CONNECTION_ID,
        ])?;
        if !hello.session_id.is_empty() {
            return Err(AlertDescription::ILLEGAL_PARAMETER.into());
        }
        let (number, share) = hello
            .extensions
            .server_key_share()?
            .ok_or(AlertDescription::MISSING_EXTENSION)?;
        let exchange = handshake
            .exchanges
            .iter()
            .find(|exchange| exchange.group().codepoint() == number)
            .ok_or(AlertDescription::ILLEGAL_PARAMETER)?;
        let shared = exchange
            .complete(share)
            .map_err(|_| AlertDescription::ILLEGAL_PARAMETER)?;
        handshake.group = Some(exchange.group());
        handshake.exchanges.clear();
        self.accept_connection_id(handshake, hello.extensions)?;
        handshake
            .transcript
            .add(message.message_type, message.sequence, &message.body);
        self.install_handshake_keys(handshake, &shared)?;
        handshake.state = State::EncryptedExtensions;
        Ok(())
    }

    fn server_hello_12(
        &mut self,
        handshake: &mut Handshake,
        message: &Message,
        hello: &ServerHello<'_>,
    ) -> Result<(), Failure> {
        if self.config.speaks(Version::Dtls13) && hello.random.ends_with(&DOWNGRADE_SENTINEL) {
            return Err(AlertDescription::ILLEGAL_PARAMETER.into());
        }
        let extensions = hello.extensions;
        extensions.only(&[
            extension::EXTENDED_MASTER_SECRET,
            extension::RENEGOTIATION_INFO,
            extension::EC_POINT_FORMATS,
            // No server of 1.2 has a reason to send it and some do; RFC 8446 section 4.2.7 lets clients pass over it.
            extension::SUPPORTED_GROUPS,
            extension::USE_SRTP,
            extension::ALPN,
            extension::CONNECTION_ID,
            extension::RECORD_SIZE_LIMIT,
        ])?;
        // RFC 7627 section 5.2: without it the handshake can be spliced.
        if !extensions.flag(extension::EXTENDED_MASTER_SECRET)? {
            return Err(AlertDescription::HANDSHAKE_FAILURE.into());
        }
        extensions.renegotiation_info()?;
        self.accept_extensions(handshake, extensions)?;
        self.accept_connection_id(handshake, extensions)?;
        handshake.exchanges.clear();
        handshake
            .transcript
            .add(message.message_type, message.sequence, &message.body);
        handshake.state = State::Certificate;
        Ok(())
    }

    /// What a server answered to extensions that stand in different messages in the two versions.
    fn accept_extensions(
        &mut self,
        handshake: &mut Handshake,
        extensions: Extensions<'_>,
    ) -> Result<(), Failure> {
        let config = &self.config;
        if let Some(answer) = extensions.use_srtp()? {
            handshake.srtp = Some(accept_srtp(&config.srtp_profiles, answer)?);
        }
        if let Some(mut protocols) = extensions.alpn()? {
            let protocol = protocols
                .next()
                .filter(|protocol| config.alpn.iter().any(|ours| ours == protocol))
                .ok_or(AlertDescription::ILLEGAL_PARAMETER)?;
            if protocols.next().is_some() {
                return Err(AlertDescription::ILLEGAL_PARAMETER.into());
            }
            handshake.alpn = Some(protocol.to_vec());
        }
        if let Some(limit) = extensions.record_size_limit()? {
            if config.record_size_limit.is_none() {
                return Err(AlertDescription::UNSUPPORTED_EXTENSION.into());
            }
            self.set_content_limit(handshake, limit);
        }
        Ok(())
    }

    fn accept_connection_id(
        &mut self,
        handshake: &mut Handshake,
        extensions: Extensions<'_>,
    ) -> Result<(), Failure> {
        if let Some(id) = extensions.connection_id()? {
            if self.config.connection_id.is_none() {
                return Err(AlertDescription::UNSUPPORTED_EXTENSION.into());
            }
            self.records.remote_id = id.to_vec();
            self.records.local_id = std::mem::take(&mut handshake.local_id);
        }
        Ok(())
    }

    pub(super) fn handle_encrypted_extensions(
        &mut self,
        handshake: &mut Handshake,
        message: &Message,
    ) -> Result<(), Failure> {
        let mut reader = crate::codec::Reader::new(&message.body);
        let extensions = Extensions::parse(reader.vec16()?)?;
        reader.end()?;
        extensions.only(&[
            extension::SUPPORTED_GROUPS,
            extension::USE_SRTP,
            extension::ALPN,
            extension::RECORD_SIZE_LIMIT,
        ])?;
        self.accept_extensions(handshake, extensions)?;
        handshake
            .transcript
            .add(message.message_type, message.sequence, &message.body);
        handshake.state = State::RequestOrCertificate;
        Ok(())
    }

    pub(super) fn handle_certificate_request(
        &mut self,
        handshake: &mut Handshake,
        message: &Message,
    ) -> Result<(), Failure> {
        let (version, _) = handshake.negotiated()?;
        let request = CertificateRequest::parse(version, &message.body)?;
        handshake.peer_schemes = Some(u16s(request.schemes)?.collect());
        handshake
            .transcript
            .add(message.message_type, message.sequence, &message.body);
        handshake.state = match version {
            Version::Dtls13 => State::Certificate,
            Version::Dtls12 => State::HelloDone,
        };
        Ok(())
    }

    /// 1.2: the server's share, signed (RFC 8422 section 5.4).
    pub(super) fn handle_server_key_exchange(
        &mut self,
        handshake: &mut Handshake,
        message: &Message,
    ) -> Result<(), Failure> {
        let exchange = ServerKeyExchange::parse(&message.body)?;
        let group = self
            .config
            .groups(Version::Dtls12)
            .find(|group| group.codepoint() == exchange.group)
            .ok_or(AlertDescription::ILLEGAL_PARAMETER)?;
        let content = ServerKeyExchange::signed_content(
            &handshake.client_random,
            &handshake.server_random,
            exchange.parameters,
        );
        self.verify_signature(
            Version::Dtls12,
            exchange.scheme,
            &content,
            exchange.signature,
        )?;
        self.push_event(crate::Event::PeerCertificate);
        let (share, premaster) = kx::start_and_complete(group, exchange.share, &mut self.random)
            .map_err(|_| AlertDescription::ILLEGAL_PARAMETER)?;
        handshake.group = Some(group);
        handshake.share = share;
        handshake.premaster = Some(premaster);
        handshake
            .transcript
            .add(message.message_type, message.sequence, &message.body);
        handshake.state = State::RequestOrHelloDone;
        Ok(())
    }

    /// 1.2: our turn.
    pub(super) fn handle_server_hello_done(
        &mut self,
        now: Instant,
        handshake: &mut Handshake,
        message: &Message,
    ) -> Result<(), Failure> {
        if !message.body.is_empty() {
            return Err(AlertDescription::DECODE_ERROR.into());
        }
        handshake
            .transcript
            .add(message.message_type, message.sequence, &message.body);
        self.start_flight(now, true);
        if let Some(schemes) = handshake.peer_schemes.take() {
            handshake.certificate = self.choose_certificate(Version::Dtls12, &schemes, |_| true);
            self.send_certificate(handshake, 0);
        }
        let share = encode_client_key_exchange(&handshake.share);
        self.send(handshake, MessageType::CLIENT_KEY_EXCHANGE, 0, share);
        self.install_keys_12(handshake)?;
        if handshake.certificate.is_some() {
            self.send_certificate_verify(handshake, 0)?;
        }
        self.flight.push_change_cipher_spec();
        self.send_finished(handshake, EPOCH_12)?;
        handshake.state = State::Finished;
        self.require_epoch(EPOCH_12);
        Ok(())
    }
}
