//! Sender and receiver reports (RFC 3550 section 6).

use std::time::Duration;

use visavis_rtp::Ssrc;
use visavis_rtp::rtcp::{ReportBlock, RtcpWriter, SenderInfo};

use super::rtcp_queue::RtcpQueue;

/// The largest compound packet in bytes, before protection.
const COMPOUND: usize = 1150;
/// Report blocks in one report (RFC 3550 section 6.4.1 has five bits of count).
const BLOCKS: usize = 31;

/// How often reports are sent: each second with video and each five with audio alone, as browsers do.
pub(super) const fn interval(has_video: bool) -> Duration {
    Duration::from_secs(if has_video { 1 } else { 5 })
}

/// Writes the compound packets of one interval: the blocks stand in the first senders' reports, or in
/// receiver reports where nothing is sent or more sources are heard than those hold.
pub(super) fn write_reports(
    senders: &[SenderInfo],
    blocks: &[ReportBlock],
    receiver: Ssrc,
    cname: &str,
    queue: &mut RtcpQueue,
) {
    let mut blocks = blocks.chunks(BLOCKS);
    let mut push = |write: &dyn Fn(&mut RtcpWriter<'_>) -> visavis_rtp::Result<()>| {
        let mut buffer = [0; COMPOUND];
        let mut writer = RtcpWriter::new(&mut buffer);
        if write(&mut writer).is_ok() {
            queue.push(writer.as_slice());
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
}

/// Who feedback comes from, and in what form.
#[derive(Debug)]
pub(super) struct Reporter {
    pub(super) sender: Ssrc,
    /// Whether feedback may stand alone (RFC 5506); else it stands behind a report.
    pub(super) reduced_size: bool,
}

impl Reporter {
    /// Writes feedback into the queue; false if there is no room.
    pub(super) fn write(
        &self,
        cname: &str,
        queue: &mut RtcpQueue,
        write: impl FnOnce(&mut RtcpWriter<'_>) -> bool,
    ) -> bool {
        let mut buffer = [0; COMPOUND];
        let mut writer = RtcpWriter::new(&mut buffer);
        if !self.reduced_size {
            let head = writer
                .receiver_report(self.sender, &[])
                .and_then(|()| writer.cname(self.sender, cname.as_bytes()));
            if head.is_err() {
                return false;
            }
        }
        write(&mut writer) && queue.push(writer.as_slice())
    }
}
