//! The findings as text for people.

use std::fmt::Write;

use super::diagnose::{Diagnosis, Verdict};

/// The whole report. `color` for terminals.
pub(crate) fn text(diagnosis: &Diagnosis, color: bool) -> String {
    let mut out = String::new();
    for finding in &diagnosis.findings {
        let (mark, code) = match finding.verdict {
            Verdict::Good => ("ok  ", "32"),
            Verdict::Note => ("note", "33"),
            Verdict::Bad => ("BAD ", "31;1"),
        };
        let mark = if color {
            format!("\x1b[{code}m{mark}\x1b[0m")
        } else {
            mark.to_owned()
        };
        let _ = writeln!(out, "{mark}  {}", finding.title);
        for line in finding.advice.iter().flat_map(|advice| wrap(advice, 74)) {
            let _ = writeln!(out, "      {line}");
        }
    }
    let _ = writeln!(out);
    for line in wrap(&diagnosis.summary, 80) {
        let _ = writeln!(out, "{line}");
    }
    out
}

/// Breaks text into lines of at most so many characters, where words allow it.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always one");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
