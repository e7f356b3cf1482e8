//! Candidate lines as real peers wrote them.

use visavis_ice::{Candidate, CandidateKind};

#[test]
fn lines_of_real_peers_are_read_and_written_again() {
    let lines: Vec<&str> = include_str!("fixtures/candidates.txt").lines().collect();
    assert!(lines.len() > 30);
    for line in lines {
        let candidate: Candidate = line
            .parse()
            .unwrap_or_else(|error| panic!("{line}: {error}"));
        let written = candidate.to_string();
        let same = line
            .replacen(" UDP ", " udp ", 1)
            .replacen(" TCP ", " tcp ", 1);
        // The order of extensions is the writer's own.
        let sorted = |text: &str| {
            let mut words: Vec<String> = text.split_ascii_whitespace().map(str::to_owned).collect();
            words.sort();
            words
        };
        assert_eq!(sorted(&written), sorted(&same));
        assert!(
            candidate.address().is_some() || candidate.host.is_mdns(),
            "{line}"
        );
        assert_ne!(candidate.kind, CandidateKind::PeerReflexive);
    }
}
