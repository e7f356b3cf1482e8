//! The pseudorandom function of TLS 1.2 (RFC 5246 section 5).

use crate::{HashAlgorithm, Secret, hmac};

/// Fills `out` with `PRF(secret, label, seed)`; `seed` is given in two parts in a row.
pub fn tls12(
    algorithm: HashAlgorithm,
    secret: &[u8],
    label: &[u8],
    seed: [&[u8]; 2],
    out: &mut [u8],
) {
    let key = hmac::Key::new(algorithm, secret);
    let mut a = Secret::new(&key.sign(&[label, seed[0], seed[1]]));
    for chunk in out.chunks_mut(algorithm.output_len()) {
        let block = Secret::new(&key.sign(&[a.as_ref(), label, seed[0], seed[1]]));
        chunk.copy_from_slice(&block.as_ref()[..chunk.len()]);
        a = Secret::new(&key.sign(&[a.as_ref()]));
    }
}
