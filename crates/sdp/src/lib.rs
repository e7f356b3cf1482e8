//! SDP parse and print, typed: RFC 8866 and the attributes that WebRTC peers send.
//!
//! A [`SessionDescription`] is plain data: build it, change it, print it with `Display`.
//! [`SessionDescription::parse`] is total: any text gives a value or a [`ParseError`] that names
//! the line, the column and the reason. Attributes that this crate does not know are kept in
//! their place as [`Attribute::Other`], so that what was parsed prints again as it was.
//!
//! ```
//! use visavis_sdp::SessionDescription;
//!
//! let text = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
//!             m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n\
//!             c=IN IP4 0.0.0.0\r\na=mid:0\r\na=sctp-port:5000\r\n";
//! let description = SessionDescription::parse(text)?;
//! assert_eq!(description.media[0].attributes.mid(), Some("0"));
//! assert_eq!(description.to_string(), text);
//! # Ok::<(), visavis_sdp::ParseError>(())
//! ```
//!
//! What lives here: the text format. What does not: the rules of offer and answer (`peer`), and
//! the typed ICE candidate (`ice`), whose text is kept as it is.

mod attribute;
mod attributes;
mod cursor;
mod error;
mod fragment;
mod limits;
mod media;
mod rtp;
mod security;
mod session;
mod simulcast;
mod source;

pub use attribute::{Attribute, ConnectionReuse, Direction, Group, RtcpAddress, SctpMap};
pub use attributes::Attributes;
pub use error::{ParseError, Reason};
pub use fragment::Fragment;
pub use limits::Limits;
pub use media::{Media, MediaKind};
pub use rtp::{ExtMap, Fmtp, RtcpFb, RtpMap};
pub use security::{Fingerprint, HashAlgorithm, Setup};
pub use session::{Bandwidth, Connection, Origin, SessionDescription, Timing};
pub use simulcast::{Rid, RidDirection, Simulcast, SimulcastRid};
pub use source::{Msid, MsidSemantic, Ssrc, SsrcGroup};
