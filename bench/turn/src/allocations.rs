//! What an allocation costs: clients ask for them side by side, as many at once as a busy server sees.

use std::io;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Answer, Session};
use crate::load::{cpu_of, resident};
use crate::servers::Server;

/// Clients that wait for an answer at a time.
const WINDOW: usize = 64;
/// When a request that was not answered is sent again.
const AGAIN: Duration = Duration::from_millis(200);

/// What one allocation costs a server.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// CPU time in µs.
    pub micros: f64,
    /// Resident memory in bytes.
    pub bytes: f64,
    /// Allocations per second of real time, of a server and a generator with a core each.
    pub per_second: f64,
}

struct Asking {
    socket: UdpSocket,
    session: Session,
    sent: Instant,
}

/// Makes so many allocations and keeps them. `None` where the server does not start or refuses.
pub fn measure(server: &Server, count: usize) -> Option<Cost> {
    let running = server.start()?;
    let pid = running.pid();
    // Those that are made live until the measuring has ended. The first ones fill caches and pools.
    let mut kept = Vec::new();
    let result = make(running.address, 200, &mut kept).and_then(|()| {
        let (cpu, memory, begun) = (cpu_of(pid), resident(pid), Instant::now());
        make(running.address, count, &mut kept)?;
        let made = count as f64;
        Ok(Cost {
            micros: (cpu_of(pid) - cpu) as f64 / 1000.0 / made,
            bytes: resident(pid).saturating_sub(memory) as f64 / made,
            per_second: made / begun.elapsed().as_secs_f64(),
        })
    });
    match result {
        Ok(cost) => Some(cost),
        Err(error) => {
            eprintln!("{}: allocations: {error}", server.name);
            None
        }
    }
}

fn make(address: std::net::SocketAddr, count: usize, kept: &mut Vec<UdpSocket>) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let wanted = kept.len() + count;
    let mut asking: Vec<Asking> = Vec::new();
    let mut buffer = [0; 2048];
    while kept.len() < wanted {
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        while asking.len() < WINDOW && kept.len() + asking.len() < wanted {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(address)?;
            socket.set_nonblocking(true)?;
            let mut one = Asking {
                socket,
                session: Session::default(),
                sent: Instant::now(),
            };
            one.ask()?;
            asking.push(one);
        }
        let mut idle = true;
        let mut at = 0;
        while let Some(one) = asking.get_mut(at) {
            if let Ok(len) = one.socket.recv(&mut buffer) {
                idle = false;
                match one.session.read(&buffer[..len]) {
                    Answer::Success(_) => {
                        kept.push(asking.swap_remove(at).socket);
                        continue;
                    }
                    Answer::Challenge => one.ask()?,
                    Answer::Refused => return Err(io::Error::other("refused")),
                    Answer::Another => {}
                }
            } else if one.sent.elapsed() > AGAIN {
                one.ask()?;
            }
            at += 1;
        }
        if idle {
            // The generator must not take the processor from the server that it measures.
            thread::sleep(Duration::from_micros(50));
        }
    }
    Ok(())
}

impl Asking {
    fn ask(&mut self) -> io::Result<()> {
        let mut buffer = [0; 512];
        let len = self.session.allocate(&mut buffer);
        self.sent = Instant::now();
        self.socket.send(&buffer[..len]).map(drop)
    }
}
