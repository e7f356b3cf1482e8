//! RTP, RTCP, header extensions and payload formats.
//!
//! Parsers are views over the caller's bytes, writers fill the caller's buffer; neither allocates.
//!
//! - [`Packet`], [`PacketMut`], [`PacketWriter`]: RTP packets (RFC 3550).
//! - [`extension`]: header extensions (RFC 8285), [`ExtensionMap`] says which id is which.
//! - [`rtcp`]: control packets, read from and written to compound packets.
//! - [`payload`]: how encoded frames become payloads, and back.
//! - [`mod@file`]: IVF, Ogg/Opus, Annex B, Y4M, WAV and rtpdump files; WebM with the feature `webm`.
//!
//! What does not live here: anything that remembers packets (`visavis-media`), encryption
//! (`visavis-srtp`), negotiation (`visavis-sdp`).

mod bytes;
mod error;
mod ids;
mod packet;

pub mod extension;
pub mod file;
pub mod payload;
pub mod rtcp;

pub use error::{Error, Result};
pub use extension::{
    Extension, ExtensionEdit, ExtensionKind, ExtensionMap, ExtensionRegistry, Extensions,
    ExtensionsMut, Form,
};
pub use ids::{
    Mid, NtpTime, PayloadType, Rid, SequenceExtender, SequenceNumber, Ssrc, TimestampExtender,
};
pub use packet::{FIXED_HEADER, Header, Packet, PacketMut, PacketWriter, is_rtcp};

/// The README's example, compiled by the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
