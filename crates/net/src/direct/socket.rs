//! One socket: how it is made, and what the kernel reports about datagrams that did not arrive.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use socket2::{Domain, Socket, Type};

use super::system;

/// How a socket is made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DirectOptions {
    /// Kernel receive buffer in bytes; 0 leaves the system's.
    pub receive_buffer: usize,
    /// Kernel send buffer in bytes; 0 leaves the system's.
    pub send_buffer: usize,
    /// Let several sockets share the port, the kernel spreading flows over them.
    pub reuse_port: bool,
    /// Let the kernel hand over runs of one flow as one (GRO).
    pub coalesce: bool,
    /// Report ICMP errors ([`DirectSocket::take_error`]).
    pub errors: bool,
    /// Leave the DF bit clear, so that routers may cut datagrams that are too long; otherwise the system decides.
    pub fragment: bool,
}

impl Default for DirectOptions {
    fn default() -> Self {
        Self {
            receive_buffer: 0,
            send_buffer: 0,
            reuse_port: false,
            coalesce: true,
            errors: false,
            fragment: false,
        }
    }
}

/// An ICMP message about a datagram that a socket sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpError {
    /// Where the datagram was sent.
    pub destination: SocketAddr,
    /// ICMP type (IPv6: ICMPv6).
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// What came with it: the next hop's MTU where the datagram was too big.
    pub data: u32,
}

/// A non-blocking UDP socket.
#[derive(Debug)]
pub struct DirectSocket {
    socket: Socket,
    local: SocketAddr,
}

impl DirectSocket {
    /// Binds a socket. Port 0 picks a free one.
    ///
    /// # Errors
    /// What the system says: address in use, not available, no permission, no descriptor left.
    pub fn bind(local: SocketAddr, options: &DirectOptions) -> io::Result<Self> {
        let kind = Type::DGRAM.nonblocking().cloexec();
        let socket = Socket::new_raw(Domain::for_address(local), kind, None)?;
        if local.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if options.reuse_port {
            socket.set_reuse_port(true)?;
        }
        let fd = socket.as_raw_fd();
        if options.receive_buffer != 0 {
            set_buffer(
                fd,
                libc::SO_RCVBUFFORCE,
                libc::SO_RCVBUF,
                options.receive_buffer,
            );
        }
        if options.send_buffer != 0 {
            set_buffer(
                fd,
                libc::SO_SNDBUFFORCE,
                libc::SO_SNDBUF,
                options.send_buffer,
            );
        }
        let (level, tos, pktinfo, recverr, discover) = if local.is_ipv4() {
            (
                libc::IPPROTO_IP,
                libc::IP_RECVTOS,
                libc::IP_PKTINFO,
                libc::IP_RECVERR,
                libc::IP_MTU_DISCOVER,
            )
        } else {
            (
                libc::IPPROTO_IPV6,
                libc::IPV6_RECVTCLASS,
                libc::IPV6_RECVPKTINFO,
                libc::IPV6_RECVERR,
                libc::IPV6_MTU_DISCOVER,
            )
        };
        system::set_option(fd, level, tos, 1)?;
        if local.ip().is_unspecified() {
            system::set_option(fd, level, pktinfo, 1)?;
        }
        if options.errors {
            system::set_option(fd, level, recverr, 1)?;
        }
        if options.fragment {
            system::set_option(fd, level, discover, libc::IP_PMTUDISC_DONT)?;
        }
        if options.coalesce {
            // Kernels before 5.0 have none.
            let _ = system::set_option(fd, libc::SOL_UDP, libc::UDP_GRO, 1);
        }
        socket.bind(&local.into())?;
        let local = match local.port() {
            0 => socket.local_addr()?.as_socket().unwrap_or(local),
            _ => local,
        };
        Ok(Self { socket, local })
    }

    /// Changes the size of the kernel's receive buffer, in bytes of kernel memory: twice what the datagrams hold, about.
    pub fn set_receive_buffer(&self, bytes: usize) {
        let fd = self.socket.as_raw_fd();
        set_buffer(fd, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, bytes);
    }

    /// The address that the socket is bound to; the IP is unspecified for a wildcard socket.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Sends one datagram with or without the DF bit, whatever the socket was made with: the option is set for this
    /// call and set back.
    ///
    /// # Errors
    /// What the system says; `EMSGSIZE` where the datagram does not fit the path.
    pub fn send_unfragmented(&self, datagram: &[u8], destination: SocketAddr) -> io::Result<()> {
        let (level, discover) = if self.local.is_ipv4() {
            (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER)
        } else {
            (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER)
        };
        let fd = self.socket.as_raw_fd();
        system::set_option(fd, level, discover, libc::IP_PMTUDISC_DO)?;
        let sent = self.socket.send_to(datagram, &destination.into());
        system::set_option(fd, level, discover, libc::IP_PMTUDISC_DONT)?;
        sent.map(|_| ())
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// What the system says.
    pub fn send(&self, datagram: &[u8], destination: SocketAddr) -> io::Result<()> {
        self.socket
            .send_to(datagram, &destination.into())
            .map(|_| ())
    }

    /// The next ICMP message about what was sent, if [`DirectOptions::errors`] is set.
    pub fn take_error(&self) -> Option<IcmpError> {
        system::take_error(self.socket.as_raw_fd())
    }
}

/// Beyond the system's limit where that is permitted, else up to it. A smaller buffer is not worth failing for.
fn set_buffer(fd: RawFd, force: libc::c_int, name: libc::c_int, bytes: usize) {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    if system::set_option(fd, libc::SOL_SOCKET, force, bytes).is_err() {
        let _ = system::set_option(fd, libc::SOL_SOCKET, name, bytes);
    }
}

impl AsRawFd for DirectSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for DirectSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
