//! `visavis turn` as a process, as an operator runs it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub use interop_common::binary;

use crate::free_port;

/// The user that the server knows, and the password.
pub const USER: (&str, &str) = ("alice", "correct-horse");

/// A running server. It ends when this is dropped.
pub struct Service {
    child: Child,
    /// Where it is reached over UDP, TCP and DTLS.
    pub plain: SocketAddr,
    /// Where it is reached over TLS and DTLS.
    pub secure: SocketAddr,
    admin: SocketAddr,
}

impl Service {
    /// Starts a server on an address of this host, with more arguments.
    pub fn start(ip: IpAddr, arguments: &[&str]) -> Self {
        Self::start_at(
            SocketAddr::new(ip, free_port()),
            SocketAddr::new(ip, free_port()),
            arguments,
        )
    }

    /// Starts a server where the caller wants it.
    pub fn start_at(plain: SocketAddr, secure: SocketAddr, arguments: &[&str]) -> Self {
        let mut command = command(plain, secure, arguments);
        command.args(["--admin-token", "token"]);
        Self::spawn(command, plain, secure)
    }

    /// Starts a server whose operator chose no token.
    pub fn start_without_token(ip: IpAddr) -> Self {
        let (plain, secure) = (free_port(), free_port());
        let (plain, secure) = (SocketAddr::new(ip, plain), SocketAddr::new(ip, secure));
        Self::spawn(command(plain, secure, &[]), plain, secure)
    }

    /// Starts a server that has everything but its addresses from a file.
    pub fn start_with_config(ip: IpAddr, config: &Path) -> Self {
        let (plain, secure) = (free_port(), free_port());
        let (plain, secure) = (SocketAddr::new(ip, plain), SocketAddr::new(ip, secure));
        let mut command = anybody(plain, secure);
        command.arg("--config").arg(config);
        command.args(["--admin-token", "token"]);
        Self::spawn(command, plain, secure)
    }

    /// Starts a server that writes its log to a file.
    pub fn start_with_log(ip: IpAddr, arguments: &[&str], log: &Path) -> Self {
        let (plain, secure) = (free_port(), free_port());
        let (plain, secure) = (SocketAddr::new(ip, plain), SocketAddr::new(ip, secure));
        let mut command = command(plain, secure, arguments);
        command.args(["--admin-token", "token"]);
        command.stderr(File::create(log).expect("a file"));
        Self::spawn(command, plain, secure)
    }

    fn spawn(mut command: Command, plain: SocketAddr, secure: SocketAddr) -> Self {
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut child = command
            .args(["--admin", &admin.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("visavis starts");
        // It says where it listens once everything is bound.
        let output = child.stdout.take().expect("its output");
        let mut lines = BufReader::new(output).lines();
        let ready = lines.any(|line| line.is_ok_and(|line| line.starts_with("health and metrics")));
        assert!(ready, "visavis turn did not start");
        // Nobody reads on, and nothing more is written there.
        Self {
            child,
            plain,
            secure,
            admin,
        }
    }

    /// A counter, summed over the workers.
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics");
        let of_name = |line: &&str| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        };
        let value = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
        text.lines().filter(of_name).filter_map(value).sum()
    }

    /// Asks the admin interface.
    pub fn get(&self, path: &str) -> String {
        self.request("GET", path, "token")
    }

    /// Asks the admin interface by a method, with a token: the whole response.
    pub fn request(&self, method: &str, path: &str, token: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).expect("the admin interface");
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
        )
        .expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        text
    }

    /// Sends a signal: `HUP`, `TERM`, `KILL`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .expect("kill");
        assert!(status.success());
    }

    /// Its resident memory in bytes.
    pub fn resident(&self) -> usize {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("a living process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
        kilobytes.expect("VmRSS") << 10
    }

    /// Waits for its end.
    pub fn wait(mut self) -> std::process::ExitStatus {
        self.child.wait().expect("its end")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where it listens and relays.
fn anybody(plain: SocketAddr, secure: SocketAddr) -> Command {
    let mut command = Command::new(binary());
    command
        .arg("turn")
        .args(["--listen", &plain.to_string()])
        .args(["--tls-listen", &secure.to_string()])
        .args(["--relay-ip", &plain.ip().to_string()]);
    command
}

fn command(plain: SocketAddr, secure: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = anybody(plain, secure);
    command
        .args(["--user", &format!("{}:{}", USER.0, USER.1)])
        .args(arguments);
    command
}
