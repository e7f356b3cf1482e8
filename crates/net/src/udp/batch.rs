//! Runs for many destinations in one system call (sendmmsg), each with its own segment size and ECN.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::SockAddr;
use visavis_datagram::Transmit;

/// The most runs that one call takes.
const MOST: usize = 64;

/// Room for the control messages of one run: ECN, segment size and source address of IPv6 need
/// 24 + 24 + 40 bytes with their headers.
const CONTROL: usize = 96;

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

/// Sends the first of `runs` in one call; answers how many the kernel took.
///
/// Each run is a transmit and its bytes. `offload` tells whether runs may hold more than one segment;
/// runs that do without it are the caller's to split.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    local: SocketAddr,
    runs: &[(Transmit, &[u8])],
) -> io::Result<usize> {
    let count = runs.len().min(MOST);
    let mut addresses: [mem::MaybeUninit<SockAddr>; MOST] =
        [const { mem::MaybeUninit::uninit() }; MOST];
    let mut controls = [Control([0; CONTROL]); MOST];
    // SAFETY: `iovec` and `mmsghdr` are plain old data for which all zeroes is a valid value.
    let mut pieces: [libc::iovec; MOST] = unsafe { mem::zeroed() };
    // SAFETY: as above.
    let mut headers: [libc::mmsghdr; MOST] = unsafe { mem::zeroed() };
    for (index, (transmit, bytes)) in runs[..count].iter().enumerate() {
        let address = addresses[index].write(SockAddr::from(transmit.destination));
        pieces[index].iov_base = bytes.as_ptr().cast_mut().cast();
        pieces[index].iov_len = bytes.len();
        let header = &mut headers[index].msg_hdr;
        header.msg_name = address.as_ptr().cast_mut().cast();
        header.msg_namelen = address.len();
        header.msg_iov = &raw mut pieces[index];
        header.msg_iovlen = 1;
        header.msg_control = controls[index].0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL as _;
        let used = write_controls(header, local, transmit, bytes.len());
        header.msg_controllen = used as _;
        if used == 0 {
            header.msg_control = std::ptr::null_mut();
        }
    }
    // SAFETY: the first `count` headers point to addresses, pieces and control buffers that live in
    // this frame, and to bytes that the caller lends; the kernel only reads them.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            count as libc::c_uint,
            0,
        )
    };
    // `SockAddr` owns nothing but bytes: that its drop is skipped loses nothing.
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Writes the control messages of one run; answers how many bytes they take.
fn write_controls(
    header: &mut libc::msghdr,
    local: SocketAddr,
    transmit: &Transmit,
    len: usize,
) -> usize {
    let mut writer = Writer {
        header,
        used: 0,
        next: std::ptr::null_mut(),
        started: false,
    };
    let ecn = libc::c_int::from(transmit.ecn.bits());
    let v4 = transmit.destination.is_ipv4();
    if ecn != 0 {
        let (level, kind) = if v4 {
            (libc::IPPROTO_IP, libc::IP_TOS)
        } else {
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
        };
        writer.push(level, kind, ecn);
    }
    if len > transmit.segment_size
        && let Ok(size) = u16::try_from(transmit.segment_size)
    {
        writer.push(libc::SOL_UDP, libc::UDP_SEGMENT, size);
    }
    match super::source(local, transmit.source) {
        Some(std::net::IpAddr::V4(ip)) => {
            let source = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from_ne_bytes(ip.octets()),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            writer.push(libc::IPPROTO_IP, libc::IP_PKTINFO, source);
        }
        Some(std::net::IpAddr::V6(ip)) => {
            let source = libc::in6_pktinfo {
                ipi6_ifindex: 0,
                ipi6_addr: libc::in6_addr {
                    s6_addr: ip.octets(),
                },
            };
            writer.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, source);
        }
        None => {}
    }
    writer.used
}

struct Writer<'a> {
    header: &'a mut libc::msghdr,
    used: usize,
    next: *mut libc::cmsghdr,
    started: bool,
}

impl Writer<'_> {
    fn push<T: Copy>(&mut self, level: libc::c_int, kind: libc::c_int, value: T) {
        let size = size_of::<T>() as libc::c_uint;
        // SAFETY: `msg_control` and `msg_controllen` describe a live, aligned, zeroed buffer, and
        // `next` is a header in it: the macros only compute addresses within it.
        let slot = unsafe {
            if self.started {
                libc::CMSG_NXTHDR(self.header, self.next)
            } else {
                libc::CMSG_FIRSTHDR(self.header)
            }
        };
        // SAFETY: CMSG_SPACE is arithmetic.
        let space = unsafe { libc::CMSG_SPACE(size) } as usize;
        if slot.is_null() || self.used + space > CONTROL {
            debug_assert!(false, "the control buffer holds every combination");
            return;
        }
        // SAFETY: the slot lies in the buffer with room for `space` bytes, as was just checked;
        // the data behind the header may be unaligned for `T`, so it is written as such.
        unsafe {
            (*slot).cmsg_level = level;
            (*slot).cmsg_type = kind;
            (*slot).cmsg_len = libc::CMSG_LEN(size) as _;
            libc::CMSG_DATA(slot).cast::<T>().write_unaligned(value);
        }
        self.used += space;
        self.next = slot;
        self.started = true;
    }
}
