//! What every subcommand has in common.

mod common;

use std::io::{BufRead, BufReader};
use std::process::Command;

use common::{rendezvous, visavis};
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

/// Codes of `--help`: 2 is for what no network would mend, 4 for what another one might.
#[test]
fn nonsense_is_told_apart_from_what_cannot_be_reached() {
    let here = tempdir().unwrap();
    std::fs::write(here.path().join("a"), "a").unwrap();
    let code = "1234-zebra-zebra-zebra";
    let ends = |expected: i32, named: &str, arguments: &[&str]| {
        let ended = visavis(arguments, here.path()).output().unwrap();
        assert_eq!(ended.status.code(), Some(expected), "{arguments:?}");
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(said.contains(named), "{arguments:?}: {said}");
    };
    let nonsense = "ftp://there";
    ends(2, nonsense, &["send", "--server", nonsense, "a"]);
    ends(2, nonsense, &["receive", "--server", nonsense, code]);
    ends(2, nonsense, &["chat", "--server", nonsense]);
    ends(2, nonsense, &["chat", "--server", nonsense, code]);
    ends(2, nonsense, &["whep", nonsense]);
    ends(2, nonsense, &["doctor", "--server", nonsense]);
    ends(2, "HOST[:PORT]", &["doctor", "--stun", ""]);
    ends(3, "a code looks like", &["doctor", "--against", "1-x"]);
    ends(2, "ADDRESS:PORT", &["serve", "--listen", "80"]);
    ends(2, "ADDRESS:PORT", &["echo", "--listen", "8080"]);
    ends(2, "which room", &["join", "localhost"]);
    let nobody = "http://127.0.0.1:9";
    ends(4, nobody, &["send", "--server", nobody, "a"]);
    ends(4, nobody, &["receive", "--server", nobody, code]);
    ends(4, nobody, &["chat", "--server", nobody]);
    ends(4, nobody, &["whep", nobody]);
    ends(6, "/proc/no/such", &["manual", "/proc/no/such"]);
    ends(6, "missing", &["send", "--server", nobody, "missing"]);
    ends(6, "is a directory", &["whip", nobody, "."]);
    let elsewhere = [
        "--user",
        "a:b",
        "--listen",
        "127.0.0.1:0",
        "--relay-ip",
        "192.0.2.1",
    ];
    let own = [
        &["turn", "--tls-listen", "none", "--admin", "none"][..],
        &elsewhere,
    ]
    .concat();
    ends(2, "BIND/EXTERNAL", &own);
}

/// As of `visavis doctor | head -1`: what was asked is done, and nothing panics.
#[test]
fn who_reads_the_output_may_leave() {
    let (here, server) = (tempdir().unwrap(), rendezvous());
    std::fs::write(here.path().join("a"), "a").unwrap();
    let run = |arguments: &[&str]| {
        let mut command = visavis(arguments, here.path());
        command.env("VISAVIS_SERVER", &server);
        // Both ends of a pipe, of which the reading one is dropped at once.
        let (_, closed) = std::io::pipe().unwrap();
        command.stdout(closed);
        command
    };
    for arguments in [
        &["doctor", "--no-port-mapping"][..],
        &["doctor", "--no-port-mapping", "--json"],
        &["keygen"],
        &["completions", "bash"],
        &["turn", "--print-config"],
    ] {
        let ended = run(arguments).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        // The rendezvous alone is no server that the doctor is content with.
        let code = i32::from(arguments[0] == "doctor");
        assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {said}");
        assert_eq!(said, "", "{arguments:?}");
    }
    let code = "4821-copper-tulip-raven";
    let mut sender = run(&["send", "--code", code, "a"]).spawn().unwrap();
    let there = here.path().join("there");
    let arguments = ["receive", "--server", &server, "-o", "there/", code];
    // Nobody can say when it waits.
    let received = loop {
        let received = visavis(&arguments, here.path()).output().unwrap();
        if received.status.code() != Some(3) {
            break received;
        }
    };
    assert!(received.status.success(), "{received:?}");
    assert!(sender.wait().unwrap().success());
    assert!(there.join("a").exists());
}

#[test]
fn exit_codes_are_in_every_help_of_what_uses_the_network() {
    let here = tempdir().unwrap();
    for name in [
        "chat", "doctor", "echo", "join", "receive", "send", "serve", "turn", "whep", "whip",
    ] {
        let help = visavis(&[name, "--help"], here.path()).output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(help.contains("Exit codes:\n  0  "), "{help}");
        let made = visavis(&["manual", "."], here.path()).output().unwrap();
        assert!(made.status.success());
        let page = std::fs::read_to_string(here.path().join(format!("visavis-{name}.1"))).unwrap();
        assert!(page.contains("Exit codes:"), "{page}");
    }
}

#[test]
fn what_happens_inside_is_told_who_asks() {
    let here = tempdir().unwrap();
    let nobody = "http://127.0.0.1:9";
    let arguments = ["receive", "--server", nobody, "1234-zebra-zebra-zebra"];
    let said = |level: &str| {
        let mut command = visavis(&arguments, here.path());
        let ended = command.env("VISAVIS_LOG", level).output().unwrap();
        String::from_utf8(ended.stderr).unwrap()
    };
    assert!(said("visavis=debug").contains("to the server"));
    assert!(!said("off").contains("to the server"));
}

/// Who waits for somebody and is stopped has not done what was asked.
#[cfg(unix)]
#[test]
fn ctrl_c_while_nobody_has_come_is_an_interruption() {
    let (here, server) = (tempdir().unwrap(), rendezvous());
    std::fs::write(here.path().join("a"), "a").unwrap();
    for arguments in [&["chat"][..], &["send", "a"]] {
        let mut command = visavis(arguments, here.path());
        let mut child = command.env("VISAVIS_SERVER", &server).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.contains("other machine"), "{line}");
        let id = child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-INT", &id])
                .status()
                .unwrap()
                .success()
        );
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(130), "{ended:?}");
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(!said.contains("kept"), "{said}");
    }
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

#[test]
fn services_say_by_their_code_what_keeps_them_from_starting() {
    let here = tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(here.path().join(name), text).unwrap();
    write("no.toml", "this is = = no TOML");
    write("unknown.toml", "no-such-setting = 1");
    write("short.toml", "[keys]\nkey = \"short\"\n");
    write("no.pem", "no certificate");
    let listen = ["--listen", "127.0.0.1:0"];
    let certificate = |path: &'static str| {
        let pair = [
            "--listen",
            "127.0.0.1:0",
            "--tls-cert",
            path,
            "--tls-key",
            path,
        ];
        pair.to_vec()
    };
    for (command, arguments, code) in [
        ("serve", vec!["--config", "missing.toml"], 6),
        ("serve", vec!["--config", "."], 6),
        ("serve", vec!["--config", "no.toml"], 2),
        ("serve", vec!["--config", "unknown.toml"], 2),
        (
            "serve",
            [&listen[..], &["--config", "short.toml"]].concat(),
            2,
        ),
        ("serve", vec!["--tls-cert", "no.pem"], 2),
        ("serve", certificate("missing.pem"), 6),
        ("serve", certificate("no.pem"), 6),
        ("turn", vec!["--config", "missing.toml"], 6),
        ("turn", vec!["--config", "no.toml"], 2),
        ("turn", vec!["--config", "unknown.toml"], 2),
        ("turn", vec!["--users-file", "missing"], 6),
    ] {
        let arguments = [&[command], &arguments[..]].concat();
        let ended = visavis(&arguments, here.path()).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(&format!("visavis {command}: ")), "{said}");
    }
}
