//! Multicast DNS (RFC 6762) as far as ICE needs it: answering for the random `.local` names that
//! stand in for host addresses, and resolving those of peers
//! (draft-ietf-mmusic-mdns-ice-candidates).
//!
//! Queries and answers for addresses only, over IPv4 multicast (AAAA records travel there too).
//! Only names that were published here are answered for, never the host's own name.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, ResourceRecord, TYPE};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// The multicast group and port of RFC 6762 section 3.
const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 251), 5353);
/// How long others may remember an answer, in seconds (RFC 6762 section 10).
const TTL: u32 = 120;
/// When a query is sent again (RFC 6762 section 5.2: one second, then doubling).
const ASK_AT: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(3),
];
/// The same name is multicast at most once in this time (RFC 6762 section 6).
const ANSWER_INTERVAL: Duration = Duration::from_secs(1);

/// How the service is set up.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MdnsOptions {
    /// The IPv4 addresses of the interfaces to use; all interfaces that are up if empty.
    pub interfaces: Vec<Ipv4Addr>,
    /// Group and port. Default 224.0.0.251:5353; another one only for tests.
    pub group: SocketAddrV4,
    /// How long [`Mdns::resolve`] waits. Default 5 s.
    pub timeout: Duration,
    /// The most names published at a time. Default 4096.
    pub max_names: usize,
    /// The most names being resolved at a time. Default 256.
    pub max_queries: usize,
}

impl Default for MdnsOptions {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            group: GROUP,
            timeout: Duration::from_secs(5),
            max_names: 4096,
            max_queries: 256,
        }
    }
}

/// Answers for published names and resolves those of others. Clones share one service, which ends
/// with the last of them.
#[derive(Debug, Clone)]
pub struct Mdns {
    shared: Arc<Shared>,
    _tasks: Arc<Tasks>,
}

#[derive(Debug)]
struct Shared {
    options: MdnsOptions,
    sockets: Vec<UdpSocket>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    names: HashMap<String, Published>,
    waiting: HashMap<String, Vec<oneshot::Sender<IpAddr>>>,
}

#[derive(Debug)]
struct Published {
    ip: IpAddr,
    answered: Option<Instant>,
}

#[derive(Debug)]
struct Tasks(Vec<JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// A published name; others can resolve it until this is dropped.
#[derive(Debug)]
pub struct PublishedName {
    name: String,
    shared: Arc<Shared>,
}

impl PublishedName {
    /// The name, ending in `.local`.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for PublishedName {
    fn drop(&mut self) {
        self.shared.state().names.remove(&self.name);
    }
}

impl Mdns {
    /// Starts the service. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If no interface can be used.
    pub fn new(options: MdnsOptions) -> io::Result<Self> {
        let interfaces = if options.interfaces.is_empty() {
            let filter = crate::interface::InterfaceFilter::default();
            let addresses = crate::interface::addresses(&filter)?;
            addresses
                .iter()
                .filter_map(|a| {
                    if let IpAddr::V4(ip) = a.ip {
                        Some(ip)
                    } else {
                        None
                    }
                })
                .collect()
        } else {
            options.interfaces.clone()
        };
        let mut refused = io::Error::from(io::ErrorKind::NetworkUnreachable);
        let mut sockets = Vec::new();
        for interface in interfaces {
            match socket(interface, options.group) {
                Ok(socket) => sockets.push(socket),
                Err(error) => refused = error,
            }
        }
        if sockets.is_empty() {
            return Err(refused);
        }
        let count = sockets.len();
        let shared = Arc::new(Shared {
            options,
            sockets,
            state: Mutex::default(),
        });
        let serve = |index| {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move { shared.serve(index).await })
        };
        let tasks = Arc::new(Tasks((0..count).map(serve).collect()));
        Ok(Self {
            shared,
            _tasks: tasks,
        })
    }

    /// Answers for `name` (which must end in `.local`) with `ip`, until the result is dropped.
    /// `None` if the name is not of that form, or [`MdnsOptions::max_names`] are published.
    pub fn publish(&self, name: &str, ip: IpAddr) -> Option<PublishedName> {
        let name = local(name)?;
        let mut state = self.shared.state();
        if state.names.len() >= self.shared.options.max_names {
            return None;
        }
        state
            .names
            .insert(name.clone(), Published { ip, answered: None });
        Some(PublishedName {
            name,
            shared: Arc::clone(&self.shared),
        })
    }

    /// Finds the address of `name`, which must end in `.local`.
    ///
    /// # Errors
    /// `InvalidInput` for another name, `TimedOut` when nobody answers, `QuotaExceeded` when
    /// [`MdnsOptions::max_queries`] are under way.
    pub async fn resolve(&self, name: &str) -> io::Result<IpAddr> {
        let name = local(name).ok_or(io::ErrorKind::InvalidInput)?;
        let (answer, mut answered) = oneshot::channel();
        {
            let mut state = self.shared.state();
            if let Some(published) = state.names.get(&name) {
                return Ok(published.ip);
            }
            state.waiting.retain(|_, waiting| {
                waiting.retain(|answer| !answer.is_closed());
                !waiting.is_empty()
            });
            if state.waiting.len() >= self.shared.options.max_queries {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            state.waiting.entry(name.clone()).or_default().push(answer);
        }
        let question = query(&name)?;
        let start = Instant::now();
        let limit = start + self.shared.options.timeout;
        for (index, &at) in ASK_AT.iter().enumerate() {
            let until = ASK_AT
                .get(index + 1)
                .map_or(limit, |&next| limit.min(start + next));
            if start + at >= limit {
                break;
            }
            self.shared.multicast(&question).await;
            if let Ok(Ok(ip)) = timeout(until - Instant::now(), &mut answered).await {
                return Ok(ip);
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn multicast(&self, bytes: &[u8]) {
        for socket in &self.sockets {
            if let Err(error) = socket
                .send_to(bytes, SocketAddr::V4(self.options.group))
                .await
            {
                tracing::debug!(%error, "mDNS message not sent");
            }
        }
    }

    async fn serve(&self, index: usize) {
        let socket = &self.sockets[index];
        let mut buffer = [0; 1500];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            let answer = self.receive(&buffer[..length], from, Instant::now());
            if let Some((bytes, to)) = answer
                && let Err(error) = socket.send_to(&bytes, to).await
            {
                tracing::debug!(%error, "mDNS answer not sent");
            }
        }
    }

    /// Takes one message in; gives the answer to it, if there is one, and where it goes.
    fn receive(
        &self,
        bytes: &[u8],
        from: SocketAddr,
        now: Instant,
    ) -> Option<(Vec<u8>, SocketAddr)> {
        let packet = Packet::parse(bytes).ok()?;
        if packet.has_flags(PacketFlag::RESPONSE) {
            // RFC 6762 section 6: answers that do not come from the port are not to be believed.
            if from.port() == self.options.group.port() {
                self.learn(&packet);
            }
            return None;
        }
        self.answer(&packet, from, now)
    }

    fn learn(&self, packet: &Packet<'_>) {
        let mut state = self.state();
        for record in packet.answers.iter().chain(&packet.additional_records) {
            let ip = match &record.rdata {
                RData::A(a) => IpAddr::V4(Ipv4Addr::from(a.address)),
                RData::AAAA(a) => IpAddr::V6(a.address.into()),
                _ => continue,
            };
            let Some(name) = local(&record.name.to_string()) else {
                continue;
            };
            for answer in state.waiting.remove(&name).unwrap_or_default() {
                // Who asked may have given up.
                let _ = answer.send(ip);
            }
        }
    }

    fn answer(
        &self,
        packet: &Packet<'_>,
        from: SocketAddr,
        now: Instant,
    ) -> Option<(Vec<u8>, SocketAddr)> {
        // RFC 6762 section 6.7: whoever asks from another port is a plain resolver, answered directly.
        let legacy = from.port() != self.options.group.port();
        let mut reply = Packet::new_reply(if legacy { packet.id() } else { 0 });
        reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
        let mut unicast = legacy;
        let mut state = self.state();
        for question in &packet.questions {
            let Some(name) = local(&question.qname.to_string()) else {
                continue;
            };
            let Some(published) = state.names.get_mut(&name) else {
                continue;
            };
            let (rdata, wanted) = match published.ip {
                IpAddr::V4(ip) => (RData::A(A { address: ip.into() }), TYPE::A),
                IpAddr::V6(ip) => (RData::AAAA(AAAA { address: ip.into() }), TYPE::AAAA),
            };
            if question.qtype != QTYPE::TYPE(wanted) && question.qtype != QTYPE::ANY {
                continue;
            }
            if question.unicast_response {
                unicast = true;
            } else if !legacy {
                if published
                    .answered
                    .is_some_and(|last| now - last < ANSWER_INTERVAL)
                {
                    continue;
                }
                published.answered = Some(now);
            }
            let Ok(owner) = Name::new(&name).map(Name::into_owned) else {
                continue;
            };
            let record =
                ResourceRecord::new(owner, CLASS::IN, TTL, rdata).with_cache_flush(!legacy);
            reply.answers.push(record);
            if legacy {
                reply.questions.push(question.clone().into_owned());
            }
        }
        if reply.answers.is_empty() {
            return None;
        }
        let to = if unicast {
            from
        } else {
            SocketAddr::V4(self.options.group)
        };
        Some((reply.build_bytes_vec().ok()?, to))
    }
}

/// The canonical form of a name that this service deals with.
fn local(name: &str) -> Option<String> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let host = name.strip_suffix(".local")?;
    let valid = !host.is_empty()
        && host.len() <= 63
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    valid.then_some(name)
}

/// A query for both kinds of address.
fn query(name: &str) -> io::Result<Vec<u8>> {
    let owner = Name::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut packet = Packet::new_query(0);
    for kind in [TYPE::A, TYPE::AAAA] {
        packet.questions.push(Question::new(
            owner.clone(),
            kind.into(),
            CLASS::IN.into(),
            false,
        ));
    }
    packet
        .build_bytes_vec()
        .map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// A socket that hears and speaks to the group on one interface, sharing the port with the
/// system's own responder.
fn socket(interface: Ipv4Addr, group: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    #[cfg(target_os = "linux")]
    socket.set_multicast_all_v4(false)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, group.port())).into())?;
    socket.join_multicast_v4(group.ip(), &interface)?;
    socket.set_multicast_if_v4(&interface)?;
    socket.set_multicast_loop_v4(true)?;
    socket.set_multicast_ttl_v4(255)?;
    UdpSocket::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
    use std::time::Duration;

    use simple_dns::{Packet, PacketFlag};
    use tokio::time::Instant;

    use super::{GROUP, Mdns, MdnsOptions, TTL, query};

    const NAME: &str = "0cdbd8bd-1e1b-4b5a-9d3a-7a1a1a1a1a1a.local";

    fn service(port: u16) -> Mdns {
        let group = SocketAddrV4::new(*GROUP.ip(), port);
        Mdns::new(MdnsOptions {
            interfaces: vec![Ipv4Addr::LOCALHOST],
            group,
            timeout: Duration::from_millis(300),
            ..MdnsOptions::default()
        })
        .unwrap()
    }

    #[tokio::test]
    async fn a_published_name_resolves_on_another_service_until_it_is_dropped() {
        let (near, far) = (service(45_353), service(45_353));
        let ip = IpAddr::from([192, 168, 7, 8]);
        let name = far.publish(NAME, ip).unwrap();
        assert_eq!(near.resolve(NAME).await.unwrap(), ip);
        drop(name);
        assert_eq!(
            near.resolve(NAME).await.unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
    }

    #[tokio::test]
    async fn other_names_are_neither_published_nor_asked_for() {
        let service = service(45_354);
        for name in [
            "example.com",
            "local",
            ".local",
            "a.b.local",
            "host name.local",
        ] {
            assert!(
                service.publish(name, IpAddr::from([10, 0, 0, 1])).is_none(),
                "{name}"
            );
            let error = service.resolve(name).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_multicast_once_a_second_and_sent_directly_to_plain_resolvers() {
        let service = service(45_355);
        let _name = service.publish(NAME, IpAddr::from([10, 0, 0, 1])).unwrap();
        let question = query(NAME).unwrap();
        let now = Instant::now();
        let peer = "192.168.0.9:45355".parse().unwrap();
        let (answer, to) = service.shared.receive(&question, peer, now).unwrap();
        assert_eq!(to, service.shared.options.group.into());
        let packet = Packet::parse(&answer).unwrap();
        assert!(packet.has_flags(PacketFlag::RESPONSE));
        assert_eq!((packet.answers.len(), packet.answers[0].ttl), (1, TTL));
        assert!(service.shared.receive(&question, peer, now).is_none());

        let resolver = "192.168.0.9:1234".parse().unwrap();
        let (_, to) = service.shared.receive(&question, resolver, now).unwrap();
        assert_eq!(to, resolver);
    }

    #[tokio::test]
    async fn garbage_and_answers_from_strange_ports_are_ignored() {
        let service = service(45_356);
        let now = Instant::now();
        let peer = "192.168.0.9:45356".parse().unwrap();
        assert!(service.shared.receive(&[0xff; 40], peer, now).is_none());
        assert!(service.shared.receive(&[], peer, now).is_none());
    }
}
