//! The system calls, and their control messages.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::RawFd;
use std::time::Duration;

use visavis_datagram::Ecn;

use super::socket::IcmpError;

/// Room for the control messages of one datagram or run, either way: local address, ECN, segment size and time of
/// arrival take 40 + 24 + 24 + 32 bytes with their headers.
const CONTROL: usize = 128;

#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(super) struct Control([u8; CONTROL]);

impl Control {
    pub(super) const fn new() -> Self {
        Self([0; CONTROL])
    }
}

/// What the kernel says of one received run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meta {
    pub(crate) from: SocketAddr,
    pub(crate) local: Option<IpAddr>,
    pub(crate) ecn: Ecn,
    pub(crate) segment: usize,
    pub(crate) len: usize,
    /// When the kernel got it, since 1970-01-01T00:00:00Z; only where the socket asks for it. A run that the kernel
    /// put together has one time.
    pub(crate) stamp: Option<Duration>,
}

/// Buffers of the C interface, made once.
pub(crate) struct Receiver {
    names: Box<[libc::sockaddr_storage]>,
    pieces: Box<[libc::iovec]>,
    controls: Box<[Control]>,
    headers: Box<[libc::mmsghdr]>,
}

// SAFETY: the pointers are written anew by each call, and none is followed between calls.
unsafe impl Send for Receiver {}

impl Receiver {
    pub(crate) fn new(count: usize) -> Self {
        // SAFETY: all three are plain old data for which all zeroes is a valid value.
        let (name, piece, header) = unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };
        Self {
            names: vec![name; count].into_boxed_slice(),
            pieces: vec![piece; count].into_boxed_slice(),
            controls: vec![Control::new(); count].into_boxed_slice(),
            headers: vec![header; count].into_boxed_slice(),
        }
    }

    /// Receives into as many of `buffers` as there are datagrams; each gets one.
    pub(crate) fn receive<'a>(
        &mut self,
        fd: RawFd,
        buffers: impl Iterator<Item = &'a mut [u8]>,
    ) -> io::Result<usize> {
        let mut count = 0;
        for (index, buffer) in buffers.take(self.headers.len()).enumerate() {
            self.pieces[index] = libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: buffer.len(),
            };
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = (&raw mut self.names[index]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = &raw mut self.pieces[index];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[index].0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL as _;
            header.msg_flags = 0;
            count += 1;
        }
        // SAFETY: the first `count` headers point to names, pieces and controls of `self`, and to buffers that the
        // caller lends exclusively for longer than the call.
        let received = unsafe {
            libc::recvmmsg(
                fd,
                self.headers.as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }

    /// What came with the datagram of a header that the latest call filled.
    pub(crate) fn meta(&self, index: usize) -> Option<Meta> {
        let header = &self.headers[index];
        let len = header.msg_len as usize;
        let mut meta = Meta {
            from: address(&self.names[index])?,
            local: None,
            ecn: Ecn::NotEct,
            segment: len.max(1),
            len,
            stamp: None,
        };
        // SAFETY: the kernel wrote well-formed control messages into a live buffer of `self` and set their length; the
        // macros stay within it, and data is read unaligned, of the size that its type has.
        unsafe {
            let mut next = libc::CMSG_FIRSTHDR(&header.msg_hdr);
            while !next.is_null() {
                let data = libc::CMSG_DATA(next);
                match ((*next).cmsg_level, (*next).cmsg_type) {
                    (libc::IPPROTO_IP, libc::IP_TOS) => meta.ecn = Ecn::from_bits(*data),
                    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                        let class = data.cast::<libc::c_int>().read_unaligned();
                        meta.ecn = Ecn::from_bits(class as u8);
                    }
                    (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                        let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                        let ip = Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes());
                        meta.local = Some(ip.into());
                    }
                    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                        let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                        meta.local = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                    }
                    (libc::SOL_UDP, libc::UDP_GRO) => {
                        let segment = data.cast::<libc::c_int>().read_unaligned();
                        meta.segment = usize::try_from(segment).unwrap_or(len).max(1);
                    }
                    (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                        let stamp = data.cast::<libc::timespec>().read_unaligned();
                        let seconds = u64::try_from(stamp.tv_sec).unwrap_or(0);
                        meta.stamp = Some(Duration::new(seconds, stamp.tv_nsec as u32));
                    }
                    _ => {}
                }
                next = libc::CMSG_NXTHDR(&header.msg_hdr, next);
            }
        }
        Some(meta)
    }
}

/// One run to send: its pieces stand in `Sender::pieces`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) destination: SocketAddr,
    pub(super) source: Option<IpAddr>,
    pub(super) ecn: Ecn,
    /// The segment size, if the run has more than one.
    pub(super) segment: Option<u16>,
    pub(super) pieces: usize,
}

/// Buffers of the C interface, made once.
pub(super) struct Sender {
    names: Box<[libc::sockaddr_storage]>,
    controls: Box<[Control]>,
    headers: Box<[libc::mmsghdr]>,
    pieces: Vec<libc::iovec>,
    runs: Vec<Header>,
}

/// The most runs that one call takes.
pub(super) const MOST_RUNS: usize = 64;
/// The most pieces that a run has: the kernel's UIO_MAXIOV.
pub(super) const MOST_PIECES: usize = 1024;

// SAFETY: as `Receiver`; those in `pieces` are followed only by `send`, whose caller answers for them.
unsafe impl Send for Sender {}

impl Sender {
    pub(super) fn new() -> Self {
        // SAFETY: both are plain old data for which all zeroes is a valid value.
        let (name, header) = unsafe { (mem::zeroed(), mem::zeroed()) };
        Self {
            names: vec![name; MOST_RUNS].into_boxed_slice(),
            controls: vec![Control::new(); MOST_RUNS].into_boxed_slice(),
            headers: vec![header; MOST_RUNS].into_boxed_slice(),
            pieces: Vec::with_capacity(MOST_RUNS * 4),
            runs: Vec::with_capacity(MOST_RUNS),
        }
    }

    pub(super) fn begin(&mut self) {
        self.pieces.clear();
        self.runs.clear();
    }

    pub(super) fn is_full(&self) -> bool {
        self.runs.len() == MOST_RUNS
    }

    /// Adds bytes to the run that is being made.
    pub(super) fn piece(&mut self, bytes: &[u8]) {
        self.pieces.push(libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        });
    }

    /// Completes a run.
    pub(super) fn run(&mut self, header: Header) {
        self.runs.push(header);
    }

    /// Sends the runs; answers how many the kernel took.
    ///
    /// # Safety
    /// What was given to `piece` since `begin` has to be alive and unchanged.
    pub(super) unsafe fn send(&mut self, fd: RawFd) -> io::Result<usize> {
        let count = self.runs.len();
        let mut first = 0;
        for (index, run) in self.runs.iter().enumerate() {
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = (&raw mut self.names[index]).cast();
            header.msg_namelen = write_address(&mut self.names[index], run.destination);
            header.msg_iov = self.pieces[first..first + run.pieces].as_mut_ptr();
            header.msg_iovlen = run.pieces as _;
            first += run.pieces;
            header.msg_control = self.controls[index].0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL as _;
            let used = write_controls(header, run);
            header.msg_controllen = used as _;
            if used == 0 {
                header.msg_control = std::ptr::null_mut();
            }
        }
        // SAFETY: the headers point to names, controls and pieces of `self`, and the pieces to bytes that the caller
        // answers for; the kernel only reads them.
        let sent = unsafe {
            if count == 1 {
                libc::sendmsg(fd, &raw const self.headers[0].msg_hdr, libc::MSG_DONTWAIT).min(1)
            } else {
                libc::sendmmsg(
                    fd,
                    self.headers.as_mut_ptr(),
                    count as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                ) as isize
            }
        };
        match sent {
            // An empty datagram counts as one.
            0.. if count == 1 => Ok(1),
            0.. => Ok(sent as usize),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Writes the control messages of one run; answers how many bytes they take.
fn write_controls(header: &mut libc::msghdr, run: &Header) -> usize {
    let mut used = 0;
    let mut next = std::ptr::null_mut();
    let mut push = |level: libc::c_int, kind: libc::c_int, value: &[u8]| {
        let size = value.len() as libc::c_uint;
        // SAFETY: `msg_control` and `msg_controllen` describe a live, aligned buffer, and `next` is a header in it: the
        // macros only compute addresses within it. CMSG_NXTHDR reads the length of the header that was written last.
        let (slot, space) = unsafe {
            let slot = if used == 0 {
                libc::CMSG_FIRSTHDR(header)
            } else {
                libc::CMSG_NXTHDR(header, next)
            };
            (slot, libc::CMSG_SPACE(size) as usize)
        };
        if slot.is_null() || used + space > CONTROL {
            debug_assert!(false, "the control buffer holds every combination");
            return;
        }
        // SAFETY: the slot lies in the buffer with room for `space` bytes, as was just checked.
        unsafe {
            (*slot).cmsg_level = level;
            (*slot).cmsg_type = kind;
            (*slot).cmsg_len = libc::CMSG_LEN(size) as _;
            std::ptr::copy_nonoverlapping(value.as_ptr(), libc::CMSG_DATA(slot), value.len());
        }
        used += space;
        next = slot;
    };
    let v4 = run.destination.is_ipv4();
    if run.ecn != Ecn::NotEct {
        let class = libc::c_int::from(run.ecn.bits()).to_ne_bytes();
        if v4 {
            push(libc::IPPROTO_IP, libc::IP_TOS, &class);
        } else {
            push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &class);
        }
    }
    if let Some(segment) = run.segment {
        push(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
    }
    match run.source {
        // struct in_pktinfo: interface, source, destination.
        Some(IpAddr::V4(ip)) => {
            let mut info = [0; size_of::<libc::in_pktinfo>()];
            info[4..8].copy_from_slice(&ip.octets());
            push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
        }
        // struct in6_pktinfo: source, interface.
        Some(IpAddr::V6(ip)) => {
            let mut info = [0; size_of::<libc::in6_pktinfo>()];
            info[..16].copy_from_slice(&ip.octets());
            push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
        }
        None => {}
    }
    used
}

/// Sets an option whose value is a `c_int`.
pub(super) fn set_option(
    fd: RawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the value is a live `c_int` of the length given.
    let result = unsafe {
        libc::setsockopt(
            fd,
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Lets the process open as many descriptors as the system permits it; answers how many.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    // SAFETY: all zeroes is a valid value, and both calls are given a live structure of theirs.
    let (result, limit) = unsafe {
        let mut limit: libc::rlimit = mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        limit.rlim_cur = limit.rlim_max;
        (
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit),
            limit,
        )
    };
    if result == 0 {
        Ok(limit.rlim_cur)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Reads the next message of the error queue that tells of ICMP.
pub(super) fn take_error(fd: RawFd) -> Option<IcmpError> {
    loop {
        let mut control = [Control::new(); 4];
        // SAFETY: both are plain old data for which all zeroes is a valid value.
        let (mut name, mut header): (libc::sockaddr_storage, libc::msghdr) =
            unsafe { (mem::zeroed(), mem::zeroed()) };
        header.msg_name = (&raw mut name).cast();
        header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control) as _;
        // SAFETY: the header points to buffers of this frame with their lengths.
        let received =
            unsafe { libc::recvmsg(fd, &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
        if received < 0 {
            return None;
        }
        // SAFETY: as in `Receiver::meta`.
        unsafe {
            let mut next = libc::CMSG_FIRSTHDR(&raw const header);
            while !next.is_null() {
                let origin = match ((*next).cmsg_level, (*next).cmsg_type) {
                    (libc::IPPROTO_IP, libc::IP_RECVERR) => Some(libc::SO_EE_ORIGIN_ICMP),
                    (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => Some(libc::SO_EE_ORIGIN_ICMP6),
                    _ => None,
                };
                if let Some(origin) = origin {
                    let error = libc::CMSG_DATA(next)
                        .cast::<libc::sock_extended_err>()
                        .read_unaligned();
                    if error.ee_origin == origin
                        && let Some(destination) = address(&name)
                    {
                        return Some(IcmpError {
                            destination,
                            kind: error.ee_type,
                            code: error.ee_code,
                            data: error.ee_info,
                        });
                    }
                }
                next = libc::CMSG_NXTHDR(&raw const header, next);
            }
        }
    }
}

fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: of this family the storage holds a `sockaddr_in`, which is smaller and less aligned.
            let v4 = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, a `sockaddr_in6`.
            let v6 = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

fn write_address(name: &mut libc::sockaddr_storage, address: SocketAddr) -> libc::socklen_t {
    match address {
        SocketAddr::V4(address) => {
            let v4 = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(address.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is larger than any address, and as much aligned.
            unsafe { (&raw mut *name).cast::<libc::sockaddr_in>().write(v4) };
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(address) => {
            let v6 = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr {
                    s6_addr: address.ip().octets(),
                },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: as above.
            unsafe { (&raw mut *name).cast::<libc::sockaddr_in6>().write(v6) };
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}
