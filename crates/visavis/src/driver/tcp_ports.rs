//! The TCP ports of an endpoint, on which peers connect (RFC 6544 passive): one per address, each with a task
//! that accepts.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use visavis_net::tcp::{TcpPort, TcpPortOptions};

use super::Note;

/// All TCP ports.
pub(super) struct TcpPorts {
    ports: Vec<(SocketAddr, AbortHandle)>,
    notes: mpsc::Sender<Note>,
}

impl Drop for TcpPorts {
    fn drop(&mut self) {
        self.ports.iter().for_each(|(_, task)| task.abort());
    }
}

impl TcpPorts {
    pub(super) fn new(notes: mpsc::Sender<Note>) -> Self {
        Self {
            ports: Vec::new(),
            notes,
        }
    }

    /// Listens on the first of `wanted` that is free.
    pub(super) fn add(&mut self, wanted: &[SocketAddr]) -> io::Result<()> {
        let mut refused = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for &address in wanted {
            match TcpPort::bind(address, TcpPortOptions::default()) {
                Ok(mut port) => {
                    let local = port.local_addr();
                    let notes = self.notes.clone();
                    let task = tokio::spawn(async move {
                        loop {
                            let stream = port.accept().await;
                            if notes.send(Note::Accepted(Box::new(stream))).await.is_err() {
                                return;
                            }
                        }
                    });
                    self.ports.push((local, task.abort_handle()));
                    return Ok(());
                }
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// The port on an address.
    pub(super) fn of(&self, ip: IpAddr) -> Option<SocketAddr> {
        let mut ports = self.ports.iter().map(|(local, _)| *local);
        ports.find(|local| local.ip() == ip)
    }

    /// Closes the port on an address: which one.
    pub(super) fn remove(&mut self, ip: IpAddr) -> Option<SocketAddr> {
        let index = self.ports.iter().position(|(local, _)| local.ip() == ip)?;
        let (local, task) = self.ports.swap_remove(index);
        task.abort();
        Some(local)
    }
}
