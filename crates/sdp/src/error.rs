//! Why a text is not SDP, and where.

/// A text that is not the SDP that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {reason}")]
pub struct ParseError {
    /// The line, counted from 1.
    pub line: usize,
    /// The byte in the line, counted from 1.
    pub column: usize,
    /// What is wrong there.
    pub reason: Reason,
}

/// What is wrong with a line of SDP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The whole text exceeds [`Limits::bytes`](crate::Limits::bytes).
    #[error("the description is longer than {limit} bytes")]
    TooLong {
        /// The bound in bytes.
        limit: usize,
    },
    /// There are more lines than [`Limits::lines`](crate::Limits::lines).
    #[error("the description has more than {limit} lines")]
    TooManyLines {
        /// The bound.
        limit: usize,
    },
    /// There are more media sections than [`Limits::media`](crate::Limits::media).
    #[error("the description has more than {limit} media sections")]
    TooManyMedia {
        /// The bound.
        limit: usize,
    },
    /// The line does not look like `x=value`.
    #[error("a line must be one letter, `=`, and a value")]
    NotALine,
    /// A line of this type may not stand here (RFC 8866 section 5 fixes the order).
    #[error("a `{found}=` line may not stand here; expected {expected}")]
    Unexpected {
        /// The type that was found.
        found: char,
        /// What could have stood here.
        expected: &'static str,
    },
    /// Something that must be there is not.
    #[error("{what} is missing")]
    Missing {
        /// What is missing.
        what: &'static str,
    },
    /// Something is there, and its text is not allowed.
    #[error("{what} is not valid")]
    Invalid {
        /// What is not valid.
        what: &'static str,
    },
    /// Text follows where the value is complete.
    #[error("unexpected text after {what}")]
    Trailing {
        /// What was complete.
        what: &'static str,
    },
    /// A byte that no value may hold (RFC 8866 section 9: NUL, CR).
    #[error("a value may not hold NUL or a lone carriage return")]
    ForbiddenByte,
}
