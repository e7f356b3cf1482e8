//! Two homes behind kernel NATs and a server, in network namespaces that vanish with the value.
//!
//! ```text
//! left (192.168.1.10) -- natl [198.51.100.1] -- inet -- [198.51.100.2] natr -- right (192.168.2.10)
//!                                                |
//!                                         srv (198.51.100.10)
//! ```

#![allow(unreachable_pub, reason = "a module of a test")]

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Behaviour of a NAT, as nftables can be made to show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Endpoint-independent mapping and filtering.
    FullCone,
    /// Endpoint-independent mapping, filtering by address and port: plain masquerading.
    PortRestricted,
    /// Another port for each destination, filtering by address and port.
    Symmetric,
}

/// The namespaces; dropped, they are gone.
pub struct Lab {
    prefix: String,
}

const NAMES: [&str; 6] = ["left", "natl", "inet", "natr", "right", "srv"];

/// Why there can be no lab here; `None` if there can.
pub fn missing() -> Option<String> {
    let works = |program: &str, arguments: &[&str]| {
        Command::new(program)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    // Tests of one program run side by side.
    static PROBES: AtomicU32 = AtomicU32::new(0);
    let probe = PROBES.fetch_add(1, Ordering::Relaxed);
    let name = format!("vv{}-probe{probe}", std::process::id());
    if !works("ip", &["netns", "add", &name]) {
        return Some("cannot make network namespaces (not root, or no `ip`)".into());
    }
    let nft = works("ip", &["netns", "exec", &name, "nft", "add table ip probe"]);
    let veth = works(
        "ip",
        &[
            "-n", &name, "link", "add", "one", "type", "veth", "peer", "name", "two",
        ],
    );
    works("ip", &["netns", "del", &name]);
    match (nft, veth) {
        (false, _) => Some("nftables does not work in a namespace".into()),
        (_, false) => Some("no veth devices in this kernel".into()),
        _ => None,
    }
}

impl Lab {
    pub fn new(left: Kind, right: Kind, number: u32) -> Self {
        let lab = Self {
            prefix: format!("vv{}-{number}-", std::process::id()),
        };
        for name in NAMES {
            run("ip", &["netns", "add", &lab.name(name)]);
            lab.ip(name, "link set lo up");
        }
        lab.ip("inet", "link add br0 type bridge");
        lab.ip("inet", "link set br0 up");
        for (name, last) in [("natl", 1), ("natr", 2), ("srv", 10)] {
            lab.wire(name, "wan", "inet", &format!("v-{name}"));
            lab.ip("inet", &format!("link set v-{name} master br0"));
            lab.ip(name, &format!("addr add 198.51.100.{last}/24 dev wan"));
        }
        for (host, nat, net, kind) in [("left", "natl", 1, left), ("right", "natr", 2, right)] {
            lab.wire(host, "lan", nat, "lan");
            lab.ip(nat, &format!("addr add 192.168.{net}.1/24 dev lan"));
            lab.ip(host, &format!("addr add 192.168.{net}.10/24 dev lan"));
            lab.ip(host, &format!("route add default via 192.168.{net}.1"));
            let nat = lab.name(nat);
            run(
                "ip",
                &[
                    "netns",
                    "exec",
                    &nat,
                    "sysctl",
                    "-qw",
                    "net.ipv4.ip_forward=1",
                ],
            );
            lab.rules(&nat, kind, &format!("198.51.100.{net}"));
        }
        lab
    }

    /// Starts a program in a namespace, its standard streams piped.
    pub fn start(&self, name: &str, program: &std::path::Path, test: &str, role: &str) -> Child {
        Command::new("ip")
            .args(["netns", "exec", &self.name(name)])
            .arg(program)
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
        self.ip("natl", "addr add 198.51.100.3/24 dev wan");
        self.ip("natl", "addr del 198.51.100.1/24 dev wan");
        // An interface's other addresses of a network go with its first.
        let namespace = self.name("natl");
        let _ = Command::new("ip")
            .args([
                "-n",
                &namespace,
                "addr",
                "add",
                "198.51.100.3/24",
                "dev",
                "wan",
            ])
            .stderr(Stdio::null())
            .status();
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn ip(&self, name: &str, command: &str) {
        let namespace = self.name(name);
        let mut arguments = vec!["-n", &namespace];
        arguments.extend(command.split(' '));
        run("ip", &arguments);
    }

    /// A wire between two namespaces.
    fn wire(&self, a: &str, a_device: &str, b: &str, b_device: &str) {
        let (a_name, b_name) = (self.name(a), self.name(b));
        let peer = ["peer", "name", b_device, "netns", &b_name];
        let mut arguments = vec!["-n", &a_name, "link", "add", a_device, "type", "veth"];
        arguments.extend(peer);
        run("ip", &arguments);
        self.ip(a, &format!("link set {a_device} up"));
        self.ip(b, &format!("link set {b_device} up"));
    }

    fn rules(&self, namespace: &str, kind: Kind, external: &str) {
        let filter = match kind {
            Kind::FullCone => "",
            _ => "iifname wan ct direction original drop",
        };
        let (learn, enter) = match kind {
            Kind::FullCone => (
                "oifname wan meta l4proto udp update @outer { udp sport : ip saddr . udp sport }"
                    .to_owned(),
                format!(
                    "iifname wan ip daddr {external} meta l4proto udp dnat ip to udp dport map @outer"
                ),
            ),
            _ => (String::new(), String::new()),
        };
        let source = match kind {
            Kind::Symmetric => format!(
                "oifname wan meta l4proto udp snat ip to {external}:jhash ip saddr . udp sport . ip daddr . udp dport mod 40000 seed 7 offset 20000"
            ),
            _ => String::new(),
        };
        // The kernel forgets what it masqueraded when the address goes.
        let rest = match kind {
            Kind::PortRestricted => "masquerade".to_owned(),
            _ => format!("snat ip to {external}"),
        };
        let rules = format!(
            "table ip nat4 {{
                map outer {{ type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout 60s; size 4096; }}
                chain forward {{ type filter hook forward priority 0; policy accept; {learn}
                    {filter}
                }}
                chain enter {{ type nat hook prerouting priority dstnat; {enter}
                }}
                chain leave {{ type nat hook postrouting priority srcnat; {source}
                    oifname wan {rest}
                }}
                chain own {{ type filter hook input priority 0; policy accept; iifname wan meta l4proto udp drop
                }}
            }}"
        );
        let mut nft = Command::new("ip")
            .args(["netns", "exec", namespace, "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("nft worked before");
        nft.stdin
            .take()
            .expect("piped")
            .write_all(rules.as_bytes())
            .expect("nft reads");
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
    let status = Command::new(program)
        .args(arguments)
        .status()
        .expect("the program is there");
    assert!(status.success(), "{program} {arguments:?}");
}
