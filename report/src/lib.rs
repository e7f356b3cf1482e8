//! One way to print a table of figures: aligned for people, JSON for machines (`--json`), and with
//! goals that decide the exit code (`--check`). Used by every table that `cargo xtask` names.
#![allow(clippy::print_stdout, reason = "printing is what this crate is for")]

use std::process::ExitCode;

use serde_json::{Map, Value, json};

/// What a table command was asked for on its command line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// `--check`: exit non-zero where a goal is missed.
    pub check: bool,
    /// `--json`: print for machines.
    pub json: bool,
    /// `--quick`: the small version, under a minute.
    pub quick: bool,
}

impl Options {
    /// Reads the flags from the process's arguments; the rest is returned in order.
    pub fn from_arguments() -> (Self, Vec<String>) {
        let mut options = Self::default();
        let mut rest = Vec::new();
        for argument in std::env::args().skip(1) {
            match argument.as_str() {
                "--check" => options.check = true,
                "--json" => options.json = true,
                "--quick" => options.quick = true,
                _ => rest.push(argument),
            }
        }
        (options, rest)
    }
}

/// One figure that was promised, and what was measured.
#[derive(Debug, Clone)]
struct Goal {
    name: String,
    measured: f64,
    goal: f64,
    at_least: bool,
}

impl Goal {
    fn met(&self) -> bool {
        if self.at_least {
            self.measured >= self.goal
        } else {
            self.measured <= self.goal
        }
    }

    fn words(&self) -> String {
        let sign = if self.at_least { "at least" } else { "at most" };
        let verdict = if self.met() { "met" } else { "MISSED" };
        format!(
            "{verdict}: {} is {:.4}, goal {sign} {:.4}",
            self.name, self.measured, self.goal
        )
    }
}

/// A table of figures with goals.
#[derive(Debug, Clone)]
pub struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
    goals: Vec<Goal>,
    notes: Vec<String>,
}

impl Table {
    /// An empty table.
    pub fn new(title: &str, columns: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            rows: Vec::new(),
            goals: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds a row, one value per column.
    pub fn row(&mut self, values: Vec<Value>) {
        self.rows.push(values);
    }

    /// Promises that `measured` is `goal` or more.
    pub fn at_least(&mut self, name: &str, measured: f64, goal: f64) {
        self.goals.push(Goal {
            name: name.to_owned(),
            measured,
            goal,
            at_least: true,
        });
    }

    /// Promises that `measured` is `goal` or less.
    pub fn at_most(&mut self, name: &str, measured: f64, goal: f64) {
        self.goals.push(Goal {
            name: name.to_owned(),
            measured,
            goal,
            at_least: false,
        });
    }

    /// Adds a line below the table: versions, machine, seed.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Prints the table as `options` ask. With `check`, a missed goal fails, and the last line is
    /// the figure that decided: the first that was missed, or the last that was met.
    pub fn finish(&self, options: Options) -> ExitCode {
        if options.json {
            println!("{}", self.to_json());
        } else {
            print!("{}", self.to_text());
        }
        let missed = self.goals.iter().find(|goal| !goal.met());
        if options.check
            && let Some(goal) = missed.or(self.goals.last())
        {
            if options.json {
                eprintln!("{}", goal.words());
            } else {
                println!("{}", goal.words());
            }
        }
        if options.check && missed.is_some() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }

    /// The table as aligned text.
    pub fn to_text(&self) -> String {
        let cells: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| row.iter().map(words).collect())
            .collect();
        let width = |column: usize| {
            let longest = cells
                .iter()
                .filter_map(|row| row.get(column))
                .map(|c| c.chars().count());
            longest
                .chain([self.columns[column].chars().count()])
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = format!("{}\n\n", self.title);
        let line = |row: &[String]| {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, &width)| {
                    let pad = " ".repeat(width - cell.chars().count());
                    if cell.parse::<f64>().is_ok() {
                        format!("{pad}{cell}")
                    } else {
                        format!("{cell}{pad}")
                    }
                })
                .collect();
            format!("| {} |\n", cells.join(" | "))
        };
        text += &line(&self.columns);
        let rule: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
        text += &format!("| {} |\n", rule.join(" | "));
        for row in &cells {
            text += &line(row);
        }
        for note in &self.notes {
            text += &format!("\n{note}\n");
        }
        if !self.goals.is_empty() {
            text += "\n";
        }
        for goal in &self.goals {
            text += &format!("- {}\n", goal.words());
        }
        text
    }

    /// The table as one JSON object.
    pub fn to_json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let cells = self.columns.iter().cloned().zip(row.iter().cloned());
                Value::Object(cells.collect::<Map<_, _>>())
            })
            .collect();
        let goals: Vec<Value> = self
            .goals
            .iter()
            .map(|goal| {
                json!({
                    "name": goal.name,
                    "measured": goal.measured,
                    (if goal.at_least { "at_least" } else { "at_most" }): goal.goal,
                    "met": goal.met(),
                })
            })
            .collect();
        json!({ "title": self.title, "rows": rows, "goals": goals, "notes": self.notes })
    }
}

fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            if number.abs() >= 100.0 {
                format!("{number:.0}")
            } else {
                format!("{number:.2}")
            }
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Options, Table};

    #[test]
    fn a_missed_goal_fails_a_check_and_only_a_check() {
        let mut table = Table::new("Loss", &["case", "ratio"]);
        table.row(vec![json!("none"), json!(0.5)]);
        table.at_least("ratio", 0.5, 0.9);
        let checked = Options {
            check: true,
            ..Options::default()
        };
        assert_ne!(
            format!("{:?}", table.finish(checked)),
            format!("{:?}", table.finish(Options::default()))
        );
        assert!(table.to_text().contains("MISSED: ratio"));
        assert_eq!(table.to_json()["rows"][0]["case"], "none");
    }
}
