//! Ciphers, MACs and hashes, with keys that are set up once.

use std::cell::RefCell;
use std::hint::black_box;

use aes::cipher::{InnerIvInit as _, StreamCipher as _};
use aes_gcm::aead::AeadInOut as _;
use bench_crypto::Contestant;
use hmac::{KeyInit as _, Mac as _};
use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;
use openssl::md::Md;
use openssl::md_ctx::MdCtx;
use openssl::pkey::PKey;
use visavis_crypto::aead::Algorithm;
use visavis_crypto::{HashAlgorithm, aead, cipher};

const AAD: [u8; 20] = [7; 20];

pub(crate) fn rows(add: &mut impl FnMut(&str, Vec<Contestant<'_>>)) {
    for len in [1200, 160] {
        for algorithm in [
            Algorithm::Aes128Gcm,
            Algorithm::Aes256Gcm,
            Algorithm::ChaCha20Poly1305,
        ] {
            seal(add, algorithm, len);
            open(add, algorithm, len);
        }
        counter(add, len);
        hmac_row(add, "HMAC-SHA1", HashAlgorithm::Sha1, len);
    }
    hmac_row(add, "HMAC-SHA256", HashAlgorithm::Sha256, 160);
    mask(add);
}

fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Aes128Gcm => "AES-128-GCM",
        Algorithm::Aes256Gcm => "AES-256-GCM",
        _ => "ChaCha20-Poly1305",
    }
}

fn aws(algorithm: Algorithm) -> aws_lc_rs::aead::LessSafeKey {
    use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, LessSafeKey, UnboundKey};
    let backend = match algorithm {
        Algorithm::Aes128Gcm => &AES_128_GCM,
        Algorithm::Aes256Gcm => &AES_256_GCM,
        _ => &CHACHA20_POLY1305,
    };
    LessSafeKey::new(UnboundKey::new(backend, &vec![1; algorithm.key_len()]).unwrap())
}

fn ring(algorithm: Algorithm) -> ring::aead::LessSafeKey {
    use ring::aead::{AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, LessSafeKey, UnboundKey};
    let backend = match algorithm {
        Algorithm::Aes128Gcm => &AES_128_GCM,
        Algorithm::Aes256Gcm => &AES_256_GCM,
        _ => &CHACHA20_POLY1305,
    };
    LessSafeKey::new(UnboundKey::new(backend, &vec![1; algorithm.key_len()]).unwrap())
}

fn openssl_cipher(algorithm: Algorithm) -> &'static openssl::cipher::CipherRef {
    match algorithm {
        Algorithm::Aes128Gcm => Cipher::aes_128_gcm(),
        Algorithm::Aes256Gcm => Cipher::aes_256_gcm(),
        _ => Cipher::chacha20_poly1305(),
    }
}

fn seal(add: &mut impl FnMut(&str, Vec<Contestant<'_>>), algorithm: Algorithm, len: usize) {
    let nonce = [3; 12];
    let key = vec![1; algorithm.key_len()];
    let ours = aead::Key::new(algorithm, &key).unwrap();
    let (aws, ring) = (aws(algorithm), ring(algorithm));
    let mut context = CipherCtx::new().unwrap();
    context
        .encrypt_init(Some(openssl_cipher(algorithm)), Some(&key), Some(&nonce))
        .unwrap();
    let mut bufs: [Vec<u8>; 5] = std::array::from_fn(|_| vec![0x55; len]);
    let [a, b, c, d, e] = &mut bufs;
    let mut contestants = vec![
        Contestant::new("visavis", move || {
            black_box(ours.seal_in_place(&nonce, &AAD, a));
        }),
        Contestant::new("aws-lc-rs", move || {
            let nonce = aws_lc_rs::aead::Nonce::assume_unique_for_key(nonce);
            let aad = aws_lc_rs::aead::Aad::from(AAD);
            let _ = black_box(aws.seal_in_place_separate_tag(nonce, aad, b).unwrap());
        }),
        Contestant::new("ring", move || {
            let nonce = ring::aead::Nonce::assume_unique_for_key(nonce);
            let aad = ring::aead::Aad::from(AAD);
            let _ = black_box(ring.seal_in_place_separate_tag(nonce, aad, c).unwrap());
        }),
        Contestant::new("openssl", move || {
            let mut tag = [0; 16];
            context.encrypt_init(None, None, Some(&nonce)).unwrap();
            context.cipher_update(&AAD, None).unwrap();
            context.cipher_update_inplace(d, len).unwrap();
            context.cipher_final(&mut []).unwrap();
            context.tag(&mut tag).unwrap();
            black_box(tag);
        }),
    ];
    if algorithm == Algorithm::Aes128Gcm {
        use aes_gcm::KeyInit as _;
        let key = aes_gcm::Aes128Gcm::new_from_slice(&key).unwrap();
        contestants.push(Contestant::new("RustCrypto", move || {
            black_box(
                key.encrypt_inout_detached(&nonce.into(), &AAD, e.as_mut_slice().into())
                    .unwrap(),
            );
        }));
    }
    add(
        &format!("{} seal, {len} bytes", name(algorithm)),
        contestants,
    );
}

fn open(add: &mut impl FnMut(&str, Vec<Contestant<'_>>), algorithm: Algorithm, len: usize) {
    let nonce = [3; 12];
    let key = vec![1; algorithm.key_len()];
    let ours = aead::Key::new(algorithm, &key).unwrap();
    let (aws, ring) = (aws(algorithm), ring(algorithm));
    let mut sealed = vec![0x55; len];
    let tag = ours.seal_in_place(&nonce, &AAD, &mut sealed);
    sealed.extend_from_slice(&tag);
    let mut context = CipherCtx::new().unwrap();
    context
        .decrypt_init(Some(openssl_cipher(algorithm)), Some(&key), Some(&nonce))
        .unwrap();
    // Opening destroys the ciphertext: each works on a copy, which costs all the same.
    let sealed = &sealed;
    let mut bufs: [Vec<u8>; 5] = std::array::from_fn(|_| sealed.clone());
    let [a, b, c, d, e] = &mut bufs;
    let mut contestants = vec![
        Contestant::new("visavis", move || {
            a.copy_from_slice(sealed);
            black_box(ours.open_in_place(&nonce, &AAD, a).unwrap());
        }),
        Contestant::new("aws-lc-rs", move || {
            b.copy_from_slice(sealed);
            let nonce = aws_lc_rs::aead::Nonce::assume_unique_for_key(nonce);
            let aad = aws_lc_rs::aead::Aad::from(AAD);
            black_box(aws.open_in_place(nonce, aad, b).unwrap());
        }),
        Contestant::new("ring", move || {
            c.copy_from_slice(sealed);
            let nonce = ring::aead::Nonce::assume_unique_for_key(nonce);
            let aad = ring::aead::Aad::from(AAD);
            black_box(ring.open_in_place(nonce, aad, c).unwrap());
        }),
        Contestant::new("openssl", move || {
            d.copy_from_slice(sealed);
            context.decrypt_init(None, None, Some(&nonce)).unwrap();
            context.cipher_update(&AAD, None).unwrap();
            context.cipher_update_inplace(d, len).unwrap();
            context.set_tag(&d[len..]).unwrap();
            context.cipher_final(&mut []).unwrap();
        }),
    ];
    if algorithm == Algorithm::Aes128Gcm {
        use aes_gcm::KeyInit as _;
        let key = aes_gcm::Aes128Gcm::new_from_slice(&key).unwrap();
        contestants.push(Contestant::new("RustCrypto", move || {
            e.copy_from_slice(sealed);
            let (text, tag) = e.split_at_mut(len);
            let tag: &[u8; 16] = (&*tag).try_into().unwrap();
            key.decrypt_inout_detached(&nonce.into(), &AAD, text.into(), tag.into())
                .unwrap();
        }));
    }
    add(
        &format!("{} open, {len} bytes", name(algorithm)),
        contestants,
    );
}

fn counter(add: &mut impl FnMut(&str, Vec<Contestant<'_>>), len: usize) {
    use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
    let key = [1; 16];
    let iv = [2; 16];
    let ours = cipher::AesCtr::new(&key).unwrap();
    let aws = EncryptingKey::ctr(UnboundCipherKey::new(&AES_128, &key).unwrap()).unwrap();
    let mut context = CipherCtx::new().unwrap();
    context
        .encrypt_init(Some(Cipher::aes_128_ctr()), Some(&key), Some(&iv))
        .unwrap();
    let rust = aes::Aes128::new(&key.into());
    let mut bufs: [Vec<u8>; 4] = std::array::from_fn(|_| vec![0x55; len]);
    let [a, b, c, d] = &mut bufs;
    add(
        &format!("AES-128-CTR, {len} bytes"),
        vec![
            Contestant::new("visavis", move || ours.apply(&iv, black_box(a))),
            Contestant::new("aws-lc-rs", move || {
                let iv = EncryptionContext::Iv128(iv.into());
                black_box(aws.less_safe_encrypt(b, iv).unwrap());
            }),
            Contestant::new("openssl", move || {
                context.encrypt_init(None, None, Some(&iv)).unwrap();
                context.cipher_update_inplace(black_box(c), len).unwrap();
            }),
            Contestant::new("RustCrypto", move || {
                let core =
                    ctr::CtrCore::<_, ctr::flavors::Ctr128BE>::inner_iv_init(&rust, (&iv).into());
                ctr::cipher::StreamCipherCoreWrapper::from_core(core).apply_keystream(black_box(d));
            }),
        ],
    );
}

fn hmac_row(
    add: &mut impl FnMut(&str, Vec<Contestant<'_>>),
    title: &str,
    algorithm: HashAlgorithm,
    len: usize,
) {
    let key = [1; 20];
    let text = vec![0x55; len];
    let text = &text[..];
    let ours = visavis_crypto::hmac::Key::new(algorithm, &key);
    let (aws, ring, md) = match algorithm {
        HashAlgorithm::Sha1 => (
            aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Md::sha1(),
        ),
        _ => (
            aws_lc_rs::hmac::HMAC_SHA256,
            ring::hmac::HMAC_SHA256,
            Md::sha256(),
        ),
    };
    let aws = aws_lc_rs::hmac::Key::new(aws, &key);
    let ring = ring::hmac::Key::new(ring, &key);
    let pkey = PKey::hmac(&key).unwrap();
    let context = RefCell::new(MdCtx::new().unwrap());
    let mut contestants = vec![
        Contestant::new("visavis", move || {
            black_box(ours.sign(&[black_box(text)]));
        }),
        Contestant::new("aws-lc-rs", move || {
            black_box(aws_lc_rs::hmac::sign(&aws, black_box(text)));
        }),
        Contestant::new("ring", move || {
            black_box(ring::hmac::sign(&ring, black_box(text)));
        }),
        Contestant::new("openssl", move || {
            let mut context = context.borrow_mut();
            context.digest_sign_init(Some(md), &pkey).unwrap();
            context.digest_sign_update(black_box(text)).unwrap();
            let mut out = [0; 32];
            black_box(context.digest_sign_final(Some(&mut out)).unwrap());
        }),
    ];
    contestants.push(match algorithm {
        HashAlgorithm::Sha1 => {
            let key = hmac::Hmac::<sha1::Sha1>::new_from_slice(&key).unwrap();
            Contestant::new("RustCrypto", move || {
                black_box(key.clone().chain_update(black_box(text)).finalize());
            })
        }
        _ => {
            let key = hmac::Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
            Contestant::new("RustCrypto", move || {
                black_box(key.clone().chain_update(black_box(text)).finalize());
            })
        }
    });
    add(&format!("{title}, {len} bytes"), contestants);
}

fn mask(add: &mut impl FnMut(&str, Vec<Contestant<'_>>)) {
    for algorithm in [Algorithm::Aes128Gcm, Algorithm::ChaCha20Poly1305] {
        let key = vec![1; algorithm.key_len()];
        let sample = [9; 16];
        let ours = cipher::MaskKey::new(algorithm, &key).unwrap();
        let (aws, ring): (
            &'static aws_lc_rs::aead::quic::Algorithm,
            &'static ring::aead::quic::Algorithm,
        ) = match algorithm {
            Algorithm::Aes128Gcm => (&aws_lc_rs::aead::quic::AES_128, &ring::aead::quic::AES_128),
            _ => (
                &aws_lc_rs::aead::quic::CHACHA20,
                &ring::aead::quic::CHACHA20,
            ),
        };
        let aws = aws_lc_rs::aead::quic::HeaderProtectionKey::new(aws, &key).unwrap();
        let ring = ring::aead::quic::HeaderProtectionKey::new(ring, &key).unwrap();
        add(
            &format!("record number mask of {}", name(algorithm)),
            vec![
                Contestant::new("visavis", move || {
                    black_box(ours.mask(black_box(&sample)));
                }),
                Contestant::new("aws-lc-rs", move || {
                    black_box(aws.new_mask(black_box(&sample)).unwrap());
                }),
                Contestant::new("ring", move || {
                    black_box(ring.new_mask(black_box(&sample)).unwrap());
                }),
            ],
        );
    }
}
