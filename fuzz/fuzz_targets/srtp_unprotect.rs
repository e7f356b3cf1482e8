//! SRTP: what no sender protected is refused and leaves no trace; what ours protected comes out as
//! it went in, whatever its header says.

#![no_main]

use libfuzzer_sys::fuzz_target;
use visavis_srtp::{Context, Cryptex, Options, Profile};

fuzz_target!(|data: &[u8]| {
    let [choice, rest @ ..] = data else { return };
    let profile = [
        Profile::Aes128CmHmacSha1_80,
        Profile::AeadAes128Gcm,
        Profile::AeadAes256Gcm,
        Profile::Aes256CmHmacSha1_80,
    ][usize::from(choice & 3)];
    let options = Options {
        cryptex: [Cryptex::Accept, Cryptex::Send, Cryptex::Require]
            [usize::from(choice >> 2 & 3) % 3],
        encrypted_extensions: [1, 2, 14, 15, 200].into_iter().collect(),
        max_streams: 4,
        ..Options::default()
    };
    let context = || {
        let (key, salt) = (
            &[3; 32][..profile.key_len()],
            &[5; 14][..profile.salt_len()],
        );
        Context::new(profile, key, salt, options.clone()).unwrap()
    };
    let (mut sender, mut receiver) = (context(), context());
    let mut rest = rest;
    while let [len, tail @ ..] = rest {
        let (packet, tail) = tail.split_at(tail.len().min(usize::from(*len)));
        rest = tail;
        let streams = receiver.received_streams();
        let mut forged = packet.to_vec();
        assert!(receiver.unprotect_rtp(&mut forged).is_err());
        assert_eq!(receiver.received_streams(), streams);

        let mut buf = packet.to_vec();
        buf.resize(packet.len() + 24, 0);
        if let Ok(len) = sender.protect_rtp(&mut buf, packet.len()) {
            let len = receiver.unprotect_rtp(&mut buf[..len]).unwrap();
            if len == packet.len() {
                assert_eq!(&buf[..len], packet);
            } else {
                // Cryptex put an empty extension behind the contributing sources.
                let end = 12 + 4 * usize::from(packet[0] & 15);
                assert_eq!(buf[end..end + 4], [0xbe, 0xde, 0, 0]);
                assert_eq!(buf[1..end], packet[1..end]);
                assert_eq!(buf[end + 4..len], packet[end..]);
            }
        }
        assert!(receiver.received_streams().0 <= 4);
    }
});
