//! The `a=` lines of a session or of a media section, in order, and what they say.

use std::ops::{Deref, DerefMut};
use std::str::FromStr;

use crate::{
    Attribute, Direction, ExtMap, Fingerprint, Fmtp, Group, Msid, Rid, RtcpFb, RtpMap, Setup,
    Simulcast, Ssrc, SsrcGroup,
};

/// The attributes of a session or of a media section, in order.
///
/// Use it as a `Vec<Attribute>`; the methods find attributes by kind. Where an attribute must
/// stand once and stands several times, the first counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes(pub Vec<Attribute>);

impl Deref for Attributes {
    type Target = Vec<Attribute>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Attributes {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// A method that finds the first attribute of a kind.
macro_rules! first {
    ($(#[$doc:meta])* $name:ident -> $output:ty, $pattern:pat => $value:expr) => {
        $(#[$doc])*
        pub fn $name(&self) -> Option<$output> {
            self.iter().find_map(|attribute| match attribute {
                $pattern => Some($value),
                _ => None,
            })
        }
    };
}

/// A method that finds all attributes of a kind.
macro_rules! all {
    ($(#[$doc:meta])* $name:ident -> $output:ty, $pattern:pat => $value:expr) => {
        $(#[$doc])*
        pub fn $name(&self) -> impl Iterator<Item = $output> {
            self.iter().filter_map(|attribute| match attribute {
                $pattern => Some($value),
                _ => None,
            })
        }
    };
}

/// A method that says whether a flag is there.
macro_rules! flag {
    ($(#[$doc:meta])* $name:ident, $pattern:pat) => {
        $(#[$doc])*
        pub fn $name(&self) -> bool {
            self.iter().any(|attribute| matches!(attribute, $pattern))
        }
    };
}

impl Attributes {
    first!(
        /// `mid`.
        mid -> &str, Attribute::Mid(mid) => mid.as_str()
    );
    first!(
        /// The direction, where it is written.
        direction -> Direction, Attribute::Direction(direction) => *direction
    );
    first!(
        /// `setup`.
        setup -> Setup, Attribute::Setup(setup) => *setup
    );
    first!(
        /// `tls-id`.
        tls_id -> &str, Attribute::TlsId(id) => id.as_str()
    );
    first!(
        /// `ice-ufrag`.
        ice_ufrag -> &str, Attribute::IceUfrag(ufrag) => ufrag.as_str()
    );
    first!(
        /// `ice-pwd`.
        ice_pwd -> &str, Attribute::IcePwd(pwd) => pwd.as_str()
    );
    first!(
        /// `sctp-port`.
        sctp_port -> u16, Attribute::SctpPort(port) => *port
    );
    first!(
        /// `max-message-size` in bytes, 0 for no limit.
        max_message_size -> u64, Attribute::MaxMessageSize(size) => *size
    );
    first!(
        /// `sctp-init`: an INIT chunk.
        sctp_init -> &[u8], Attribute::SctpInit(chunk) => chunk.as_slice()
    );
    first!(
        /// `simulcast`.
        simulcast -> &Simulcast, Attribute::Simulcast(simulcast) => simulcast
    );
    first!(
        /// `ptime` in milliseconds.
        ptime -> u32, Attribute::PTime(ptime) => *ptime
    );
    first!(
        /// `maxptime` in milliseconds.
        maxptime -> u32, Attribute::MaxPTime(ptime) => *ptime
    );

    all!(
        /// `fingerprint`, several for several hash functions.
        fingerprints -> &Fingerprint, Attribute::Fingerprint(fingerprint) => fingerprint
    );
    all!(
        /// `group`.
        groups -> &Group, Attribute::Group(group) => group
    );
    all!(
        /// `candidate`: the text behind `a=candidate:`.
        candidates -> &str, Attribute::Candidate(candidate) => candidate.as_str()
    );
    all!(
        /// `msid`.
        msids -> &Msid, Attribute::Msid(msid) => msid
    );
    all!(
        /// `rtpmap`.
        rtpmaps -> &RtpMap, Attribute::RtpMap(map) => map
    );
    all!(
        /// `fmtp`.
        fmtps -> &Fmtp, Attribute::Fmtp(fmtp) => fmtp
    );
    all!(
        /// `rtcp-fb`.
        rtcp_fbs -> &RtcpFb, Attribute::RtcpFb(feedback) => feedback
    );
    all!(
        /// `extmap`.
        extmaps -> &ExtMap, Attribute::ExtMap(map) => map
    );
    all!(
        /// `ssrc`.
        ssrcs -> &Ssrc, Attribute::Ssrc(ssrc) => ssrc
    );
    all!(
        /// `ssrc-group`.
        ssrc_groups -> &SsrcGroup, Attribute::SsrcGroup(group) => group
    );
    all!(
        /// `rid`.
        rids -> &Rid, Attribute::Rid(rid) => rid
    );

    flag!(
        /// Whether `rtcp-mux` is there.
        has_rtcp_mux, Attribute::RtcpMux
    );
    flag!(
        /// Whether `rtcp-mux-only` is there.
        has_rtcp_mux_only, Attribute::RtcpMuxOnly
    );
    flag!(
        /// Whether `rtcp-rsize` is there.
        has_rtcp_rsize, Attribute::RtcpRsize
    );
    flag!(
        /// Whether `bundle-only` is there.
        has_bundle_only, Attribute::BundleOnly
    );
    flag!(
        /// Whether `ice-lite` is there.
        has_ice_lite, Attribute::IceLite
    );
    flag!(
        /// Whether `end-of-candidates` is there.
        has_end_of_candidates, Attribute::EndOfCandidates
    );
    flag!(
        /// Whether `extmap-allow-mixed` is there.
        has_extmap_allow_mixed, Attribute::ExtmapAllowMixed
    );
    flag!(
        /// Whether `cryptex` is there.
        has_cryptex, Attribute::Cryptex
    );
    flag!(
        /// Whether `sframe` is there.
        has_sframe, Attribute::SFrame(_)
    );

    /// Whether `ice-options` names `option`.
    pub fn has_ice_option(&self, option: &str) -> bool {
        self.iter().any(|attribute| match attribute {
            Attribute::IceOptions(options) => options.iter().any(|found| found == option),
            _ => false,
        })
    }

    /// The candidates in the form that another crate gives them. The text handed to
    /// `T::from_str` is what stands behind `a=candidate:`.
    pub fn parse_candidates<T: FromStr>(&self) -> impl Iterator<Item = Result<T, T::Err>> {
        self.candidates().map(str::parse)
    }

    /// The value of an attribute that this crate does not know; `Some("")` for one without value.
    pub fn other(&self, name: &str) -> Option<&str> {
        self.iter().find_map(|attribute| match attribute {
            Attribute::Other { name: found, value } if found == name => {
                Some(value.as_deref().unwrap_or_default())
            }
            _ => None,
        })
    }
}
