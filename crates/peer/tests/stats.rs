//! `getStats` beside the specification: each dictionary's members are there, by name and by type.
//!
//! `fixtures/webrtc-stats.txt` is the specification's IDL.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::{ALICE, BOB, Call};
use visavis_netsim::LinkConfig;
use visavis_peer::{
    ChannelOptions, Configuration, Event, Kind, OutgoingFrame, OutgoingRtp, ReceiveMode, StatsValue,
};

const IDL: &str = include_str!("fixtures/webrtc-stats.txt");

/// It says what is not offered, one dictionary a line.
const README: &str = include_str!("../README.md");

/// Offered where there is a server, TCP, loss or simulcast, none of which this call has.
const ELSEWHERE: [(&str, &str); 9] = [
    ("RTCInboundRtpStreamStats", "fecSsrc"),
    ("RTCInboundRtpStreamStats", "rtxSsrc"),
    ("RTCIceCandidateStats", "relatedAddress"),
    ("RTCIceCandidateStats", "relatedPort"),
    ("RTCIceCandidateStats", "relayProtocol"),
    ("RTCIceCandidateStats", "tcpType"),
    ("RTCIceCandidateStats", "url"),
    ("RTCOutboundRtpStreamStats", "rid"),
    ("RTCOutboundRtpStreamStats", "scalabilityMode"),
];

/// Members and their types by dictionary, those of the parents among them; and the enumerations.
struct Idl {
    parents: BTreeMap<&'static str, &'static str>,
    members: BTreeMap<&'static str, BTreeMap<&'static str, &'static str>>,
    enumerations: BTreeMap<&'static str, BTreeSet<&'static str>>,
}

impl Idl {
    fn read() -> Self {
        let mut idl = Self {
            parents: BTreeMap::new(),
            members: BTreeMap::new(),
            enumerations: BTreeMap::new(),
        };
        let mut current = "";
        for line in IDL.lines().filter(|line| !line.starts_with('#')) {
            if let Some(member) = line.strip_prefix("  ") {
                let (kind, name) = member.rsplit_once(' ').unwrap();
                let members = idl.members.entry(current).or_default();
                members.insert(name, kind.trim_end_matches('?'));
            } else if let Some(head) = line.strip_prefix("dictionary ") {
                let (name, parent) = head.split_once(" : ").unwrap_or((head, ""));
                current = name;
                idl.parents.insert(name, parent);
            } else if let Some(head) = line.strip_prefix("enum ") {
                let (name, values) = head.split_once(": ").unwrap();
                idl.enumerations.insert(name, values.split(' ').collect());
            }
        }
        idl
    }

    fn members_of(&self, dictionary: &str) -> BTreeMap<&'static str, &'static str> {
        let mut all = BTreeMap::new();
        let mut next = dictionary;
        while let Some(parent) = self.parents.get(next) {
            all.extend(self.members.get(next).into_iter().flatten());
            next = parent;
        }
        all
    }

    /// Whether a value is one of the type.
    fn is(&self, value: &StatsValue, kind: &str) -> bool {
        match value {
            StatsValue::Bool(_) => kind == "boolean",
            StatsValue::Unsigned(_) => kind.ends_with("long") || kind.ends_with("short"),
            StatsValue::Signed(_) => kind == "long" || kind == "long long",
            StatsValue::Real(_) => kind == "double" || kind == "DOMHighResTimeStamp",
            StatsValue::Text(text) => match self.enumerations.get(kind) {
                Some(values) => values.contains(text.as_str()),
                None => kind == "DOMString",
            },
            _ => false,
        }
    }
}

/// The dictionary of a `RTCStatsType`.
fn dictionary(kind: &str) -> &'static str {
    match kind {
        "codec" => "RTCCodecStats",
        "inbound-rtp" => "RTCInboundRtpStreamStats",
        "outbound-rtp" => "RTCOutboundRtpStreamStats",
        "remote-inbound-rtp" => "RTCRemoteInboundRtpStreamStats",
        "remote-outbound-rtp" => "RTCRemoteOutboundRtpStreamStats",
        "peer-connection" => "RTCPeerConnectionStats",
        "data-channel" => "RTCDataChannelStats",
        "transport" => "RTCTransportStats",
        "candidate-pair" => "RTCIceCandidatePairStats",
        "local-candidate" | "remote-candidate" => "RTCIceCandidateStats",
        "certificate" => "RTCCertificateStats",
        other => panic!("{other} is no RTCStatsType of ours"),
    }
}

/// A call in which everything happens that statistics tell of: media of both kinds both ways as packets
/// and as frames, loss, a channel, all kinds of reports.
fn eventful() -> Call {
    let link = LinkConfig::new()
        .delay(Duration::from_millis(20))
        .random_loss(0.05);
    let mut call = Call::new(
        5,
        link,
        [Configuration::default(), Configuration::default()],
    );
    let now = call.now();
    let options = ChannelOptions::default();
    call.pc(ALICE).create_data_channel(now, options).unwrap();
    let mut sent = Vec::new();
    for end in [ALICE, BOB] {
        let audio = call
            .pc(end)
            .add_track(Kind::Audio, "a", &["s".into()])
            .unwrap();
        let video = call
            .pc(end)
            .add_track(Kind::Video, "v", &["s".into()])
            .unwrap();
        sent.push((end, audio, video));
    }
    call.negotiate(ALICE);
    let open = |event: &Event| matches!(event, Event::DataChannelOpen(_));
    assert!(call.run(10.0, |alice, bob| alice.saw(open) && bob.saw(open)));
    for &(end, audio, video) in &sent {
        call.pc(end).set_receive_mode(audio, ReceiveMode::Frames);
        call.pc(end).set_receive_mode(video, ReceiveMode::Frames);
    }
    let mut data = vec![3; 3000];
    for number in 0..500u32 {
        let now = call.now();
        for &(end, audio, video) in &sent {
            let packet = OutgoingRtp {
                payload_type: 111,
                sequence: number as u16,
                timestamp: number * 960,
                payload: &[7; 80],
                ..OutgoingRtp::default()
            };
            call.pc(end).send_rtp(now, audio, 0, &packet).unwrap();
            let key = number.is_multiple_of(50);
            data[0] = u8::from(!key);
            let frame = OutgoingFrame::new(number * 1800, key, &data);
            call.pc(end).send_frame(now, video, 0, &frame).unwrap();
            for id in [audio, video] {
                while call.pc(end).poll_frame(now, id).is_some() {}
            }
        }
        call.run(0.02, |_, _| false);
    }
    call
}

#[test]
fn members_have_the_names_and_types_of_the_specification() {
    let idl = Idl::read();
    let mut call = eventful();
    let now = call.now();
    let mut seen: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for end in [ALICE, BOB] {
        for entry in &call.pc(end).stats(now).entries {
            let dictionary = dictionary(entry.kind.name());
            let members = idl.members_of(dictionary);
            for (name, value) in &entry.members {
                let kind = members.get(name);
                let kind = kind.unwrap_or_else(|| panic!("{dictionary} has no {name}"));
                assert!(
                    idl.is(value, kind),
                    "{dictionary}.{name} is {kind}: {value:?}"
                );
                seen.entry(dictionary).or_default().insert(name);
            }
        }
    }
    assert_eq!(seen.len(), 11, "{:?}", seen.keys());
    // The README lists what each dictionary leaves out. `id`, `timestamp` and `type` are fields of their own.
    let own = ["id", "timestamp", "type"];
    let mut lines = Vec::new();
    for (name, seen) in &seen {
        let missing: Vec<&str> = idl
            .members_of(name)
            .into_keys()
            .filter(|member| !seen.contains(member) && !own.contains(member))
            .filter(|member| !ELSEWHERE.contains(&(*name, *member)))
            .collect();
        let missing = match missing.is_empty() {
            true => "nothing".to_owned(),
            false => missing.join(", "),
        };
        lines.push(format!("- `{name}`: {missing}"));
    }
    let readme = README.split_whitespace().collect::<Vec<_>>().join(" ");
    let said = lines.iter().all(|line| readme.contains(&**line));
    assert!(said, "the README should say:\n{}", lines.join("\n"));
}
