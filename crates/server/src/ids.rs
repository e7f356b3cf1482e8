//! Identifiers that the server makes: session ids of rooms, participants and tracks, and secrets.

/// Letters of an identifier: those that are told apart when read aloud (no `0`, `O`, `I`, `l`).
const LETTERS: &[u8; 57] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// What an identifier names; its prefix shows it, as LiveKit's clients expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdKind {
    /// A room (`RM_`).
    Room,
    /// A participant's session (`PA_`).
    Participant,
    /// A published audio track (`TR_AM`).
    AudioTrack,
    /// A published video track (`TR_VC`).
    VideoTrack,
    /// A published data track (`DTR_`).
    DataTrack,
    /// A webhook event (`EV_`).
    Event,
    /// This server process (`ND_`).
    Node,
    /// A WHIP or WHEP session: long, because the URL is the key to the session (RFC 9725, section 4.2).
    Session,
}

/// A new random identifier.
pub fn new_id(kind: IdKind) -> String {
    let (prefix, letters) = match kind {
        IdKind::Room => ("RM_", 12),
        IdKind::Participant => ("PA_", 12),
        IdKind::AudioTrack => ("TR_AM", 12),
        IdKind::VideoTrack => ("TR_VC", 12),
        IdKind::DataTrack => ("DTR_", 12),
        IdKind::Event => ("EV_", 12),
        IdKind::Node => ("ND_", 12),
        IdKind::Session => ("", 32),
    };
    let mut id = String::with_capacity(prefix.len() + letters);
    id.push_str(prefix);
    id.push_str(&random_text(letters));
    id
}

/// `length` random letters, each of the 57 equally likely.
pub fn random_text(length: usize) -> String {
    let mut text = String::with_capacity(length);
    let mut bytes = [0u8; 64];
    while text.len() < length {
        random_bytes(&mut bytes);
        // 228 is the largest multiple of 57 within a byte: beyond it, some letters would come more often.
        let letters = bytes
            .iter()
            .filter(|byte| **byte < 228)
            .map(|byte| char::from(LETTERS[usize::from(*byte) % 57]));
        text.extend(letters.take(length - text.len()));
    }
    text
}

/// Fills `bytes` from the system's random source.
///
/// # Panics
/// If the system has no random source, without which no secret can be made.
pub fn random_bytes(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system's random source");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_have_their_prefix_and_do_not_repeat() {
        let ids: std::collections::HashSet<String> =
            (0..1000).map(|_| new_id(IdKind::Participant)).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.starts_with("PA_") && id.len() == 15));
        assert!(LETTERS.iter().all(u8::is_ascii_alphanumeric));
    }
}
