//! Real sockets around the TURN client and the server's core, for tests against coturn (Debian packages `coturn`).
//!
//! Threads block on sockets and hand what arrives to one channel; a test owns the state machines and waits on it.

pub mod authority;
pub mod client;
pub mod coturn;
pub mod driver;
pub mod link;
pub mod pebble;
pub mod service;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;

/// A program of this host.
pub fn installed(name: &str) -> Option<PathBuf> {
    std::env::var_os("PATH")
        .into_iter()
        .flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>())
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// A program of the Debian package `coturn`; `None`, and a word on it, where it is not installed.
pub fn program(name: &str) -> Option<PathBuf> {
    let found = installed(name);
    if found.is_none() {
        interop_common::skip(&format!("{name} is not installed (Debian package coturn)"));
    }
    found
}

/// A port of 127.0.0.1 that nobody has, for UDP and TCP.
pub fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a TCP port");
        let port = tcp.local_addr().expect("its address").port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A socket address.
pub fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}
