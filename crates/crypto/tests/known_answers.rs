//! Known answers of the documents that define the primitives.

use visavis_crypto::aead::{self, Algorithm};
use visavis_crypto::cipher::{AesBlock, AesCtr, MaskKey};
use visavis_crypto::{HashAlgorithm, hash, hkdf, hmac, prf};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn array<const N: usize>(text: &str) -> [u8; N] {
    hex(text).try_into().unwrap()
}

/// Seals and opens, and refuses the result with any one bit changed.
fn check_aead(algorithm: Algorithm, key: &str, nonce: &str, aad: &str, plain: &[u8], sealed: &str) {
    let key = aead::Key::new(algorithm, &hex(key)).unwrap();
    let (nonce, aad) = (array(nonce), hex(aad));
    let mut buf = plain.to_vec();
    let tag = key.seal_in_place(&nonce, &aad, &mut buf);
    buf.extend_from_slice(&tag);
    assert_eq!(buf, hex(sealed), "{algorithm:?}");
    for bit in 0..buf.len() * 8 {
        let mut forged = buf.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(key.open_in_place(&nonce, &aad, &mut forged).is_err());
    }
    for len in 0..buf.len() {
        assert!(
            key.open_in_place(&nonce, &aad, &mut buf.clone()[..len])
                .is_err()
        );
    }
    let len = key.open_in_place(&nonce, &aad, &mut buf).unwrap();
    assert_eq!(&buf[..len], plain);
}

const GCM_PLAIN: &str = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
    1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39";
const GCM_AAD: &str = "feedfacedeadbeeffeedfacedeadbeefabaddad2";

#[test]
fn aes_gcm_specification_test_case_4() {
    check_aead(
        Algorithm::Aes128Gcm,
        "feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        GCM_AAD,
        &hex(GCM_PLAIN),
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e
         21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091
         5bc94fbc3221a5db94fae95ae7121a47",
    );
}

#[test]
fn aes_gcm_specification_test_case_16() {
    check_aead(
        Algorithm::Aes256Gcm,
        "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        GCM_AAD,
        &hex(GCM_PLAIN),
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
         8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662
         76fc6ece0f4e1768cddf8853bb2d551b",
    );
}

#[test]
fn rfc8439_section_2_8_2() {
    check_aead(
        Algorithm::ChaCha20Poly1305,
        "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
        "070000004041424344454647",
        "50515253c0c1c2c3c4c5c6c7",
        b"Ladies and Gentlemen of the class of '99: If I could offer you \
          only one tip for the future, sunscreen would be it.",
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6
         3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36
         92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc
         3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691",
    );
}

#[test]
fn an_aead_key_of_the_wrong_length_is_refused() {
    for algorithm in [
        Algorithm::Aes128Gcm,
        Algorithm::Aes256Gcm,
        Algorithm::ChaCha20Poly1305,
    ] {
        for len in 0..70 {
            let key = aead::Key::new(algorithm, &vec![7; len]);
            assert_eq!(
                key.is_ok(),
                len == algorithm.key_len(),
                "{algorithm:?} {len}"
            );
        }
    }
}

#[test]
fn sp_800_38a_section_f_5_counter_mode() {
    let plain = hex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51
        30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
    );
    let iv = array("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
    for (key, expected) in [
        (
            "2b7e151628aed2a6abf7158809cf4f3c",
            "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff
             5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee",
        ),
        (
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
            "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5
             2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6",
        ),
    ] {
        let key = AesCtr::new(&hex(key)).unwrap();
        for len in 0..=plain.len() {
            let mut data = plain[..len].to_vec();
            key.apply(&iv, &mut data);
            assert_eq!(data, hex(expected)[..len]);
        }
    }
}

#[test]
fn counter_mode_carries_into_the_whole_block() {
    // The counter is the whole block: ff..ff is followed by 00..00.
    let key = [1; 16];
    let mut data = [0; 32];
    AesCtr::new(&key).unwrap().apply(&[0xff; 16], &mut data);
    let block = AesBlock::new(&key).unwrap();
    assert_eq!(data[..16], block.encrypt([0xff; 16]));
    assert_eq!(data[16..], block.encrypt([0; 16]));
}

#[test]
fn fips_197_appendix_c() {
    let plain = array("00112233445566778899aabbccddeeff");
    for (len, expected) in [
        (16, "69c4e0d86a7b0430d8cdb78070b4c55a"),
        (24, "dda97ca4864cdfe06eaf70a0ec0d7191"),
        (32, "8ea2b7ca516745bfeafc49904b496089"),
    ] {
        let key: Vec<u8> = (0..len).collect();
        assert_eq!(AesBlock::new(&key).unwrap().encrypt(plain), array(expected));
    }
    assert!(AesBlock::new(&[0; 17]).is_err() && AesCtr::new(&[]).is_err());
}

#[test]
fn rfc9001_appendix_a_header_masks() {
    let aes = MaskKey::new(
        Algorithm::Aes128Gcm,
        &hex("9f50449e04a0e810283a1e9933adedd2"),
    )
    .unwrap();
    let sample = array("d1b1c98dd7689fb8ec11d242b123dc9b");
    assert_eq!(aes.mask(&sample), array("437b9aec36"));
    let chacha = MaskKey::new(
        Algorithm::ChaCha20Poly1305,
        &hex("25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4"),
    )
    .unwrap();
    let sample = array("5e5cd55c41f69080575d7999c25a5bfb");
    assert_eq!(chacha.mask(&sample), array("aefefe7d03"));
    // RFC 9147 section 4.2.3 names plain AES-ECB for the AES suites.
    let key = [9; 32];
    let mask = MaskKey::new(Algorithm::Aes256Gcm, &key).unwrap();
    assert_eq!(
        mask.mask(&sample),
        AesBlock::new(&key).unwrap().encrypt(sample)[..5]
    );
}

#[test]
fn rfc2202_and_rfc4231_test_case_1() {
    for (algorithm, expected) in [
        (
            HashAlgorithm::Sha1,
            "b617318655057264e28bc0b6fb378c8ef146be00",
        ),
        (
            HashAlgorithm::Sha256,
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            HashAlgorithm::Sha384,
            "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59c
             faea9ea9076ede7f4af152e8b2fa9cb6",
        ),
    ] {
        let key = hmac::Key::new(algorithm, &[0x0b; 20]);
        let expected = hex(expected);
        for split in 0..=8 {
            let (head, tail) = b"Hi There".split_at(split);
            assert_eq!(&*key.sign(&[head, tail]), &expected[..]);
        }
        for len in 1..=expected.len() {
            assert!(key.verify(&[b"Hi There"], &expected[..len]).is_ok());
            let mut forged = expected[..len].to_vec();
            forged[len - 1] ^= 1;
            assert!(key.verify(&[b"Hi There"], &forged).is_err());
        }
        assert!(key.verify(&[b"Hi There"], &[]).is_err());
        let mut long = expected.clone();
        long.push(0);
        assert!(key.verify(&[b"Hi There"], &long).is_err());
    }
}

#[test]
fn hashes_of_abc() {
    assert_eq!(
        hash::md5(&[b"a", b"bc"]),
        array("900150983cd24fb0d6963f7d28e17f72")
    );
    for (algorithm, expected) in [
        (
            HashAlgorithm::Sha1,
            "a9993e364706816aba3e25717850c26c9cd0d89d",
        ),
        (
            HashAlgorithm::Sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            HashAlgorithm::Sha384,
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed
             8086072ba1e7cc2358baeca134c825a7",
        ),
        (
            HashAlgorithm::Sha512,
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
    ] {
        assert_eq!(&*algorithm.hash(b"abc"), &hex(expected)[..]);
        let mut context = hash::Hash::new(algorithm);
        context.update(b"a");
        let mut fork = context.clone();
        fork.update(b"nother");
        context.update(b"bc");
        assert_eq!(&*context.current(), &hex(expected)[..]);
        assert_eq!(&*context.finish(), &hex(expected)[..]);
        assert_eq!(fork.finish(), algorithm.hash(b"another"));
    }
}

#[test]
fn rfc5869_appendix_a_1() {
    let prk = hkdf::extract(
        HashAlgorithm::Sha256,
        &hex("000102030405060708090a0b0c"),
        &[0x0b; 22],
    );
    assert_eq!(
        prk.as_ref(),
        hex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
    );
    let mut out = [0; 42];
    let info = hex("f0f1f2f3f4f5f6f7f8f9");
    hkdf::expand(
        HashAlgorithm::Sha256,
        prk.as_ref(),
        &[&info[..3], &info[3..]],
        &mut out,
    )
    .unwrap();
    assert_eq!(
        out,
        array(
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
        )
    );
    let mut too_long = vec![0; 255 * 32 + 1];
    assert!(hkdf::expand(HashAlgorithm::Sha256, prk.as_ref(), &[], &mut too_long).is_err());
    assert!(hkdf::expand(HashAlgorithm::Sha256, prk.as_ref(), &[], &mut too_long[1..]).is_ok());
}

/// HKDF-Expand-Label of RFC 8446 section 7.1.
fn expand_label(secret: &[u8], label: &str, context: &[u8], out: &mut [u8]) {
    let len = (out.len() as u16).to_be_bytes();
    let label = format!("tls13 {label}");
    hkdf::expand(
        HashAlgorithm::Sha256,
        secret,
        &[
            &len,
            &[label.len() as u8],
            label.as_bytes(),
            &[context.len() as u8],
            context,
        ],
        out,
    )
    .unwrap();
}

#[test]
fn rfc8448_section_3_key_schedule() {
    let algorithm = HashAlgorithm::Sha256;
    let early = hkdf::extract(algorithm, &[], &[0; 32]);
    assert_eq!(
        early.as_ref(),
        hex("33ad0a1c607ec03b09e6cd9893680ce210adf300aa1f2660e1b22e10f170f92a")
    );
    let mut derived = [0; 32];
    expand_label(
        early.as_ref(),
        "derived",
        &algorithm.hash(b""),
        &mut derived,
    );
    assert_eq!(
        derived,
        array("6f2615a108c702c5678f54fc9dbab69716c076189c48250cebeac3576c3611ba")
    );
    let shared = hex("8bd4054fb55b9d63fdfbacf9f04b9f0d35e6d63f537563efd46272900f89492d");
    let handshake = hkdf::extract(algorithm, &derived, &shared);
    assert_eq!(
        handshake.as_ref(),
        hex("1dc826e93606aa6fdc0aadc12f741b01046aa6b99f691ed221a9f0ca043fbeac")
    );
    let hellos = hex("860c06edc07858ee8e78f0e7428c58edd6b43f2ca3e6e95f02ed063cf0e1cad8");
    let mut server = [0; 32];
    expand_label(handshake.as_ref(), "s hs traffic", &hellos, &mut server);
    assert_eq!(
        server,
        array("b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38")
    );
    let (mut key, mut iv) = ([0; 16], [0; 12]);
    expand_label(&server, "key", &[], &mut key);
    expand_label(&server, "iv", &[], &mut iv);
    assert_eq!(key, array("3fce516009c21727d0f2e4e86ee403bc"));
    assert_eq!(iv, array("5d313eb2671276ee13000b30"));
}

#[test]
fn tls_1_2_prf_with_sha_256() {
    // The vector that the TLS working group exchanged when RFC 5246 came out.
    let mut out = [0; 100];
    let seed = hex("a0ba9f936cda311827a6f796ffd5198c");
    prf::tls12(
        HashAlgorithm::Sha256,
        &hex("9bbe436ba940f017b17652849a71db35"),
        b"test label",
        [&seed[..5], &seed[5..]],
        &mut out,
    );
    assert_eq!(
        out,
        array(
            "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a
             6b301791e90d35c9c9a46b4e14baf9af0fa022f7077def17abfd3797c0564bab
             4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff701
             87347b66"
        )
    );
}
