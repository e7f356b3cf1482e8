//! Whoever has moved to another worker is reached there whatever becomes of its paths, which begin and end at the sockets of
//! any worker; and its data channels notice nothing.

mod common;

use std::collections::HashMap;
use std::net::SocketAddr;

use bytes::Bytes;
use common::stage::{Stage, arrived, come_up, stage, watch};
use common::{Lab, Member, PUBLISHER, VIEWER, wide};
use visavis_datagram::Protocol;
use visavis_ice::LocalAddress;
use visavis_peer::{ChannelId, ChannelOptions, Event as PeerEvent, Kind, MessageKind};
use visavis_sfu::Event;

/// The address that a client sends from.
fn address(lab: &mut Lab, member: Member) -> SocketAddr {
    let pair = lab.client(member).pc.ice().selected_pair();
    pair.unwrap().path.local
}

/// The worker whose socket a client's datagrams reach.
fn reached(lab: &mut Lab, member: Member) -> usize {
    usize::from(address(lab, member).port()) % lab.server().workers.len()
}

/// A client gets another port, whose datagrams reach the socket of this worker, and loses the one that it had.
fn change_port(lab: &mut Lab, member: Member, worker: u16) {
    let former = address(lab, member);
    let workers = lab.server().workers.len() as u16;
    let mut port = former.port() + 1;
    while port % workers != worker {
        port += 1;
    }
    let (now, fresh) = (lab.now(), SocketAddr::new(former.ip(), port));
    let client = lab.client(member);
    client
        .pc
        .add_local_address(now, LocalAddress::udp(fresh))
        .unwrap();
    lab.run(0.5);
    let now = lab.now();
    let client = lab.client(member);
    client.pc.remove_local_address(now, former, Protocol::Udp);
    let fresh = move |lab: &mut Lab| {
        let pair = lab.client(member).pc.ice().selected_pair();
        pair.is_some_and(|pair| pair.path.local == fresh)
    };
    assert!(lab.until(2.0, fresh), "it goes on from port {port}");
    // The other end hears of it, and finds out what it can send this way.
    lab.run(5.0);
}

/// A client begins anew to look for paths, under new names.
fn restart(lab: &mut Lab, member: Member) {
    let name = |lab: &mut Lab| {
        let ice = lab.client(member).pc.ice();
        ice.local_credentials().ufrag.clone()
    };
    let former = name(lab);
    lab.client(member).pc.restart_ice();
    lab.negotiate(member);
    assert_ne!(name(lab), former);
}

/// Both ends and all viewers have media for a while.
fn assert_flows(stage: &mut Stage, what: &str) {
    let alice = stage.alice;
    let own = arrived(&mut stage.lab, alice, Kind::Video).0;
    let before = [Kind::Audio, Kind::Video].map(|kind| stage.arrived(kind));
    stage.lab.run(1.0);
    let after = [Kind::Audio, Kind::Video].map(|kind| stage.arrived(kind));
    for (before, after) in before.iter().zip(&after) {
        let mut each = before.iter().zip(after);
        let flows = each.all(|(before, after)| after.0 >= before.0 + 45);
        assert!(flows, "{what}: {before:?}, {after:?}");
    }
    let more = arrived(&mut stage.lab, alice, Kind::Video).0;
    assert!(more >= own + 25, "{what}: {own}, {more}");
}

#[test]
fn who_moved_may_change_its_path_to_any_socket() {
    for (seed, slow) in [(110, false), (111, true)] {
        let mut stage = stage(seed, slow);
        let alice = stage.alice;
        // Born at the first worker, at the second and then at the third, and at home again.
        for home in [1, 2, 0] {
            stage.lab.relocate(alice, home);
            for socket in 0..3 {
                change_port(&mut stage.lab, alice, socket);
                let what = format!("seed {seed}: at {home}, by {socket}");
                assert_eq!(reached(&mut stage.lab, alice), usize::from(socket));
                assert_flows(&mut stage, &what);
            }
        }
        // Consent (RFC 7675) goes the new way too.
        stage.lab.relocate(alice, 2);
        stage.lab.run(40.0);
        assert_flows(&mut stage, &format!("seed {seed}: in the end"));
        let now = stage.lab.now();
        for worker in &mut stage.lab.server().workers {
            worker.close_room(now, alice.room);
        }
        stage.lab.run(3.0);
        assert_eq!(stage.lab.held(), [0; 5], "seed {seed}");
    }
}

#[test]
fn who_moved_may_restart_ice() {
    for (seed, slow) in [(112, false), (113, true)] {
        let mut stage = stage(seed, slow);
        let alice = stage.alice;
        for home in [1, 2, 0, 2] {
            let what = format!("seed {seed}: at {home}");
            // Before it moves, while it does, and after.
            restart(&mut stage.lab, alice);
            stage.lab.relocate(alice, home);
            assert_flows(&mut stage, &what);
            restart(&mut stage.lab, alice);
            assert_flows(&mut stage, &what);
            for kind in [Kind::Audio, Kind::Video] {
                assert_eq!(stage.gaps(kind), [0; 3], "{what}: {kind:?}");
            }
        }
        // The new names are known wherever a check may reach: from new ports, and for consent.
        for socket in 0..3 {
            restart(&mut stage.lab, alice);
            change_port(&mut stage.lab, alice, socket);
            assert_flows(&mut stage, &format!("seed {seed}: by {socket}"));
        }
        stage.lab.run(40.0);
        assert_flows(&mut stage, &format!("seed {seed}: in the end"));
    }
}

/// Nobody sends anything to it that would teach a worker its path.
#[test]
fn who_moves_twice_at_once_is_heard_without_a_break() {
    for seed in 114..116 {
        let mut lab = Lab::new(seed, 3);
        let alice = lab.join(0, 1, wide(10), PUBLISHER);
        let viewers: Vec<Member> = (0..3).map(|at| lab.join(at, 1, wide(10), VIEWER)).collect();
        come_up(&mut lab, &[&viewers[..], &[alice]].concat());
        let tracks = lab.publish(alice);
        watch(&mut lab, &viewers, &tracks);
        lab.run(3.0);
        for round in 0..30 {
            for _ in 0..2 {
                let to = (lab.home(alice.connection) + 1 + round % 2) % 3;
                lab.relocate(alice, to);
            }
            lab.run(0.113);
        }
        lab.run(1.0);
        for &viewer in &viewers {
            let gaps = common::stage::gaps(&mut lab, viewer, Kind::Audio);
            assert_eq!(gaps, 0, "seed {seed}");
        }
    }
}

/// A number, and more than one packet holds.
fn message(number: usize) -> Bytes {
    let mut bytes = (number as u32).to_be_bytes().to_vec();
    bytes.resize(if number.is_multiple_of(5) { 5_000 } else { 100 }, 7);
    bytes.into()
}

fn number(message: &[u8]) -> usize {
    let (number, rest) = message.split_first_chunk().unwrap();
    assert!(rest.iter().all(|&byte| byte == 7));
    u32::from_be_bytes(*number) as usize
}

/// On a lossy network, in both directions: what must come comes once and in order, and what may be lost comes once at most.
#[test]
fn messages_of_who_moves_come_once_and_in_order() {
    const COUNT: usize = 400;
    for (seed, slow) in [(116, false), (117, true)] {
        let mut stage = stage(seed, slow);
        let (alice, lab) = (stage.alice, &mut stage.lab);
        for link in [alice.uplink, alice.downlink] {
            lab.driver
                .simulation
                .set_link(link, wide(10).random_loss(0.02));
        }
        let kinds = [("reliable", None), ("lossy", Some(0))];
        let now = lab.now();
        let channels = kinds.map(|(label, max_retransmits)| {
            let options = ChannelOptions {
                label: label.into(),
                max_retransmits,
                ..ChannelOptions::default()
            };
            let made = lab.client(alice).pc.create_data_channel(now, options);
            made.unwrap()
        });
        lab.negotiate(alice);
        lab.run(2.0);
        let mut theirs: HashMap<String, ChannelId> = HashMap::new();
        for event in lab.events() {
            if let Event::DataChannelOpen { channel, label, .. } = event {
                theirs.insert(label, channel);
            }
        }
        lab.client(alice).events.clear();
        let (mut up, mut down): (Vec<_>, Vec<_>) = (vec![vec![]; 2], vec![vec![]; 2]);
        for round in 0..COUNT {
            if round % 13 == 5 {
                let to = (lab.home(alice.connection) + 1 + round % 2) % 3;
                lab.relocate(alice, to);
            }
            let (now, kind) = (lab.now(), MessageKind::Binary);
            for (channel, (label, _)) in channels.into_iter().zip(kinds) {
                let client = lab.client(alice);
                client.pc.send(now, channel, kind, message(round)).unwrap();
                let worker = lab.worker(alice.connection);
                worker.send_data(now, alice.connection, theirs[label], kind, &message(round));
            }
            // At the end what is on its way arrives.
            lab.run(if round + 1 < COUNT { 0.01 } else { 5.0 });
            for event in lab.events() {
                if let Event::Data { label, bytes, .. } = event {
                    let at = kinds.iter().position(|(known, _)| **known == *label);
                    up[at.unwrap()].push(number(&bytes));
                }
            }
            for event in std::mem::take(&mut lab.client(alice).events) {
                if let PeerEvent::Message { channel, data, .. } = event {
                    let at = channels.iter().position(|&known| known == channel);
                    down[at.unwrap()].push(number(&data));
                }
            }
        }
        let all: Vec<usize> = (0..COUNT).collect();
        for (way, came) in [("up", up), ("down", down)] {
            assert_eq!(came[0], all, "seed {seed}, {way}");
            let is_ordered = came[1].windows(2).all(|pair| pair[0] < pair[1]);
            assert!(is_ordered, "seed {seed}, {way}: {:?}", came[1]);
            let most = COUNT * 9 / 10..COUNT;
            assert!(
                most.contains(&came[1].len()),
                "seed {seed}, {way}: {}",
                came[1].len()
            );
        }
    }
}
