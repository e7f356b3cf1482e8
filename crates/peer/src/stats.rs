//! Statistics (W3C webrtc-stats): one dictionary per object, with the specification's names.
//!
//! Every dictionary is a list of named values, so that a new member needs no new type, and JSON and
//! other languages need no copy of the names. Members of webrtc-stats that only a browser's decoder,
//! renderer or capture device knows are left out.

use std::time::Duration;

/// W3C `RTCStatsType`, of those that have meaning here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum StatsKind {
    /// `codec`
    Codec,
    /// `inbound-rtp`
    InboundRtp,
    /// `outbound-rtp`
    OutboundRtp,
    /// `remote-inbound-rtp`
    RemoteInboundRtp,
    /// `remote-outbound-rtp`
    RemoteOutboundRtp,
    /// `peer-connection`
    PeerConnection,
    /// `data-channel`
    DataChannel,
    /// `transport`
    Transport,
    /// `candidate-pair`
    CandidatePair,
    /// `local-candidate`
    LocalCandidate,
    /// `remote-candidate`
    RemoteCandidate,
    /// `certificate`
    Certificate,
}

impl StatsKind {
    /// The specification's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Codec => "codec",
            Self::InboundRtp => "inbound-rtp",
            Self::OutboundRtp => "outbound-rtp",
            Self::RemoteInboundRtp => "remote-inbound-rtp",
            Self::RemoteOutboundRtp => "remote-outbound-rtp",
            Self::PeerConnection => "peer-connection",
            Self::DataChannel => "data-channel",
            Self::Transport => "transport",
            Self::CandidatePair => "candidate-pair",
            Self::LocalCandidate => "local-candidate",
            Self::RemoteCandidate => "remote-candidate",
            Self::Certificate => "certificate",
        }
    }
}

/// The value of a member.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum StatsValue {
    /// `boolean`
    Bool(bool),
    /// A counter or size.
    Unsigned(u64),
    /// A number that may be negative.
    Signed(i64),
    /// Seconds, or another real number.
    Real(f64),
    /// A string or an enumeration's value.
    Text(String),
}

impl From<bool> for StatsValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u64> for StatsValue {
    fn from(value: u64) -> Self {
        Self::Unsigned(value)
    }
}

impl From<u32> for StatsValue {
    fn from(value: u32) -> Self {
        Self::Unsigned(value.into())
    }
}

impl From<i64> for StatsValue {
    fn from(value: i64) -> Self {
        Self::Signed(value)
    }
}

impl From<f64> for StatsValue {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<Duration> for StatsValue {
    /// Seconds.
    fn from(value: Duration) -> Self {
        Self::Real(value.as_secs_f64())
    }
}

impl From<&str> for StatsValue {
    fn from(value: &str) -> Self {
        Self::Text(value.into())
    }
}

impl From<String> for StatsValue {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

/// One dictionary.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// Names the object as long as it lives.
    pub id: String,
    /// Which dictionary it is.
    pub kind: StatsKind,
    /// The members, by the specification's names.
    pub members: Vec<(&'static str, StatsValue)>,
}

impl Stats {
    pub(crate) fn new(kind: StatsKind, id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            kind,
            members: Vec::new(),
        }
    }

    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<StatsValue>) -> &mut Self {
        self.members.push((name, value.into()));
        self
    }

    pub(crate) fn maybe(
        &mut self,
        name: &'static str,
        value: Option<impl Into<StatsValue>>,
    ) -> &mut Self {
        if let Some(value) = value {
            self.set(name, value);
        }
        self
    }

    /// The value of a member.
    pub fn get(&self, name: &str) -> Option<&StatsValue> {
        let found = self.members.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value)
    }

    /// The value of a member that is a counter.
    pub fn count(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            StatsValue::Unsigned(value) => Some(*value),
            _ => None,
        }
    }

    /// The value of a member that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            StatsValue::Text(value) => Some(value),
            _ => None,
        }
    }
}

/// All dictionaries of a connection at one moment (W3C `RTCStatsReport`).
#[derive(Debug, Clone, PartialEq)]
pub struct StatsReport {
    /// Time since 1970-01-01T00:00:00Z.
    pub timestamp: Duration,
    /// The dictionaries.
    pub entries: Vec<Stats>,
}

impl StatsReport {
    /// The dictionary with an id.
    pub fn get(&self, id: &str) -> Option<&Stats> {
        self.entries.iter().find(|entry| entry.id == id)
    }

    /// The dictionaries of a kind.
    pub fn of(&self, kind: StatsKind) -> impl Iterator<Item = &Stats> {
        self.entries.iter().filter(move |entry| entry.kind == kind)
    }

    /// What a selector reaches: the streams of one transceiver and all that they refer to
    /// (webrtc-pc section 8.5, "stats selection algorithm").
    pub fn select(&self, ids: &[String]) -> Self {
        let mut wanted: Vec<&str> = ids.iter().map(String::as_str).collect();
        let mut at = 0;
        while at < wanted.len() {
            let entry = self.get(wanted[at]);
            for (name, value) in entry.iter().flat_map(|entry| &entry.members) {
                if let StatsValue::Text(id) = value
                    && name.ends_with("Id")
                    && self.get(id).is_some()
                    && !wanted.contains(&id.as_str())
                {
                    wanted.push(id);
                }
            }
            at += 1;
        }
        let entries = self.entries.iter();
        Self {
            timestamp: self.timestamp,
            entries: entries
                .filter(|entry| wanted.contains(&entry.id.as_str()))
                .cloned()
                .collect(),
        }
    }
}
