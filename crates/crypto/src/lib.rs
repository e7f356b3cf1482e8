//! The only crate that names a crypto library: AEAD, HMAC, key exchange, signatures, certificates.
