//! Cryptex (RFC 9335): its vectors, and what each setting sends and accepts.

use visavis_srtp::{Context, Cryptex, Error, Options, Profile};

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|index| u8::from_str_radix(&text[2 * index..2 * index + 2], 16).unwrap())
        .collect()
}

fn context(profile: Profile, cryptex: Cryptex) -> Context {
    let (key, salt) = if profile == Profile::AeadAes128Gcm {
        (
            "000102030405060708090a0b0c0d0e0f",
            "a0a1a2a3a4a5a6a7a8a9aaab",
        )
    } else {
        (
            "e1f97a0d3e018be0d64fa32c06de4139",
            "0ec675ad498afeebb6960b3aabe6",
        )
    };
    let options = Options {
        cryptex,
        ..Options::default()
    };
    Context::new(profile, &hex(key), &hex(salt), options).unwrap()
}

fn protect(context: &mut Context, packet: &[u8]) -> Vec<u8> {
    let mut buf = [packet, &[0; 20]].concat();
    let len = context.protect_rtp(&mut buf, packet.len()).unwrap();
    buf.truncate(len);
    buf
}

fn unprotect(context: &mut Context, packet: &[u8]) -> Result<Vec<u8>, Error> {
    let mut buf = packet.to_vec();
    let len = context.unprotect_rtp(&mut buf)?;
    buf.truncate(len);
    Ok(buf)
}

const PLAIN: [&str; 6] = [
    "900f1235decafbadcafebabebede000151000200abababababababababababababababab",
    "900f1236decafbadcafebabe1000000105020002abababababababababababababababab",
    "920f1238decafbadcafebabe0001e2400000b26ebede000151000200abababababababababababababababab",
    "920f1239decafbadcafebabe0001e2400000b26e1000000105020002abababababababababababababababab",
    "920f123adecafbadcafebabe0001e2400000b26ebede0000abababababababababababababababab",
    "920f123bdecafbadcafebabe0001e2400000b26e10000000abababababababababababababababab",
];

/// RFC 9335 appendix A.1.
const COUNTER: [&str; 6] = [
    "900f1235decafbadcafebabec0de0001eb92365251c3e036f8de27e9c27ee3e0b4651d9fbc4218a70244522f34a5",
    "900f1236decafbadcafebabec2de00014ed9cc4e6a712b3096c5ca77339d4204ce0d77396cab69585fbce38194a5",
    "920f1238decafbadcafebabe8bb6e12b5cff16ddc0de000192838c8c09e58393e1de3a9a74734d6745671338c3acf11da2df8423bee0",
    "920f1239decafbadcafebabef70e513eb90b9b25c2de0001bbed4848faa644665f3d7f34125914e9f4d0ae923c6f479b95a0f7b53133",
    "920f123adecafbadcafebabe7130b6abfe2ab0e3c0de0000e3d9f64b25c9e74cb4cf8e43fb92e3781c2c0ceab6b3a499a14c",
    "920f123bdecafbadcafebabecbf24c124330e1c8c2de0000599dd45bc9d687b603e8b59d771fd38e88b170e0cd31e125eabe",
];

/// RFC 9335 appendix A.2.
const GCM: [&str; 6] = [
    "900f1235decafbadcafebabec0de000139972dc9572c4d99e8fc355de743fb2e94f9d8ff54e72f4193bbc5c74ffab0fa9fa0fbeb",
    "900f1236decafbadcafebabec2de0001bb75a4c545cd1f413bdb7daa2b1e3263de313667c963249081b35a65f5cb6c88b394235f",
    "920f1238decafbadcafebabe63bbccc4a7f695c4c0de00018ad7c71fac70a80c92866b4c6ba98546ef913586e95ffaaffe956885bb0647a8bc094ac8",
    "920f1239decafbadcafebabe3680524f8d312b00c2de0001c78d120038422bc111a7187a18246f980c059cc6bc9df8b626394eca344e4b05d80fea83",
    "920f123adecafbadcafebabe15b6bb4337906fffc0de0000b7b964537a2b03ab7ba5389ce93317126b5d974df30c6884dcb651c5e120c1da",
    "920f123bdecafbadcafebabedcb38c9e48bf95f4c2de000061ee432cf920317076613258d3ce4236c06ac429681ad08413512dc98b5207d8",
];

const PROFILES: [(Profile, [&str; 6]); 2] = [
    (Profile::Aes128CmHmacSha1_80, COUNTER),
    (Profile::AeadAes128Gcm, GCM),
];

#[test]
fn rfc9335_appendix_a() {
    for (profile, vectors) in PROFILES {
        let mut sender = context(profile, Cryptex::Send);
        let mut receiver = context(profile, Cryptex::Require);
        for (plain, sealed) in PLAIN.into_iter().zip(vectors) {
            let packet = protect(&mut sender, &hex(plain));
            assert_eq!(packet, hex(sealed), "{profile:?}");
            assert_eq!(unprotect(&mut receiver, &packet).unwrap(), hex(plain));
        }
    }
}

#[test]
fn contributing_sources_without_extension_get_an_empty_one() {
    // RFC 9335 section 5.2: the packet of appendix A.1.5 and A.2.5 without its empty extension.
    let plain = "820f123adecafbadcafebabe0001e2400000b26eabababababababababababababababab";
    for (profile, vectors) in PROFILES {
        let packet = protect(&mut context(profile, Cryptex::Send), &hex(plain));
        assert_eq!(packet, hex(vectors[4]), "{profile:?}");
    }
}

#[test]
fn a_packet_without_anything_to_hide_is_sent_as_ever() {
    let plain = hex("800f1235decafbadcafebabeabababababababababababababababab");
    for (profile, _) in PROFILES {
        let packet = protect(&mut context(profile, Cryptex::Send), &plain);
        assert_eq!(
            packet,
            protect(&mut context(profile, Cryptex::Accept), &plain)
        );
        let mut receiver = context(profile, Cryptex::Require);
        assert_eq!(unprotect(&mut receiver, &packet).unwrap(), plain);
    }
}

#[test]
fn a_receiver_that_accepts_takes_both_and_one_that_requires_only_one() {
    for (profile, vectors) in PROFILES {
        for (plain, sealed) in PLAIN.into_iter().zip(vectors) {
            let mut receiver = context(profile, Cryptex::Accept);
            assert_eq!(unprotect(&mut receiver, &hex(sealed)).unwrap(), hex(plain));
            let clear = protect(&mut context(profile, Cryptex::Accept), &hex(plain));
            let mut receiver = context(profile, Cryptex::Accept);
            assert_eq!(unprotect(&mut receiver, &clear).unwrap(), hex(plain));
            let mut receiver = context(profile, Cryptex::Require);
            assert_eq!(unprotect(&mut receiver, &clear), Err(Error::Unencrypted));
            assert_eq!(receiver.stats().unencrypted, 1);
        }
    }
}

#[test]
fn an_extension_of_another_kind_cannot_be_hidden() {
    let mut buf = hex("900f1235decafbadcafebabe1234000151000200abab");
    let len = buf.len();
    buf.resize(len + 20, 0);
    let before = buf.clone();
    let mut sender = context(Profile::AeadAes128Gcm, Cryptex::Send);
    assert_eq!(
        sender.protect_rtp(&mut buf, len),
        Err(Error::UnsupportedExtension)
    );
    assert_eq!(buf, before);
}

#[test]
fn every_forged_bit_of_a_hidden_header_is_noticed() {
    for (profile, vectors) in PROFILES {
        for sealed in vectors {
            let sealed = hex(sealed);
            for bit in 0..sealed.len() * 8 {
                let mut forged = sealed.clone();
                forged[bit / 8] ^= 1 << (bit % 8);
                let mut receiver = context(profile, Cryptex::Accept);
                assert!(unprotect(&mut receiver, &forged).is_err(), "bit {bit}");
                assert_eq!(receiver.received_streams(), (0, 0));
            }
        }
    }
}
