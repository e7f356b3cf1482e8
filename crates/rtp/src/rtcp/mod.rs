//! RTCP: compound and reduced-size packets (RFC 3550 section 6, RFC 5506), read in place and written
//! into the caller's buffer.

mod congestion;
mod feedback;
mod report;
mod source;
mod transport;
mod write;
mod xr;

pub use congestion::{
    CongestionFeedback, CongestionReport, CongestionReports, MAX_REPORT_SPAN, MetricBlock,
};
pub use feedback::{
    Fir, FirEntry, LossNotification, Nack, NackPair, Pli, RawFeedback, Remb, Tmmb, TmmbEntry,
};
pub use report::{ReceiverReport, ReportBlock, SenderInfo, SenderReport};
pub use source::{App, Bye, Sdes, SdesChunk, SdesItem};
pub use transport::{Arrival, PacketStatus, TransportFeedback};
pub use write::RtcpWriter;
pub use xr::{DlrrBlock, DlrrBlocks, Xr, XrBlock};

use crate::bytes::u16_at;
use crate::{Error, Result};

/// RTCP packet types.
pub(crate) mod packet_type {
    pub(crate) const SR: u8 = 200;
    pub(crate) const RR: u8 = 201;
    pub(crate) const SDES: u8 = 202;
    pub(crate) const BYE: u8 = 203;
    pub(crate) const APP: u8 = 204;
    pub(crate) const RTPFB: u8 = 205;
    pub(crate) const PSFB: u8 = 206;
    pub(crate) const XR: u8 = 207;
}

/// One RTCP packet of a compound, without its padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rtcp<'a> {
    /// Sender report (RFC 3550 section 6.4.1).
    SenderReport(SenderReport<'a>),
    /// Receiver report (RFC 3550 section 6.4.2).
    ReceiverReport(ReceiverReport<'a>),
    /// Source description (RFC 3550 section 6.5).
    Sdes(Sdes<'a>),
    /// Goodbye (RFC 3550 section 6.6).
    Bye(Bye<'a>),
    /// Application-defined (RFC 3550 section 6.7).
    App(App<'a>),
    /// Extended report (RFC 3611).
    Xr(Xr<'a>),
    /// Generic NACK (RFC 4585 section 6.2.1).
    Nack(Nack<'a>),
    /// Temporary maximum bit rate request (RFC 5104 section 4.2.1).
    Tmmbr(Tmmb<'a>),
    /// Temporary maximum bit rate notification (RFC 5104 section 4.2.2).
    Tmmbn(Tmmb<'a>),
    /// Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1).
    TransportFeedback(TransportFeedback<'a>),
    /// Congestion control feedback (RFC 8888 section 3.1).
    CongestionFeedback(CongestionFeedback<'a>),
    /// Picture loss indication (RFC 4585 section 6.3.1).
    Pli(Pli),
    /// Full intra request (RFC 5104 section 4.3.1).
    Fir(Fir<'a>),
    /// Receiver estimated maximum bit rate (draft-alvestrand-rmcat-remb-03).
    Remb(Remb<'a>),
    /// Loss notification, LNTF (libwebrtc).
    LossNotification(LossNotification),
    /// Transport-layer feedback of another format.
    OtherTransportFeedback(RawFeedback<'a>),
    /// Payload-specific feedback of another format.
    OtherPayloadFeedback(RawFeedback<'a>),
    /// A packet of another type.
    Other(RawPacket<'a>),
}

/// An RTCP packet whose header alone was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawPacket<'a> {
    /// The five bits behind the padding bit: a count or a format.
    pub count: u8,
    /// The packet type.
    pub packet_type: u8,
    /// What follows the four bytes of header, without padding.
    pub body: &'a [u8],
    /// Bytes of padding behind the body.
    pub padding: u8,
}

impl<'a> RawPacket<'a> {
    /// Splits the first packet off `bytes`.
    fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8])> {
        if bytes.len() < 4 {
            return Err(Error::Truncated("RTCP header"));
        }
        if bytes[0] >> 6 != 2 {
            return Err(Error::Version);
        }
        let len = (usize::from(u16_at(bytes, 2)) + 1) * 4;
        let (packet, rest) = bytes
            .split_at_checked(len)
            .ok_or(Error::Truncated("RTCP packet"))?;
        let mut body = &packet[4..];
        let mut padding = 0;
        if bytes[0] & 0x20 != 0 {
            padding = *body.last().ok_or(Error::Padding)?;
            let end = body
                .len()
                .checked_sub(usize::from(padding))
                .ok_or(Error::Padding)?;
            // RFC 3550 section 6.4.1 says a multiple of four, itself included; libwebrtc, and so every browser, fills
            // transport-wide feedback up to a word with one to three bytes.
            if padding == 0 {
                return Err(Error::Padding);
            }
            body = &body[..end];
        }
        let raw = Self {
            count: bytes[0] & 0x1f,
            packet_type: bytes[1],
            body,
            padding,
        };
        Ok((raw, rest))
    }
}

impl<'a> Rtcp<'a> {
    /// Reads the body of a packet. Whatever is in it has been checked when this returns: iterating
    /// over its parts cannot fail.
    ///
    /// # Errors
    /// A typed error for a body that its type forbids.
    pub fn parse(raw: RawPacket<'a>) -> Result<Self> {
        let RawPacket { count, body, .. } = raw;
        Ok(match raw.packet_type {
            packet_type::SR => Self::SenderReport(SenderReport::parse(count, body)?),
            packet_type::RR => Self::ReceiverReport(ReceiverReport::parse(count, body)?),
            packet_type::SDES => Self::Sdes(Sdes::parse(count, body)?),
            packet_type::BYE => Self::Bye(Bye::parse(count, body)?),
            packet_type::APP => Self::App(App::parse(count, body)?),
            packet_type::XR => Self::Xr(Xr::parse(body)?),
            packet_type::RTPFB => {
                let feedback = RawFeedback::parse(count, body)?;
                match count {
                    1 => Self::Nack(Nack::parse(feedback)?),
                    3 => Self::Tmmbr(Tmmb::parse(feedback)?),
                    4 => Self::Tmmbn(Tmmb::parse(feedback)?),
                    11 => Self::CongestionFeedback(CongestionFeedback::parse(body)?),
                    15 => Self::TransportFeedback(TransportFeedback::parse(feedback)?),
                    _ => Self::OtherTransportFeedback(feedback),
                }
            }
            packet_type::PSFB => {
                let feedback = RawFeedback::parse(count, body)?;
                match (count, feedback.information.first_chunk::<4>()) {
                    (1, _) => Self::Pli(Pli::from(feedback)),
                    (4, _) => Self::Fir(Fir::parse(feedback)?),
                    (15, Some(b"REMB")) => Self::Remb(Remb::parse(feedback)?),
                    (15, Some(b"LNTF")) => {
                        Self::LossNotification(LossNotification::parse(feedback)?)
                    }
                    _ => Self::OtherPayloadFeedback(feedback),
                }
            }
            _ => Self::Other(raw),
        })
    }
}

/// Iterates over the packets of a datagram. A packet with a malformed body gives an error and the
/// next one follows; a malformed header ends the iteration with an error.
///
/// ```
/// use visavis_rtp::Ssrc;
/// use visavis_rtp::rtcp::{Compound, Pli, Rtcp, RtcpWriter};
///
/// let mut buffer = [0; 100];
/// let mut writer = RtcpWriter::new(&mut buffer);
/// let pli = Pli { sender: Ssrc(1), media: Ssrc(2) };
/// writer.pli(pli).unwrap();
/// let len = writer.len();
/// let mut compound = Compound::new(&buffer[..len]);
/// assert_eq!(compound.next(), Some(Ok(Rtcp::Pli(pli))));
/// assert_eq!(compound.next(), None);
/// ```
#[derive(Debug, Clone)]
pub struct Compound<'a> {
    rest: &'a [u8],
}

impl<'a> Compound<'a> {
    /// Reads a datagram, compound or reduced-size.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next packet with its header alone read.
    pub fn next_raw(&mut self) -> Option<Result<RawPacket<'a>>> {
        if self.rest.is_empty() {
            return None;
        }
        match RawPacket::split(self.rest) {
            Ok((raw, rest)) => {
                self.rest = rest;
                Some(Ok(raw))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

impl<'a> Iterator for Compound<'a> {
    type Item = Result<Rtcp<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_raw()?.and_then(Rtcp::parse))
    }
}
