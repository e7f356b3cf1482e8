//! Restarts, and handshakes that ride in other handshakes.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{ALICE, BOB, Call, End};
use visavis_netsim::LinkConfig;
use visavis_peer::{
    CertificateKind, ChannelOptions, Configuration, ConnectionState, Description, DtlsState, Event,
    Kind, MessageKind, OfferOptions, PeerConnection, StatsKind, generate_certificate,
};

fn open(end: &End) -> bool {
    end.saw(|event| matches!(event, Event::DataChannelOpen(_)))
}

/// Seconds until the offerer's channel is open, over links of 100 ms round trip.
fn time_to_open(seed: u64, loss: f64, change: impl Fn(&mut Configuration)) -> f64 {
    let mut configuration = Configuration::default();
    change(&mut configuration);
    let link = LinkConfig::new()
        .delay(Duration::from_millis(25))
        .random_loss(loss);
    let mut call = Call::new(seed, link, [configuration.clone(), configuration]);
    let now = call.now();
    let options = ChannelOptions::default();
    let id = call.pc(ALICE).create_data_channel(now, options).unwrap();
    let begin = call.now();
    call.negotiate(ALICE);
    assert!(
        call.run(60.0, |alice, bob| open(alice) && open(bob)),
        "seed {seed}"
    );
    let took = (call.now() - begin).as_secs_f64();
    let now = call.now();
    let hello = Bytes::from_static(b"hello");
    call.pc(ALICE)
        .send(now, id, MessageKind::Text, hello)
        .unwrap();
    let got = call.run(30.0, |_, bob| {
        bob.saw(|e| matches!(e, Event::Message { .. }))
    });
    assert!(got, "seed {seed}: {:#?}", call.end(BOB).events);
    took
}

#[test]
fn sctp_in_descriptions_saves_round_trips() {
    let plain = time_to_open(1, 0.0, |_| {});
    let snap = time_to_open(1, 0.0, |configuration| configuration.snap = true);
    assert!(snap < plain - 0.09, "{snap} {plain}");
    for seed in 2..5 {
        time_to_open(seed, 0.2, |configuration| configuration.snap = true);
    }
}

/// With a ClientHello of one piece, a whole round trip; a post-quantum one needs two messages.
#[test]
fn dtls_in_stun_saves_a_round_trip() {
    let classic = |configuration: &mut Configuration| {
        configuration.dtls.groups = vec![visavis_crypto::Group::X25519];
    };
    let plain = time_to_open(1, 0.0, classic);
    let sped = time_to_open(1, 0.0, |configuration| {
        classic(configuration);
        configuration.sped = true;
    });
    assert!(sped < plain - 0.09, "{sped} {plain}");
    let plain = time_to_open(1, 0.0, |_| {});
    let sped = time_to_open(1, 0.0, |configuration| configuration.sped = true);
    assert!(sped <= plain, "{sped} {plain}");
    for seed in 2..5 {
        time_to_open(seed, 0.2, |configuration| configuration.sped = true);
    }
}

#[test]
fn one_end_alone_does_without() {
    for flip in [false, true] {
        let mut wants = Configuration::default();
        (wants.sped, wants.snap) = (true, true);
        let plain = Configuration {
            snap: false,
            ..Configuration::default()
        };
        let link = LinkConfig::new().delay(Duration::from_millis(20));
        let both = if flip { [plain, wants] } else { [wants, plain] };
        let mut call = Call::new(9, link, both);
        let now = call.now();
        call.pc(ALICE)
            .create_data_channel(now, ChannelOptions::default())
            .unwrap();
        call.negotiate(ALICE);
        assert!(
            call.run(10.0, |alice, bob| open(alice) && open(bob)),
            "flip {flip}"
        );
    }
}

#[test]
fn ice_restarts_while_messages_flow() {
    for by in [ALICE, BOB] {
        let mut call = Call::plain(11, 0.0);
        let now = call.now();
        let id = call
            .pc(ALICE)
            .create_data_channel(now, ChannelOptions::default())
            .unwrap();
        call.negotiate(ALICE);
        assert!(call.run(10.0, |alice, bob| open(alice) && open(bob)));
        let ufrag =
            |call: &mut Call, end: usize| call.pc(end).ice().local_credentials().ufrag.to_string();
        let before = [ufrag(&mut call, ALICE), ufrag(&mut call, BOB)];
        let pairs = |end: &End| {
            end.events
                .iter()
                .filter(|e| matches!(e, Event::SelectedPair(_)))
                .count()
        };
        let selected = [pairs(call.end(ALICE)), pairs(call.end(BOB))];
        call.end(by).events.clear();
        call.pc(by).restart_ice();
        assert!(
            call.run(0.1, |alice, bob| {
                [alice, bob][by].saw(|e| *e == Event::NegotiationNeeded)
            }) || call.pc(by).poll_event() == Some(Event::NegotiationNeeded)
        );
        call.negotiate(by);
        assert_ne!(ufrag(&mut call, ALICE), before[0]);
        assert_ne!(ufrag(&mut call, BOB), before[1]);
        // The old path carries on until the new session has one (RFC 8445 section 9).
        let now = call.now();
        call.pc(ALICE)
            .send(now, id, MessageKind::Text, Bytes::from_static(b"amid"))
            .unwrap();
        assert!(call.run(0.045, |_, bob| {
            bob.saw(|e| matches!(e, Event::Message { .. }))
        }));
        call.end(BOB)
            .events
            .retain(|e| !matches!(e, Event::Message { .. }));
        assert!(call.run(10.0, |alice, bob| pairs(alice) + pairs(bob)
            >= selected[0] + selected[1]));
        let now = call.now();
        call.pc(ALICE)
            .send(now, id, MessageKind::Text, Bytes::from_static(b"still"))
            .unwrap();
        assert!(call.run(10.0, |_, bob| {
            bob.saw(|e| matches!(e, Event::Message { .. }))
        }));
        assert!(
            !call
                .end(ALICE)
                .saw(|e| *e == Event::ConnectionState(ConnectionState::Failed))
        );
    }
}

/// The answerer takes other credentials in its second answer, although it was offered the same (Pion does, before its transport has
/// begun): this end's, which it was told, stay.
#[test]
fn an_answer_may_change_its_credentials_unasked() {
    let mut random = visavis_datagram::Random::from_u64(31);
    let kind = CertificateKind::EcdsaP256;
    let certificate = generate_certificate(kind, Duration::ZERO, &mut random).unwrap();
    let bob = Configuration {
        certificates: vec![certificate],
        ..Configuration::default()
    };
    let link = LinkConfig::new().delay(Duration::from_millis(20));
    let mut call = Call::new(31, link, [Configuration::default(), bob.clone()]);
    let now = call.now();
    call.pc(ALICE)
        .create_data_channel(now, ChannelOptions::default())
        .unwrap();
    let (offer, first) = call.negotiate(ALICE);
    *call.end(BOB) = End::new(bob, 32, now, "203.0.113.2:5000");
    let (again, second) = call.negotiate(ALICE);
    let ufrag = |description: &Description| {
        let mut lines = description.sdp.lines();
        let line = lines.find(|line| line.starts_with("a=ice-ufrag:"));
        line.expect("credentials").to_owned()
    };
    assert_ne!(ufrag(&first), ufrag(&second));
    assert_eq!(ufrag(&offer), ufrag(&again));
    let own = call.pc(ALICE).ice().local_credentials().ufrag.to_string();
    assert_eq!(ufrag(&again), format!("a=ice-ufrag:{own}"));
    assert!(call.run(10.0, |alice, bob| open(alice) && open(bob)));
}

/// Firefox 153 answers `active` to each offer, also where it was passive, and goes on with the association that there is. One that
/// begins another (RFC 8842 section 5.1), without a name for it, is followed.
#[test]
fn another_role_is_another_association_once_the_peer_begins_it() {
    let mut random = visavis_datagram::Random::from_u64(51);
    let kind = CertificateKind::EcdsaP256;
    let certificate = generate_certificate(kind, Duration::ZERO, &mut random).unwrap();
    let bob = Configuration {
        certificates: vec![certificate],
        ..Configuration::default()
    };
    let link = LinkConfig::new().delay(Duration::from_millis(20));
    let mut call = Call::new(51, link, [Configuration::default(), bob.clone()]);
    let nameless = |sdp: String| -> String {
        let lines = sdp.split_inclusive("\r\n");
        lines.filter(|line| !line.starts_with("a=tls-id")).collect()
    };
    let now = call.now();
    let options = ChannelOptions::default();
    let id = call.pc(BOB).create_data_channel(now, options).unwrap();
    call.negotiate_with(BOB, nameless);
    assert!(call.run(10.0, |alice, bob| open(alice) && open(bob)));

    // Alice, the client so far, offers, and is told that she is the server.
    let now = call.now();
    call.pc(ALICE).set_local_description(now, None).unwrap();
    let mut offer = call.pc(ALICE).local_description().unwrap();
    offer.sdp = nameless(offer.sdp);
    call.pc(BOB).set_remote_description(now, &offer).unwrap();
    call.pc(BOB).set_local_description(now, None).unwrap();
    let mut answer = call.pc(BOB).local_description().unwrap();
    assert!(answer.sdp.contains("a=setup:passive"));
    answer.sdp = answer.sdp.replace("a=setup:passive", "a=setup:active");
    call.pc(ALICE).set_remote_description(now, &answer).unwrap();
    assert_eq!(call.pc(ALICE).dtls_state(), DtlsState::Connected);
    let text = Bytes::from_static(b"still");
    call.pc(BOB).send(now, id, MessageKind::Text, text).unwrap();
    assert!(call.run(10.0, |alice, _| {
        alice.saw(|event| matches!(event, Event::Message { .. }))
    }));

    // Bob begins anew with the same certificate, and takes the role that he said.
    *call.end(BOB) = End::new(bob, 52, now, "203.0.113.2:5000");
    call.end(ALICE).events.clear();
    let (_, answer) = call.negotiate_with(ALICE, nameless);
    assert!(answer.sdp.contains("a=setup:active") && !answer.sdp.contains("a=tls-id"));
    let connected = |end: &End| end.saw(|event| *event == Event::DtlsState(DtlsState::Connected));
    assert!(call.run(10.0, |alice, bob| connected(alice) && connected(bob)));
}

#[test]
fn an_offer_with_ice_restart_has_new_credentials() {
    let mut call = Call::plain(12, 0.0);
    let now = call.now();
    call.pc(ALICE)
        .create_data_channel(now, ChannelOptions::default())
        .unwrap();
    call.negotiate(ALICE);
    let pc = call.pc(ALICE);
    let before = pc.ice().local_credentials().ufrag.to_string();
    let plain = pc.create_offer(now, OfferOptions::default()).unwrap();
    assert!(plain.sdp.contains(&format!("a=ice-ufrag:{before}\r")));
    let restart = pc
        .create_offer(now, OfferOptions { ice_restart: true })
        .unwrap();
    assert!(!restart.sdp.contains(&format!("a=ice-ufrag:{before}\r")));
}

/// A quarter of the datagrams lost each way, 100 ms round trip: checks, flights and the opening message are all
/// sent again in time.
#[test]
fn with_a_quarter_lost_channels_open_all_the_same() {
    let loss = 1.0 - 0.75f64.sqrt();
    let mut times: Vec<f64> = (1..=200)
        .map(|seed| time_to_open(seed, loss, |configuration| configuration.snap = true))
        .collect();
    times.sort_by(f64::total_cmp);
    let [median, late, last] = [100, 190, 199].map(|at| times[at]);
    eprintln!("open after {median:.2} s in the median, {late:.2} s at p95, {last:.2} s at most");
    assert!(median < 1.5 && late < 6.0, "{median} s, {late} s at p95");
}

/// RFC 8842 section 5: the name of the association stays while it does, and a new one of the peer is answered
/// with a new one.
#[test]
fn associations_have_names() {
    let tls_id = |sdp: &str| {
        let lines: Vec<_> = sdp
            .lines()
            .filter_map(|line| line.strip_prefix("a=tls-id:"))
            .collect();
        assert!(lines.windows(2).all(|pair| pair[0] == pair[1]), "{sdp}");
        lines.first().map(|id| (*id).to_owned())
    };
    let mut call = Call::plain(14, 0.0);
    let now = call.now();
    call.pc(ALICE)
        .create_data_channel(now, ChannelOptions::default())
        .unwrap();
    let (offer, answer) = call.negotiate(ALICE);
    let (alice, bob) = (tls_id(&offer.sdp).unwrap(), tls_id(&answer.sdp).unwrap());
    assert!(alice != bob && (20..=255).contains(&alice.len()));
    assert!(call.run(10.0, |alice, bob| open(alice) && open(bob)));
    let (offer, answer) = call.negotiate(BOB);
    assert_eq!(
        (tls_id(&offer.sdp), tls_id(&answer.sdp)),
        (Some(bob.clone()), Some(alice.clone()))
    );
    assert_eq!(call.pc(BOB).dtls_state(), DtlsState::Connected);

    // A peer that does not name it gets no name.
    let now = call.now();
    call.pc(ALICE).set_local_description(now, None).unwrap();
    let offer = call.pc(ALICE).local_description().unwrap();
    let named = format!("a=tls-id:{alice}\r\n");
    let mut silent = offer.clone();
    silent.sdp = silent.sdp.replace(&named, "");
    call.pc(BOB).set_remote_description(now, &silent).unwrap();
    let answer = call.pc(BOB).create_answer(now).unwrap();
    assert_eq!(tls_id(&answer.sdp), None);
    let rollback = Description::from_parts("rollback", "").unwrap();
    call.pc(BOB).set_remote_description(now, &rollback).unwrap();

    // Another name is another association.
    let mut renamed = offer;
    renamed.sdp = renamed.sdp.replace(&alice, "another-name-of-alice");
    call.pc(BOB).set_remote_description(now, &renamed).unwrap();
    let answer = call.pc(BOB).create_answer(now).unwrap();
    let next = tls_id(&answer.sdp).unwrap();
    assert_ne!(next, bob);
    call.pc(BOB).set_local_description(now, None).unwrap();
    assert_eq!(
        tls_id(&call.pc(BOB).local_description().unwrap().sdp),
        Some(next)
    );
    assert_ne!(call.pc(BOB).dtls_state(), DtlsState::Connected);
}

#[test]
fn statistics_have_the_names_of_the_specification() {
    let mut call = Call::plain(13, 0.0);
    let now = call.now();
    call.pc(ALICE)
        .create_data_channel(
            now,
            ChannelOptions {
                label: "l".into(),
                ..Default::default()
            },
        )
        .unwrap();
    call.pc(ALICE).add_track(Kind::Audio, "a", &[]).unwrap();
    call.negotiate(ALICE);
    assert!(call.run(10.0, |alice, bob| open(alice) && open(bob)));
    let now = call.now();
    let report = call.pc(ALICE).stats(now);
    let transport = report.of(StatsKind::Transport).next().unwrap();
    assert_eq!(transport.text("dtlsState"), Some("connected"));
    assert_eq!(transport.text("tlsVersion"), Some("FEFC"));
    assert!(transport.count("packetsSent").unwrap() > 3);
    let pair = transport.text("selectedCandidatePairId").unwrap();
    let pair = report.get(pair).unwrap();
    let local = report.get(pair.text("localCandidateId").unwrap()).unwrap();
    assert_eq!(local.text("address"), Some("203.0.113.1"));
    let channel = report.of(StatsKind::DataChannel).next().unwrap();
    assert_eq!(
        (channel.text("label"), channel.text("state")),
        (Some("l"), Some("open"))
    );
    assert_eq!(report.of(StatsKind::Certificate).count(), 2);
    let mut ids: Vec<_> = report.entries.iter().map(|entry| &entry.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), report.entries.len());
    let decisions: Vec<_> = call
        .pc(ALICE)
        .log()
        .map(|entry| format!("{:?}", entry.what))
        .collect();
    assert!(
        decisions
            .iter()
            .any(|what| what.starts_with("SelectedPair")),
        "{decisions:?}"
    );
}

#[test]
fn servers_can_be_changed() {
    let mut call = Call::plain(20, 0.0);
    let now = call.now();
    let mut changed = Configuration::default();
    changed.ice.transport_policy = visavis_ice::TransportPolicy::Relay;
    call.pc(ALICE).set_configuration(&changed).unwrap();
    call.pc(ALICE)
        .create_data_channel(now, ChannelOptions::default())
        .unwrap();
    call.negotiate(ALICE);
    // Without a relay the peer learns no address of this end.
    let told =
        |event: &Event| matches!(event, Event::IceCandidate(Some(c)) if !c.candidate.is_empty());
    assert!(!call.end(ALICE).saw(told));
    changed.bundle_policy = visavis_peer::BundlePolicy::MaxBundle;
    let refused = call.pc(ALICE).set_configuration(&changed).unwrap_err();
    assert_eq!(refused.name(), "InvalidModificationError");
    let now = call.now();
    call.pc(ALICE).close(now);
    let refused = call.pc(ALICE).set_configuration(&Configuration::default());
    assert_eq!(refused.unwrap_err().name(), "InvalidStateError");
}

/// webrtc-pc section 4.9: either end may bring either key, and the fingerprints are of what it brings.
#[test]
fn certificates_of_either_kind_connect() {
    use visavis_crypto::HashAlgorithm;
    use visavis_dtls::Version;
    use visavis_peer::{CertificateKind, generate_certificate};
    let clock = Duration::from_secs(1_800_000_000);
    let mut random = visavis_datagram::Random::from_u64(1);
    let mut make = |kind| generate_certificate(kind, clock, &mut random).unwrap();
    let both = [
        make(CertificateKind::Rsa2048),
        make(CertificateKind::EcdsaP256),
    ];
    for version in [Version::Dtls13, Version::Dtls12] {
        for (seed, [alice, bob]) in [[0, 1], [1, 0], [0, 0]].into_iter().enumerate() {
            let configurations = [alice, bob].map(|which: usize| {
                let mut configuration = Configuration {
                    certificates: vec![both[which].clone()],
                    wall_clock: clock,
                    ..Default::default()
                };
                configuration.dtls.max_version = version;
                configuration
            });
            let mut call = Call::new(seed as u64, LinkConfig::new(), configurations);
            let now = call.now();
            let made = call
                .pc(ALICE)
                .create_data_channel(now, ChannelOptions::default());
            made.unwrap();
            let (offer, _) = call.negotiate(ALICE);
            let fingerprint = both[alice].fingerprint(HashAlgorithm::Sha256).to_string();
            assert!(offer.sdp.contains(&fingerprint), "{}", offer.sdp);
            let opened = call.run(10.0, |alice, bob| open(alice) && open(bob));
            assert!(opened, "{version:?}, seed {seed}");
            let seen = call.pc(BOB).remote_certificate().map(<[u8]>::to_vec);
            assert_eq!(seen.as_deref(), Some(both[alice].der()));
        }
    }
}

/// DTLS 1.2 has no hybrid group: what could only fail later is refused at once.
#[test]
fn settings_of_dtls_that_exclude_each_other_are_refused_at_birth() {
    let mut configuration = Configuration::default();
    configuration.dtls.groups = vec![visavis_crypto::Group::X25519MlKem768];
    let random = visavis_datagram::Random::from_u64(1);
    let now = std::time::Instant::now();
    let refused = PeerConnection::new(configuration.clone(), random.clone(), now);
    let error = refused.expect_err("an error");
    assert_eq!(error.name(), "NotSupportedError");
    assert!(error.to_string().contains("groups"), "{error}");
    configuration.dtls.min_version = visavis_dtls::Version::Dtls13;
    assert!(PeerConnection::new(configuration, random, now).is_ok());
}
