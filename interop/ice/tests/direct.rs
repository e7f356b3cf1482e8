//! Our agent beside another, with nothing between them.

use std::time::Duration;

use interop_ice::{Peer, Us};
use visavis_datagram::Protocol;
use visavis_ice::{Config, Role, TcpType};

fn config(role: Role) -> Config {
    Config {
        role,
        ..Config::default()
    }
}

fn theirs(ours: Role) -> &'static str {
    match ours {
        Role::Controlling => "controlled",
        Role::Controlled => "controlling",
    }
}

const ROLES: [Role; 2] = [Role::Controlling, Role::Controlled];

#[test]
fn aioice_connects_in_both_roles() {
    for role in ROLES {
        let Some(mut peer) = Peer::aioice(&[theirs(role)]) else {
            return;
        };
        let mut us = Us::new(config(role), false, false);
        us.call(&mut peer, |_| true);
        assert_eq!(us.agent.role(), role);
    }
}

#[test]
fn libnice_connects_in_both_roles_and_keeps_consent_fresh() {
    for role in ROLES {
        let Some(mut peer) = Peer::libnice(&[theirs(role), "udp"]) else {
            return;
        };
        let mut us = Us::new(config(role), false, false);
        let pair = us.call(&mut peer, |_| true);
        assert_eq!(us.agent.role(), role);
        assert_eq!(pair.path.protocol, Protocol::Udp);
        assert!(us.stay(&mut peer, Duration::from_secs(8)));
        let selected = us.agent.pair_stats().find(|pair| pair.selected).unwrap();
        assert!(selected.counters.consent_requests_sent >= 1);
        assert!(selected.counters.responses_received >= 2, "{selected:?}");
    }
}

#[test]
fn a_restart_with_libnice_makes_a_new_session() {
    for role in ROLES {
        let Some(mut peer) = Peer::libnice(&[theirs(role), "udp"]) else {
            return;
        };
        let mut us = Us::new(config(role), false, false);
        let before = us.call(&mut peer, |_| true);
        us.restart(&mut peer);
        let after = us.call(&mut peer, |pair| pair.id != before.id);
        assert_eq!(after.path, before.path);
        assert!(us.stay(&mut peer, Duration::from_secs(2)));
    }
}

#[test]
fn a_role_conflict_with_libnice_is_settled() {
    for role in ROLES {
        let same = theirs(if role == Role::Controlling {
            Role::Controlled
        } else {
            Role::Controlling
        });
        let Some(mut peer) = Peer::libnice(&[same, "udp"]) else {
            return;
        };
        let mut us = Us::new(config(role), false, false);
        us.call(&mut peer, |_| true);
    }
}

#[test]
fn libnice_connects_over_tcp_to_our_passive_candidate_and_we_to_its() {
    for role in ROLES {
        for passive in [true, false] {
            let Some(mut peer) = Peer::libnice(&[theirs(role), "tcp"]) else {
                return;
            };
            let mut us = Us::new(config(role), passive, !passive);
            let pair = us.call(&mut peer, |_| true);
            assert_eq!(pair.path.protocol, Protocol::Tcp);
            let ours = if passive {
                TcpType::Passive
            } else {
                TcpType::Active
            };
            let seen = pair.local.tcp_type;
            assert_eq!(seen, Some(ours), "{pair:?}");
        }
    }
}
