//! Network namespaces of this kernel, for tests and tables that want real sockets: hosts, wires between them, NATs. What stands in
//! them is their user's. They need root, iproute2 and nftables.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Whether tests are to have namespaces; if not, says why. Fails if `VISAVIS_LAB` is `required` and there can be none.
///
/// # Panics
/// As it says.
#[allow(clippy::print_stderr, reason = "a test says why it did nothing")]
pub fn are_there() -> bool {
    static MISSING: OnceLock<Option<&str>> = OnceLock::new();
    let Some(reason) = *MISSING.get_or_init(missing) else {
        return true;
    };
    let required = std::env::var("VISAVIS_LAB").is_ok_and(|value| value == "required");
    assert!(!required, "{reason}");
    eprintln!("skipped: {reason}");
    false
}

/// Why there can be no namespaces here; `None` if there can.
fn missing() -> Option<&'static str> {
    let works = |arguments: &[&str]| {
        Command::new("ip")
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let name = format!("vis{}-probe", std::process::id());
    if !works(&["netns", "add", &name]) {
        return Some("cannot make network namespaces (not root, or no `ip`)");
    }
    let nft = works(&["netns", "exec", &name, "nft", "add table ip probe"]);
    let pair = "link add one type veth peer name two".split(' ');
    let pair: Vec<&str> = ["-n", &name].into_iter().chain(pair).collect();
    let veth = works(&pair);
    works(&["netns", "del", &name]);
    match (nft, veth) {
        (false, _) => Some("nftables does not work in a namespace"),
        (_, false) => Some("no veth devices in this kernel"),
        _ => None,
    }
}

/// What a NAT does, as nftables can be made to show it (RFC 4787).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nat {
    /// Endpoint-independent mapping and filtering.
    FullCone,
    /// Endpoint-independent mapping, filtering by address and port: plain masquerading, which is forgotten when the address goes.
    PortRestricted,
    /// Address and port-dependent mapping and filtering.
    Symmetric,
}

/// Some namespaces; dropped, they are gone. Whatever fails in them panics with the command that did.
#[derive(Debug)]
pub struct Namespaces {
    prefix: String,
    names: Vec<String>,
}

impl Namespaces {
    /// Makes namespaces that are known by these names here, each with its loopback interface up.
    pub fn new(names: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut made = Self {
            prefix: format!("vis{}-{number}-", std::process::id()),
            names: Vec::new(),
        };
        for name in names {
            run(Command::new("ip").args(["netns", "add", &made.name(name)]));
            made.names.push((*name).to_owned());
            made.ip(name, "link set lo up");
        }
        made
    }

    /// What the system calls it.
    pub fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A program in a namespace, not yet started.
    pub fn command(&self, name: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(name)]);
        command.arg(program);
        command
    }

    /// Runs `ip` for a namespace; words are parted by single spaces.
    pub fn ip(&self, name: &str, arguments: &str) {
        run(Command::new("ip")
            .args(["-n", &self.name(name)])
            .args(arguments.split(' ')));
    }

    /// Lets a namespace forward IPv4.
    pub fn forward(&self, name: &str) {
        run(self
            .command(name, "sysctl")
            .args(["-qw", "net.ipv4.ip_forward=1"]));
    }

    /// A wire between two namespaces, up at both ends, which are named.
    pub fn wire(&self, [a, a_device]: [&str; 2], [b, b_device]: [&str; 2]) {
        run(Command::new("ip")
            .args(["-n", &self.name(a), "link", "add", a_device, "type", "veth"])
            .args(["peer", "name", b_device, "netns", &self.name(b)]));
        self.ip(a, &format!("link set {a_device} up"));
        self.ip(b, &format!("link set {b_device} up"));
    }

    /// Gives nftables these rules.
    pub fn rules(&self, name: &str, rules: &str) {
        let mut nft = self
            .command(name, "nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("nft is there");
        let mut input = nft.stdin.take().expect("piped");
        input.write_all(rules.as_bytes()).expect("nft reads");
        drop(input);
        assert!(nft.wait().expect("nft ends").success(), "{rules}");
    }

    /// Makes a NAT of a router, with this address on its device `wan`. What is forwarded there without a mapping is dropped,
    /// and so is what is for the router itself.
    pub fn nat(&self, name: &str, nat: Nat, external: &str) {
        let into = format!(
            "iifname wan ip daddr {external} meta l4proto udp dnat ip to udp dport map @outer"
        );
        let learn =
            "oifname wan meta l4proto udp update @outer { udp sport : ip saddr . udp sport }";
        let filter = "iifname wan ct direction original drop";
        let symmetric = format!(
            "oifname wan meta l4proto udp snat ip to {external}:jhash ip saddr . udp sport . ip daddr . udp dport mod 40000 seed 7 offset 20000"
        );
        let (learn, filter, enter, source) = match nat {
            Nat::FullCone => (learn, "", into.as_str(), ""),
            Nat::PortRestricted => ("", filter, "", ""),
            Nat::Symmetric => ("", filter, "", symmetric.as_str()),
        };
        let rest = match nat {
            Nat::PortRestricted => "masquerade".to_owned(),
            _ => format!("snat ip to {external}"),
        };
        self.rules(
            name,
            &format!(
                "table ip nat4 {{
                    map outer {{ type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout 60s; size 4096; }}
                    chain forward {{ type filter hook forward priority 0; {learn}
                        {filter}
                    }}
                    chain enter {{ type nat hook prerouting priority dstnat; {enter}
                    }}
                    chain leave {{ type nat hook postrouting priority srcnat; {source}
                        oifname wan {rest}
                    }}
                    chain own {{ type filter hook input priority 0; iifname wan meta l4proto udp drop
                    }}
                }}"
            ),
        );
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip")
                .args(["netns", "del", &self.name(name)])
                .status();
        }
    }
}

/// Runs a command to its end, which must be a good one.
///
/// # Panics
/// If it is not.
#[track_caller]
fn run(command: &mut Command) {
    let output = command.output();
    let well = output.as_ref().is_ok_and(|output| output.status.success());
    assert!(well, "{command:?}: {output:?}");
}
