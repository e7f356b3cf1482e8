//! Two homes, their NATs and a server in network namespaces; between the first NAT and everything else stands the emulated link, so
//! that the ways from home to home cross it once, whether they lead over the server's relay or not.
//!
//! ```text
//! left (192.168.1.10) -- natl [198.51.100.1] ==link== core -- [203.0.113.2] natr -- right (192.168.2.10)
//!                                                      |
//!                                               srv (192.0.2.10)
//! ```

use std::io::Write;
use std::process::{Command, Stdio};

use crate::link::{Link, Shape};

/// What stands at the edge of a home. The mappings and filters are RFC 4787's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A router; the home's addresses are reachable.
    Routed,
    /// Endpoint-independent mapping and filtering.
    FullCone,
    /// Endpoint-independent mapping, address and port-dependent filtering.
    PortRestricted,
    /// Address and port-dependent mapping and filtering.
    Symmetric,
}

impl Kind {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Routed => "none",
            Self::FullCone => "full cone",
            Self::PortRestricted => "port-restricted",
            Self::Symmetric => "symmetric",
        }
    }
}

const NAMES: [&str; 6] = ["left", "natl", "core", "natr", "right", "srv"];
/// The server's address.
pub(crate) const SERVER: &str = "192.0.2.10";
/// Where the right home is, where nothing translates.
pub(crate) const RIGHT: &str = "192.168.2.10";

/// The namespaces; dropped, they are gone.
pub(crate) struct Lab {
    prefix: String,
    pub(crate) link: Link,
}

impl Lab {
    pub(crate) fn new(left: Kind, right: Kind, shape: Shape, seed: u64) -> Self {
        let prefix = format!("vt{}-", std::process::id());
        for name in NAMES {
            run("ip", &["netns", "add", &format!("{prefix}{name}")]);
        }
        let devices = [format!("{prefix}w"), format!("{prefix}e")];
        let devices = devices.each_ref().map(String::as_str);
        let link = Link::new(devices, shape, seed).expect("TUN devices (/dev/net/tun)");
        let lab = Self { prefix, link };
        for (device, namespace, name) in [(devices[0], "natl", "wan"), (devices[1], "core", "west")]
        {
            let namespace = lab.name(namespace);
            run(
                "ip",
                &["link", "set", device, "netns", &namespace, "name", name],
            );
        }
        for name in NAMES {
            lab.ip(name, "link set lo up");
        }
        for router in ["natl", "core", "natr"] {
            lab.run(router, "sysctl -qw net.ipv4.ip_forward=1");
        }
        lab.ip("natl", "addr add 198.51.100.1/32 dev wan");
        lab.ip("natl", "link set wan up");
        lab.ip("natl", "route add default dev wan");
        lab.ip("core", "link set west up");
        lab.ip("core", "route add 198.51.100.0/24 dev west");
        for (name, net, last) in [("natr", "203.0.113", 2), ("srv", "192.0.2", 10)] {
            lab.wire(name, "wan", "core", &format!("v-{name}"));
            lab.ip("core", &format!("addr add {net}.254/24 dev v-{name}"));
            lab.ip(name, &format!("addr add {net}.{last}/24 dev wan"));
            lab.ip(name, &format!("route add default via {net}.254"));
        }
        for (host, nat, net) in [("left", "natl", 1), ("right", "natr", 2)] {
            lab.wire(host, "lan", nat, "lan");
            lab.ip(nat, &format!("addr add 192.168.{net}.1/24 dev lan"));
            lab.ip(host, &format!("addr add 192.168.{net}.10/24 dev lan"));
            lab.ip(host, &format!("route add default via 192.168.{net}.1"));
        }
        lab.edge("natl", left, "198.51.100.1");
        lab.edge("natr", right, "203.0.113.2");
        if left == Kind::Routed {
            lab.ip("core", "route add 192.168.1.0/24 dev west");
        }
        if right == Kind::Routed {
            lab.ip("core", "route add 192.168.2.0/24 via 203.0.113.2");
        }
        lab
    }

    /// Makes a second way out for the left home, by another interface and another address.
    pub(crate) fn second_interface(&self) {
        self.wire("left", "wifi", "natl", "wifi");
        self.ip("natl", "addr add 192.168.3.1/24 dev wifi");
    }

    /// Takes the left home's interface away and gives it the second one, as who leaves the cable for the wireless network.
    pub(crate) fn move_left(&self) {
        self.ip("left", "link del lan");
        self.ip("left", "addr add 192.168.3.10/24 dev wifi");
        self.ip("left", "route add default via 192.168.3.1");
    }

    /// What TCP uses that leaves the left home. By its route, since namespaces may not choose every one for themselves.
    pub(crate) fn congestion_control(&self, name: &str) {
        let route = format!("route replace default via 192.168.1.1 congctl {name}");
        self.ip("left", &route);
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A command that runs in a namespace.
    pub(crate) fn inside(&self, name: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(name), program]);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command in a namespace, to its end.
    fn run(&self, name: &str, command: &str) {
        let mut arguments = vec!["netns", "exec"];
        let namespace = self.name(name);
        arguments.push(&namespace);
        arguments.extend(command.split(' '));
        run("ip", &arguments);
    }

    fn ip(&self, name: &str, command: &str) {
        let namespace = self.name(name);
        let mut arguments = vec!["-n", &namespace];
        arguments.extend(command.split(' '));
        run("ip", &arguments);
    }

    fn wire(&self, a: &str, a_device: &str, b: &str, b_device: &str) {
        let (a_name, b_name) = (self.name(a), self.name(b));
        let mut arguments = vec!["-n", &a_name, "link", "add", a_device, "type", "veth"];
        arguments.extend(["peer", "name", b_device, "netns", &b_name]);
        run("ip", &arguments);
        self.ip(a, &format!("link set {a_device} up"));
        self.ip(b, &format!("link set {b_device} up"));
    }

    fn edge(&self, name: &str, kind: Kind, external: &str) {
        let symmetric = format!(
            "oifname wan meta l4proto udp snat ip to {external}:jhash ip saddr . udp sport . ip daddr . udp dport mod 40000 seed 7 offset 20000"
        );
        let into = format!(
            "iifname wan ip daddr {external} meta l4proto udp dnat ip to udp dport map @outer"
        );
        let learn =
            "oifname wan meta l4proto udp update @outer { udp sport : ip saddr . udp sport }";
        let filter = "iifname wan ct direction original drop";
        let (source, learn, enter, filter) = match kind {
            Kind::Routed => return,
            Kind::FullCone => ("", learn, into.as_str(), ""),
            Kind::PortRestricted => ("", "", "", filter),
            Kind::Symmetric => (symmetric.as_str(), "", "", filter),
        };
        let rules = format!(
            "table ip nat4 {{
                map outer {{ type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout 60s; size 4096; }}
                chain forward {{ type filter hook forward priority 0; {learn}
                    {filter}
                }}
                chain enter {{ type nat hook prerouting priority dstnat; {enter}
                }}
                chain leave {{ type nat hook postrouting priority srcnat; {source}
                    oifname wan snat ip to {external}
                }}
                chain own {{ type filter hook input priority 0; iifname wan meta l4proto udp drop
                }}
            }}"
        );
        let mut nft = self
            .inside(name, "nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("nft");
        let mut input = nft.stdin.take().expect("piped");
        input.write_all(rules.as_bytes()).expect("nft reads");
        drop(input);
        assert!(nft.wait().expect("nft ends").success(), "{rules}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in NAMES {
            let _ = Command::new("ip")
                .args(["netns", "del", &self.name(name)])
                .status();
        }
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    let well = status.is_ok_and(|status| status.success());
    assert!(
        well,
        "{program} {arguments:?} failed (it needs root, iproute2 and nftables)"
    );
}
