//! The stateless front of a public server: nothing is kept for an address that has not proved that
//! it receives what is sent to it (RFC 9147 section 5.1, RFC 6347 section 4.2.1).
//!
//! Clients cut a ClientHello with a post-quantum share in two, in any order. The front answers the
//! *first fragment* alone and forgets it:
//!
//! - The beginning of a ClientHello holds the random, the legacy cookie and the cipher suites. A
//!   suite of 1.3 among them says that the client speaks 1.3.
//! - A client of 1.2 gets a HelloVerifyRequest; its second hello carries the cookie at its beginning.
//! - A client of 1.3 gets a HelloRetryRequest with a cookie. The transcript needs the hash of the
//!   first hello: if all of it came in one datagram, the cookie carries the hash. Otherwise the
//!   cookie says "rebuild": the second hello is the first one and a cookie extension (RFC 8446
//!   section 4.1.2, no other share is asked for), so taking the extension out gives the first back.
//! - The cookie extension stands anywhere in the second hello. A fragment that holds all of it
//!   proves its source, and a connection is made; fragments without it are parked in a table of
//!   fixed size, for all sources together, in which newcomers replace others at random. Under a
//!   flood the table forgets; who sends the cookie in one fragment is not harmed, because the
//!   connection acknowledges it and the client sends the rest again.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use visavis_crypto::{Group, HashAlgorithm, hmac};
use visavis_datagram::Random;

use crate::alert::{Alert, AlertDescription};
use crate::codec::{Decode, Reader, Write, u16s};
use crate::connection::server::{
    GroupChoice, choose_group_13, choose_suite_13, choose_version, retry_extensions,
};
use crate::connection::{Connection, check};
use crate::message::extension;
use crate::message::hello::{
    ClientHello, RETRY_RANDOM, encode_hello_verify_request, encode_server_hello,
};
use crate::message::{Fragment, FragmentHeader, MessageType, tls_header};
use crate::range_set::RangeSet;
use crate::record::{ContentType, LEGACY_HEADER_LEN, RecordHeader, write_legacy};
use crate::{CipherSuite, Config, Error, Version};

/// What marks a cookie of 1.3 in the middle of a fragment.
const MAGIC: [u8; 4] = *b"vv13";
const MAC_LEN: usize = 16;
/// Magic, suite, group, eight bytes of the client's random, length of the hash.
const FIXED_LEN: usize = 4 + 2 + 2 + 8 + 1;
const LEGACY_COOKIE_LEN: usize = MAC_LEN;

/// Bounds of a [`Front`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FrontLimits {
    /// How long a cookie holds at least, and half of how long it does at most.
    pub cookie_lifetime: Duration,
    /// Fragments kept whose source is not proved, for all sources together.
    pub parked: usize,
    /// The longest of them in bytes.
    pub parked_len: usize,
}

impl Default for FrontLimits {
    fn default() -> Self {
        Self {
            cookie_lifetime: Duration::from_secs(60),
            parked: 64,
            parked_len: 1500,
        }
    }
}

/// What a front did since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct FrontStats {
    /// Datagrams that were no beginning of a ClientHello.
    pub ignored: u64,
    /// Cookies sent.
    pub cookies_sent: u64,
    /// Answers withheld because they were longer than what came.
    pub amplifications_refused: u64,
    /// Whole hellos with a cookie that is not ours, or too old.
    pub cookies_refused: u64,
    /// Fragments parked.
    pub parked: u64,
    /// Connections made.
    pub accepted: u64,
}

/// What a front makes of a datagram.
#[derive(Debug)]
#[non_exhaustive]
pub enum FrontAnswer {
    /// Nothing.
    Ignored,
    /// Something to send back to the source; it stands in `reply`.
    Reply,
    /// The source is proved. The datagram is taken; all further ones of the source go to the
    /// connection.
    Accepted(Box<Connection>),
}

#[derive(Debug)]
struct Parked {
    source: SocketAddr,
    datagram: Box<[u8]>,
}

/// What a cookie of 1.3 says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cookie {
    pub(crate) suite: CipherSuite,
    pub(crate) group: Option<Group>,
    random: [u8; 8],
    /// Of the first ClientHello; `None` if it is to be rebuilt.
    hello_hash: Option<Vec<u8>>,
    bytes: Vec<u8>,
}

/// Answers datagrams of unknown sources without keeping anything for them.
#[derive(Debug)]
pub struct Front {
    config: Arc<Config>,
    limits: FrontLimits,
    random: Random,
    /// The present key and the one before.
    keys: [hmac::Key; 2],
    key_since: Instant,
    parked: Vec<Parked>,
    stats: FrontStats,
}

impl Front {
    /// A front for servers with `config`.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn new(
        config: Arc<Config>,
        limits: FrontLimits,
        mut random: Random,
        now: Instant,
    ) -> Result<Self, Error> {
        check(&config)?;
        let keys = [new_key(&mut random), new_key(&mut random)];
        Ok(Self {
            config,
            limits,
            random,
            keys,
            key_since: now,
            parked: Vec::new(),
            stats: FrontStats::default(),
        })
    }

    /// Takes a datagram of a source that has no connection. A reply replaces what stands in `reply`.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        source: SocketAddr,
        datagram: &mut [u8],
        reply: &mut Vec<u8>,
    ) -> FrontAnswer {
        self.rotate(now);
        reply.clear();
        let Some(hello) = Hello::find(datagram) else {
            self.stats.ignored += 1;
            return FrontAnswer::Ignored;
        };
        let answer = match hello.sequence {
            0 => self.first_hello(source, &hello, reply),
            1 => return self.second_hello(now, source, datagram, reply),
            _ => None,
        };
        match answer {
            Some(()) if reply.len() > datagram.len() => {
                self.stats.amplifications_refused += 1;
                reply.clear();
                FrontAnswer::Ignored
            }
            Some(()) => {
                self.stats.cookies_sent += 1;
                FrontAnswer::Reply
            }
            None => {
                self.stats.ignored += 1;
                FrontAnswer::Ignored
            }
        }
    }

    /// The counters.
    pub fn stats(&self) -> FrontStats {
        self.stats
    }

    /// Fragments that are parked now.
    pub fn parked(&self) -> usize {
        self.parked.len()
    }

    fn rotate(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.key_since);
        if age < self.limits.cookie_lifetime {
            return;
        }
        let fresh = new_key(&mut self.random);
        let before = std::mem::replace(&mut self.keys[0], fresh);
        // After a long silence the one before is too old as well.
        self.keys[1] = if age < self.limits.cookie_lifetime * 2 {
            before
        } else {
            new_key(&mut self.random)
        };
        self.key_since = now;
    }

    /// Writes the answer to a first hello, of which only the beginning need be there.
    fn first_hello(
        &mut self,
        source: SocketAddr,
        hello: &Hello<'_>,
        reply: &mut Vec<u8>,
    ) -> Option<()> {
        let begin = Beginning::parse(hello.body.as_slice_from_start()?)?;
        let whole = hello
            .body
            .whole()
            .map(ClientHello::parse)
            .transpose()
            .ok()?;
        let version = match &whole {
            Some(whole) => choose_version(&self.config, whole).ok()?,
            None if self.suite_13(&begin).is_some() => Version::Dtls13,
            None if self.config.speaks(Version::Dtls12) => Version::Dtls12,
            None => return None,
        };
        let (message_type, body) = match version {
            Version::Dtls12 => {
                let cookie = self.legacy_mac(&self.keys[0], source, begin.random);
                (
                    MessageType::HELLO_VERIFY_REQUEST,
                    encode_hello_verify_request(&cookie),
                )
            }
            Version::Dtls13 => {
                let (suite, group, hash) = match &whole {
                    Some(whole) => {
                        let suite = choose_suite_13(&self.config, whole).ok()?;
                        let group =
                            match choose_group_13(&self.config, whole.extensions, None).ok()? {
                                GroupChoice::Share(..) => None,
                                GroupChoice::Ask(group) => Some(group),
                            };
                        let hash = hello_hash(suite.hash(), hello.body.whole()?);
                        (suite, group, hash)
                    }
                    None => (self.suite_13(&begin)?, None, Vec::new()),
                };
                let cookie = self.cookie(source, suite, group, begin.random, &hash);
                (
                    MessageType::SERVER_HELLO,
                    retry_message(suite, group, &cookie),
                )
            }
        };
        write_plain(reply, hello.record, message_type, &body);
        Some(())
    }

    /// The suite of 1.3 for a hello of which the suites are known.
    fn suite_13(&self, begin: &Beginning<'_>) -> Option<CipherSuite> {
        if !self.config.speaks(Version::Dtls13) {
            return None;
        }
        let offered = u16s(begin.suites).ok()?;
        self.config
            .suites(Version::Dtls13)
            .find(|suite| offered.clone().any(|number| number == suite.number()))
    }

    fn second_hello(
        &mut self,
        now: Instant,
        source: SocketAddr,
        datagram: &mut [u8],
        reply: &mut Vec<u8>,
    ) -> FrontAnswer {
        let Some(hello) = Hello::find(datagram) else {
            return FrontAnswer::Ignored;
        };
        let record = hello.record;
        let legacy = hello
            .body
            .as_slice_from_start()
            .and_then(Beginning::parse)
            .is_some_and(|begin| self.legacy_cookie_holds(source, &begin));
        let cookie = self.find_cookie(source, hello.body.bytes());
        if legacy || cookie.is_some() {
            return self.accept(now, source, datagram, record, cookie);
        }
        if let Some(whole) = hello.body.whole() {
            // RFC 9147 section 5.1.
            let refused = ClientHello::parse(whole).is_ok_and(|hello| {
                !hello.cookie.is_empty() || hello.extensions.find(extension::COOKIE).is_some()
            });
            if refused {
                self.stats.cookies_refused += 1;
                write_alert(reply, record, AlertDescription::ILLEGAL_PARAMETER);
                return FrontAnswer::Reply;
            }
            self.stats.ignored += 1;
            return FrontAnswer::Ignored;
        }
        // The cookie may stand across the cut.
        if let Some(cookie) = self.joined_cookie(source, datagram) {
            return self.accept(now, source, datagram, record, Some(cookie));
        }
        self.park(source, datagram);
        FrontAnswer::Ignored
    }

    fn accept(
        &mut self,
        now: Instant,
        source: SocketAddr,
        datagram: &mut [u8],
        record: u64,
        cookie: Option<Cookie>,
    ) -> FrontAnswer {
        let random = self.random.fork();
        let Ok(mut connection) = Connection::server(self.config.clone(), random, now) else {
            return FrontAnswer::Ignored;
        };
        connection.continue_from_front(record, cookie);
        self.parked.retain_mut(|parked| {
            if parked.source != source {
                return true;
            }
            connection.handle_datagram(now, &mut parked.datagram);
            false
        });
        connection.handle_datagram(now, datagram);
        self.stats.accepted += 1;
        FrontAnswer::Accepted(Box::new(connection))
    }

    fn park(&mut self, source: SocketAddr, datagram: &[u8]) {
        if self.limits.parked == 0 || datagram.len() > self.limits.parked_len {
            return;
        }
        self.stats.parked += 1;
        let parked = Parked {
            source,
            datagram: datagram.into(),
        };
        if self.parked.len() < self.limits.parked {
            self.parked.push(parked);
        } else {
            let victim = self.random.below(self.parked.len() as u64) as usize;
            self.parked[victim] = parked;
        }
    }

    /// The cookie of a hello whose fragments are this one and parked ones.
    fn joined_cookie(&self, source: SocketAddr, datagram: &[u8]) -> Option<Cookie> {
        if !self.parked.iter().any(|parked| parked.source == source) {
            return None;
        }
        let newest = Hello::find(datagram)?;
        let length = newest.body.length;
        let mut body = vec![0; length];
        let mut have = RangeSet::default();
        let parked = self
            .parked
            .iter()
            .filter(|parked| parked.source == source)
            .filter_map(|parked| Hello::find(&parked.datagram))
            .filter(|hello| hello.sequence == 1 && hello.body.length == length);
        for hello in parked.chain([newest]) {
            for (offset, piece) in &hello.body.pieces {
                body[*offset..offset + piece.len()].copy_from_slice(piece);
                have.insert(*offset as u32, (offset + piece.len()) as u32);
            }
        }
        have.contains(0, length as u32)
            .then(|| self.find_cookie(source, [&body[..]].into_iter()))?
    }

    /// A cookie of ours for this source, wherever it stands.
    fn find_cookie<'a>(
        &self,
        source: SocketAddr,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> Option<Cookie> {
        for piece in pieces {
            let mut rest = piece;
            // More than one is a forgery.
            for _ in 0..2 {
                let at = rest.windows(MAGIC.len()).position(|bytes| bytes == MAGIC)?;
                // The extension's type, its length and the cookie's.
                if let Some(head) = at.checked_sub(6)
                    && rest[head..head + 2] == extension::COOKIE.to_be_bytes()
                    && let Ok(bytes) = Reader::new(&rest[at - 2..]).vec16()
                    && let Some(cookie) = self.open_cookie(source, bytes)
                {
                    return Some(cookie);
                }
                rest = &rest[at + MAGIC.len()..];
            }
        }
        None
    }

    fn cookie(
        &self,
        source: SocketAddr,
        suite: CipherSuite,
        group: Option<Group>,
        random: &[u8; 32],
        hash: &[u8],
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_LEN + hash.len() + MAC_LEN);
        out.bytes(&MAGIC);
        out.u16(suite.number());
        out.u16(group.map_or(0, Group::codepoint));
        out.bytes(&random[..8]);
        out.vec8(|out| out.bytes(hash));
        let mac = mac(&self.keys[0], source, &out);
        out.bytes(&mac);
        out
    }

    fn open_cookie(&self, source: SocketAddr, bytes: &[u8]) -> Option<Cookie> {
        let (content, tag) = bytes.split_at_checked(bytes.len().checked_sub(MAC_LEN)?)?;
        if !self
            .keys
            .iter()
            .any(|key| visavis_crypto::constant_time_eq(&mac(key, source, content), tag))
        {
            return None;
        }
        let parse = || -> Decode<(u16, u16, [u8; 8], &[u8])> {
            let mut reader = Reader::new(content);
            reader.array::<4>()?;
            let numbers = (reader.u16()?, reader.u16()?);
            let random = reader.array()?;
            let hash = reader.vec8()?;
            reader.end()?;
            Ok((numbers.0, numbers.1, random, hash))
        };
        let (suite, group, random, hash) = parse().ok()?;
        Some(Cookie {
            suite: CipherSuite::from_number(suite)?,
            group: Group::from_codepoint(group),
            random,
            hello_hash: (!hash.is_empty()).then(|| hash.to_vec()),
            bytes: bytes.to_vec(),
        })
    }

    fn legacy_mac(
        &self,
        key: &hmac::Key,
        source: SocketAddr,
        random: &[u8; 32],
    ) -> [u8; LEGACY_COOKIE_LEN] {
        mac(key, source, random)
    }

    fn legacy_cookie_holds(&self, source: SocketAddr, begin: &Beginning<'_>) -> bool {
        self.keys.iter().any(|key| {
            let expected = self.legacy_mac(key, source, begin.random);
            visavis_crypto::constant_time_eq(&expected, begin.cookie)
        })
    }
}

impl Cookie {
    /// The hash of the first ClientHello and the HelloRetryRequest behind it, for the transcript of
    /// whom `second` answers.
    pub(crate) fn resume(&self, second: &[u8]) -> Decode<(Vec<u8>, Vec<u8>)> {
        let hello = ClientHello::parse(second)?;
        if hello.extensions.cookie()? != Some(&self.bytes) || hello.random[..8] != self.random {
            return Err(AlertDescription::ILLEGAL_PARAMETER);
        }
        let hash = match &self.hello_hash {
            Some(hash) => hash.clone(),
            None => hello_hash(self.suite.hash(), &without_cookie(second)?),
        };
        Ok((hash, retry_message(self.suite, self.group, &self.bytes)))
    }
}

/// The first ClientHello of which `second` is the answer to a mere cookie.
fn without_cookie(second: &[u8]) -> Decode<Vec<u8>> {
    let mut reader = Reader::new(second);
    reader.take(34)?;
    reader.vec8()?;
    reader.vec8()?;
    reader.vec16()?;
    reader.vec8()?;
    let head = &second[..second.len() - reader.rest().len()];
    let mut extensions = Reader::new(reader.vec16()?);
    let mut out = head.to_vec();
    let mut kept = Vec::with_capacity(extensions.rest().len());
    while !extensions.is_empty() {
        let kind = extensions.u16()?;
        let body = extensions.vec16()?;
        if kind != extension::COOKIE {
            extension::write(&mut kept, kind, |out| out.bytes(body));
        }
    }
    out.vec16(|out| out.bytes(&kept));
    Ok(out)
}

/// The hash of a ClientHello as a transcript takes it.
fn hello_hash(hash: HashAlgorithm, body: &[u8]) -> Vec<u8> {
    let mut state = visavis_crypto::hash::Hash::new(hash);
    state.update(&tls_header(MessageType::CLIENT_HELLO, body.len()));
    state.update(body);
    state.finish().to_vec()
}

fn retry_message(suite: CipherSuite, group: Option<Group>, cookie: &[u8]) -> Vec<u8> {
    encode_server_hello(
        &RETRY_RANDOM,
        suite.number(),
        &retry_extensions(group, cookie),
    )
}

fn new_key(random: &mut Random) -> hmac::Key {
    hmac::Key::new(HashAlgorithm::Sha256, &random.bytes::<32>())
}

/// A MAC that binds `content` to a source.
fn mac(key: &hmac::Key, source: SocketAddr, content: &[u8]) -> [u8; MAC_LEN] {
    let mut address = [0; 18];
    match source.ip() {
        IpAddr::V4(ip) => address[..16].copy_from_slice(&ip.to_ipv6_mapped().octets()),
        IpAddr::V6(ip) => address[..16].copy_from_slice(&ip.octets()),
    }
    address[16..].copy_from_slice(&source.port().to_be_bytes());
    let whole = key.sign(&[&address, content]);
    let mut out = [0; MAC_LEN];
    out.copy_from_slice(&whole[..MAC_LEN]);
    out
}

/// Writes a plaintext record with one whole message, numbered 0. The record takes the number of the
/// one that it answers (RFC 6347 section 4.2.1).
fn write_plain(out: &mut Vec<u8>, record: u64, message_type: MessageType, body: &[u8]) {
    let len = FragmentHeader::LEN + body.len();
    out.resize(LEGACY_HEADER_LEN, 0);
    write_legacy(out, ContentType::HANDSHAKE, 0, record, &[], len);
    out.bytes(&FragmentHeader::whole(message_type, 0, body.len()).encode());
    out.bytes(body);
}

fn write_alert(out: &mut Vec<u8>, record: u64, description: AlertDescription) {
    let alert = Alert {
        fatal: true,
        description,
    };
    out.resize(LEGACY_HEADER_LEN, 0);
    write_legacy(out, ContentType::ALERT, 0, record, &[], 2);
    out.bytes(&alert.encode());
}

/// The fragments of one ClientHello in a datagram.
struct Hello<'a> {
    /// The number of the first record.
    record: u64,
    sequence: u16,
    body: Body<'a>,
}

struct Body<'a> {
    length: usize,
    /// In the order in which they came.
    pieces: Vec<(usize, &'a [u8])>,
}

impl<'a> Hello<'a> {
    /// The hello at the start of a datagram. Records behind it that are none of it are left alone.
    fn find(datagram: &'a [u8]) -> Option<Self> {
        let mut found: Option<Self> = None;
        let mut rest = datagram;
        while let Some(RecordHeader::Legacy {
            content_type: ContentType::HANDSHAKE,
            epoch: 0,
            sequence: record,
            header_len,
            body_len,
        }) = RecordHeader::parse(rest, &[])
        {
            let (content, tail) = rest[header_len..].split_at(body_len);
            rest = tail;
            let mut reader = Reader::new(content);
            while let Ok(fragment) = Fragment::read(&mut reader) {
                let header = fragment.header;
                if header.message_type != MessageType::CLIENT_HELLO || header.length > 1 << 14 {
                    return found;
                }
                let hello = found.get_or_insert(Self {
                    record,
                    sequence: header.sequence,
                    body: Body {
                        length: header.length as usize,
                        pieces: Vec::with_capacity(1),
                    },
                });
                if hello.sequence != header.sequence
                    || hello.body.length != header.length as usize
                    || hello.body.pieces.len() == 8
                {
                    return found;
                }
                hello
                    .body
                    .pieces
                    .push((header.offset as usize, fragment.body));
            }
        }
        found
    }
}

impl<'a> Body<'a> {
    /// The piece that the message begins with.
    fn as_slice_from_start(&self) -> Option<&'a [u8]> {
        self.pieces
            .iter()
            .find(|(offset, piece)| *offset == 0 && !piece.is_empty())
            .map(|(_, piece)| *piece)
    }

    /// The message, if one piece is all of it.
    fn whole(&self) -> Option<&'a [u8]> {
        self.as_slice_from_start()
            .filter(|piece| piece.len() == self.length)
    }

    fn bytes(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.pieces.iter().map(|(_, piece)| *piece)
    }
}

/// The fields at the beginning of a ClientHello.
struct Beginning<'a> {
    random: &'a [u8; 32],
    cookie: &'a [u8],
    suites: &'a [u8],
}

impl<'a> Beginning<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        reader.u16().ok()?;
        let random = reader.take(32).ok()?.try_into().ok()?;
        reader.vec8().ok()?;
        let cookie = reader.vec8().ok()?;
        let suites = reader.vec16().ok()?;
        Some(Self {
            random,
            cookie,
            suites,
        })
    }
}
