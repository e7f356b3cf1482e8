//! SRTP and SRTCP (RFC 3711), in place and without allocation per packet.
//!
//! A [`Context`] holds the keys of one direction of one transport: what a DTLS handshake exports
//! (RFC 5764, [`KeyingMaterial`]). The sender's protects, the receiver's unprotects; each keeps the
//! roll-over counters and replay windows of its streams (SSRCs), which it creates by itself and
//! only for packets that authenticate.
//!
//! ```
//! use visavis_srtp::{Context, KeyingMaterial, Options, Profile};
//!
//! # let exported = [7; 56];
//! let profile = Profile::AeadAes128Gcm;
//! let keys = KeyingMaterial::new(profile, &exported)?;
//! let mut client = Context::new(profile, keys.client_key(), keys.client_salt(), Options::default())?;
//! let mut server = Context::new(profile, keys.client_key(), keys.client_salt(), Options::default())?;
//!
//! // A packet, and room behind it for the authentication tag.
//! let mut buf = [0; 64];
//! buf[..14].copy_from_slice(&[0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, b'h', b'i']);
//! let len = client.protect_rtp(&mut buf, 14)?;
//! assert_eq!(len, 14 + profile.rtp_overhead());
//! let len = server.unprotect_rtp(&mut buf[..len])?;
//! assert_eq!(&buf[12..len], b"hi");
//! # Ok::<(), visavis_srtp::Error>(())
//! ```
//!
//! What lives here: transforms, key derivation, packet indexes, replay protection. What does not:
//! the meaning of RTP and RTCP, and master key identifiers (MKI), which DTLS-SRTP does not need.

mod context;
mod error;
mod header_extension;
mod index;
mod keys;
mod options;
mod packet;
mod profile;
mod replay;
mod streams;
mod transform;

pub use context::{Context, Slot, Stats, protect_many};
pub use error::Error;
pub use keys::KeyingMaterial;
pub use options::{Cryptex, ExtensionIds, Options};
pub use profile::Profile;
