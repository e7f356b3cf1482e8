//! Doors for the fuzz targets: parsers that stand behind encryption. Not part of the interface.

use crate::acks::Acks;
use crate::alert::Alert;
use crate::codec::Reader;
use crate::message::authentication::{
    CertificateRequest, parse_certificate, parse_certificate_verify,
};
use crate::message::extension::Extensions;
use crate::message::hello::{ClientHello, ServerHello, parse_hello_verify_request};
use crate::message::key_exchange::{ServerKeyExchange, parse_client_key_exchange};
use crate::message::post_handshake::{NewConnectionId, parse_key_update};
use crate::message::{Fragment, MessageType};
use crate::reassembly::Reassembler;
use crate::record::RecordHeader;
use crate::{Limits, Version};

/// Reads `bytes` as records, their contents as everything that they can be.
pub fn records(bytes: &[u8]) {
    let mut reassembler = Reassembler::new();
    for id in [&[][..], &[1, 2, 3]] {
        let mut rest = bytes;
        while let Some(header) = RecordHeader::parse(rest, id) {
            let (record, tail) = rest.split_at(header.record_len());
            let start = match header {
                RecordHeader::Legacy { header_len, .. }
                | RecordHeader::Unified { header_len, .. } => header_len,
            };
            let content = &record[start..];
            let _ = Alert::parse(content);
            if let Ok(numbers) = Acks::parse(content) {
                numbers.for_each(drop);
            }
            let mut reader = Reader::new(content);
            while let Ok(fragment) = Fragment::read(&mut reader) {
                reassembler.insert(0, &fragment, &Limits::default());
                while let Some(message) = reassembler.pop() {
                    body(message.message_type, &message.body);
                }
            }
            rest = tail;
        }
    }
}

/// Reads `bytes` as the body of each kind of message.
pub fn messages(bytes: &[u8]) {
    for kind in 0..=24 {
        body(MessageType(kind), bytes);
    }
}

fn body(message_type: MessageType, bytes: &[u8]) {
    use MessageType as M;
    let versions = [Version::Dtls12, Version::Dtls13];
    match message_type {
        M::CLIENT_HELLO => {
            if let Ok(hello) = ClientHello::parse(bytes) {
                hello.suites().for_each(drop);
                extensions(hello.extensions);
            }
        }
        M::SERVER_HELLO => {
            if let Ok(hello) = ServerHello::parse(bytes) {
                extensions(hello.extensions);
            }
        }
        M::ENCRYPTED_EXTENSIONS => {
            if let Ok(block) = Extensions::parse(bytes) {
                extensions(block);
            }
        }
        M::HELLO_VERIFY_REQUEST => drop(parse_hello_verify_request(bytes)),
        M::CERTIFICATE => {
            for version in versions {
                if let Ok(Some(der)) = parse_certificate(version, bytes) {
                    let _ = visavis_crypto::PeerCertificate::parse(der);
                }
            }
        }
        M::CERTIFICATE_REQUEST => {
            for version in versions {
                let _ = CertificateRequest::parse(version, bytes);
            }
        }
        M::CERTIFICATE_VERIFY => drop(parse_certificate_verify(bytes)),
        M::SERVER_KEY_EXCHANGE => drop(ServerKeyExchange::parse(bytes)),
        M::CLIENT_KEY_EXCHANGE => drop(parse_client_key_exchange(bytes)),
        M::KEY_UPDATE => drop(parse_key_update(bytes)),
        M::NEW_CONNECTION_ID => drop(NewConnectionId::parse(bytes)),
        _ => {}
    }
}

fn extensions(block: Extensions<'_>) {
    for (kind, _) in block.iter() {
        let _ = block.flag(kind);
        let _ = block.numbers(kind);
    }
    let _ = block.offered_versions();
    let _ = block.selected_version();
    if let Ok(Some(shares)) = block.client_key_shares() {
        shares.for_each(drop);
    }
    let _ = block.server_key_share();
    let _ = block.requested_group();
    let _ = block.cookie();
    let _ = block.use_srtp();
    if let Ok(Some(protocols)) = block.alpn() {
        protocols.for_each(drop);
    }
    let _ = block.record_size_limit();
    let _ = block.connection_id();
    let _ = block.renegotiation_info();
}
