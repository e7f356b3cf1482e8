//! How two programs that share a short code become one authenticated peer connection.
//!
//! The code has two parts: the number of a slot at a rendezvous server, and a secret that the server
//! never sees. [`seal`] makes a key of the secret; [`connect`] passes descriptions and candidates
//! sealed with it, so that whoever is not in the know can neither read nor change the fingerprints in
//! them; [`keep`] does so for as long as the connection is used. What lives here: codes, links, the key exchange. What does not:
//! what is said over the connection.

pub(crate) mod client;
pub(crate) mod connect;
pub(crate) mod host;
pub(crate) mod keep;
pub(crate) mod lan;
pub(crate) mod seal;

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Words of a code's secret: 256 of them, so that each carries 8 bits.
const WORDS: &str = include_str!("words.txt");
/// Words per code: 24 bits, of which each try of a stranger tests one, in the sight of the host.
const SECRET_WORDS: usize = 3;
/// Bytes of a link's secret.
const LINK_SECRET: usize = 16;

/// A code that is told by voice: `4821-copper-tulip-raven`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Code {
    /// The slot at the rendezvous server.
    pub(crate) slot: String,
    /// The words, joined by `-`.
    pub(crate) words: String,
}

impl Code {
    /// Random words for a slot.
    pub(crate) fn random_words() -> Result<String, getrandom::Error> {
        let mut bytes = [0; SECRET_WORDS];
        getrandom::fill(&mut bytes)?;
        let words: Vec<&str> = WORDS.split_whitespace().collect();
        Ok(bytes.map(|byte| words[usize::from(byte)]).join("-"))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.slot, self.words)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-…", self.slot)
    }
}

/// What is wrong with a code or a link.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum CodeError {
    #[error("a code looks like 4821-copper-tulip-raven: a number, then words, joined by \"-\"")]
    Form,
    #[error("{0:?} is no word of a code{1}")]
    Word(String, Hint),
    #[error("the link is incomplete: copy it whole, with everything behind the #")]
    Link,
}

/// The word that was meant, perhaps.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hint(Option<&'static str>);

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(word) => write!(f, "; did you mean {word:?}?"),
            None => Ok(()),
        }
    }
}

impl FromStr for Code {
    type Err = CodeError;

    /// Takes what people type: any case, spaces for dashes.
    fn from_str(text: &str) -> Result<Self, CodeError> {
        let text = text.trim().to_lowercase().replace([' ', '_'], "-");
        let (slot, words) = text.split_once('-').ok_or(CodeError::Form)?;
        if slot.len() < 4 || slot.len() > 9 || !slot.bytes().all(|b| b.is_ascii_digit()) {
            return Err(CodeError::Form);
        }
        let words: Vec<&str> = words.split('-').filter(|word| !word.is_empty()).collect();
        if words.is_empty() {
            return Err(CodeError::Form);
        }
        for word in &words {
            if !WORDS.split_whitespace().any(|known| known == *word) {
                return Err(CodeError::Word((*word).to_owned(), Hint(nearest(word))));
            }
        }
        Ok(Self {
            slot: slot.to_owned(),
            words: words.join("-"),
        })
    }
}

/// The word that shares the longest beginning, if that is most of it.
fn nearest(word: &str) -> Option<&'static str> {
    let shared = |known: &str| {
        let same = known.bytes().zip(word.bytes()).take_while(|(a, b)| a == b);
        same.count()
    };
    let best = WORDS.split_whitespace().max_by_key(|known| shared(known))?;
    (shared(best) * 2 > word.len()).then_some(best)
}

/// A link for a browser: `https://server/receive#4821.SECRET`. What is behind the `#` is not sent to
/// the server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// The server, as `https://host[:port]`.
    pub(crate) server: String,
    /// The slot.
    pub(crate) slot: String,
    /// The secret.
    pub(crate) secret: [u8; LINK_SECRET],
}

impl Link {
    /// A random secret.
    pub(crate) fn random_secret() -> Result<[u8; LINK_SECRET], getrandom::Error> {
        let mut secret = [0; LINK_SECRET];
        getrandom::fill(&mut secret)?;
        Ok(secret)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = URL_SAFE_NO_PAD.encode(self.secret);
        write!(f, "{}/receive#{}.{secret}", self.server, self.slot)
    }
}

impl FromStr for Link {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        let (page, fragment) = text.trim().split_once('#').ok_or(CodeError::Link)?;
        let server = page.strip_suffix("/receive").ok_or(CodeError::Link)?;
        let (slot, secret) = fragment.split_once('.').ok_or(CodeError::Link)?;
        let secret = URL_SAFE_NO_PAD
            .decode(secret)
            .map_err(|_| CodeError::Link)?;
        Ok(Self {
            server: server.to_owned(),
            slot: slot.to_owned(),
            secret: secret.try_into().map_err(|_| CodeError::Link)?,
        })
    }
}

/// What a guest was given.
#[derive(Clone)]
pub(crate) enum Invitation {
    /// A code that was told.
    Code(Code),
    /// A link that was passed on.
    Link(Link),
}

impl Invitation {
    /// The slot at the rendezvous server.
    pub(crate) fn slot(&self) -> &str {
        match self {
            Self::Code(code) => &code.slot,
            Self::Link(link) => &link.slot,
        }
    }

    /// The secret in it.
    pub(crate) fn secret(&self) -> seal::Secret<'_> {
        match self {
            Self::Code(code) => seal::Secret::Words(&code.words),
            Self::Link(link) => seal::Secret::Link(&link.secret),
        }
    }
}

impl FromStr for Invitation {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        if text.contains("://") {
            text.parse().map(Self::Link)
        } else {
            text.parse().map(Self::Code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_256_different_words() {
        let words: std::collections::HashSet<&str> = WORDS.split_whitespace().collect();
        assert_eq!(words.len(), 256);
    }

    #[test]
    fn codes_are_read_as_people_type_them() {
        let code: Code = " 4821 Copper tulip-RAVEN ".parse().unwrap();
        assert_eq!(code.to_string(), "4821-copper-tulip-raven");
        assert_eq!("copper".parse::<Code>(), Err(CodeError::Form));
        assert_eq!("4821".parse::<Code>(), Err(CodeError::Form));
        assert_eq!("12-copper".parse::<Code>(), Err(CodeError::Form));
        let wrong = "4821-coper-tulip-raven".parse::<Code>().unwrap_err();
        assert!(wrong.to_string().contains("did you mean"), "{wrong}");
    }

    #[test]
    fn links_survive_their_text() {
        let link = Link {
            server: "https://meet.example:8443".into(),
            slot: "4821".into(),
            secret: [7; 16],
        };
        assert!(link.to_string().parse::<Link>() == Ok(link.clone()));
        let cut = link.to_string();
        assert!(cut[..cut.len() - 3].parse::<Link>() == Err(CodeError::Link));
        assert!("https://meet.example/r/room".parse::<Link>() == Err(CodeError::Link));
    }
}
