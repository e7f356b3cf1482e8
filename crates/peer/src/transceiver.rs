//! Transceivers: a sender and a receiver that share a media section.

use visavis_datagram::Random;
use visavis_sdp::Direction;

use crate::codecs::{Codec, Kind};
use crate::error::Error;
use crate::extensions::{HeaderExtension, NegotiatedExtension};
use crate::parameters::{Encoding, SendParameters};

/// A transceiver of one connection; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransceiverId(pub(crate) u32);

impl TransceiverId {
    /// The number, counted from 0 in order of creation.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// W3C `RTCRtpTransceiverDirection`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TransceiverDirection {
    /// Send and receive.
    #[default]
    SendRecv,
    /// Only send.
    SendOnly,
    /// Only receive.
    RecvOnly,
    /// Neither.
    Inactive,
    /// Over.
    Stopped,
}

impl TransceiverDirection {
    /// The direction in SDP; `None` for `Stopped`.
    pub const fn to_sdp(self) -> Option<Direction> {
        match self {
            Self::SendRecv => Some(Direction::SendRecv),
            Self::SendOnly => Some(Direction::SendOnly),
            Self::RecvOnly => Some(Direction::RecvOnly),
            Self::Inactive => Some(Direction::Inactive),
            Self::Stopped => None,
        }
    }
}

impl From<Direction> for TransceiverDirection {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::SendRecv => Self::SendRecv,
            Direction::SendOnly => Self::SendOnly,
            Direction::RecvOnly => Self::RecvOnly,
            Direction::Inactive => Self::Inactive,
        }
    }
}

/// What a new transceiver begins with (W3C `RTCRtpTransceiverInit`).
#[derive(Debug, Clone, PartialEq)]
pub struct TransceiverInit {
    /// The direction.
    pub direction: Direction,
    /// Ids of the streams that the sent track belongs to.
    pub streams: Vec<String>,
    /// The id of the track to send, if there is one already.
    pub track: Option<String>,
    /// The encodings to send; empty for one plain encoding. Several make simulcast.
    pub send_encodings: Vec<Encoding>,
}

impl Default for TransceiverInit {
    fn default() -> Self {
        Self {
            direction: Direction::SendRecv,
            streams: Vec::new(),
            track: None,
            send_encodings: Vec::new(),
        }
    }
}

/// The sources of one encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EncodingSources {
    /// Media.
    pub ssrc: u32,
    /// Retransmissions.
    pub rtx: u32,
    /// Parity (FlexFEC).
    pub fec: u32,
}

impl EncodingSources {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let mut drawn = [0; 3];
        for index in 0..drawn.len() {
            drawn[index] = loop {
                let ssrc = random.u32();
                // 0 is used by some as "none".
                if ssrc != 0 && !drawn[..index].contains(&ssrc) {
                    break ssrc;
                }
            };
        }
        let [ssrc, rtx, fec] = drawn;
        Self { ssrc, rtx, fec }
    }
}

/// The sending half (W3C `RTCRtpSender`).
#[derive(Debug, Clone, PartialEq)]
pub struct Sender {
    /// The track that is being sent.
    pub track: Option<String>,
    /// The track's id in SDP: that of the first track, or a drawn one.
    pub(crate) msid_track: String,
    /// Ids of the streams.
    pub streams: Vec<String>,
    /// The encodings, low to high.
    pub encodings: Vec<Encoding>,
    /// The sources, one for each encoding.
    pub sources: Vec<EncodingSources>,
    /// What may be sent: codecs under the peer's payload types, best first. Empty before negotiation.
    pub codecs: Vec<Codec>,
    /// Header extensions to send.
    pub extensions: Vec<NegotiatedExtension>,
    /// Transaction of the latest `parameters` call.
    pub(crate) transaction: Option<u64>,
    /// Whether it ever sent: then `add_track` does not take it again.
    pub(crate) used: bool,
    /// Encodings before an offer of the peer changed them, for rollback.
    pub(crate) stable_encodings: Option<(Vec<Encoding>, Vec<EncodingSources>)>,
}

/// The receiving half (W3C `RTCRtpReceiver`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// The id of the received track.
    pub track: String,
    /// Ids of the remote streams that it belongs to.
    pub streams: Vec<String>,
    /// What may arrive: codecs under our payload types. Empty before negotiation.
    pub codecs: Vec<Codec>,
    /// Header extensions that may arrive.
    pub extensions: Vec<NegotiatedExtension>,
    /// Rids that the peer may send, in its order; empty without simulcast.
    pub rids: Vec<String>,
    /// Whether media may be delivered already.
    pub(crate) receptive: bool,
    /// Streams at the last stable state, for rollback.
    pub(crate) stable_streams: Vec<String>,
}

/// A sender and a receiver that share a media section (W3C `RTCRtpTransceiver`).
#[derive(Debug, Clone, PartialEq)]
pub struct Transceiver {
    /// Which one.
    pub id: TransceiverId,
    /// Sound or pictures.
    pub kind: Kind,
    /// The media section's id, once there is one.
    pub mid: Option<String>,
    /// The wanted direction; `Stopped` once it is stopped or stopping.
    pub direction: TransceiverDirection,
    /// The agreed direction, once there is one; `Stopped` when it is over.
    pub current_direction: Option<TransceiverDirection>,
    /// The sending half.
    pub sender: Sender,
    /// The receiving half.
    pub receiver: Receiver,
    /// Codecs that the application prefers; empty for the table's order.
    pub(crate) preferences: Vec<Codec>,
    /// Header extensions to negotiate.
    pub(crate) extensions: Vec<HeaderExtension>,
    /// Index of the media section.
    pub(crate) section: Option<usize>,
    /// Direction that was last told to the application.
    pub(crate) fired_direction: Option<Direction>,
    pub(crate) stopping: bool,
    pub(crate) stopped: bool,
    pub(crate) created_by_add_track: bool,
    /// Created by the remote offer that is pending.
    pub(crate) created_by_pending_offer: bool,
    /// Got its section by the offer that is pending.
    pub(crate) associated_by_pending_offer: bool,
}

impl Transceiver {
    pub(crate) fn new(
        id: TransceiverId,
        kind: Kind,
        init: TransceiverInit,
        extensions: Vec<HeaderExtension>,
        random: &mut Random,
    ) -> Self {
        let encodings = if init.send_encodings.is_empty() {
            vec![Encoding::default()]
        } else {
            init.send_encodings
        };
        let sources = encodings
            .iter()
            .map(|_| EncodingSources::draw(random))
            .collect();
        Self {
            id,
            kind,
            mid: None,
            direction: init.direction.into(),
            current_direction: None,
            sender: Sender {
                msid_track: init.track.clone().unwrap_or_else(|| uuid(random)),
                track: init.track,
                streams: unique(init.streams),
                encodings,
                sources,
                codecs: Vec::new(),
                extensions: Vec::new(),
                transaction: None,
                used: false,
                stable_encodings: None,
            },
            receiver: Receiver {
                track: uuid(random),
                streams: Vec::new(),
                codecs: Vec::new(),
                extensions: Vec::new(),
                rids: Vec::new(),
                receptive: false,
                stable_streams: Vec::new(),
            },
            preferences: Vec::new(),
            extensions,
            section: None,
            fired_direction: None,
            stopping: false,
            stopped: false,
            created_by_add_track: false,
            created_by_pending_offer: false,
            associated_by_pending_offer: false,
        }
    }

    /// Whether the transceiver is over or about to be.
    pub fn is_stopped(&self) -> bool {
        self.stopped || self.stopping
    }

    /// The wanted direction as SDP has it; inactive when stopped.
    pub(crate) fn sdp_direction(&self) -> Direction {
        self.direction.to_sdp().unwrap_or(Direction::Inactive)
    }

    /// The table's codecs in the order that the application prefers.
    pub(crate) fn preferred_codecs(&self, table: &[Codec]) -> Vec<Codec> {
        if self.preferences.is_empty() {
            table.to_vec()
        } else {
            self.preferences.clone()
        }
    }

    /// W3C `setCodecPreferences`. A preference for `rtx` keeps retransmissions; without one they
    /// are not negotiated.
    pub(crate) fn set_codec_preferences(
        &mut self,
        wanted: &[Codec],
        table: &[Codec],
    ) -> Result<(), Error> {
        if wanted.is_empty() {
            self.preferences.clear();
            return Ok(());
        }
        let with_rtx = wanted.iter().any(|codec| codec.is("rtx"));
        let mut chosen: Vec<Codec> = Vec::new();
        for wanted in wanted.iter().filter(|codec| !codec.is("rtx")) {
            let known = table
                .iter()
                .find(|known| known.matches(wanted))
                .ok_or_else(|| Error::modification("the codec is not among the capabilities"))?;
            if chosen.iter().any(|chosen| chosen.matches(known)) {
                continue;
            }
            let mut known = known.clone();
            known.rtx = known.rtx.filter(|_| with_rtx);
            chosen.push(known);
        }
        if chosen.iter().all(Codec::is_auxiliary) {
            return Err(Error::modification(
                "the preferences hold no codec that carries media",
            ));
        }
        self.preferences = chosen;
        Ok(())
    }

    /// W3C `RTCRtpSender.getParameters`.
    pub(crate) fn parameters(&mut self, cname: &str, random: &mut Random) -> SendParameters {
        let transaction = random.u64();
        self.sender.transaction = Some(transaction);
        SendParameters {
            transaction,
            encodings: self.sender.encodings.clone(),
            codecs: self.sender.codecs.clone(),
            extensions: self.sender.extensions.clone(),
            cname: cname.into(),
            reduced_size: true,
        }
    }

    /// W3C `RTCRtpSender.setParameters`.
    pub(crate) fn set_parameters(&mut self, parameters: SendParameters) -> Result<(), Error> {
        if self.is_stopped() {
            return Err(Error::state("the transceiver is stopped"));
        }
        if self.sender.transaction != Some(parameters.transaction) {
            return Err(match self.sender.transaction {
                None => Error::state("the parameters were not read before"),
                Some(_) => Error::modification("the parameters are of another transaction"),
            });
        }
        let encodings = &self.sender.encodings;
        let same_rids = encodings.len() == parameters.encodings.len()
            && encodings
                .iter()
                .zip(&parameters.encodings)
                .all(|(old, new)| old.rid == new.rid);
        if !same_rids {
            return Err(Error::modification(
                "encodings were added, removed or moved",
            ));
        }
        if self.sender.codecs != parameters.codecs
            || self.sender.extensions != parameters.extensions
        {
            return Err(Error::modification("a read-only parameter was changed"));
        }
        let usable: &[Codec] = &self.sender.codecs;
        for encoding in &parameters.encodings {
            encoding.check(self.kind)?;
            if let Some(codec) = &encoding.codec
                && !usable.is_empty()
                && !usable.iter().any(|usable| usable.matches(codec))
            {
                return Err(Error::modification("the codec was not negotiated"));
            }
        }
        self.sender.encodings = parameters.encodings;
        self.sender.transaction = None;
        Ok(())
    }

    /// Ends the transceiver for good (W3C "stop the RTCRtpTransceiver").
    pub(crate) fn stop_now(&mut self) {
        self.stopping = true;
        self.stopped = true;
        self.direction = TransceiverDirection::Stopped;
        self.current_direction = Some(TransceiverDirection::Stopped);
        self.receiver.receptive = false;
    }
}

/// A random UUID (RFC 9562 section 5.4).
pub(crate) fn uuid(random: &mut Random) -> String {
    let mut b = random.bytes::<16>();
    b[6] = b[6] & 0x0f | 0x40;
    b[8] = b[8] & 0x3f | 0x80;
    let hex: String = b.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// The ids without repetitions, in order.
pub(crate) fn unique(ids: Vec<String>) -> Vec<String> {
    let mut unique: Vec<String> = Vec::with_capacity(ids.len());
    for id in ids {
        if !unique.contains(&id) {
            unique.push(id);
        }
    }
    unique
}

/// Whether `id` may stand in SDP as the id of a stream or track (RFC 8830 section 2: 1 to 64
/// token characters; browsers send braces too).
pub(crate) fn check_msid(id: &str) -> Result<(), Error> {
    let valid = (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    if valid {
        Ok(())
    } else {
        Err(Error::Type(
            "the id of a stream or track must be 1 to 64 visible characters".into(),
        ))
    }
}
