//! Questions to STUN servers over UDP: who am I (RFC 8489), how does the NAT behave (RFC 5780), which
//! sizes get through.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};
use visavis_stun::attributes::{ChangeRequest, MappedAddress, OtherAddress, XorMappedAddress};
use visavis_stun::{AttributeType, Class, Message, MessageBuilder, Method, TransactionId};

use super::facts::{Dependence, Nat, PathMtu, StunAnswer};

/// Waits between the transmissions of one question. Firewalls that drop are told from loss by the last.
const WAITS: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_millis(300),
    Duration::from_millis(400),
    Duration::from_millis(600),
    Duration::from_millis(900),
];
/// Makes a request long. PADDING (RFC 5780 section 7.6) is for servers that discover behaviour; this is an
/// attribute that every server ignores (RFC 8489 section 14: comprehension-optional).
const FILLER: AttributeType = AttributeType(0xfff0);
/// The largest message that is sent.
const MAX_MESSAGE: usize = 1500;

/// How the server is to answer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Question {
    /// From where.
    pub(super) change: ChangeRequest,
    /// Bytes of the whole message; 0 for as short as it is.
    pub(super) size: usize,
}

/// Asks; `None` if no answer came. The socket must be used by one question at a time.
pub(super) async fn ask(
    socket: &UdpSocket,
    server: SocketAddr,
    question: Question,
) -> std::io::Result<Option<StunAnswer>> {
    let mut id = [0; 12];
    getrandom::fill(&mut id).map_err(std::io::Error::other)?;
    let id = TransactionId(id);
    let mut request = [0; MAX_MESSAGE];
    let mut message = MessageBuilder::new(&mut request, Class::Request, Method::BINDING, id);
    if question.change != ChangeRequest::default() {
        message.add(&question.change);
    }
    let padding = vec![0; question.size.saturating_sub(message.len() + 4) & !3];
    if !padding.is_empty() {
        message.add_raw(FILLER, &padding);
    }
    let length = message.finish().map_err(std::io::Error::other)?;
    let mut buffer = [0; 2048];
    let begun = Instant::now();
    for (tries, wait) in WAITS.into_iter().enumerate() {
        let sent = Instant::now();
        match socket.send_to(&request[..length], server).await {
            // An ICMP error of an earlier datagram, or a datagram beyond the MTU.
            Err(error) if is_about_path(&error) => {}
            result => drop(result?),
        }
        while let Ok(received) = timeout_at(sent + wait, socket.recv_from(&mut buffer)).await {
            let (length, from) = match received {
                Ok(received) => received,
                Err(error) if is_about_path(&error) => continue,
                Err(error) => return Err(error),
            };
            let Ok(message) = Message::parse(&buffer[..length]) else {
                continue;
            };
            if message.transaction() != id || message.class() != Class::Success {
                continue;
            }
            let expected = question.change == ChangeRequest::default();
            if expected && from != server {
                continue;
            }
            let mapped = message.get::<XorMappedAddress>().map(|mapped| mapped.0);
            let mapped = mapped.or_else(|| message.get::<MappedAddress>().map(|mapped| mapped.0));
            let Some(mapped) = mapped else { continue };
            let since = if tries == 0 { begun } else { sent };
            return Ok(Some(StunAnswer {
                mapped,
                local: socket.local_addr()?,
                other: message.get::<OtherAddress>().map(|other| other.0),
                rtt: u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
                tries: tries as u32 + 1,
            }));
        }
    }
    Ok(None)
}

fn is_about_path(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(
        error.kind(),
        ConnectionRefused | HostUnreachable | NetworkUnreachable
    ) || error.raw_os_error() == Some(90)
}

/// How the NAT behaves, by RFC 5780 section 4.3 and 4.4, as far as the server has two addresses;
/// otherwise by asking a second server.
pub(super) async fn nat(
    socket: &UdpSocket,
    server: SocketAddr,
    first: &StunAnswer,
    second: Option<SocketAddr>,
    own: &[std::net::IpAddr],
) -> std::io::Result<Nat> {
    let mapped = first.mapped.ip();
    let none = own.contains(&mapped) || mapped == first.local.ip();
    let mut nat = Nat {
        none,
        mapping: None,
        filtering: None,
        hairpin: None,
    };
    if !none {
        nat.hairpin = Some(hairpin(socket, first.mapped).await?);
    }
    let Some(other) = first.other.filter(|other| other.ip() != server.ip()) else {
        if let Some(second) = second {
            let again = ask(socket, second, Question::default()).await?;
            nat.mapping = again.map(|again| {
                if again.mapped == first.mapped {
                    Dependence::EndpointIndependent
                } else if second.ip() == server.ip() {
                    Dependence::AddressAndPortDependent
                } else {
                    // Which of the two, two servers cannot tell: the worse is assumed.
                    Dependence::AddressAndPortDependent
                }
            });
        }
        return Ok(nat);
    };
    // Filtering first: the tests for mapping send to the other address, which opens filters.
    let fresh = UdpSocket::bind(SocketAddr::new(socket.local_addr()?.ip(), 0)).await?;
    if ask(&fresh, server, Question::default()).await?.is_some() {
        let change = |change_ip, change_port| Question {
            change: ChangeRequest {
                change_ip,
                change_port,
            },
            size: 0,
        };
        nat.filtering = Some(
            if ask(&fresh, server, change(true, true)).await?.is_some() {
                Dependence::EndpointIndependent
            } else if ask(&fresh, server, change(false, true)).await?.is_some() {
                Dependence::AddressDependent
            } else {
                Dependence::AddressAndPortDependent
            },
        );
    }
    let same_port = SocketAddr::new(other.ip(), server.port());
    if let Some(second) = ask(socket, same_port, Question::default()).await? {
        nat.mapping = Some(if second.mapped == first.mapped {
            Dependence::EndpointIndependent
        } else {
            match ask(socket, other, Question::default()).await? {
                Some(third) if third.mapped == second.mapped => Dependence::AddressDependent,
                _ => Dependence::AddressAndPortDependent,
            }
        });
    }
    Ok(nat)
}

/// Whether a datagram from another socket of ours to our outside address comes back.
async fn hairpin(socket: &UdpSocket, mapped: SocketAddr) -> std::io::Result<bool> {
    let other = UdpSocket::bind(SocketAddr::new(socket.local_addr()?.ip(), 0)).await?;
    let mut mark = [0; 16];
    getrandom::fill(&mut mark).map_err(std::io::Error::other)?;
    let mut buffer = [0; 64];
    for wait in &WAITS[..3] {
        let _ = other.send_to(&mark, mapped).await;
        let until = Instant::now() + *wait;
        while let Ok(Ok((length, _))) = timeout_at(until, socket.recv_from(&mut buffer)).await {
            if buffer[..length] == mark {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Which sizes get through to the server in one piece. `socket` must not fragment.
pub(super) async fn path_mtu(socket: &UdpSocket, server: SocketAddr) -> std::io::Result<PathMtu> {
    let mut mtu = PathMtu {
        passed: None,
        lost: None,
    };
    // What WebRTC needs at least, what stacks send, and what a whole Ethernet frame holds.
    for size in [1024, 1200, 1280, 1400, 1448] {
        let question = Question {
            size,
            ..Question::default()
        };
        if ask(socket, server, question).await?.is_some() {
            mtu.passed = Some(size);
        } else {
            mtu.lost = Some(size);
            break;
        }
    }
    Ok(mtu)
}
