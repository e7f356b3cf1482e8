//! Two homes, their NATs and a server in network namespaces; between the first NAT and everything else stands the emulated link, so
//! that the ways from home to home cross it once, whether they lead over the server's relay or not.
//!
//! ```text
//! left (192.168.1.10) -- natl [198.51.100.1] ==link== core -- [203.0.113.2] natr -- right (192.168.2.10)
//!                                                      |
//!                                               srv (192.0.2.10)
//! ```

use std::process::{Command, Stdio};

use visavis_namespaces::{Namespaces, Nat};

use crate::link::{Link, Shape};

/// What stands at the edge of a home. `None`: a router; the home's addresses are reachable.
pub(crate) type Kind = Option<Nat>;

pub(crate) fn words(kind: Kind) -> &'static str {
    match kind {
        None => "none",
        Some(Nat::FullCone) => "full cone",
        Some(Nat::PortRestricted) => "port-restricted",
        Some(Nat::Symmetric) => "symmetric",
    }
}

const NAMES: [&str; 6] = ["left", "natl", "core", "natr", "right", "srv"];
/// The server's address.
pub(crate) const SERVER: &str = "192.0.2.10";
/// Where the right home is, where nothing translates.
pub(crate) const RIGHT: &str = "192.168.2.10";

/// The namespaces; dropped, they are gone.
pub(crate) struct Lab {
    namespaces: Namespaces,
    pub(crate) link: Link,
}

impl Lab {
    pub(crate) fn new(left: Kind, right: Kind, shape: Shape, seed: u64) -> Self {
        let namespaces = Namespaces::new(&NAMES);
        // A device's name has 15 characters at most.
        let devices = ["w", "e"].map(|end| namespaces.name(end));
        let devices = devices.each_ref().map(String::as_str);
        let link = Link::new(devices, shape, seed).expect("TUN devices (/dev/net/tun)");
        let lab = Self { namespaces, link };
        for (device, namespace, name) in [(devices[0], "natl", "wan"), (devices[1], "core", "west")]
        {
            let namespace = lab.namespaces.name(namespace);
            let moved = Command::new("ip")
                .args(["link", "set", device, "netns", &namespace, "name", name])
                .status();
            assert!(moved.is_ok_and(|status| status.success()), "{device}");
        }
        for router in ["natl", "core", "natr"] {
            lab.namespaces.forward(router);
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
        match left {
            Some(nat) => lab.namespaces.nat("natl", nat, "198.51.100.1"),
            None => lab.ip("core", "route add 192.168.1.0/24 dev west"),
        }
        match right {
            Some(nat) => lab.namespaces.nat("natr", nat, "203.0.113.2"),
            None => lab.ip("core", "route add 192.168.2.0/24 via 203.0.113.2"),
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

    /// A command that runs in a namespace.
    pub(crate) fn inside(&self, name: &str, program: &str) -> Command {
        let mut command = self.namespaces.command(name, program);
        command.stdin(Stdio::null());
        command
    }

    fn ip(&self, name: &str, command: &str) {
        self.namespaces.ip(name, command);
    }

    fn wire(&self, a: &str, a_device: &str, b: &str, b_device: &str) {
        self.namespaces.wire([a, a_device], [b, b_device]);
    }
}
