//! Two homes behind kernel NATs and a server, in network namespaces that vanish with the value.
//!
//! ```text
//! left (192.168.1.10) -- natl [198.51.100.1] -- inet -- [198.51.100.2] natr -- right (192.168.2.10)
//!                                                |
//!                                         srv (198.51.100.10)
//! ```

#![allow(unreachable_pub, reason = "a module of a test")]

use std::process::{Child, Command, Stdio};

use visavis_namespaces::{Namespaces, Nat};

/// The namespaces; dropped, they are gone.
pub struct Lab {
    namespaces: Namespaces,
}

const NAMES: [&str; 6] = ["left", "natl", "inet", "natr", "right", "srv"];

impl Lab {
    pub fn new(left: Nat, right: Nat) -> Self {
        let namespaces = Namespaces::new(&NAMES);
        namespaces.ip("inet", "link add br0 type bridge");
        namespaces.ip("inet", "link set br0 up");
        for (name, last) in [("natl", 1), ("natr", 2), ("srv", 10)] {
            let port = format!("v-{name}");
            namespaces.wire([name, "wan"], ["inet", &port]);
            namespaces.ip("inet", &format!("link set {port} master br0"));
            namespaces.ip(name, &format!("addr add 198.51.100.{last}/24 dev wan"));
        }
        for (host, router, net, nat) in [("left", "natl", 1, left), ("right", "natr", 2, right)] {
            namespaces.wire([host, "lan"], [router, "lan"]);
            namespaces.ip(router, &format!("addr add 192.168.{net}.1/24 dev lan"));
            namespaces.ip(host, &format!("addr add 192.168.{net}.10/24 dev lan"));
            namespaces.ip(host, &format!("route add default via 192.168.{net}.1"));
            namespaces.forward(router);
            namespaces.nat(router, nat, &format!("198.51.100.{net}"));
        }
        Self { namespaces }
    }

    /// Starts a program in a namespace, its standard streams piped.
    pub fn start(&self, name: &str, program: &std::path::Path, test: &str, role: &str) -> Child {
        self.namespaces
            .command(name, program)
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(super::ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("`ip netns exec` worked before")
    }

    /// The left NAT gets another external address, as home routers do at night: what it had translated is forgotten,
    /// and what the host sends next comes from the new one.
    pub fn rebind_left(&self) {
        self.namespaces
            .ip("natl", "addr add 198.51.100.3/24 dev wan");
        self.namespaces
            .ip("natl", "addr del 198.51.100.1/24 dev wan");
        // An interface's other addresses of a network go with its first.
        let natl = self.namespaces.name("natl");
        let again = "addr add 198.51.100.3/24 dev wan".split(' ');
        let _ = Command::new("ip")
            .args(["-n", &natl])
            .args(again)
            .stderr(Stdio::null())
            .status();
    }
}
