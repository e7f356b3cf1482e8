//! Why a call was refused, by the names of the W3C.

use std::borrow::Cow;

/// A refused call. The connection's state is as it was before the call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The call does not fit the state.
    #[error("{0}")]
    InvalidState(Cow<'static, str>),
    /// A description or object does not fit what was agreed on.
    #[error("{0}")]
    InvalidAccess(Cow<'static, str>),
    /// Something was changed that may not be changed.
    #[error("{0}")]
    InvalidModification(Cow<'static, str>),
    /// Something this implementation does not do.
    #[error("{0}")]
    NotSupported(Cow<'static, str>),
    /// The operation failed for a reason of its own.
    #[error("{0}")]
    Operation(Cow<'static, str>),
    /// A description is not SDP (W3C: `RTCError` with `errorDetail` "sdp-syntax-error").
    #[error("{0}")]
    SdpSyntax(#[from] visavis_sdp::ParseError),
    /// An argument is of the wrong kind.
    #[error("{0}")]
    Type(Cow<'static, str>),
    /// A number is out of its range.
    #[error("{0}")]
    Range(Cow<'static, str>),
    /// A text has the wrong form.
    #[error("{0}")]
    Syntax(Cow<'static, str>),
}

impl Error {
    /// The name of the DOMException (or of the JavaScript error) that a browser gives.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::InvalidState(_) => "InvalidStateError",
            Self::InvalidAccess(_) => "InvalidAccessError",
            Self::InvalidModification(_) => "InvalidModificationError",
            Self::NotSupported(_) => "NotSupportedError",
            Self::Operation(_) | Self::SdpSyntax(_) => "OperationError",
            Self::Type(_) => "TypeError",
            Self::Range(_) => "RangeError",
            Self::Syntax(_) => "SyntaxError",
        }
    }

    /// The line of a description that is not SDP (W3C `RTCError.sdpLineNumber`).
    pub const fn sdp_line_number(&self) -> Option<usize> {
        match self {
            Self::SdpSyntax(error) => Some(error.line),
            _ => None,
        }
    }

    pub(crate) fn closed() -> Self {
        Self::InvalidState("the connection is closed".into())
    }

    pub(crate) fn state(text: &'static str) -> Self {
        Self::InvalidState(text.into())
    }

    pub(crate) fn access(text: impl Into<Cow<'static, str>>) -> Self {
        Self::InvalidAccess(text.into())
    }

    pub(crate) fn modification(text: &'static str) -> Self {
        Self::InvalidModification(text.into())
    }
}
