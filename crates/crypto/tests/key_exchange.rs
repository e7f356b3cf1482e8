//! Key exchange between two of our ends, and with shares that are none.

use visavis_crypto::{Group, kx};
use visavis_datagram::Random;

#[test]
fn both_sides_get_the_same_secret() {
    for group in Group::ALL {
        for seed in 0..8 {
            let mut random = Random::from_u64(seed);
            let started = kx::start(group, &mut random).unwrap();
            assert_eq!(started.share().len(), group.start_share_len(), "{group:?}");
            let (share, secret) =
                kx::start_and_complete(group, started.share(), &mut random).unwrap();
            assert_eq!(share.len(), group.complete_share_len(), "{group:?}");
            assert_eq!(started.complete(&share).unwrap(), secret, "{group:?}");
            let expected = match group {
                Group::Secp384r1 => 48,
                Group::X25519MlKem768 => 64,
                _ => 32,
            };
            assert_eq!(secret.len(), expected);
            assert_eq!(Group::from_codepoint(group.codepoint()), Some(group));
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_share() {
    for group in [Group::X25519, Group::Secp256r1, Group::Secp384r1] {
        let share = |seed| {
            let exchange = kx::start(group, &mut Random::from_u64(seed)).unwrap();
            exchange.share().to_vec()
        };
        assert_eq!(share(1), share(1));
        assert_ne!(share(1), share(2));
    }
}

#[test]
fn shares_of_another_length_are_refused() {
    let mut random = Random::from_u64(1);
    for group in Group::ALL {
        let started = kx::start(group, &mut random).unwrap();
        for len in (0..1300).filter(|&len| len != group.complete_share_len()) {
            assert!(started.complete(&vec![4; len]).is_err());
        }
        for len in (0..1300).filter(|&len| len != group.start_share_len()) {
            assert!(kx::start_and_complete(group, &vec![4; len], &mut random).is_err());
        }
    }
}

#[test]
fn points_off_the_curve_compressed_points_and_low_order_are_refused() {
    let mut random = Random::from_u64(2);
    for group in [Group::Secp256r1, Group::Secp384r1] {
        let started = kx::start(group, &mut random).unwrap();
        let mut share = kx::start(group, &mut random).unwrap().share().to_vec();
        assert!(started.complete(&share).is_ok());
        *share.last_mut().unwrap() ^= 1;
        assert!(started.complete(&share).is_err());
        assert!(started.complete(&vec![0; share.len()]).is_err());
        assert!(started.complete(&[&[2], &share[1..33]].concat()).is_err());
    }
    let started = kx::start(Group::X25519, &mut random).unwrap();
    assert!(started.complete(&[0; 32]).is_err());
    assert!(started.complete(&[9; 32]).is_ok());
}

#[test]
fn an_ml_kem_key_beyond_the_modulus_is_refused() {
    // FIPS 203 section 7.2: every coefficient below q = 3329.
    let mut random = Random::from_u64(3);
    let mut share = kx::start(Group::X25519MlKem768, &mut random)
        .unwrap()
        .share()
        .to_vec();
    share[..1152].fill(0xff);
    assert!(kx::start_and_complete(Group::X25519MlKem768, &share, &mut random).is_err());
}

#[test]
fn a_forged_ml_kem_ciphertext_gives_another_secret() {
    let mut random = Random::from_u64(4);
    let started = kx::start(Group::X25519MlKem768, &mut random).unwrap();
    let (mut share, secret) =
        kx::start_and_complete(Group::X25519MlKem768, started.share(), &mut random).unwrap();
    share[0] ^= 1;
    let other = started.complete(&share).unwrap();
    assert_ne!(other, secret);
    // X25519's half stands behind ML-KEM's (draft-ietf-tls-ecdhe-mlkem section 4.3).
    assert_eq!(other.as_ref()[32..], secret.as_ref()[32..]);
}
