//! `visavis doctor` in staged failures: network namespaces with a home, its router and a server, and one thing that is wrong in
//! each (`common/lab.rs`).

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use common::lab::{Lab, PLAIN_NAT, ROUTER, SYMMETRIC_NAT, lab};
use serde_json::Value;

impl Lab {
    /// What the router does to packets on their way, both ways.
    fn router(&self, rule: &str) {
        self.rules(
            "router",
            &format!(
                "table ip stage {{ chain way {{ type filter hook forward priority 1; {rule}\n }}\n }}"
            ),
        );
    }

    /// The doctors of both homes against each other.
    fn against(&self, arguments: &[&str]) -> [Report; 2] {
        let doctor = |name: &str| {
            let mut doctor = self.inside(name, env!("CARGO_BIN_EXE_visavis"));
            doctor
                .args(["doctor", "--json", "--no-port-mapping"])
                .args(["--server", "http://198.51.100.10"])
                .args(arguments)
                .arg("--against")
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            doctor
        };
        let mut host = doctor("home").spawn().expect("visavis starts");
        let mut code = String::new();
        let errors = host.stderr.take().expect("piped");
        BufReader::new(errors).read_line(&mut code).expect("a code");
        let guest = doctor("away").arg(code.trim()).output();
        let host = host.wait_with_output();
        [host, guest].map(|output| Report::new(output.expect("it ran")))
    }

    /// As much of `visavis serve` as the doctor asks, with a clock that is `ahead` of this machine's by so many seconds.
    fn http(&mut self, ahead: i64) {
        let program = format!(
            "import http.server, email.utils, time
class H(http.server.BaseHTTPRequestHandler):
    def date_time_string(self, t=None): return email.utils.formatdate(time.time() + {ahead}, usegmt=True)
    def do_GET(self):
        b = b'{{\"iceServers\":[]}}'
        self.send_response(200); self.send_header('content-length', str(len(b))); self.end_headers(); self.wfile.write(b)
    def log_message(self, *a): pass
s = http.server.HTTPServer(('198.51.100.10', 80), H)
print('ready', flush=True)
s.serve_forever()"
        );
        let mut child = self
            .inside("server", "python3")
            .args(["-c", &program])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("ready");
        assert_eq!(line.trim(), "ready");
        self.servers.push(child);
    }

    /// Names are asked of a server that does not answer.
    fn without_names(&self) {
        let folder = format!("/etc/netns/{}", self.name("home"));
        fs::create_dir_all(&folder).expect("root may");
        fs::write(format!("{folder}/resolv.conf"), "nameserver 192.0.2.53\n").expect("root may");
    }

    fn doctor(&self, arguments: &[&str]) -> Report {
        let begun = Instant::now();
        let output = self
            .inside("home", env!("CARGO_BIN_EXE_visavis"))
            .args(["doctor", "--json", "--insecure"])
            .args(arguments)
            .output()
            .expect("visavis starts");
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(15), "{took:?}: {output:?}");
        Report::new(output)
    }

    /// The doctor with everything that the server has.
    fn everything(&self, more: &[&str]) -> Report {
        let mut arguments = vec!["--stun", "198.51.100.10", "--username", "alice"];
        for url in [
            "turn:198.51.100.10",
            "turn:198.51.100.10?transport=tcp",
            "turns:198.51.100.10:443",
        ] {
            arguments.extend(["--turn", url]);
        }
        if !more.contains(&"--credential") {
            arguments.extend(["--credential", "secret"]);
        }
        arguments.extend(more);
        self.doctor(&arguments)
    }
}

/// What the doctor found.
struct Report {
    json: Value,
    success: bool,
}

impl Report {
    fn new(output: Output) -> Self {
        let json = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {output:?}"));
        Self {
            json,
            success: output.status.success(),
        }
    }

    fn ids(&self, verdict: &str) -> Vec<&str> {
        let findings = self.json["findings"].as_array().expect("findings");
        let of = findings
            .iter()
            .filter(|finding| finding["verdict"] == verdict);
        of.filter_map(|finding| finding["id"].as_str()).collect()
    }

    /// That these are wrong, and nothing else is.
    #[track_caller]
    fn blames(&self, expected: &[&str]) {
        let mut bad = self.ids("bad");
        bad.dedup();
        assert_eq!(bad, expected, "{:#}", self.json);
        assert_eq!(self.success, expected.is_empty());
    }

    #[track_caller]
    fn finds(&self, verdict: &str, id: &str) {
        assert!(self.ids(verdict).contains(&id), "{id}: {:#}", self.json);
    }
}

macro_rules! staged {
    ($($(#[$meta:meta])* $name:ident: |$lab:ident| $body:block)*) => {
        /// Everything that is staged here, one after the other.
        const STAGED: &[&str] = &[$(stringify!($name)),*];

        $(
        $(#[$meta])*
        #[test]
        fn $name() {
            #[allow(unused_mut)]
            let Some(mut $lab) = lab() else { return };
            $body
        }
    )*};
}

#[test]
fn fifteen_failures_or_more_are_staged() {
    let failures = STAGED
        .iter()
        .filter(|name| !name.starts_with("two_doctors"));
    let failures = failures.filter(|name| **name != "nothing_is_wrong");
    assert!(failures.count() >= 15, "{STAGED:?}");
}

staged! {
    nothing_is_wrong: |lab| {
        lab.http(0);
        let report = lab.everything(&["--server", "http://198.51.100.10"]);
        report.blames(&[]);
        for id in ["server", "clock", "udp", "nat", "mtu", "dtls", "turn", "quality"] {
            report.finds("good", id);
        }
        report.finds("note", "hairpin-none");
        report.finds("note", "port-mapping-none");
    }

    udp_is_blocked: |lab| {
        lab.router("meta l4proto udp drop");
        let report = lab.everything(&[]);
        report.blames(&["udp-blocked", "turn-udp-blocked"]);
        report.finds("good", "turn");
    }

    only_tcp_443_is_open: |lab| {
        lab.router("tcp dport 443 accept\n tcp sport 443 accept\n meta l4proto { tcp, udp } drop");
        lab.everything(&[]).blames(&["udp-blocked", "turn-udp-blocked", "turn-tcp-blocked"]);
    }

    nothing_but_the_web_page_is_open: |lab| {
        lab.http(0);
        lab.router("tcp dport 80 accept\n tcp sport 80 accept\n meta l4proto { tcp, udp } drop");
        let report = lab.everything(&["--server", "http://198.51.100.10"]);
        report.blames(&["udp-blocked", "turn-udp-blocked", "turn-tcp-blocked", "turn-tls-blocked"]);
    }

    the_password_of_turn_is_wrong: |lab| {
        lab.everything(&["--credential", "guessed"]).blames(&["turn-credentials"]);
    }

    turn_is_down: |lab| {
        let arguments = ["--stun", "198.51.100.10", "--turn", "turn:198.51.100.99", "--username", "alice"];
        let report = lab.doctor(&[&arguments[..], &["--credential", "secret"]].concat());
        report.blames(&["turn-silent"]);
    }

    the_nat_is_symmetric: |lab| {
        lab.nat("router", ROUTER, SYMMETRIC_NAT);
        let report = lab.doctor(&["--stun", "198.51.100.10"]);
        report.blames(&["nat-symmetric", "turn-missing"]);
    }

    large_datagrams_vanish: |lab| {
        lab.router("meta l4proto udp meta length > 1100 drop");
        lab.everything(&[]).blames(&["mtu-black-hole"]);
    }

    dtls_is_filtered: |lab| {
        // Records of the handshake begin with 22.
        lab.router("meta l4proto udp @th,64,8 22 drop");
        let report = lab.everything(&[]);
        report.blames(&[]);
        report.finds("note", "dtls-none");
    }

    one_datagram_in_twelve_is_lost_each_way: |lab| {
        // Every twelfth, not by chance: few are measured.
        lab.router("meta l4proto udp numgen inc mod 12 0 drop");
        let report = lab.everything(&[]);
        report.finds("bad", "loss");
    }

    udp_is_throttled: |lab| {
        lab.router("meta l4proto udp limit rate over 8 kbytes/second burst 3 kbytes drop");
        let report = lab.everything(&[]);
        report.finds("bad", "bandwidth");
        assert!(!report.ids("bad").contains(&"loss"), "{:#}", report.json);
    }

    ipv6_is_set_up_and_broken: |lab| {
        lab.ip("home", "addr add 2001:db8:1::10/64 dev eth0 nodad");
        lab.ip("router", "addr add 2001:db8:1::1/64 dev lan nodad");
        lab.ip("home", "-6 route add default via 2001:db8:1::1");
        let report = lab.everything(&["--stun", "[2001:db8:2::10]:3478"]);
        report.blames(&["ipv6-broken"]);
    }

    names_are_not_resolved: |lab| {
        lab.without_names();
        let report = lab.doctor(&["--stun", "stun.example.org"]);
        report.blames(&["stun-name"]);
        lab.doctor(&["--server", "http://meet.example.org"]).blames(&["server-name"]);
    }

    there_is_no_default_route: |lab| {
        lab.ip("home", "route del default");
        lab.doctor(&["--stun", "198.51.100.10"]).finds("bad", "no-route");
    }

    the_cable_is_out: |lab| {
        lab.ip("home", "addr flush dev eth0");
        lab.doctor(&["--stun", "198.51.100.10"]).finds("bad", "no-network");
    }

    the_clock_is_an_hour_off: |lab| {
        lab.http(-3600);
        lab.everything(&["--server", "http://198.51.100.10"]).blames(&["clock"]);
    }

    the_server_is_down: |lab| {
        lab.everything(&["--server", "http://198.51.100.10"]).blames(&["server-unreachable"]);
    }

    multicast_dns_is_off: |lab| {
        lab.rules("home", "table ip stage { chain out { type filter hook output priority 0; udp dport 5353 drop\n }\n }");
        let report = lab.everything(&[]);
        report.blames(&[]);
        report.finds("note", "mdns-off");
    }

    the_relay_is_on_this_machine_and_refuses_its_addresses: |lab| {
        let mut turn = lab.inside("server", env!("CARGO_BIN_EXE_visavis"));
        turn.args(["turn", "--listen", "127.0.0.1:3478", "--tls-listen", "none"])
            .args(["--relay-ip", "198.51.100.11", "--user", "alice:secret", "--admin", "none"]);
        lab.serve(&mut turn, "listening on 127.0.0.1:3478 over TCP");
        let output = lab
            .inside("server", env!("CARGO_BIN_EXE_visavis"))
            .args(["doctor", "--json", "--turn", "turn:127.0.0.1", "--username", "alice"])
            .args(["--credential", "secret"])
            .output()
            .expect("visavis starts");
        let report = Report::new(output);
        report.finds("good", "turn");
        report.finds("note", "quality-unknown");
    }

    two_doctors_behind_symmetric_nats_say_why_they_do_not_meet: |lab| {
        lab.nat("router", ROUTER, SYMMETRIC_NAT);
        lab.second_home(SYMMETRIC_NAT);
        lab.rendezvous(false);
        for report in lab.against(&["--stun", "198.51.100.10"]) {
            let meeting = &report.json["against"];
            assert_eq!(meeting["connected"], false, "{:#}", report.json);
            assert_eq!(meeting["cause"], "nat-symmetric-both", "{:#}", report.json);
            let text = meeting["text"].as_str().expect("words");
            assert!(text.contains("What helps is a relay"), "{text}");
            assert!(!report.success);
        }
    }

    two_doctors_behind_symmetric_nats_meet_at_a_relay: |lab| {
        lab.nat("router", ROUTER, SYMMETRIC_NAT);
        lab.second_home(SYMMETRIC_NAT);
        lab.rendezvous(false);
        let relay = ["--stun", "198.51.100.10", "--turn", "turn:198.51.100.10", "--username", "alice"];
        for report in lab.against(&[&relay[..], &["--credential", "secret"]].concat()) {
            let meeting = &report.json["against"];
            assert_eq!(meeting["connected"], true, "{:#}", report.json);
            let text = meeting["text"].as_str().expect("words");
            assert!(text.contains("through a relay"), "{text}");
        }
    }

    two_doctors_behind_plain_nats_meet_directly: |lab| {
        lab.second_home(PLAIN_NAT);
        lab.rendezvous(false);
        for report in lab.against(&["--stun", "198.51.100.10"]) {
            let meeting = &report.json["against"];
            assert_eq!(meeting["connected"], true, "{:#}", report.json);
            assert!(meeting["text"].as_str().expect("words").contains("through its NAT"));
        }
    }
}
