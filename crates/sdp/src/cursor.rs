//! Reading one line from left to right, with the place of every error.

use crate::{ParseError, Reason};

/// Whether `byte` may stand in a token (RFC 8866 section 9, `token-char`).
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'0'..=b'9' | b'A'..=b'Z'
        | b'^'..=b'~')
}

/// A place in a line.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    /// Column of the first byte of `text`, from 1.
    first_column: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str, line: usize, first_column: usize) -> Self {
        Self {
            text,
            at: 0,
            line,
            first_column,
        }
    }

    /// The text of an attribute on its own, outside any description.
    #[cfg(test)]
    pub(crate) fn alone(text: &'a str) -> Self {
        Self::new(text, 1, 1)
    }

    pub(crate) fn error(&self, reason: Reason) -> ParseError {
        self.error_at(self.at, reason)
    }

    fn error_at(&self, at: usize, reason: Reason) -> ParseError {
        ParseError {
            line: self.line,
            column: self.first_column + at,
            reason,
        }
    }

    /// The error for a `what` that is missing here or, where text follows, not valid.
    pub(crate) fn bad(&self, what: &'static str) -> ParseError {
        let reason = if self.is_at_end() {
            Reason::Missing { what }
        } else {
            Reason::Invalid { what }
        };
        self.error(reason)
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    fn rest_str(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// All the text that is left.
    pub(crate) fn rest(&mut self) -> &'a str {
        let rest = self.rest_str();
        self.at = self.text.len();
        rest
    }

    /// All the text that is left, at least one byte.
    pub(crate) fn text(&mut self, what: &'static str) -> Result<&'a str, ParseError> {
        if self.is_at_end() {
            return Err(self.bad(what));
        }
        Ok(self.rest())
    }

    /// The text before the next `stop` or the end; `stop` is not taken.
    pub(crate) fn until(&mut self, stop: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest_str();
        let text = &rest[..rest.find(stop).unwrap_or(rest.len())];
        self.at += text.len();
        text
    }

    /// Takes `expected` if it stands here.
    pub(crate) fn take(&mut self, expected: char) -> bool {
        let found = self.rest_str().starts_with(expected);
        if found {
            self.at += expected.len_utf8();
        }
        found
    }

    pub(crate) fn expect(&mut self, expected: char, what: &'static str) -> Result<(), ParseError> {
        if self.take(expected) {
            Ok(())
        } else {
            Err(self.bad(what))
        }
    }

    /// One or more spaces, as every browser accepts where the grammar wants one.
    pub(crate) fn space(&mut self, before: &'static str) -> Result<(), ParseError> {
        self.expect(' ', before)?;
        self.skip_spaces();
        Ok(())
    }

    pub(crate) fn skip_spaces(&mut self) {
        while self.take(' ') {}
    }

    /// A run of visible characters (no space), at least one.
    pub(crate) fn word(&mut self, what: &'static str) -> Result<&'a str, ParseError> {
        let start = self.at;
        let word = self.until(|c| c == ' ' || c == '\t');
        if word.is_empty() {
            return Err(self.bad(what));
        }
        if word.chars().any(char::is_control) {
            return Err(self.error_at(start, Reason::Invalid { what }));
        }
        Ok(word)
    }

    /// A token (RFC 8866 section 9).
    pub(crate) fn token(&mut self, what: &'static str) -> Result<&'a str, ParseError> {
        let token = self.until(|c| !c.is_ascii() || !is_token_byte(c as u8));
        if token.is_empty() {
            return Err(self.bad(what));
        }
        Ok(token)
    }

    /// A run of ASCII digits.
    pub(crate) fn digits(&mut self, what: &'static str) -> Result<&'a str, ParseError> {
        let digits = self.until(|c| !c.is_ascii_digit());
        if digits.is_empty() {
            return Err(self.bad(what));
        }
        Ok(digits)
    }

    /// A decimal number that fits `T`.
    pub(crate) fn number<T: std::str::FromStr>(
        &mut self,
        what: &'static str,
    ) -> Result<T, ParseError> {
        let start = self.at;
        let digits = self.digits(what)?;
        digits
            .parse()
            .map_err(|_| self.error_at(start, Reason::Invalid { what }))
    }

    /// Trailing spaces at most.
    pub(crate) fn end(&mut self, what: &'static str) -> Result<(), ParseError> {
        self.skip_spaces();
        if self.is_at_end() {
            Ok(())
        } else {
            Err(self.error(Reason::Trailing { what }))
        }
    }
}
