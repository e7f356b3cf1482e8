//! Attacks on authentication: nonces, names, integrity, downgrades.

mod common;

use std::time::Duration;

use common::{PASSWORD, Raw, USER, World, address, code, config};
use visavis_stun::attributes::{
    ErrorCode, EvenPort, Lifetime, Nonce, PasswordAlgorithm, PasswordAlgorithms, Realm,
    RequestedTransport, Username, XorPeerAddress,
};
use visavis_stun::{
    AttributeType, Class, IntegrityKey, Message, MessageBuilder, Method, PasswordAlgorithmId,
    SecurityFeatures, TransactionId,
};
use visavis_turn::server::{Credentials, Event, Realm as ServerRealm};

fn allocate_code(world: &mut World, raw: &Raw) -> u16 {
    raw.code(world, Method::ALLOCATE, |b| {
        b.add(&RequestedTransport::UDP);
    })
}

#[test]
fn no_credentials_configured_is_no_open_relay() {
    let mut config = config();
    config.realms.clear();
    let mut world = World::with(config);
    let raw = Raw::new("7.7.7.7:1000");
    assert_eq!(allocate_code(&mut world, &raw), 403);
    assert!(world.server.is_empty());
}

#[test]
fn attack_26_made_up_foreign_and_expired_nonces() {
    let mut world = World::new();
    let mut raw = Raw::new("7.7.7.7:1000");
    raw.challenge(&mut world);
    let good = raw.nonce.clone();
    let mut other = Raw::new("7.7.7.7:1001");
    other.nonce = good.clone();
    assert_eq!(allocate_code(&mut world, &other), 438, "another client's");
    for made_up in [
        b"x".to_vec(),
        b"obMatJos2gAAA".to_vec(),
        vec![b'A'; 27],
        vec![b'A'; 128],
        vec![b'"'; 700],
        [&good[..], b"A"].concat(),
        good[..good.len() - 1].to_vec(),
    ] {
        raw.nonce = made_up;
        assert_eq!(allocate_code(&mut world, &raw), 438);
    }
    raw.nonce = good.clone();
    world.advance(Duration::from_secs(601));
    assert_eq!(allocate_code(&mut world, &raw), 438, "expired");
    // No HMAC over the message was computed for any of them.
    assert_eq!(world.server.stats().unauthenticated, 0);
    assert!(world.server.is_empty());
}

#[test]
fn attack_27_a_wrong_user_is_like_a_wrong_password() {
    let mut world = World::new();
    let mut answers = Vec::new();
    for (user, password) in [
        (USER, "wrong"),
        ("nobody-like-that", PASSWORD),
        ("9999999999:x", "y"),
    ] {
        let mut raw = Raw::new("7.7.7.7:1000");
        raw.set_user(user, password);
        raw.challenge(&mut world);
        let id = TransactionId([5; 12]);
        let request = raw.build(Method::ALLOCATE, id, |b| {
            b.add(&RequestedTransport::UDP);
        });
        world.client_sends(raw.path, &request);
        answers.push(world.answer(raw.path));
    }
    assert_eq!(code(&answers[0]), 401);
    assert_eq!(answers[0], answers[1], "same bytes");
    assert_eq!(answers[0], answers[2]);
    assert_eq!(world.server.stats().unauthenticated, 3);
}

/// The clock tells no more than the answer does: the least time of many batches, which a busy machine does not change much.
#[test]
fn attacks_27_and_33_a_wrong_user_takes_as_long_as_a_wrong_password() {
    let mut config = config();
    config.limits.challenges_per_second = 1e9;
    let mut world = World::with(config);
    let mut request_of = |user: &str| {
        let mut raw = Raw::new("7.7.7.7:1000");
        raw.set_user(user, "wrong");
        raw.challenge(&mut world);
        let id = TransactionId([5; 12]);
        raw.build(Method::ALLOCATE, id, |b| {
            b.add(&RequestedTransport::UDP);
        })
    };
    // Names of one length, so that nothing else differs.
    let mut requests = [USER, "z".repeat(USER.len()).as_str()].map(&mut request_of);
    let from = Raw::new("7.7.7.7:1000").path;
    let mut least = [Duration::MAX; 2];
    for _ in 0..100 {
        for (request, least) in requests.iter_mut().zip(&mut least) {
            let begun = std::time::Instant::now();
            for _ in 0..100 {
                world.server.handle_client(world.now, from, request);
                world.pump();
            }
            *least = begun.elapsed().min(*least);
        }
    }
    let ratio = least[1].as_secs_f64() / least[0].as_secs_f64();
    assert!((0.8..1.25).contains(&ratio), "{least:?}");
    assert_eq!(world.server.stats().unauthenticated, 20_000);
}

#[test]
fn attack_28_integrity_missing_truncated_not_last_or_both() {
    let mut world = World::new();
    let mut raw = Raw::new("7.7.7.7:1000");
    raw.challenge(&mut world);
    let build = |add: &dyn Fn(&mut MessageBuilder<'_>), named: bool| {
        let mut buffer = vec![0; 1000];
        let id = TransactionId([5; 12]);
        let mut builder = MessageBuilder::new(&mut buffer, Class::Request, Method::ALLOCATE, id);
        builder.add(&RequestedTransport::UDP);
        if named {
            builder
                .add(&Username(USER))
                .add(&Realm(common::REALM))
                .add(&Nonce(&raw.nonce));
        }
        add(&mut builder);
        let len = builder.finish().unwrap();
        buffer.truncate(len);
        buffer
    };
    let wrong = IntegrityKey::short_term("wrong");
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("none", build(&|_| (), true), 401),
        ("no name", build(&|b| _ = b.integrity(&raw.key), false), 400),
        (
            "truncated",
            build(
                &|b| _ = b.add_raw(AttributeType::MESSAGE_INTEGRITY, &[0; 4]),
                true,
            ),
            401,
        ),
        (
            "empty SHA-256",
            build(
                &|b| _ = b.add_raw(AttributeType::MESSAGE_INTEGRITY_SHA256, &[]),
                true,
            ),
            401,
        ),
        (
            "right SHA-1 and wrong SHA-256",
            build(
                &|b| _ = b.integrity(&raw.key).integrity_sha256(&wrong),
                true,
            ),
            401,
        ),
        (
            "both right",
            build(
                &|b| _ = b.integrity(&raw.key).integrity_sha256(&raw.key),
                true,
            ),
            0,
        ),
    ];
    for (name, request, expected) in cases {
        world.client_sends(raw.path, &request);
        let answer = world.answer(raw.path);
        assert_eq!(code(&answer), expected, "{name}");
    }
    assert_eq!(world.server.len(), 1);
}

#[test]
fn attack_29_attributes_behind_the_integrity_are_not_obeyed() {
    // Measured on coturn 4.6.1: it obeys them.
    let mut world = World::new();
    let mut raw = Raw::new("7.7.7.7:1000");
    let relay = raw.allocate(&mut world);
    let id = TransactionId::random(&mut world.random);
    let append = |mut request: Vec<u8>, attribute: &[u8]| {
        request.extend_from_slice(attribute);
        let length = (request.len() - 20) as u16;
        request[2..4].copy_from_slice(&length.to_be_bytes());
        request
    };
    // LIFETIME 0 behind a refresh.
    let refresh = raw.build(Method::REFRESH, id, |_| ());
    let refresh = append(refresh, &[0x00, 0x0d, 0, 4, 0, 0, 0, 0]);
    world.client_sends(raw.path, &refresh);
    assert_eq!(code(&world.answer(raw.path)), 0);
    assert_eq!(world.server.len(), 1, "not released");
    // A peer behind a permission.
    let mut buffer = [0; 100];
    let len = MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, id)
        .add(&XorPeerAddress(address("8.8.8.8:1")))
        .finish()
        .unwrap();
    let permission = raw.build(Method::CREATE_PERMISSION, id, |b| {
        b.add(&XorPeerAddress(address("9.9.9.9:1")));
    });
    world.client_sends(raw.path, &append(permission, &buffer[20..len]));
    assert_eq!(code(&world.answer(raw.path)), 0);
    world.peer_sends(address("8.8.8.8:1"), relay, b"was it added?");
    assert_eq!(world.to_clients, []);
}

#[test]
fn attack_30_another_user_on_a_living_allocation() {
    let mut world = World::new();
    let mut raw = Raw::new("7.7.7.7:1000");
    raw.allocate(&mut world);
    raw.set_user("bob", "bob's password");
    assert_eq!(raw.refresh(&mut world, 0), 441);
    assert_eq!(raw.permit(&mut world, "8.8.8.8:1"), 441);
    assert_eq!(raw.bind(&mut world, 0x4000, "8.8.8.8:1"), 441);
    assert_eq!(allocate_code(&mut world, &raw), 437);
    assert_eq!(world.server.len(), 1);
}

#[test]
fn attack_31_bid_down() {
    let mut world = World::new();
    let mut raw = Raw::new("7.7.7.7:1000");
    raw.nonce.clear();
    let challenge = raw.ask(&mut world, Method::ALLOCATE, |b| {
        b.add(&RequestedTransport::UDP).add(&Lifetime(600));
    });
    let challenge = Message::parse(&challenge).unwrap();
    let nonce = challenge.get::<Nonce<'_>>().unwrap().0.to_vec();
    assert!(
        SecurityFeatures::of_nonce(&nonce)
            .unwrap()
            .password_algorithms
    );
    let offered = challenge
        .get::<PasswordAlgorithms<'_>>()
        .unwrap()
        .0
        .to_vec();
    raw.nonce = nonce;
    let sha256 = PasswordAlgorithmId::SHA256;
    let sha256_key = IntegrityKey::long_term(USER, common::REALM, PASSWORD, sha256).unwrap();
    let attempt = |world: &mut World, offered: Option<&[u8]>, chosen: Option<u16>| {
        let mut buffer = vec![0; 1000];
        let id = TransactionId::random(&mut world.random);
        let mut builder = MessageBuilder::new(&mut buffer, Class::Request, Method::ALLOCATE, id);
        builder
            .add(&RequestedTransport::UDP)
            .add(&Username(USER))
            .add(&Realm(common::REALM))
            .add(&Nonce(&raw.nonce))
            .add_some(offered.map(PasswordAlgorithms).as_ref());
        let chosen = chosen.map(|id| PasswordAlgorithm::new(PasswordAlgorithmId(id)));
        builder.add_some(chosen.as_ref());
        let key = if chosen.is_some_and(|c| c.algorithm == sha256) {
            &sha256_key
        } else {
            &raw.key
        };
        let len = builder.integrity_sha256(key).finish().unwrap();
        world.client_sends(raw.path, &buffer[..len]);
        code(&world.answer(raw.path))
    };
    // What an attacker on the path would have left of the offer.
    assert_eq!(attempt(&mut world, Some(&[0, 1, 0, 0]), Some(1)), 400);
    assert_eq!(attempt(&mut world, Some(&[]), Some(1)), 400);
    assert_eq!(attempt(&mut world, Some(&offered), None), 400);
    assert_eq!(attempt(&mut world, None, Some(1)), 400);
    assert_eq!(attempt(&mut world, Some(&offered), Some(3)), 400);
    // A nonce whose feature bit was cleared is not the server's any more.
    let mut cleared = raw.nonce.clone();
    cleared[9..13].copy_from_slice(b"AAAA");
    let with_cleared = Raw {
        nonce: cleared,
        ..Raw::new("7.7.7.7:1000")
    };
    assert_eq!(allocate_code(&mut world, &with_cleared), 438);
    assert_eq!(attempt(&mut world, Some(&offered), Some(2)), 0);
}

#[test]
fn attack_32_time_limited_names() {
    // The server's clock says 1,800,000,000.
    let password = |user: &str, secret: &[u8]| {
        use base64::Engine as _;
        let key = visavis_crypto::hmac::Key::new(visavis_crypto::HashAlgorithm::Sha1, secret);
        base64::engine::general_purpose::STANDARD.encode(key.sign(&[user.as_bytes()]))
    };
    let mut world = World::new();
    let mut port = 1000;
    let mut attempt = |world: &mut World, user: &str, secret: &[u8]| {
        port += 1;
        let mut raw = Raw::new(&format!("7.7.7.7:{port}"));
        raw.set_user(user, &password(user, secret));
        raw.challenge(world);
        allocate_code(world, &raw)
    };
    assert_eq!(attempt(&mut world, "1800000060:alice", b"shared secret"), 0);
    assert_eq!(attempt(&mut world, "1800000060", b"shared secret"), 0);
    assert_eq!(attempt(&mut world, "1800000060:a:ü:c", b"shared secret"), 0);
    assert_eq!(attempt(&mut world, "1800000060:alice", b"another"), 401);
    assert_eq!(
        attempt(&mut world, "1800000000:alice", b"shared secret"),
        401
    );
    assert_eq!(attempt(&mut world, "1:alice", b"shared secret"), 401);
    for odd in [
        "",
        ":",
        "alice",
        "-1:a",
        "99999999999999999999999:a",
        "0x99999999:a",
    ] {
        let code = attempt(&mut world, odd, b"shared secret");
        assert_eq!(code, 401, "{odd}");
    }
    // `alice` is listed: the shared secret does not open her account.
    assert_eq!(attempt(&mut world, "alice", b"shared secret"), 401);
}

#[test]
fn time_limited_names_that_expire_during_a_call() {
    for strict in [false, true] {
        let mut config = config();
        config.strict_expiry = strict;
        let mut world = World::with(config);
        use base64::Engine as _;
        let key =
            visavis_crypto::hmac::Key::new(visavis_crypto::HashAlgorithm::Sha1, b"shared secret");
        let user = "1800000060:alice";
        let password =
            base64::engine::general_purpose::STANDARD.encode(key.sign(&[user.as_bytes()]));
        let mut raw = Raw::new("7.7.7.7:1000");
        raw.set_user(user, &password);
        raw.allocate(&mut world);
        world.advance(Duration::from_secs(120));
        assert_eq!(raw.refresh(&mut world, 600), if strict { 401 } else { 0 });
        let mut again = Raw::new("7.7.7.7:1001");
        again.set_user(user, &password);
        again.challenge(&mut world);
        assert_eq!(allocate_code(&mut world, &again), 401);
    }
}

#[test]
fn attack_34_replayed_requests_from_another_address() {
    let mut world = World::new();
    let mut raw = Raw::new("7.7.7.7:1000");
    raw.allocate(&mut world);
    let id = TransactionId::random(&mut world.random);
    let release = raw.build(Method::REFRESH, id, |b| {
        b.add(&Lifetime(0));
    });
    let stranger = Raw::new("7.7.7.8:1000");
    world.client_sends(stranger.path, &release);
    assert_eq!(
        code(&world.answer(stranger.path)),
        438,
        "the nonce is the client's alone"
    );
    assert_eq!(world.server.len(), 1);
}

#[test]
fn attack_35_secrets_overlap_while_they_rotate() {
    use base64::Engine as _;
    let user = "1800003600:alice";
    let password = |secret: &[u8]| {
        let key = visavis_crypto::hmac::Key::new(visavis_crypto::HashAlgorithm::Sha1, secret);
        base64::engine::general_purpose::STANDARD.encode(key.sign(&[user.as_bytes()]))
    };
    let with = |credentials: Credentials| {
        let mut config = config();
        config.realms = vec![ServerRealm::new(common::REALM, credentials)];
        config
    };
    let mut world = World::with(with(Credentials::new().secret(b"old")));
    let mut old = Raw::new("7.7.7.7:1000");
    old.set_user(user, &password(b"old"));
    old.allocate(&mut world);
    world
        .server
        .reconfigure(with(Credentials::new().secret(b"new").secret(b"old")));
    assert_eq!(old.refresh(&mut world, 600), 0);
    for (port, secret) in [(1001, &b"old"[..]), (1002, b"new")] {
        let mut raw = Raw::new(&format!("7.7.7.7:{port}"));
        raw.set_user(user, &password(secret));
        raw.allocate(&mut world);
    }
    world
        .server
        .reconfigure(with(Credentials::new().secret(b"new")));
    assert_eq!(
        old.refresh(&mut world, 600),
        0,
        "a living allocation keeps its key"
    );
    let mut late = Raw::new("7.7.7.7:1003");
    late.set_user(user, &password(b"old"));
    late.challenge(&mut world);
    assert_eq!(allocate_code(&mut world, &late), 401);
    assert_eq!(world.server.len(), 3);
}

#[test]
fn users_of_an_outside_service() {
    let mut config = config();
    config.limits.waiting_lookups = 4;
    config.realms = vec![ServerRealm::new(common::REALM, Credentials::new().lookup())];
    let mut world = World::with(config);
    let mut raw = Raw::new("7.7.7.7:1000");
    raw.challenge(&mut world);
    let request = raw.build(Method::ALLOCATE, TransactionId([1; 12]), |b| {
        b.add(&RequestedTransport::UDP);
    });
    // Asked once, however often the request is repeated.
    for _ in 0..3 {
        world.client_sends(raw.path, &request);
    }
    assert_eq!(world.to_clients, []);
    let lookup = Event::Lookup {
        realm: common::REALM.to_owned(),
        username: USER.to_owned(),
    };
    assert_eq!(world.server.poll_event(), Some(lookup));
    assert_eq!(world.server.poll_event(), None);
    world
        .server
        .lookup_done(world.now, common::REALM, USER, Some(PASSWORD));
    world.pump();
    assert_eq!(code(&world.answer(raw.path)), 0);
    // Names that nobody knows: remembered for a minute, and only so many wait at once.
    let mut refused = 0;
    for n in 0..10u8 {
        let mut raw = Raw::new(&format!("7.7.7.8:{}", 1000 + u16::from(n)));
        raw.set_user(&format!("stranger{n}"), "x");
        raw.challenge(&mut world);
        let request = raw.build(Method::ALLOCATE, TransactionId([n; 12]), |b| {
            b.add(&RequestedTransport::UDP);
        });
        world.client_sends(raw.path, &request);
        refused += world
            .to_clients
            .drain(..)
            .filter(|(_, b)| code(b) == 500)
            .count();
    }
    assert_eq!(refused, 6);
    world
        .server
        .lookup_done(world.now, common::REALM, "stranger0", None);
    world.pump();
    let (_, answer) = world.to_clients.pop().unwrap();
    assert_eq!(code(&answer), 401);
}

#[test]
fn realms_by_origin() {
    let mut config = config();
    config.realms.push(ServerRealm {
        name: "other".to_owned(),
        origins: vec!["https://other.example".to_owned()],
        hosts: vec!["turn.other.example".to_owned()],
        credentials: Credentials::new().user(USER, "another password"),
    });
    let mut world = World::with(config);
    let mut raw = Raw::new("7.7.7.7:1000");
    let answer = raw.ask(&mut world, Method::ALLOCATE, |b| {
        b.add(&RequestedTransport::UDP)
            .add(&visavis_stun::attributes::Origin("https://other.example"));
    });
    let answer = Message::parse(&answer).unwrap();
    assert_eq!(answer.get(), Some(Realm("other")));
    raw.nonce = answer.get::<Nonce<'_>>().unwrap().0.to_vec();
    // The nonce of one realm is stale in another.
    assert_eq!(allocate_code(&mut world, &raw), 438);
    raw.realm = "other".to_owned();
    raw.set_password("another password");
    assert_eq!(allocate_code(&mut world, &raw), 0);
    raw.realm = "neither".to_owned();
    assert_eq!(raw.refresh(&mut world, 0), 401);
}

#[test]
fn realms_by_the_host_that_was_asked_for() {
    let mut config = config();
    let mut other = ServerRealm::new("other", Credentials::new().user(USER, PASSWORD));
    other.hosts = vec!["turn.other.example".to_owned()];
    other.origins = vec!["https://other.example".to_owned()];
    config.realms.push(other);
    let own = config.realms[0].name.clone();
    let mut world = World::with(config);
    let raw = Raw::new("7.7.7.7:1000");
    let mut shown = |host: &str, origin: Option<&str>| {
        let id = TransactionId([9; 12]);
        let mut request = raw.build(Method::ALLOCATE, id, |b| {
            b.add(&RequestedTransport::UDP);
            if let Some(origin) = origin {
                b.add(&visavis_stun::attributes::Origin(origin));
            }
        });
        let now = world.now;
        world
            .server
            .handle_client_of(now, raw.path, host, &mut request);
        world.pump();
        let answer = world.answer(raw.path);
        let Realm(realm) = Message::parse(&answer).unwrap().get().unwrap();
        realm.to_owned()
    };
    assert_eq!(shown("turn.other.example", None), "other");
    assert_eq!(shown("elsewhere.example", None), own);
    assert_eq!(
        shown("elsewhere.example", Some("https://other.example")),
        "other"
    );
}

#[test]
fn errors_after_authentication_are_signed() {
    let mut world = World::new();
    let mut raw = Raw::new("7.7.7.7:1000");
    raw.allocate(&mut world);
    let answer = raw.ask(&mut world, Method::ALLOCATE, |b| {
        b.add(&RequestedTransport::UDP).add(&EvenPort {
            reserve_next: false,
        });
    });
    let message = Message::parse(&answer).unwrap();
    assert_eq!(message.get::<ErrorCode<'_>>().unwrap().code, 437);
    assert_eq!(message.authenticate(&raw.key), visavis_stun::Verdict::Valid);
}
