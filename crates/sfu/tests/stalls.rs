//! Busy machines: clients and workers that are kept from reading their sockets. Estimates must not fall for that, and what
//! was paused goes on once the path bears it.

mod common;

use common::{Busy, Lab, Member, PUBLISHER, VIEWER, wide};
use visavis_sfu::Event;

/// A publisher, and a viewer that is subscribed to its pictures, and perhaps to its sound.
fn call(seed: u64, sound: bool) -> (Lab, Member, Member) {
    let mut lab = Lab::new(seed, 1);
    let alice = lab.join(0, 1, wide(10), PUBLISHER);
    let bob = lab.join(0, 1, wide(10), VIEWER);
    let up = |lab: &mut Lab| lab.client(alice).connected() && lab.client(bob).connected();
    assert!(lab.until(10.0, up), "seed {seed}: both come up");
    let tracks = lab.publish(alice);
    for &track in &tracks[usize::from(!sound)..] {
        lab.subscribe(bob, track);
    }
    lab.negotiate(bob);
    (lab, alice, bob)
}

fn estimate(lab: &mut Lab, member: Member) -> u64 {
    let now = lab.now();
    let worker = lab.worker(member.connection);
    worker
        .connection_stats(now, member.connection)
        .unwrap()
        .estimate
}

/// Whether pictures were paused last; `None` if nothing was said.
fn paused(lab: &mut Lab) -> Option<bool> {
    let states = lab.events().into_iter().filter_map(|event| match event {
        Event::StreamState { paused, .. } => Some(paused),
        _ => None,
    });
    states.last()
}

#[test]
fn what_was_paused_goes_on_within_five_seconds_of_a_path_that_bears_it() {
    for seed in 1..=4 {
        for (busy, sound) in [(false, false), (false, true), (true, false), (true, true)] {
            let words = format!("seed {seed}, busy: {busy}, sound: {sound}");
            let (mut lab, alice, bob) = call(seed, sound);
            let sending = &mut lab.client(alice).sending;
            sending.iter_mut().for_each(|sending| sending.frame *= 3);
            if busy {
                let now = lab.now();
                lab.client(bob).busy = Some(Busy::new(now, seed));
            }
            // Not enough for the lowest layer of the pictures.
            let narrow = wide(10).rate(100_000);
            lab.driver.simulation.set_link(bob.downlink, narrow);
            // Long enough for the history to have nothing left that probes could repeat.
            lab.run(50.0);
            // Towards a busy machine it may be tried again meanwhile.
            let state = paused(&mut lab);
            assert!(state == Some(true) || busy && state.is_some(), "{words}");
            lab.driver.simulation.set_link(bob.downlink, wide(10));
            let patience = if busy { 12.0 } else { 5.5 };
            let goes_on =
                state == Some(false) || lab.until(patience, |lab| paused(lab) == Some(false));
            let now = estimate(&mut lab, bob);
            assert!(goes_on, "{words}: {now} bit/s");
        }
    }
}

#[test]
fn a_viewer_on_a_busy_machine_keeps_its_pictures() {
    for seed in 1..=8 {
        let (mut lab, _, bob) = call(seed, true);
        let now = lab.now();
        lab.client(bob).busy = Some(Busy::new(now, seed));
        let mut seconds = 0;
        for _ in 0..120 {
            lab.run(1.0);
            seconds += u32::from(estimate(&mut lab, bob) < 200_000);
            let said = paused(&mut lab);
            assert_ne!(said, Some(true), "seed {seed}");
        }
        assert!(
            seconds <= 3,
            "seed {seed}: {seconds} s at less than is sent"
        );
    }
}

#[test]
fn a_worker_that_reads_late_does_not_lower_what_publishers_may_send() {
    let after = |told: bool| {
        let (mut lab, alice, _) = call(9, true);
        let now = lab.now();
        lab.server().late = Some((Busy::new(now, 9), told));
        let mut least = u64::MAX;
        lab.run(10.0);
        for _ in 0..30 {
            lab.run(1.0);
            least = least.min(lab.client(alice).pc.target().bitrate);
        }
        least
    };
    let (told, untold) = (after(true), after(false));
    assert!(
        told > 1_000_000,
        "{told}, {untold} without the kernel's times"
    );
}
