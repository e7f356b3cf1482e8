//! Bounds on what the parser accepts.

/// How large a description may be. Reaching a bound is a [`ParseError`](crate::ParseError).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole text. Default 4 MiB: an offer with 1,000 video sections of a browser
    /// has about 3.
    pub bytes: usize,
    /// Lines. Default 200,000.
    pub lines: usize,
    /// Media sections. Default 2,048.
    pub media: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 4 << 20,
            lines: 200_000,
            media: 2048,
        }
    }
}
