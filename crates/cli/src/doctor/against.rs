//! Why two doctors found no way to each other, by what both know of their networks, and what to do.

use serde::Serialize;

use super::diagnose::hard;
use super::facts::{Dependence, Facts, TurnResult};
use crate::pairing::connect::About;

/// What came of two doctors' trying to connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Meeting {
    pub(crate) connected: bool,
    /// A name for programs, which does not change; `None` when connected, or when no cause is known.
    pub(crate) cause: Option<&'static str>,
    /// For people.
    pub(crate) text: String,
}

/// What this side tells the other.
pub(crate) fn about(facts: &Facts) -> About {
    let asked = facts.stun.iter().filter(|stun| stun.error.is_none());
    let udp = asked
        .map(|stun| stun.answer.is_some())
        .reduce(|one, other| one || other);
    About {
        udp,
        symmetric: facts
            .nat
            .as_ref()
            .filter(|nat| nat.none || nat.mapping.is_some())
            .map(hard),
        port_restricted: facts.nat.as_ref().and_then(|nat| {
            let filtering = nat.filtering?;
            Some(!nat.none && filtering == Dependence::AddressAndPortDependent)
        }),
        relay: facts
            .turn
            .iter()
            .any(|turn| matches!(turn.result, TurnResult::Relayed(_))),
    }
}

/// Names the cause. `words`: what the candidates say by themselves.
pub(crate) fn explain(ours: About, theirs: Option<About>, words: &str) -> Meeting {
    let theirs = theirs.unwrap_or_default();
    let (cause, why) = match (ours, theirs) {
        _ if ours.udp == Some(false) || theirs.udp == Some(false) => {
            let who = match (ours.udp, theirs.udp) {
                (Some(false), Some(false)) => "on both sides",
                (Some(false), _) => "on this side",
                _ => "on the other side",
            };
            (
                Some("udp-blocked"),
                format!("UDP is blocked {who}, so that no direct way can exist."),
            )
        }
        _ if ours.symmetric == Some(true) && theirs.symmetric == Some(true) => (
            Some("nat-symmetric-both"),
            "Both NATs take another outside port for each destination (\"symmetric\"): neither side can tell the other a port that it would be reached at, so that no direct way can exist.".to_owned(),
        ),
        (About { symmetric: Some(true), .. }, About { port_restricted: Some(true), .. })
        | (About { port_restricted: Some(true), .. }, About { symmetric: Some(true), .. }) => {
            let who = if ours.symmetric == Some(true) { "this side's" } else { "the other side's" };
            (
                Some("nat-symmetric-restricted"),
                format!("One NAT, {who}, takes another outside port for each destination (\"symmetric\"), and the other lets in only ports that were sent to: the two never meet."),
            )
        }
        _ => (None, words.to_owned()),
    };
    let what = match (cause, ours.relay || theirs.relay) {
        (None, _) => String::new(),
        (Some(_), false) => " What helps is a relay, and none was reached: use a server that has TURN and that both sides reach (--server; `visavis serve` has it unless it was switched off: UDP port 3478 must be open to it, or its TCP port).".to_owned(),
        (Some(_), true) => " A relay was reached, yet it did not help either: its relayed ports (49152 to 65535 over UDP, if not set otherwise) must be open in the relay's own firewall.".to_owned(),
    };
    let or = match cause {
        Some("nat-symmetric-both" | "nat-symmetric-restricted") => {
            " Or make one side easy: switch its router to full-cone (endpoint-independent) mapping, let it map ports (UPnP, NAT-PMP, PCP), or use IPv6 on both."
        }
        _ => "",
    };
    Meeting {
        connected: false,
        cause,
        text: format!("The two doctors could not connect. {why}{what}{or}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_of_networks_has_its_cause() {
        let easy = About {
            udp: Some(true),
            symmetric: Some(false),
            port_restricted: Some(true),
            relay: false,
        };
        let symmetric = About {
            symmetric: Some(true),
            ..easy
        };
        let open = About {
            port_restricted: Some(false),
            ..easy
        };
        let blocked = About {
            udp: Some(false),
            ..About::default()
        };
        let cause = |ours, theirs| explain(ours, Some(theirs), "").cause;
        assert_eq!(cause(symmetric, symmetric), Some("nat-symmetric-both"));
        assert_eq!(cause(symmetric, easy), Some("nat-symmetric-restricted"));
        assert_eq!(cause(easy, symmetric), Some("nat-symmetric-restricted"));
        assert_eq!(cause(symmetric, open), None);
        assert_eq!(cause(easy, blocked), Some("udp-blocked"));
        assert_eq!(
            explain(symmetric, None, "words").text,
            "The two doctors could not connect. words"
        );
    }
}
