//! DTLS records and messages from any bytes, and records into connected ends.
#![no_main]

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use visavis_crypto::certificate::SelfSigned;
use visavis_crypto::{Certificate, Group};
use visavis_datagram::{Random, TransmitBuf};
use visavis_dtls::{Config, Connection, PeerVerification, Version, fuzzing};

thread_local! {
    /// Connected ends, made anew when one has closed.
    static PAIRS: RefCell<Vec<Option<(Connection, Connection)>>> =
        const { RefCell::new(Vec::new()) };
}

fn config(version: Version, id: Option<usize>) -> Arc<Config> {
    let options = SelfSigned::at(1_800_000_000);
    let certificate = Certificate::self_signed(&options, &mut Random::from_u64(1)).unwrap();
    let mut config = Config::new(certificate);
    config.min_version = version;
    config.max_version = version;
    config.groups = vec![Group::X25519];
    config.verification = PeerVerification::Caller;
    config.connection_id = id;
    Arc::new(config)
}

fn carry(now: Instant, from: &mut Connection, to: &mut Connection) -> bool {
    let mut out = TransmitBuf::new(8, 1500);
    let mut carried = false;
    while from.poll_transmit(now, &mut out).is_some() {
        for (datagram, _) in out.datagrams_mut() {
            to.handle_datagram(now, datagram);
        }
        out.clear();
        carried = true;
    }
    carried
}

fn pair(now: Instant, version: Version, id: Option<usize>) -> (Connection, Connection) {
    let config = config(version, id);
    let mut client = Connection::client(config.clone(), Random::from_u64(1), now).unwrap();
    let mut server = Connection::server(config, Random::from_u64(2), now).unwrap();
    while carry(now, &mut client, &mut server) | carry(now, &mut server, &mut client) {}
    assert!(client.is_connected() && server.is_connected());
    (client, server)
}

fuzz_target!(|bytes: &[u8]| {
    fuzzing::records(bytes);
    fuzzing::messages(bytes);
    let Some((&choice, rest)) = bytes.split_first() else {
        return;
    };
    let now = Instant::now();
    let version = if choice & 1 == 0 {
        Version::Dtls13
    } else {
        Version::Dtls12
    };
    let id = (choice & 2 != 0).then_some(3);
    PAIRS.with_borrow_mut(|pairs| {
        pairs.resize_with(4, || None);
        let slot = &mut pairs[usize::from(choice & 3)];
        let (client, server) = slot.get_or_insert_with(|| pair(now, version, id));
        // The bytes as they are, and as changes to a real record: position and mask.
        let mut datagram = rest.to_vec();
        for range in server.handle_datagram(now, &mut datagram) {
            assert!(range.end <= datagram.len());
        }
        let framing = client.framing();
        let mut datagram = vec![0; framing.header + 40 + framing.trailer];
        client
            .seal(&mut datagram, framing.header..framing.header + 40)
            .unwrap();
        for change in rest.chunks_exact(2) {
            let at = usize::from(change[0]) % datagram.len();
            datagram[at] ^= change[1];
        }
        let received = server.handle_datagram(now, &mut datagram);
        assert!(rest.len() >= 2 || received.len() == 1);
        while server.poll_event().is_some() {}
        carry(now, server, client);
        while client.poll_event().is_some() {}
        if client.is_closed() || server.is_closed() {
            *slot = None;
        }
    });
});
