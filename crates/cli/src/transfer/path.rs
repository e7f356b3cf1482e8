//! Names that came from the other side, which are never trusted.

use std::path::PathBuf;

/// Longest component in bytes, as most file systems have it.
const MAX_COMPONENT: usize = 255;
/// Longest path in bytes.
const MAX_PATH: usize = 4096;
/// Most components.
const MAX_DEPTH: usize = 64;

/// Names that Windows takes for devices.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "com", "lpt"];

/// A path that must not be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the other side sent the name {path:?}, which is refused: {reason}")]
pub(crate) struct BadPath {
    path: String,
    reason: &'static str,
}

/// The path if it stays below the directory that it is put into, on any system.
pub(crate) fn relative(path: &str) -> Result<PathBuf, BadPath> {
    let fault = |reason| BadPath {
        path: path.chars().take(80).collect(),
        reason,
    };
    if path.len() > MAX_PATH || path.split('/').count() > MAX_DEPTH {
        return Err(fault("it is too long"));
    }
    let mut whole = PathBuf::new();
    for component in path.split('/') {
        if component.is_empty() || component == "." || component == ".." {
            return Err(fault("it leads out of the directory"));
        }
        if component.len() > MAX_COMPONENT {
            return Err(fault("it is too long"));
        }
        if component.contains(['\\', ':']) || component.chars().any(is_deceptive) {
            return Err(fault("it has characters that mislead"));
        }
        let stem = component
            .split('.')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let stem = stem.trim_end_matches(|c: char| c.is_ascii_digit());
        if cfg!(windows) && (DEVICES.contains(&stem) || component.ends_with(['.', ' '])) {
            return Err(fault("it is the name of a device"));
        }
        if component.starts_with(super::store::STAGING_PREFIX) {
            return Err(fault("it is the name of unfinished transfers"));
        }
        whole.push(component);
    }
    Ok(whole)
}

/// Control characters, and those that change the direction of writing.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn honest_names_pass() {
        for path in [
            "a",
            "photos/2026/summer day.jpg",
            "ü/日本.txt",
            ".bashrc",
            "a..b",
        ] {
            assert!(relative(path).is_ok(), "{path}");
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        let long = "x".repeat(256);
        let deep = "a/".repeat(64) + "a";
        let hostile = [
            "",
            "/etc/passwd",
            "../up",
            "a/../../up",
            "a//b",
            "a/",
            ".",
            "a/./b",
            "C:\\x",
            "c:x",
            "a\\b",
            "a\nb",
            "a\0b",
            "gpj.\u{202e}exe",
            ".visavis-partial-x",
            &long,
            &deep,
        ];
        for path in hostile {
            assert!(relative(path).is_err(), "{path:?}");
        }
    }
}
