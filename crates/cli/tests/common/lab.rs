//! Network namespaces with a home, its router and a server.
//!
//! ```text
//! home (192.168.1.10) -- router [198.51.100.1] -- server (198.51.100.10, .11: TURN; HTTP at port 80)
//!                                                   |
//!                       away (192.168.2.10) -- gate [198.51.101.2], a second home that some tests have
//! ```

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use visavis_namespaces::Namespaces;

/// A home, its router and a server; dropped, they are gone.
pub(crate) struct Lab {
    namespaces: Namespaces,
    pub(crate) servers: Vec<Child>,
}

const NAMES: [&str; 5] = ["home", "router", "server", "gate", "away"];
const SERVER: &str = "198.51.100.10";
/// Outside addresses of the two NATs.
pub(crate) const ROUTER: &str = "198.51.100.1";
const GATE: &str = "198.51.101.2";

/// What every NAT here does, unless told otherwise: one outside port per socket, open to whom it was used for.
pub(crate) const PLAIN_NAT: &str = "oifname wan snat ip to EXTERNAL";
pub(crate) const SYMMETRIC_NAT: &str = "oifname wan meta l4proto udp snat ip to EXTERNAL:jhash ip saddr . udp sport . ip daddr . udp dport mod 40000 seed 7 offset 20000
    oifname wan snat ip to EXTERNAL";

impl Lab {
    /// A lab in which nothing is wrong.
    pub(crate) fn new() -> Self {
        let mut lab = Self {
            namespaces: Namespaces::new(&NAMES),
            servers: Vec::new(),
        };
        lab.behind("home", "router", 1, ("eth0", SERVER), ROUTER);
        lab.ip("server", "addr add 198.51.100.11/24 dev eth0");
        lab.nat("router", ROUTER, PLAIN_NAT);
        lab.turn();
        lab
    }

    /// A second home behind a second NAT, reached by way of the server.
    pub(crate) fn second_home(&self, nat: &str) {
        self.behind("away", "gate", 2, ("eth1", "198.51.101.1"), GATE);
        self.ip("gate", "route add default via 198.51.101.1");
        self.ip("router", &format!("route add default via {SERVER}"));
        self.namespaces.forward("server");
        self.nat("gate", GATE, nat);
    }

    /// A host behind a router, whose other side is on a wire to the server.
    fn behind(&self, host: &str, router: &str, net: u8, server: (&str, &str), outside: &str) {
        let (device, address) = server;
        self.wire("server", device, router, "wan");
        self.wire(host, "eth0", router, "lan");
        self.ip("server", &format!("addr add {address}/24 dev {device}"));
        self.ip(router, &format!("addr add {outside}/24 dev wan"));
        self.ip(router, &format!("addr add 192.168.{net}.1/24 dev lan"));
        self.ip(host, &format!("addr add 192.168.{net}.10/24 dev eth0"));
        self.ip(host, &format!("route add default via 192.168.{net}.1"));
        self.namespaces.forward(router);
    }

    pub(crate) fn name(&self, name: &str) -> String {
        self.namespaces.name(name)
    }

    pub(crate) fn ip(&self, name: &str, command: &str) {
        self.namespaces.ip(name, command);
    }

    pub(crate) fn inside(&self, name: &str, program: &str) -> Command {
        self.namespaces.command(name, program)
    }

    pub(crate) fn wire(&self, a: &str, a_device: &str, b: &str, b_device: &str) {
        self.namespaces.wire([a, a_device], [b, b_device]);
    }

    pub(crate) fn rules(&self, name: &str, rules: &str) {
        self.namespaces.rules(name, rules);
    }

    pub(crate) fn nat(&self, name: &str, external: &str, source: &str) {
        let source = source.replace("EXTERNAL", external);
        self.rules(
            name,
            &format!(
                "table ip nat4
                delete table ip nat4
                table ip nat4 {{
                    chain leave {{ type nat hook postrouting priority srcnat; {source}
                    }}
                    chain own {{ type filter hook input priority 0; iifname wan meta l4proto udp drop
                    }}
                }}"
            ),
        );
    }

    pub(crate) fn turn(&mut self) {
        let mut turn = self.inside("server", env!("CARGO_BIN_EXE_visavis"));
        turn.args(["turn", "--listen", "198.51.100.10:3478"])
            .args(["--tls-listen", "198.51.100.10:443"])
            .args(["--other-address", "198.51.100.11:3479"])
            .args(["--relay-ip", "198.51.100.10", "--user", "alice:secret"])
            .args(["--allow-peer", "198.51.100.0/23", "--workers", "1"])
            .args(["--ports", "50000-50999"]);
        self.serve(&mut turn, "health and metrics");
    }

    /// Keeps a server of ours, once it has said that it is ready.
    pub(crate) fn serve(&mut self, server: &mut Command, ready: &str) {
        let mut child = server
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("visavis starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let is_ready = lines.any(|line| line.is_ok_and(|line| line.starts_with(ready)));
        self.servers.push(child);
        assert!(is_ready, "{server:?} did not start");
    }

    /// Where two sides meet: `visavis serve`, with its relay at a port of its own or without one.
    pub(crate) fn rendezvous(&mut self, relay: bool) {
        let mut serve = self.inside("server", env!("CARGO_BIN_EXE_visavis"));
        serve.args(["serve", "--listen", "198.51.100.10:80", "--no-tls"]);
        serve.args(["--dev", "--turn", &relay.to_string(), "--turn-port", "3500"]);
        self.serve(&mut serve, "Visavis is ready");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in &mut self.servers {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(format!("/etc/netns/{}", self.name("home")));
    }
}

/// A lab, if there can be one.
pub(crate) fn lab() -> Option<Lab> {
    visavis_namespaces::are_there().then(Lab::new)
}
