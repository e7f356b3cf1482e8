//! Participants at several workers, a publisher among them who is about to move, and what arrives at those who view.

use visavis_peer::{Kind, TransceiverId};
use visavis_sdp::Direction;
use visavis_sfu::worker::Worker;
use visavis_sfu::{Event, SubscriptionId, TrackId};

use super::{Lab, Member, PUBLISHER, Queues, VIEWER, Wants, wide};

/// The section on which a client gets sound or pictures.
pub(crate) fn section(lab: &mut Lab, viewer: Member, kind: Kind) -> TransceiverId {
    let all = lab.client(viewer).pc.transceivers().iter();
    let mut found = all.filter(|t| t.kind == kind && t.direction == Direction::RecvOnly.into());
    found.next().unwrap().id
}

/// Packets and key frames that came on a viewer's section.
pub(crate) fn arrived(lab: &mut Lab, viewer: Member, kind: Kind) -> (u64, u64) {
    let id = section(lab, viewer, kind);
    let arrived = lab.client(viewer).arrived.get(&id);
    arrived.map_or((0, 0), |arrived| (arrived.packets, arrived.keyframes))
}

/// Packets that never came, after which timestamps and numbers of pictures were looked at.
pub(crate) fn gaps(lab: &mut Lab, viewer: Member, kind: Kind) -> u64 {
    let id = section(lab, viewer, kind);
    let arrived = &lab.client(viewer).arrived[&id];
    let mut last: Option<(u32, Option<u16>)> = None;
    for (number, &(timestamp, picture, _)) in &arrived.numbers {
        if let Some((before, picture_before)) = last {
            let step = timestamp.wrapping_sub(before) as i32;
            assert!((0..90_000).contains(&step), "timestamp at {number}: {step}");
            if let (Some(picture), Some(before)) = (picture, picture_before) {
                let step = picture.wrapping_sub(before) & 0x7fff;
                assert!(step <= 2, "picture at {number}: {step}");
            }
        }
        last = Some((timestamp, picture));
    }
    arrived.gaps()
}

/// Everybody connects.
pub(crate) fn come_up(lab: &mut Lab, members: &[Member]) {
    let all = members.to_vec();
    let up = move |lab: &mut Lab| all.iter().all(|&member| lab.client(member).connected());
    assert!(lab.until(10.0, up), "all come up");
}

/// Viewers get the tracks of a publisher, sound and pictures. Answers the subscription of the pictures of each.
pub(crate) fn watch(
    lab: &mut Lab,
    viewers: &[Member],
    tracks: &[TrackId],
) -> Vec<(Member, SubscriptionId)> {
    let watch = |&viewer: &Member| {
        lab.subscribe(viewer, tracks[0]);
        let pictures = lab.subscribe(viewer, tracks[1]);
        lab.negotiate(viewer);
        (viewer, pictures)
    };
    viewers.iter().map(watch).collect()
}

/// Sound and pictures of its own, and sections for those of others: what today's clients have on one connection.
pub(crate) const EVERYTHING: Wants = Wants {
    microphone: true,
    camera: 3,
    sections: (1, 1),
};

/// A publisher that also views, on the first of three workers, and viewers at each of the three, who are one after the other
/// at the old home of what moves, at the new one, and at neither.
pub(crate) struct Stage {
    pub(crate) lab: Lab,
    pub(crate) alice: Member,
    pub(crate) tracks: Vec<TrackId>,
    pub(crate) viewers: Vec<(Member, SubscriptionId)>,
}

/// `slow`: what workers tell each other takes its time.
pub(crate) fn stage(seed: u64, slow: bool) -> Stage {
    let mut lab = Lab::new(seed, 3);
    if slow {
        lab.server().queues = Some(Queues::new(seed));
    }
    let alice = lab.join(0, 1, wide(10), EVERYTHING);
    let bob = lab.join(1, 1, wide(10), PUBLISHER);
    let viewers: Vec<Member> = (0..3).map(|at| lab.join(at, 1, wide(10), VIEWER)).collect();
    come_up(&mut lab, &[&viewers[..], &[alice, bob]].concat());
    let tracks = lab.publish(alice);
    for track in lab.publish(bob) {
        lab.subscribe(alice, track);
    }
    lab.negotiate(alice);
    let viewers = watch(&mut lab, &viewers, &tracks);
    // Until everybody has the highest layer.
    lab.run(12.0);
    lab.events();
    Stage {
        lab,
        alice,
        tracks,
        viewers,
    }
}

impl Stage {
    /// The layers that a viewer gets.
    pub(crate) fn current(&mut self, index: usize) -> Option<(u8, u8, u8)> {
        let (viewer, pictures) = self.viewers[index];
        let now = self.lab.now();
        let worker = self.lab.worker(viewer.connection);
        let stats = worker.connection_stats(now, viewer.connection).unwrap();
        let mut all = stats.subscriptions.iter();
        all.find(|found| found.subscription == pictures)
            .unwrap()
            .current
    }

    pub(crate) fn everybody_gets(&mut self, layer: u8) -> bool {
        (0..3).all(|index| {
            self.current(index)
                .is_some_and(|(found, ..)| found == layer)
        })
    }

    /// The layers that the publisher was told are wanted, if it was told anything.
    pub(crate) fn wanted(&mut self) -> Option<Vec<bool>> {
        let events = self.lab.events().into_iter();
        let told = events.filter_map(|event| match event {
            Event::WantedLayers { track, layers, .. } if track == self.tracks[1] => Some(layers),
            _ => None,
        });
        told.last()
    }

    pub(crate) fn home(&mut self) -> &mut Worker {
        self.lab.worker(self.alice.connection)
    }

    /// Packets and key frames that each viewer has got.
    pub(crate) fn arrived(&mut self, kind: Kind) -> Vec<(u64, u64)> {
        let viewers = self.viewers.clone();
        let arrived = |&(viewer, _): &_| arrived(&mut self.lab, viewer, kind);
        viewers.iter().map(arrived).collect()
    }

    /// Packets that each viewer has never got.
    pub(crate) fn gaps(&mut self, kind: Kind) -> Vec<u64> {
        let viewers = self.viewers.clone();
        let gaps = |&(viewer, _): &_| gaps(&mut self.lab, viewer, kind);
        viewers.iter().map(gaps).collect()
    }
}
