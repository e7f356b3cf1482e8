//! `interop/RESULTS.md`: a table for each folder of `interop/` whose tests say what they saw.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

const HEAD: &str = "# What was seen to interoperate

Written by `cargo xtask interop [--long] [PEER]...`, which replaces the sections of what it ran: `peers` are other
implementations, the same calls with each; `browser` are the tests of `interop/browser/tests` by their names.
✓ was seen to work, ✗ failed, — cannot be, for the reason below the table. Tests that are marked as long run with
`--long` only.
";

/// With more features than this, they are the rows.
const WIDEST: usize = 12;

/// What a test said: `seen: PEER VERSION: WHAT: MARK`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    peer: String,
    what: String,
    mark: String,
}

impl Seen {
    /// Takes a line of a test's output; `None` for others. Without a mark, it was seen to work.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (_, text) = line.split_once("seen: ")?;
        let (peer, rest) = text.split_once(": ")?;
        let (what, mark) = rest.rsplit_once(": ").unwrap_or((rest, "✓"));
        // The tests of a browser have its name in theirs.
        let name = peer.split(' ').next()?.to_lowercase();
        let what = what
            .split(' ')
            .map(|word| if word == name { "it" } else { word });
        Some(Self {
            peer: peer.to_owned(),
            what: what.collect::<Vec<_>>().join(" "),
            mark: mark.trim().to_owned(),
        })
    }

    fn symbol(&self) -> &str {
        self.mark.split(' ').next().unwrap_or_default()
    }

    fn reason(&self) -> Option<&str> {
        self.mark.split_once(' ').map(|(_, reason)| reason)
    }
}

/// Replaces the section of a folder.
pub(crate) fn write(folder: &str, seen: &[Seen]) -> std::io::Result<()> {
    let file = crate::root().join("interop/RESULTS.md");
    let old = fs::read_to_string(&file).unwrap_or_default();
    fs::write(&file, replace(&old, folder, &table(seen)))?;
    println!(
        "interop: {} written",
        Path::new("interop/RESULTS.md").display()
    );
    Ok(())
}

fn replace(old: &str, folder: &str, table: &str) -> String {
    let title = format!("{folder}\n");
    let mut sections: Vec<String> = old
        .split("\n## ")
        .skip(1)
        .filter(|section| !section.starts_with(&title))
        .map(|section| section.trim_end().to_owned())
        .collect();
    sections.push(format!("{title}\n{}", table.trim_end()));
    sections.sort();
    let mut text = HEAD.to_owned();
    for section in sections {
        let _ = writeln!(text, "\n## {section}");
    }
    text
}

fn table(seen: &[Seen]) -> String {
    let unique = |key: fn(&Seen) -> &String| {
        let mut known = BTreeSet::new();
        let all = seen.iter().map(key);
        all.filter(|&it| known.insert(it.clone()))
            .collect::<Vec<_>>()
    };
    let (peers, features) = (unique(|it| &it.peer), unique(|it| &it.what));
    let cell = |peer: &str, what: &str| {
        let found = seen.iter().rfind(|it| it.peer == peer && it.what == what);
        found.map_or("", Seen::symbol).to_owned()
    };
    let mut text = String::new();
    let (rows, columns, turned) = match features.len() > WIDEST {
        true => (&features, &peers, true),
        false => (&peers, &features, false),
    };
    let _ = write!(text, "|");
    for column in columns {
        let _ = write!(text, " | {column}");
    }
    let _ = writeln!(text, " |\n|---{}|", "|---".repeat(columns.len()));
    for row in rows {
        let _ = write!(text, "| {row}");
        for column in columns {
            let cell = match turned {
                true => cell(column, row),
                false => cell(row, column),
            };
            let _ = write!(text, " | {cell}");
        }
        let _ = writeln!(text, " |");
    }
    let mut reasons = seen
        .iter()
        .filter_map(|it| Some((it, it.reason()?)))
        .peekable();
    if reasons.peek().is_some() {
        text.push('\n');
    }
    for (it, reason) in reasons {
        let _ = writeln!(text, "- {}: {}: {reason}", it.peer, it.what);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_a_table_in_the_place_of_the_old_one() {
        let lines = [
            "test a ... seen: werift 0.24.4: channel, we offer: ✓",
            "seen: aiortc 1.16.0: channel, we offer: — it has none",
            "running 1 test",
        ];
        let seen: Vec<Seen> = lines.iter().filter_map(|line| Seen::parse(line)).collect();
        let old = replace("", "peers", "old");
        let other = replace(&old, "browser", "| other |");
        let text = replace(&other, "peers", &table(&seen));
        let expected = "\n## browser\n\n| other |\n\n## peers\n\n\
            | | channel, we offer |\n|---|---|\n\
            | werift 0.24.4 | ✓ |\n| aiortc 1.16.0 | — |\n\n\
            - aiortc 1.16.0: channel, we offer: it has none\n";
        assert_eq!(text, format!("{HEAD}{expected}"));
    }

    #[test]
    fn a_browser_is_it() {
        let seen = Seen::parse("seen: Firefox 153.7.0: we restart ice with firefox: ✓").unwrap();
        assert_eq!(seen.what, "we restart ice with it");
    }
}
