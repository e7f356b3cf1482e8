//! RTCP: any bytes are packets or errors, and what was read can be walked to its end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use visavis_rtp::rtcp::{Compound, Rtcp, RtcpWriter};

fuzz_target!(|bytes: &[u8]| {
    let mut out = vec![0; bytes.len() + 64];
    for packet in Compound::new(bytes).flatten() {
        let mut writer = RtcpWriter::new(&mut out);
        match packet {
            Rtcp::SenderReport(report) => {
                let blocks: Vec<_> = report.blocks().collect();
                writer.sender_report(&report.info, &blocks).unwrap();
            }
            Rtcp::ReceiverReport(report) => {
                let blocks: Vec<_> = report.blocks().collect();
                writer.receiver_report(report.ssrc, &blocks).unwrap();
            }
            Rtcp::Sdes(sdes) => {
                for chunk in sdes.chunks() {
                    let _ = chunk.items().count();
                }
            }
            Rtcp::Bye(bye) => {
                let sources: Vec<_> = bye.sources().collect();
                writer.bye(&sources, bye.reason).unwrap();
            }
            Rtcp::Xr(xr) => {
                writer.xr(xr.ssrc, xr.blocks()).unwrap();
            }
            Rtcp::Nack(nack) => {
                let _ = nack.sequences().count();
                writer.nack(nack.sender, nack.media, nack.pairs()).unwrap();
            }
            Rtcp::Tmmbr(tmmb) | Rtcp::Tmmbn(tmmb) => {
                let _ = tmmb.entries().count();
            }
            Rtcp::TransportFeedback(feedback) => {
                assert_eq!(feedback.packets().count(), usize::from(feedback.count));
            }
            Rtcp::CongestionFeedback(feedback) => {
                let reports = feedback
                    .reports()
                    .map(|report| (report.ssrc, report.begin, report.packets().map(|it| it.1)));
                writer
                    .congestion_feedback(feedback.sender, reports, feedback.timestamp)
                    .unwrap();
            }
            Rtcp::Fir(fir) => {
                let _ = fir.entries().count();
            }
            Rtcp::Remb(remb) => {
                let sources: Vec<_> = remb.sources().collect();
                writer.remb(remb.sender, remb.bitrate, &sources).unwrap();
            }
            Rtcp::LossNotification(loss) => {
                writer.loss_notification(&loss).unwrap();
            }
            _ => {}
        }
        // What was written is read without an error.
        assert!(Compound::new(writer.as_slice()).all(|packet| packet.is_ok()));
    }
});
