//! The servers that are measured, each with one thread on core 0.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, USER};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Visavis,
    Coturn,
    /// The crate `turn-server`: it relays among its own clients alone.
    TurnServer,
    /// A bare loop with GRO and GSO.
    Offload,
    /// A bare loop with recvmmsg and sendmmsg.
    Batches,
}

pub struct Server {
    pub kind: Kind,
    pub name: String,
    program: PathBuf,
}

/// Ours, the bare loops, and of the others those that are there: coturn's of the system, and the programs that were named.
pub fn all(coturns: &[String], turn_server: Option<&String>) -> Vec<Server> {
    let own = std::env::current_exe().expect("this program");
    // Beside this one: they share a target folder.
    let visavis = std::env::var_os("VISAVIS_BINARY")
        .map_or_else(|| own.with_file_name("visavis"), PathBuf::from);
    let server = |kind, name: &str, program: &Path| Server {
        kind,
        name: name.to_owned(),
        program: program.to_owned(),
    };
    let mut all = vec![server(Kind::Visavis, "visavis", &visavis)];
    for program in std::iter::once("turnserver").chain(coturns.iter().map(String::as_str)) {
        let program = Path::new(program);
        if let Some(version) = version(program, "--version") {
            all.push(server(Kind::Coturn, &format!("coturn {version}"), program));
        }
    }
    if let Some(program) = turn_server.map(Path::new) {
        let version = version(program, "--version").unwrap_or_default();
        all.push(server(
            Kind::TurnServer,
            &format!("turn-server {version}"),
            program,
        ));
    }
    all.push(server(Kind::Offload, "bare GRO+GSO", &own));
    all.push(server(Kind::Batches, "bare mmsg", &own));
    all
}

/// The first word of a program's answer that begins with a digit.
fn version(program: &Path, flag: &str) -> Option<String> {
    let output = Command::new(program).arg(flag).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.split_whitespace();
    words
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
        .map(str::to_owned)
}

impl Server {
    /// Starts it on a free port and waits until it allocates.
    pub fn start(&self) -> Option<Running> {
        let port = free_port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(&self.program);
        let user = format!("{}:{}", USER.0, USER.1);
        let mut file = None;
        match self.kind {
            // As they come, but for what a load from one address of loopback meets: limits for each source, forbidden peers.
            Kind::Visavis => {
                command.arg("turn").args(["--listen", &address.to_string()]);
                command.args("--tls-listen none --relay-ip 127.0.0.1".split(' '));
                command.args("--allow-peer 127.0.0.0/8 --workers 1".split(' '));
                command.args("--user-allocations 100000".split(' '));
                command.args("--address-allocations 100000".split(' '));
                command.args("--address-connections 10000".split(' '));
                command.args("--challenges 1000000 --admin none --log error".split(' '));
                command.args(["--user", &user]);
            }
            Kind::Coturn => {
                command.args("-n --listening-ip 127.0.0.1 --relay-ip 127.0.0.1".split(' '));
                command.args("--allow-loopback-peers --no-tls --no-dtls --no-cli".split(' '));
                command.args("--lt-cred-mech -m 1 --realm bench".split(' '));
                command.args("--log-file /dev/null --simple-log --pidfile /dev/null".split(' '));
                command.args(["--listening-port", &port.to_string(), "--user", &user]);
            }
            Kind::TurnServer => {
                let path = std::env::temp_dir().join(format!("turn-bench-{port}.toml"));
                let interface = |transport| {
                    format!(
                        "[[server.interfaces]]\ntransport = \"{transport}\"\nlisten = \"{address}\"\n\
                         external = \"{address}\"\nidle-timeout = 600\n"
                    )
                };
                let text = format!(
                    "[server]\nrealm = \"bench\"\nmax-threads = 1\n{}{}[log]\nlevel = \"error\"\nstdout = false\n\
                     [auth.static-credentials]\n{} = \"{}\"\n",
                    interface("udp"),
                    interface("tcp"),
                    USER.0,
                    USER.1
                );
                std::fs::write(&path, text).ok()?;
                command.arg("--config").arg(&path);
                file = Some(path);
            }
            Kind::Offload => {
                command.args(["floor", "offload", &address.to_string()]);
            }
            Kind::Batches => {
                command.args(["floor", "batches", &address.to_string()]);
            }
        }
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut running = Running {
            child,
            address,
            file,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if let Ok(mut client) = Client::allocate(address, false) {
                client.free();
                return Some(running);
            }
            if running.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        eprintln!("{}: it does not start, or does not allocate", self.name);
        None
    }
}

/// A server that ends when this is dropped.
pub struct Running {
    child: Child,
    pub address: SocketAddr,
    file: Option<PathBuf>,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(file) = &self.file {
            let _ = std::fs::remove_file(file);
        }
    }
}

fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = tcp.local_addr().expect("its address").port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
