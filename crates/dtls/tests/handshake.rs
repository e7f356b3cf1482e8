//! Both ends of this crate against each other: every version, group, suite and kind of certificate.

mod common;

use common::{Pair, certificate, config};
use visavis_crypto::{Group, KeyAlgorithm};
use visavis_dtls::{CipherSuite, CloseReason, Event, SrtpProfile, Version};

#[test]
fn dtls_13_with_the_post_quantum_hybrid_by_default() {
    let mut pair = Pair::new(config(1), config(2), 3);
    pair.exchange();
    pair.assert_connected("default");
    let (client, server) = (
        pair.client.connected().unwrap(),
        pair.server.connected().unwrap(),
    );
    assert_eq!(client.version, Version::Dtls13);
    assert_eq!(client.group, Group::X25519MlKem768);
    assert_eq!(client.cipher_suite, CipherSuite::Aes128GcmSha256);
    let (ours, theirs) = (client.srtp.as_ref().unwrap(), server.srtp.as_ref().unwrap());
    assert_eq!(ours.profile, SrtpProfile::AeadAes128Gcm);
    assert_eq!(ours.local, theirs.remote);
    assert_eq!(ours.remote, theirs.local);
    assert_eq!(
        pair.client.dtls.remote_certificate_der(),
        Some(pair.server.dtls.config().certificates[0].der())
    );
    assert_eq!(
        pair.server.dtls.remote_certificate_der(),
        Some(pair.client.dtls.config().certificates[0].der())
    );
    pair.assert_data_flows("default");
    // ClientHello and ServerHello flight in two datagrams each, then one, then the ACK.
    assert_eq!((pair.client.sent, pair.server.sent), (3, 3));
}

#[test]
fn every_version_group_and_suite() {
    for suite in CipherSuite::ALL {
        for group in Group::ALL {
            let version = suite.version();
            if version == Version::Dtls12 && !group.is_for_tls12() {
                continue;
            }
            let what = format!("{version} {} {group:?}", suite.name());
            let algorithm = if suite.name().contains("_RSA_") {
                KeyAlgorithm::Rsa
            } else {
                KeyAlgorithm::EcdsaP256
            };
            let mut server = config(2);
            server.certificates = vec![certificate(algorithm, 7)];
            let mut client = config(1);
            for config in [&mut client, &mut server] {
                config.cipher_suites = vec![suite];
                config.groups = vec![group];
                config.min_version = version;
                config.max_version = version;
            }
            let mut pair = Pair::new(client, server, 3);
            pair.exchange();
            pair.assert_connected(&what);
            let connected = pair.client.connected().unwrap().clone();
            assert_eq!(connected.version, version, "{what}");
            assert_eq!(connected.cipher_suite, suite, "{what}");
            assert_eq!(connected.group, group, "{what}");
            pair.assert_data_flows(&what);
            for context in [None, Some(&b"context"[..])] {
                let (mut ours, mut theirs) = ([0; 40], [0; 40]);
                let (client, server) = (&pair.client.dtls, &pair.server.dtls);
                client
                    .export_keying_material(b"label", context, &mut ours)
                    .unwrap();
                server
                    .export_keying_material(b"label", context, &mut theirs)
                    .unwrap();
                assert_eq!(ours, theirs, "{what}");
                assert_ne!(ours, [0; 40], "{what}");
            }
        }
    }
}

#[test]
fn every_kind_of_certificate_on_both_ends() {
    for version in [Version::Dtls12, Version::Dtls13] {
        for algorithm in [
            KeyAlgorithm::EcdsaP256,
            KeyAlgorithm::EcdsaP384,
            KeyAlgorithm::Ed25519,
            KeyAlgorithm::Rsa,
        ] {
            let what = format!("{version} {algorithm:?}");
            let (mut client, mut server) = (config(1), config(2));
            client.certificates = vec![certificate(algorithm, 5)];
            server.certificates = vec![certificate(algorithm, 6)];
            server.max_version = version;
            let mut pair = Pair::new(client, server, 3);
            pair.exchange();
            pair.assert_connected(&what);
            assert_eq!(pair.server.connected().unwrap().version, version, "{what}");
            pair.assert_data_flows(&what);
        }
    }
}

#[test]
fn the_lower_version_is_agreed_on_and_no_version_in_common_is_an_alert() {
    for (client_max, server_max) in [
        (Version::Dtls12, Version::Dtls13),
        (Version::Dtls13, Version::Dtls12),
    ] {
        let (mut client, mut server) = (config(1), config(2));
        client.max_version = client_max;
        server.max_version = server_max;
        let mut pair = Pair::new(client, server, 3);
        pair.exchange();
        pair.assert_connected("downgrade");
        assert_eq!(pair.client.dtls.version(), Some(Version::Dtls12));
    }
    let (mut client, mut server) = (config(1), config(2));
    client.max_version = Version::Dtls12;
    server.min_version = Version::Dtls13;
    let mut pair = Pair::new(client, server, 3);
    pair.exchange();
    let alert = visavis_dtls::AlertDescription::PROTOCOL_VERSION;
    assert_eq!(
        pair.server.events,
        [Event::Closed(CloseReason::LocalAlert(alert))]
    );
    assert_eq!(
        pair.client.events,
        [Event::Closed(CloseReason::RemoteAlert(alert))]
    );
}

#[test]
fn a_group_without_a_share_is_asked_for() {
    // Like Firefox with ML-KEM listed but no share of it sent.
    let mut client = config(1);
    client.groups = vec![Group::X25519, Group::X25519MlKem768];
    client.key_shares = 1;
    let mut server = config(2);
    server.insist_on_first_group = true;
    let mut pair = Pair::new(client.clone(), server, 3);
    pair.exchange();
    pair.assert_connected("insisting");
    let group = pair.client.connected().unwrap().group;
    assert_eq!(group, Group::X25519MlKem768);
    pair.assert_data_flows("insisting");

    // Without insisting, the share that is there is taken.
    let mut pair = Pair::new(client.clone(), config(2), 3);
    pair.exchange();
    assert_eq!(pair.client.connected().unwrap().group, Group::X25519);

    // And a group with no share at all has to be asked for.
    let mut server = config(2);
    server.groups = vec![Group::Secp384r1];
    client.groups = Group::ALL.to_vec();
    let mut pair = Pair::new(client, server, 3);
    pair.exchange();
    pair.assert_connected("asked");
    assert_eq!(pair.server.connected().unwrap().group, Group::Secp384r1);
}

#[test]
fn profiles_and_protocols_by_the_servers_preference() {
    for version in [Version::Dtls12, Version::Dtls13] {
        let (mut client, mut server) = (config(1), config(2));
        server.max_version = version;
        client.srtp_profiles = vec![
            SrtpProfile::Aes128CmHmacSha1_80,
            SrtpProfile::AeadAes256Gcm,
            SrtpProfile::AeadAes128Gcm,
        ];
        client.alpn = vec![b"c-webrtc".to_vec(), b"webrtc".to_vec()];
        server.alpn = vec![b"webrtc".to_vec(), b"c-webrtc".to_vec()];
        client.record_size_limit = Some(700);
        let mut pair = Pair::new(client, server, 3);
        pair.exchange();
        pair.assert_connected("preferences");
        for end in [&pair.client, &pair.server] {
            let connected = end.connected().unwrap();
            assert_eq!(connected.alpn.as_deref(), Some(&b"webrtc"[..]));
            let srtp = connected.srtp.as_ref().unwrap();
            assert_eq!(srtp.profile, SrtpProfile::AeadAes128Gcm);
        }
        let framing = pair.server.dtls.framing();
        let mut datagram = vec![0; framing.header + 701 + framing.trailer];
        let payload = framing.header..framing.header + 701;
        assert_eq!(
            pair.server.dtls.seal(&mut datagram, payload),
            Err(visavis_dtls::Error::PayloadTooLong)
        );
        pair.server.seal(&[0; 699]);
    }
}

#[test]
fn no_protocol_in_common_is_an_alert() {
    let (mut client, mut server) = (config(1), config(2));
    client.alpn = vec![b"a".to_vec()];
    server.alpn = vec![b"b".to_vec()];
    let mut pair = Pair::new(client, server, 3);
    pair.exchange();
    let alert = visavis_dtls::AlertDescription::NO_APPLICATION_PROTOCOL;
    assert_eq!(
        pair.client.events,
        [Event::Closed(CloseReason::RemoteAlert(alert))]
    );
}

#[test]
fn connection_ids_in_both_versions() {
    for version in [Version::Dtls12, Version::Dtls13] {
        for (of_client, of_server) in [(Some(4), Some(8)), (Some(0), Some(8)), (Some(5), None)] {
            let what = format!("{version} {of_client:?} {of_server:?}");
            let (mut client, mut server) = (config(1), config(2));
            client.connection_id = of_client;
            server.connection_id = of_server;
            server.max_version = version;
            let mut pair = Pair::new(client, server, 3);
            pair.exchange();
            pair.assert_connected(&what);
            pair.assert_data_flows(&what);
            let used = of_server.is_some();
            assert_eq!(
                pair.client.dtls.local_connection_id().len(),
                if used { of_client.unwrap() } else { 0 },
                "{what}"
            );
            assert_eq!(
                pair.server.dtls.local_connection_id().len(),
                of_server.unwrap_or(0),
                "{what}"
            );
        }
    }
}

#[test]
fn a_certificate_that_was_not_announced_ends_the_handshake() {
    for version in [Version::Dtls12, Version::Dtls13] {
        let mut server = config(2);
        server.max_version = version;
        let mut pair = Pair::strangers(config(1), server, 3);
        let stranger = certificate(KeyAlgorithm::EcdsaP256, 99)
            .fingerprint(visavis_crypto::HashAlgorithm::Sha256);
        pair.client
            .dtls
            .set_remote_fingerprints(pair.now, [stranger]);
        common::introduce(pair.now, &mut pair.server, &mut pair.client);
        pair.exchange();
        let alert = visavis_dtls::AlertDescription::BAD_CERTIFICATE;
        assert_eq!(
            pair.client.events,
            [Event::Closed(CloseReason::FingerprintMismatch)]
        );
        assert_eq!(
            pair.server.events,
            [Event::Closed(CloseReason::RemoteAlert(alert))]
        );

        // And the server judges as well.
        let mut server = config(2);
        server.max_version = version;
        let mut pair = Pair::strangers(config(1), server, 3);
        pair.server
            .dtls
            .set_remote_fingerprints(pair.now, [stranger]);
        common::introduce(pair.now, &mut pair.client, &mut pair.server);
        pair.exchange();
        assert_eq!(
            pair.server.events,
            [Event::Closed(CloseReason::FingerprintMismatch)]
        );
        assert!(pair.client.dtls.is_closed());
    }
}

#[test]
fn one_of_several_fingerprints_is_enough() {
    let mut pair = Pair::strangers(config(1), config(2), 3);
    let of = |config: &visavis_dtls::Config| {
        config.certificates[0].fingerprint(visavis_crypto::HashAlgorithm::Sha256)
    };
    let stranger =
        certificate(KeyAlgorithm::EcdsaP256, 99).fingerprint(visavis_crypto::HashAlgorithm::Sha256);
    let server = of(pair.server.dtls.config());
    let client = of(pair.client.dtls.config());
    pair.client
        .dtls
        .set_remote_fingerprints(pair.now, [stranger, server]);
    pair.server
        .dtls
        .set_remote_fingerprints(pair.now, [client, stranger]);
    pair.exchange();
    pair.assert_connected("several");
}

#[test]
fn the_handshake_waits_for_late_fingerprints() {
    for version in [Version::Dtls12, Version::Dtls13] {
        let mut server = config(2);
        server.max_version = version;
        let mut pair = Pair::strangers(config(1), server, 3);
        pair.exchange();
        for _ in 0..200 {
            assert!(!pair.client.dtls.is_connected() && !pair.server.dtls.is_connected());
            pair.elapse(std::time::Duration::from_secs(10));
            pair.exchange();
        }
        assert!(pair.client.events.contains(&Event::FingerprintsNeeded));
        common::introduce(pair.now, &mut pair.client, &mut pair.server);
        pair.exchange();
        assert!(!pair.server.dtls.is_connected(), "{version}");
        common::introduce(pair.now, &mut pair.server, &mut pair.client);
        for _ in 0..3 {
            pair.exchange();
            pair.elapse(std::time::Duration::from_secs(10));
        }
        pair.exchange();
        pair.assert_connected(&format!("{version} late"));
        pair.assert_data_flows("late");
    }
}

#[test]
fn a_server_that_asks_for_no_certificate_gets_none() {
    for version in [Version::Dtls12, Version::Dtls13] {
        let mut server = config(2);
        server.max_version = version;
        server.request_client_certificate = false;
        let mut pair = Pair::new(config(1), server, 3);
        pair.exchange();
        pair.assert_connected("anonymous client");
        assert_eq!(pair.server.dtls.remote_certificate_der(), None);
        pair.assert_data_flows("anonymous client");
    }
}

#[test]
fn keys_can_be_logged_on_request_only() {
    let mut pair = Pair::new(config(1), config(2), 3);
    pair.exchange();
    let is_line = |event: &Event| matches!(event, Event::KeyLog(_));
    assert!(!pair.client.events.iter().any(is_line));
    for (version, labels) in [
        (
            Version::Dtls13,
            &[
                "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
                "SERVER_HANDSHAKE_TRAFFIC_SECRET",
                "CLIENT_TRAFFIC_SECRET_0",
                "SERVER_TRAFFIC_SECRET_0",
                "EXPORTER_SECRET",
            ][..],
        ),
        (Version::Dtls12, &["CLIENT_RANDOM"][..]),
    ] {
        let (mut client, mut server) = (config(1), config(2));
        client.key_log = true;
        server.key_log = true;
        server.max_version = version;
        let mut pair = Pair::new(client, server, 3);
        pair.exchange();
        let lines = |events: &[Event]| -> Vec<String> {
            let line = |event: &Event| match event {
                Event::KeyLog(line) => Some(line.clone()),
                _ => None,
            };
            events.iter().filter_map(line).collect()
        };
        let lines_of_client = lines(&pair.client.events);
        assert_eq!(lines_of_client, lines(&pair.server.events));
        let names: Vec<_> = lines_of_client
            .iter()
            .map(|line| line.split(' ').next().unwrap())
            .collect();
        assert_eq!(names, labels);
    }
}

#[test]
fn close_notify_closes_both_ends() {
    for version in [Version::Dtls12, Version::Dtls13] {
        let mut server = config(2);
        server.max_version = version;
        let mut pair = Pair::new(config(1), server, 3);
        pair.exchange();
        pair.client.dtls.close(pair.now);
        assert_eq!(
            pair.client.dtls.seal(&mut [0; 100], 5..83),
            Err(visavis_dtls::Error::Closed)
        );
        pair.exchange();
        let last = |events: &[Event]| events.last().cloned();
        assert_eq!(
            last(&pair.client.events),
            Some(Event::Closed(CloseReason::Local))
        );
        assert_eq!(
            last(&pair.server.events),
            Some(Event::Closed(CloseReason::Remote))
        );
        assert_eq!(pair.client.dtls.poll_timeout(), None);
    }
}

#[test]
fn key_updates_from_both_ends() {
    let mut pair = Pair::new(config(1), config(2), 3);
    pair.exchange();
    for round in 0..5 {
        pair.client.dtls.update_keys(pair.now, true).unwrap();
        if round % 2 == 0 {
            pair.server.dtls.update_keys(pair.now, false).unwrap();
        }
        pair.exchange();
        pair.assert_data_flows("updated");
        let count = |events: &[Event], wanted: &Event| {
            events.iter().filter(|event| *event == wanted).count()
        };
        let events = &pair.client.events;
        assert_eq!(count(events, &Event::LocalKeysUpdated), round + 1);
        assert!(count(events, &Event::RemoteKeysUpdated) > round);
    }
    let mut server = config(2);
    server.max_version = Version::Dtls12;
    let mut pair = Pair::new(config(1), server, 3);
    pair.exchange();
    assert_eq!(
        pair.client.dtls.update_keys(pair.now, true),
        Err(visavis_dtls::Error::Version)
    );
}

#[test]
fn keys_are_updated_before_the_aeads_limit() {
    let mut client = config(1);
    client.limits.records_per_key = 10;
    let mut pair = Pair::new(client, config(2), 3);
    pair.exchange();
    for _ in 0..10 {
        pair.assert_data_flows("limit");
        pair.exchange();
    }
    let updates = pair
        .client
        .events
        .iter()
        .filter(|event| **event == Event::LocalKeysUpdated)
        .count();
    assert!(updates >= 2, "{updates}");
}

/// RFC 5246 section 7.4.1.4, RFC 8446 section 4.2.7: what was offered may be answered. The crate `webrtc` and others list
/// their groups in a ServerHello of 1.2; an extension that nobody offered ends the handshake.
#[test]
fn a_server_of_1_2_may_list_its_groups() {
    const GROUPS: [u8; 8] = [0, 10, 0, 4, 0, 2, 0, 29];
    const UNKNOWN: [u8; 4] = [0xfa, 0xfa, 0, 0];
    for (extension, goes_on) in [(&GROUPS[..], true), (&UNKNOWN[..], false)] {
        let mut server = config(2);
        server.max_version = Version::Dtls12;
        let mut pair = Pair::new(config(1), server, 1);
        for datagram in pair.client.transmit(pair.now) {
            pair.server.receive(pair.now, datagram);
        }
        for datagram in pair.server.transmit(pair.now) {
            let datagram = with_extension(datagram, extension);
            pair.client.receive(pair.now, datagram);
        }
        assert_eq!(!pair.client.dtls.is_closed(), goes_on);
        // Behind the ServerHello everything is taken: the certificate and the key go out.
        let sent = pair.client.transmit(pair.now).concat();
        let is_certificate = sent[..14].ends_with(&[11]);
        assert_eq!(is_certificate, goes_on, "{sent:?}");
    }
}

/// A datagram that begins with a ServerHello, with another extension in that.
fn with_extension(mut datagram: Vec<u8>, extension: &[u8]) -> Vec<u8> {
    // Records have 13 bytes of header, messages 12; the extensions are behind version, random, an empty session id, suite
    // and compression.
    const MESSAGE: usize = 13;
    const EXTENSIONS: usize = MESSAGE + 12 + 2 + 32 + 1 + 2 + 1;
    if datagram[0] != 22 || datagram[MESSAGE] != 2 {
        return datagram;
    }
    let len = usize::from(u16::from_be_bytes([datagram[11], datagram[12]]));
    datagram.splice(MESSAGE + len..MESSAGE + len, extension.iter().copied());
    // The record's length, the message's, the fragment's, the block's.
    for at in [11, MESSAGE + 2, MESSAGE + 10, EXTENSIONS] {
        let old = u16::from_be_bytes([datagram[at], datagram[at + 1]]);
        datagram[at..at + 2].copy_from_slice(&(old + extension.len() as u16).to_be_bytes());
    }
    datagram
}
