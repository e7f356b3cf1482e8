//! Writes compound packets into the caller's buffer.

use super::congestion::{self, MetricBlock};
use super::feedback::exponent;
use super::packet_type::{APP, BYE, PSFB, RR, RTPFB, SDES, SR, XR};
use super::transport::{self, Arrival};
use super::{
    DlrrBlock, FirEntry, LossNotification, NackPair, Pli, ReportBlock, SdesItem, SenderInfo,
    TmmbEntry, XrBlock,
};
use crate::bytes::Writer;
use crate::{Error, Result, SequenceNumber, Ssrc};

/// Appends RTCP packets to a compound packet in the caller's buffer. What does not fit, or cannot be
/// represented, gives an error and leaves the buffer's packets as they were.
#[derive(Debug)]
pub struct RtcpWriter<'b> {
    buffer: &'b mut [u8],
    len: usize,
    /// Where the last packet begins.
    last: usize,
}

impl<'b> RtcpWriter<'b> {
    /// A compound packet without packets.
    pub const fn new(buffer: &'b mut [u8]) -> Self {
        Self {
            buffer,
            len: 0,
            last: 0,
        }
    }

    /// Bytes written so far.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no packet yet.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes left in the buffer.
    pub const fn available(&self) -> usize {
        self.buffer.len() - self.len
    }

    /// The packets so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// A sender report with up to 31 blocks.
    ///
    /// # Errors
    /// [`Error::NotRepresentable`] or [`Error::BufferTooSmall`]; the same holds for all that follow.
    pub fn sender_report(&mut self, info: &SenderInfo, blocks: &[ReportBlock]) -> Result<()> {
        self.packet(count(blocks.len())?, SR, |writer| {
            writer.u32(info.ssrc.0)?;
            writer.u64(info.ntp.0)?;
            writer.u32(info.rtp_timestamp)?;
            writer.u32(info.packets)?;
            writer.u32(info.octets)?;
            blocks.iter().try_for_each(|block| block.write(writer))
        })
    }

    /// A receiver report with up to 31 blocks.
    ///
    /// # Errors
    /// As [`Self::sender_report`].
    pub fn receiver_report(&mut self, ssrc: Ssrc, blocks: &[ReportBlock]) -> Result<()> {
        self.packet(count(blocks.len())?, RR, |writer| {
            writer.u32(ssrc.0)?;
            blocks.iter().try_for_each(|block| block.write(writer))
        })
    }

    /// A source description: sources, each with its items, up to 31.
    ///
    /// # Errors
    /// As [`Self::sender_report`].
    pub fn sdes<'i, I>(&mut self, chunks: &[(Ssrc, I)]) -> Result<()>
    where
        I: Clone + IntoIterator<Item = (SdesItem, &'i [u8])>,
    {
        self.packet(count(chunks.len())?, SDES, |writer| {
            for (ssrc, items) in chunks {
                writer.u32(ssrc.0)?;
                for (kind, text) in items.clone() {
                    let len = u8::try_from(text.len())
                        .map_err(|_| Error::NotRepresentable("SDES item above 255 bytes"))?;
                    if kind.0 == 0 {
                        return Err(Error::NotRepresentable("SDES item type 0"));
                    }
                    writer.put(&[kind.0, len])?;
                    writer.put(text)?;
                }
                // One zero at least, up to the next word.
                let zeros = 4 - writer.len() % 4;
                writer.slot(zeros)?.fill(0);
            }
            Ok(())
        })
    }

    /// A source description with a canonical name alone.
    ///
    /// # Errors
    /// As [`Self::sender_report`].
    pub fn cname(&mut self, ssrc: Ssrc, cname: &[u8]) -> Result<()> {
        self.sdes(&[(ssrc, [(SdesItem::CNAME, cname)])])
    }

    /// A goodbye of up to 31 sources, with a reason of up to 255 bytes.
    ///
    /// # Errors
    /// As [`Self::sender_report`].
    pub fn bye(&mut self, sources: &[Ssrc], reason: Option<&[u8]>) -> Result<()> {
        self.packet(count(sources.len())?, BYE, |writer| {
            sources.iter().try_for_each(|ssrc| writer.u32(ssrc.0))?;
            let Some(reason) = reason else { return Ok(()) };
            let len = u8::try_from(reason.len())
                .map_err(|_| Error::NotRepresentable("BYE reason above 255 bytes"))?;
            writer.u8(len)?;
            writer.put(reason)?;
            pad(writer)
        })
    }

    /// An application-defined packet; `subtype` 0 to 31, whole words of `data`.
    ///
    /// # Errors
    /// As [`Self::sender_report`].
    pub fn app(&mut self, subtype: u8, ssrc: Ssrc, name: [u8; 4], data: &[u8]) -> Result<()> {
        if !data.len().is_multiple_of(4) {
            return Err(Error::NotRepresentable("APP data that is no whole words"));
        }
        self.packet(count(subtype.into())?, APP, |writer| {
            writer.u32(ssrc.0)?;
            writer.put(&name)?;
            writer.put(data)
        })
    }

    /// An extended report.
    ///
    /// # Errors
    /// As [`Self::sender_report`].
    pub fn xr<'x>(
        &mut self,
        ssrc: Ssrc,
        blocks: impl IntoIterator<Item = XrBlock<'x>>,
    ) -> Result<()> {
        self.packet(0, XR, |writer| {
            writer.u32(ssrc.0)?;
            for block in blocks {
                match block {
                    XrBlock::ReceiverReferenceTime(ntp) => {
                        writer.put(&[4, 0, 0, 2])?;
                        writer.u64(ntp.0)?;
                    }
                    XrBlock::Dlrr(answers) => write_dlrr(writer, answers.iter())?,
                    XrBlock::Other {
                        block_type,
                        specific,
                        data,
                    } => {
                        if !data.len().is_multiple_of(4) || data.len() / 4 > 0xffff {
                            return Err(Error::NotRepresentable("XR block length"));
                        }
                        writer.put(&[block_type, specific])?;
                        writer.u16((data.len() / 4) as u16)?;
                        writer.put(data)?;
                    }
                }
            }
            Ok(())
        })
    }

    /// An extended report that answers others' reference times.
    ///
    /// # Errors
    /// As [`Self::sender_report`].
    pub fn xr_dlrr(&mut self, ssrc: Ssrc, answers: &[DlrrBlock]) -> Result<()> {
        self.packet(0, XR, |writer| {
            writer.u32(ssrc.0)?;
            write_dlrr(writer, answers.iter().copied())
        })
    }

    /// A generic NACK. As many pairs as fit are written; returns how many.
    ///
    /// # Errors
    /// As [`Self::sender_report`], if there is none or not even one fits.
    pub fn nack(
        &mut self,
        sender: Ssrc,
        media: Ssrc,
        pairs: impl IntoIterator<Item = NackPair>,
    ) -> Result<usize> {
        let mut written = 0;
        self.feedback(1, RTPFB, sender, media, |writer| {
            for pair in pairs {
                if writer.available() < 4 && written > 0 {
                    break;
                }
                writer.u16(pair.first.0)?;
                writer.u16(pair.following)?;
                written += 1;
            }
            if written == 0 {
                return Err(Error::NotRepresentable("NACK without entries"));
            }
            Ok(())
        })?;
        Ok(written)
    }

    /// A picture loss indication.
    ///
    /// # Errors
    /// As [`Self::sender_report`].
    pub fn pli(&mut self, pli: Pli) -> Result<()> {
        self.feedback(1, PSFB, pli.sender, pli.media, |_| Ok(()))
    }

    /// A full intra request with at least one entry.
    ///
    /// # Errors
    /// As [`Self::sender_report`].
    pub fn fir(&mut self, sender: Ssrc, entries: &[FirEntry]) -> Result<()> {
        if entries.is_empty() {
            return Err(Error::NotRepresentable("FIR without entries"));
        }
        self.feedback(4, PSFB, sender, Ssrc(0), |writer| {
            entries.iter().try_for_each(|entry| {
                writer.u32(entry.ssrc.0)?;
                writer.put(&[entry.sequence, 0, 0, 0])
            })
        })
    }

    /// A temporary maximum bit rate request.
    ///
    /// # Errors
    /// As [`Self::sender_report`].
    pub fn tmmbr(&mut self, sender: Ssrc, entries: &[TmmbEntry]) -> Result<()> {
        self.tmmb(3, sender, entries)
    }

    /// A temporary maximum bit rate notification.
    ///
    /// # Errors
    /// As [`Self::sender_report`].
    pub fn tmmbn(&mut self, sender: Ssrc, entries: &[TmmbEntry]) -> Result<()> {
        self.tmmb(4, sender, entries)
    }

    fn tmmb(&mut self, format: u8, sender: Ssrc, entries: &[TmmbEntry]) -> Result<()> {
        self.feedback(format, RTPFB, sender, Ssrc(0), |writer| {
            entries.iter().try_for_each(|entry| {
                let (mantissa, exponent) = exponent(entry.bitrate, 17);
                writer.u32(entry.ssrc.0)?;
                writer.u32(exponent << 26 | mantissa << 9 | u32::from(entry.overhead & 0x1ff))
            })
        })
    }

    /// A receiver estimated maximum bit rate, in bits per second, for up to 255 sources.
    ///
    /// # Errors
    /// As [`Self::sender_report`].
    pub fn remb(&mut self, sender: Ssrc, bitrate: u64, sources: &[Ssrc]) -> Result<()> {
        let count = u8::try_from(sources.len())
            .map_err(|_| Error::NotRepresentable("REMB about more than 255 sources"))?;
        self.feedback(15, PSFB, sender, Ssrc(0), |writer| {
            let (mantissa, exponent) = exponent(bitrate, 18);
            writer.put(b"REMB")?;
            writer.u8(count)?;
            writer.u24(exponent << 18 | mantissa)?;
            sources.iter().try_for_each(|ssrc| writer.u32(ssrc.0))
        })
    }

    /// A loss notification.
    ///
    /// # Errors
    /// As [`Self::sender_report`].
    pub fn loss_notification(&mut self, loss: &LossNotification) -> Result<()> {
        let step = loss.last_received.distance(loss.last_decoded);
        let step = u16::try_from(step)
            .map_err(|_| Error::NotRepresentable("LNTF: received before decoded"))?;
        self.feedback(15, PSFB, loss.sender, loss.media, |writer| {
            writer.put(b"LNTF")?;
            writer.u16(loss.last_decoded.0)?;
            writer.u16(step << 1 | u16::from(loss.decodable))
        })
    }

    /// A transport-wide feedback about the packets from `base` on. `arrivals` are those that came, in
    /// serial order of their numbers, none twice, none before `base`; what is between them counts as
    /// lost. Returns how many arrivals it holds: fewer than all if the buffer ends, more than 65535
    /// packets lie between, or two arrivals are more than 8 s apart. The rest goes into the next
    /// feedback, whose base is the number after the last one written.
    ///
    /// # Errors
    /// As [`Self::sender_report`], if not even one fits.
    pub fn transport_feedback(
        &mut self,
        sender: Ssrc,
        media: Ssrc,
        base: SequenceNumber,
        feedback_count: u8,
        arrivals: &[Arrival],
    ) -> Result<usize> {
        let mut taken = 0;
        self.feedback(15, RTPFB, sender, media, |writer| {
            taken = transport::write(writer, base, feedback_count, arrivals)?;
            Ok(())
        })?;
        Ok(taken)
    }

    /// A congestion control feedback (RFC 8888): `reports` has one entry per source, with the first
    /// packet's number and one item per packet from there on, `None` for one that did not arrive.
    /// `timestamp` is the middle 32 bits of the NTP time that the arrival offsets count back from.
    ///
    /// # Errors
    /// As [`Self::sender_report`]; [`Error::Limit`] for more than 16384 packets of one source.
    pub fn congestion_feedback<P>(
        &mut self,
        sender: Ssrc,
        reports: impl IntoIterator<Item = (Ssrc, SequenceNumber, P)>,
        timestamp: u32,
    ) -> Result<()>
    where
        P: IntoIterator<Item = Option<MetricBlock>>,
    {
        self.packet(11, RTPFB, |writer| {
            writer.u32(sender.0)?;
            for (ssrc, begin, packets) in reports {
                congestion::write_report(writer, ssrc, begin, packets)?;
            }
            writer.u32(timestamp)
        })
    }

    /// A feedback message of any format, from its information in whole words. `payload_specific`
    /// chooses packet type 206 rather than 205.
    ///
    /// # Errors
    /// As [`Self::sender_report`].
    pub fn raw_feedback(
        &mut self,
        feedback: &super::RawFeedback<'_>,
        payload_specific: bool,
    ) -> Result<()> {
        if !feedback.information.len().is_multiple_of(4) {
            return Err(Error::NotRepresentable("feedback that is no whole words"));
        }
        let packet_type = if payload_specific { PSFB } else { RTPFB };
        let format = count(feedback.format.into())?;
        self.feedback(
            format,
            packet_type,
            feedback.sender,
            feedback.media,
            |writer| writer.put(feedback.information),
        )
    }

    /// A packet of any type, from its body in whole words.
    ///
    /// # Errors
    /// As [`Self::sender_report`].
    pub fn raw(&mut self, count_field: u8, packet_type: u8, body: &[u8]) -> Result<()> {
        if !body.len().is_multiple_of(4) {
            return Err(Error::NotRepresentable("RTCP body that is no whole words"));
        }
        self.packet(count(count_field.into())?, packet_type, |writer| {
            writer.put(body)
        })
    }

    /// Pads the last packet by `bytes`, a multiple of four up to 252.
    ///
    /// # Errors
    /// As [`Self::sender_report`].
    pub fn pad_last(&mut self, bytes: u8) -> Result<()> {
        if bytes == 0 || !bytes.is_multiple_of(4) || self.len == 0 {
            return Err(Error::NotRepresentable("RTCP padding"));
        }
        let end = self.len + usize::from(bytes);
        let slot = self
            .buffer
            .get_mut(self.len..end)
            .ok_or(Error::BufferTooSmall)?;
        slot.fill(0);
        slot[usize::from(bytes) - 1] = bytes;
        self.buffer[self.last] |= 0x20;
        self.len = end;
        self.close()
    }

    fn feedback(
        &mut self,
        format: u8,
        packet_type: u8,
        sender: Ssrc,
        media: Ssrc,
        information: impl FnOnce(&mut Writer<'_>) -> Result<()>,
    ) -> Result<()> {
        self.packet(format, packet_type, |writer| {
            writer.u32(sender.0)?;
            writer.u32(media.0)?;
            information(writer)?;
            pad(writer)
        })
    }

    fn packet(
        &mut self,
        count: u8,
        packet_type: u8,
        body: impl FnOnce(&mut Writer<'_>) -> Result<()>,
    ) -> Result<()> {
        // Whole words only, so that padding to a word always fits.
        let room = self.available() / 4 * 4;
        let start = self.len;
        let mut writer = Writer::new(&mut self.buffer[start..start + room]);
        writer.put(&[0x80 | count, packet_type, 0, 0])?;
        body(&mut writer)?;
        self.len += writer.len();
        self.last = start;
        self.close()
    }

    /// Writes the last packet's length.
    fn close(&mut self) -> Result<()> {
        let words = (self.len - self.last) / 4 - 1;
        let words = u16::try_from(words).map_err(|_| {
            self.len = self.last;
            Error::NotRepresentable("RTCP packet above 256 KiB")
        })?;
        self.buffer[self.last + 2..self.last + 4].copy_from_slice(&words.to_be_bytes());
        Ok(())
    }
}

/// A count of five bits.
fn count(value: usize) -> Result<u8> {
    u8::try_from(value)
        .ok()
        .filter(|&value| value < 32)
        .ok_or(Error::NotRepresentable("RTCP count above 31"))
}

fn pad(writer: &mut Writer<'_>) -> Result<()> {
    let zeros = writer.len().next_multiple_of(4) - writer.len();
    writer.slot(zeros)?.fill(0);
    Ok(())
}

fn write_dlrr(
    writer: &mut Writer<'_>,
    answers: impl ExactSizeIterator<Item = DlrrBlock>,
) -> Result<()> {
    let words = u16::try_from(answers.len() * 3)
        .map_err(|_| Error::NotRepresentable("DLRR block length"))?;
    writer.put(&[5, 0])?;
    writer.u16(words)?;
    for answer in answers {
        writer.u32(answer.ssrc.0)?;
        writer.u32(answer.last_rr)?;
        writer.u32(answer.delay_since_last_rr)?;
    }
    Ok(())
}
