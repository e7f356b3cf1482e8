//! Sender and receiver reports (RFC 3550 section 6).

use std::time::{Duration, Instant};

use visavis_datagram::Random;
use visavis_rtp::Ssrc;
use visavis_rtp::rtcp::{ReportBlock, RtcpWriter, SenderInfo};

/// The largest compound packet in bytes, before protection.
pub(super) const COMPOUND: usize = 1150;
/// Report blocks in one report (RFC 3550 section 6.4.1 has five bits of count).
const BLOCKS: usize = 31;

/// When reports are sent: each second with video and each five with audio alone, as browsers do,
/// spread by half both ways (RFC 3550 section 6.2).
#[derive(Debug)]
pub(super) struct Reports {
    due: Option<Instant>,
    random: Random,
}

impl Reports {
    pub(super) fn new(random: Random) -> Self {
        Self { due: None, random }
    }

    pub(super) fn start(&mut self, now: Instant) {
        if self.due.is_none() {
            // RFC 3550 section 6.2: half the interval for the first one.
            self.due = Some(now + Duration::from_millis(500));
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    pub(super) fn sent(&mut self, now: Instant, has_video: bool) {
        let interval = if has_video { 1.0 } else { 5.0 };
        let spread = 0.5 + self.random.unit();
        self.due = Some(now + Duration::from_secs_f64(interval * spread));
    }
}

/// The compound packets of one interval: the blocks stand in the first sender's report, or in
/// receiver reports where nothing is sent or more sources are heard than one report holds.
pub(super) fn compounds(
    senders: &[SenderInfo],
    blocks: &[ReportBlock],
    receiver: Ssrc,
    cname: &str,
) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut blocks = blocks.chunks(BLOCKS);
    let mut push = |write: &dyn Fn(&mut RtcpWriter<'_>) -> visavis_rtp::Result<()>| {
        let mut buffer = [0; COMPOUND];
        let mut writer = RtcpWriter::new(&mut buffer);
        if write(&mut writer).is_ok() {
            packets.push(writer.as_slice().to_vec());
        }
    };
    for info in senders {
        let heard = blocks.next().unwrap_or_default();
        push(&|writer| {
            writer.sender_report(info, heard)?;
            writer.cname(info.ssrc, cname.as_bytes())
        });
    }
    let reporter = senders.first().map_or(receiver, |info| info.ssrc);
    for heard in blocks {
        push(&|writer| {
            writer.receiver_report(reporter, heard)?;
            writer.cname(reporter, cname.as_bytes())
        });
    }
    packets
}
