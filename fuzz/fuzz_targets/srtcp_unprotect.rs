//! SRTCP: what no sender protected is refused and leaves no trace; what ours protected comes out as
//! it went in.

#![no_main]

use libfuzzer_sys::fuzz_target;
use visavis_srtp::{Context, Options, Profile};

fuzz_target!(|data: &[u8]| {
    let [choice, rest @ ..] = data else { return };
    let profile = [
        Profile::Aes128CmHmacSha1_80,
        Profile::AeadAes128Gcm,
        Profile::AeadAes256Gcm,
        Profile::Aes128CmHmacSha1_32,
    ][usize::from(choice & 3)];
    let options = Options {
        encrypt_rtcp: choice & 4 == 0,
        accept_unencrypted_rtcp: choice & 8 == 0,
        max_streams: 4,
        ..Options::default()
    };
    let passes = options.encrypt_rtcp || options.accept_unencrypted_rtcp;
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
        assert!(receiver.unprotect_rtcp(&mut forged).is_err());
        assert_eq!(receiver.received_streams(), streams);

        let mut buf = packet.to_vec();
        buf.resize(packet.len() + 24, 0);
        if let Ok(len) = sender.protect_rtcp(&mut buf, packet.len()) {
            assert_eq!(len, packet.len() + sender.rtcp_overhead());
            match receiver.unprotect_rtcp(&mut buf[..len]) {
                Ok(len) => assert_eq!(&buf[..len], packet),
                Err(_) => assert!(!passes),
            }
        }
        assert!(receiver.received_streams().1 <= 4);
    }
});
