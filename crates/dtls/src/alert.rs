//! Alerts: what one end tells the other when it closes or gives up (RFC 8446 section 6, RFC 5246
//! section 7.2, RFC 9147 section 5.10).

use std::fmt;

/// What an alert says (the registry "TLS Alerts"). Numbers that are not listed here are kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AlertDescription(pub u8);

macro_rules! alerts {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        impl AlertDescription {
            $($(#[$doc])* pub const $name: Self = Self($number);)*

            /// The registry's name, or "unknown".
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($number => $text,)*
                    _ => "unknown",
                }
            }
        }
    };
}

alerts! {
    /// The sender sends no more (RFC 8446 section 6.1).
    CLOSE_NOTIFY = 0, "close_notify";
    /// A message came in the wrong state.
    UNEXPECTED_MESSAGE = 10, "unexpected_message";
    /// A record failed deprotection.
    BAD_RECORD_MAC = 20, "bad_record_mac";
    /// A record was longer than allowed.
    RECORD_OVERFLOW = 22, "record_overflow";
    /// No acceptable set of parameters.
    HANDSHAKE_FAILURE = 40, "handshake_failure";
    /// A certificate was corrupt, or did not match any announced fingerprint (RFC 8122 section 6.2).
    BAD_CERTIFICATE = 42, "bad_certificate";
    /// A certificate was of an unsupported type.
    UNSUPPORTED_CERTIFICATE = 43, "unsupported_certificate";
    /// A certificate could not be accepted for another reason.
    CERTIFICATE_UNKNOWN = 46, "certificate_unknown";
    /// A field was out of range or inconsistent with others.
    ILLEGAL_PARAMETER = 47, "illegal_parameter";
    /// The certificate could not be matched with a known authority.
    UNKNOWN_CA = 48, "unknown_ca";
    /// The sender refused to go on.
    ACCESS_DENIED = 49, "access_denied";
    /// A message could not be parsed.
    DECODE_ERROR = 50, "decode_error";
    /// A signature or a Finished message did not verify.
    DECRYPT_ERROR = 51, "decrypt_error";
    /// More connection IDs were requested than the sender keeps (RFC 9147 section 9).
    TOO_MANY_CIDS_REQUESTED = 52, "too_many_cids_requested";
    /// The version is recognised but not supported.
    PROTOCOL_VERSION = 70, "protocol_version";
    /// The parameters are too weak.
    INSUFFICIENT_SECURITY = 71, "insufficient_security";
    /// An internal error unrelated to the peer.
    INTERNAL_ERROR = 80, "internal_error";
    /// The user cancelled the handshake.
    USER_CANCELED = 90, "user_canceled";
    /// Renegotiation is refused (DTLS 1.2).
    NO_RENEGOTIATION = 100, "no_renegotiation";
    /// A mandatory extension is missing.
    MISSING_EXTENSION = 109, "missing_extension";
    /// An extension was answered that had not been offered.
    UNSUPPORTED_EXTENSION = 110, "unsupported_extension";
    /// A certificate is required and none was given.
    CERTIFICATE_REQUIRED = 116, "certificate_required";
    /// No application protocol in common (RFC 7301).
    NO_APPLICATION_PROTOCOL = 120, "no_application_protocol";
}

impl fmt::Display for AlertDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl fmt::Debug for AlertDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An alert as it stands in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alert {
    pub(crate) fatal: bool,
    pub(crate) description: AlertDescription,
}

impl Alert {
    /// The alert of a record's content; `None` if it is not exactly two bytes (DTLS forbids
    /// fragmented alerts).
    pub(crate) fn parse(content: &[u8]) -> Option<Self> {
        let &[level, description] = content else {
            return None;
        };
        let description = AlertDescription(description);
        // RFC 8446 section 6: in 1.3 the level is implied; all but close_notify and user_canceled
        // are fatal. A warning level is honoured in 1.2 for no_renegotiation and the like.
        Some(Self {
            fatal: level != 1,
            description,
        })
    }

    pub(crate) fn encode(self) -> [u8; 2] {
        [if self.fatal { 2 } else { 1 }, self.description.0]
    }
}

#[cfg(test)]
mod tests {
    use super::{Alert, AlertDescription};

    #[test]
    fn an_alert_survives_the_wire_and_other_lengths_do_not_parse() {
        let alert = Alert {
            fatal: true,
            description: AlertDescription::HANDSHAKE_FAILURE,
        };
        assert_eq!(alert.encode(), [2, 40]);
        assert_eq!(Alert::parse(&alert.encode()), Some(alert));
        assert_eq!(Alert::parse(&[2]), None);
        assert_eq!(Alert::parse(&[2, 40, 0]), None);
        assert_eq!(AlertDescription(40).to_string(), "handshake_failure (40)");
        assert_eq!(AlertDescription(250).to_string(), "unknown (250)");
    }
}
