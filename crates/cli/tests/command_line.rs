//! What every subcommand has in common.

mod common;

use common::visavis;
use tempfile::tempdir;

#[test]
fn help_teaches_and_wrong_usage_is_told_apart() {
    let here = tempdir().unwrap();
    let run = |arguments: &[&str]| visavis(arguments, here.path()).output().unwrap();
    let help = run(&["--help"]);
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).unwrap();
    let subcommands = help.lines().filter_map(|line| line.strip_prefix("  "));
    let subcommands = subcommands.filter_map(|line| line.split(' ').next());
    let mut count = 0;
    for name in subcommands
        .filter(|name| *name != "help" && name.starts_with(|c: char| c.is_ascii_lowercase()))
    {
        let help = run(&[name, "--help"]);
        assert!(help.status.success(), "{name}");
        count += 1;
    }
    assert!(count >= 8, "{help}");
    assert_eq!(run(&["receive"]).status.code(), Some(2));
    assert_eq!(run(&["no-such-thing"]).status.code(), Some(2));
}

#[test]
fn completions_and_manual_pages_are_made() {
    let here = tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let made = visavis(&["completions", shell], here.path())
            .output()
            .unwrap();
        assert!(made.status.success());
        assert!(String::from_utf8(made.stdout).unwrap().contains("receive"));
    }
    let made = visavis(&["manual", "."], here.path()).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let page = std::fs::read_to_string(here.path().join("visavis-send.1")).unwrap();
    assert!(page.contains("end to end"));
}

#[test]
fn keys_are_new_each_time() {
    let here = tempdir().unwrap();
    let made = || {
        visavis(&["keygen", "--json"], here.path())
            .output()
            .unwrap()
    };
    let parse = |output: std::process::Output| -> serde_json::Value {
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let (one, two) = (parse(made()), parse(made()));
    assert_ne!(one["secret"], two["secret"]);
    assert!(one["secret"].as_str().unwrap().len() >= 32);
    assert!(one["key"].as_str().unwrap().starts_with("API"));
}
