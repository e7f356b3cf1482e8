//! The data path allocates nothing.

mod common;

use common::{Pair, config};
use visavis_datagram::TransmitBuf;
use visavis_dtls::Version;

#[test]
fn sealing_and_opening_records_allocate_nothing() {
    for version in [Version::Dtls12, Version::Dtls13] {
        let mut server = config(2);
        server.max_version = version;
        let mut pair = Pair::new(config(1), server, 3);
        pair.exchange();
        pair.assert_connected("allocations");
        let now = pair.now;
        let mut run = TransmitBuf::new(16, 1200);
        run.set_framing(pair.client.dtls.framing());
        let mut opened = 0;
        let allocations = allocation_counter::measure(|| {
            for _ in 0..100 {
                run.clear();
                while let Some(slot) = run.slot() {
                    slot.fill(7);
                    let len = slot.len();
                    run.commit(len);
                }
                pair.client.dtls.seal_run(&mut run).unwrap();
                for (datagram, _) in run.datagrams_mut() {
                    let received = pair.server.dtls.handle_datagram(now, datagram);
                    for range in received {
                        assert!(datagram[range].iter().all(|&byte| byte == 7));
                        opened += 1;
                    }
                }
                pair.server.dtls.poll_timeout();
                assert!(pair.server.dtls.poll_event().is_none());
            }
        });
        assert_eq!(allocations.count_total, 0, "{version}");
        assert_eq!(opened, 1600);
    }
}
