//! Many ICE agents behind one port: which agent a datagram belongs to.
//!
//! A connectivity check names its agent by the username fragment (RFC 8445 section 7.1.3), a STUN
//! response by the transaction that it answers, everything else by the 5-tuple. A 5-tuple belongs to
//! the agent that sent data on it, never to whoever wrote its address into a datagram: what arrives
//! claims nothing.
//!
//! This is a table and owns no socket, so that one table serves UDP and TCP alike.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use visavis_datagram::Path;
use visavis_stun::attributes::Username;
use visavis_stun::{Class, Message, PacketKind, TransactionId, classify};

/// Bounds of a [`Mux`].
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct MuxLimits {
    /// The most 5-tuples that one owner holds; beyond that its oldest is forgotten. Default 64.
    pub paths_per_owner: usize,
    /// The most requests whose responses are awaited; beyond that the oldest is forgotten.
    /// Default 16,384.
    pub transactions: usize,
}

impl Default for MuxLimits {
    fn default() -> Self {
        Self {
            paths_per_owner: 64,
            transactions: 16_384,
        }
    }
}

/// What a [`Mux`] has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MuxStats {
    /// Datagrams that belong to nobody.
    pub unrouted: u64,
    /// Paths that were taken from one owner by another's data.
    pub taken: u64,
    /// Entries forgotten because a bound was reached.
    pub forgotten: u64,
}

/// The table.
#[derive(Debug)]
pub struct Mux<T> {
    limits: MuxLimits,
    ufrags: HashMap<Box<str>, T>,
    paths: HashMap<Path, Claim<T>>,
    owners: HashMap<T, Holding>,
    transactions: HashMap<TransactionId, T>,
    /// The transactions in the order in which they began.
    order: VecDeque<TransactionId>,
    stats: MuxStats,
}

/// What an owner has in the other tables, so that forgetting it costs what it has.
#[derive(Debug, Default)]
struct Holding {
    ufrags: Vec<Box<str>>,
    /// In the order in which they were claimed, those that others took since among them.
    paths: VecDeque<Path>,
    /// In the order in which they began.
    transactions: VecDeque<TransactionId>,
}

#[derive(Debug)]
struct Claim<T> {
    owner: T,
    /// Data went out on the path, not just the answer to a check.
    data: bool,
}

impl<T: Copy + Eq + Hash> Mux<T> {
    /// An empty table.
    pub fn new(limits: MuxLimits) -> Self {
        Self {
            limits,
            ufrags: HashMap::new(),
            paths: HashMap::new(),
            owners: HashMap::new(),
            transactions: HashMap::new(),
            order: VecDeque::new(),
            stats: MuxStats::default(),
        }
    }

    /// Checks that name this username fragment are for `owner` from now on. An owner may have
    /// several, as it does during an ICE restart. False, and nothing changes, if the fragment is
    /// another owner's.
    pub fn add_ufrag(&mut self, ufrag: &str, owner: T) -> bool {
        match self.ufrags.entry(ufrag.into()) {
            Entry::Occupied(entry) => *entry.get() == owner,
            Entry::Vacant(entry) => {
                entry.insert(owner);
                let held = self.owners.entry(owner).or_default();
                held.ufrags.push(ufrag.into());
                true
            }
        }
    }

    /// Checks that name this username fragment are for nobody any more.
    pub fn remove_ufrag(&mut self, ufrag: &str) {
        if let Some(owner) = self.ufrags.remove(ufrag)
            && let Some(held) = self.owners.get_mut(&owner)
        {
            held.ufrags.retain(|other| **other != *ufrag);
        }
    }

    /// Forgets an owner with all its fragments, paths and transactions.
    pub fn remove(&mut self, owner: T) {
        let held = self.owners.remove(&owner).unwrap_or_default();
        for ufrag in held.ufrags {
            self.ufrags.remove(&ufrag);
        }
        for transaction in held.transactions {
            if self.transactions.get(&transaction) == Some(&owner) {
                self.transactions.remove(&transaction);
            }
        }
        for path in held.paths {
            if self
                .paths
                .get(&path)
                .is_some_and(|claim| claim.owner == owner)
            {
                self.paths.remove(&path);
            }
        }
    }

    /// Whose datagram this is.
    pub fn route(&mut self, path: Path, datagram: &[u8]) -> Option<T> {
        let owner = if classify(datagram) == PacketKind::Stun {
            self.route_stun(path, datagram)
        } else {
            self.owner_of(path)
        };
        if owner.is_none() {
            self.stats.unrouted += 1;
        }
        owner
    }

    /// Whose path this is.
    pub fn owner_of(&self, path: Path) -> Option<T> {
        self.paths.get(&path).map(|claim| claim.owner)
    }

    /// Takes note of what `owner` sends, datagram or first of a run.
    pub fn sent(&mut self, path: Path, datagram: &[u8], owner: T) {
        if classify(datagram) != PacketKind::Stun {
            self.claim(path, owner, true);
            return;
        }
        let Ok(message) = Message::parse(datagram) else {
            return;
        };
        match message.class() {
            Class::Request => self.begin(message.transaction(), owner),
            // Only an authenticated check is answered with success.
            Class::Success => self.claim(path, owner, false),
            _ => {}
        }
    }

    /// `owner` comes from another multiplexer, under which it used this path.
    pub fn inherit(&mut self, path: Path, owner: T) {
        self.claim(path, owner, true);
    }

    /// What was counted.
    pub fn stats(&self) -> MuxStats {
        self.stats
    }

    /// A request of `owner`'s has left.
    fn begin(&mut self, transaction: TransactionId, owner: T) {
        let former = self.transactions.insert(transaction, owner);
        if former != Some(owner) {
            let held = self.owners.entry(owner).or_default();
            held.transactions.push_back(transaction);
        }
        if former.is_none() {
            self.order.push_back(transaction);
        }
        while self.order.len() > self.limits.transactions {
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            let Some(owner) = self.transactions.remove(&oldest) else {
                continue;
            };
            self.stats.forgotten += 1;
            // The oldest of all is its owner's oldest.
            if let Some(held) = self.owners.get_mut(&owner)
                && held.transactions.front() == Some(&oldest)
            {
                held.transactions.pop_front();
            }
        }
    }

    fn route_stun(&mut self, path: Path, datagram: &[u8]) -> Option<T> {
        let message = Message::parse(datagram).ok()?;
        match message.class() {
            Class::Success | Class::Error => {
                // Retransmitted requests may be answered twice: the entry stays until it is old.
                self.transactions
                    .get(&message.transaction())
                    .copied()
                    .or(self.owner_of(path))
            }
            Class::Request | Class::Indication => match message.get::<Username>() {
                Some(Username(name)) => self.ufrags.get(name.split(':').next()?).copied(),
                None => self.owner_of(path),
            },
        }
    }

    fn claim(&mut self, path: Path, owner: T, data: bool) {
        match self.paths.entry(path) {
            Entry::Occupied(mut entry) => {
                let claim = entry.get_mut();
                if claim.owner == owner {
                    claim.data |= data;
                    return;
                }
                // Answering a check does not take a path from whoever uses it or claimed it first.
                if !data || claim.data {
                    return;
                }
                *claim = Claim { owner, data };
                self.stats.taken += 1;
            }
            Entry::Vacant(entry) => {
                entry.insert(Claim { owner, data });
            }
        }
        let held = &mut self.owners.entry(owner).or_default().paths;
        held.push_back(path);
        if held.len() > self.limits.paths_per_owner
            && let Some(oldest) = held.pop_front()
            && self
                .paths
                .get(&oldest)
                .is_some_and(|claim| claim.owner == owner)
        {
            self.paths.remove(&oldest);
            self.stats.forgotten += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use visavis_datagram::Path;
    use visavis_stun::attributes::Username;
    use visavis_stun::{Class, MessageBuilder, Method, TransactionId};

    use super::{Mux, MuxLimits};

    fn path(port: u16) -> Path {
        Path::udp(
            "10.0.0.1:3478".parse().unwrap(),
            ([192, 0, 2, 1], port).into(),
        )
    }

    fn stun(class: Class, transaction: u8, username: Option<&str>) -> Vec<u8> {
        let mut buffer = [0; 256];
        let id = TransactionId([transaction; 12]);
        let mut builder = MessageBuilder::new(&mut buffer, class, Method::BINDING, id);
        if let Some(username) = username {
            builder.add(&Username(username));
        }
        let length = builder.finish().unwrap();
        buffer[..length].to_vec()
    }

    #[test]
    fn a_check_is_routed_by_ufrag_whatever_its_source() {
        let mut mux = Mux::new(MuxLimits::default());
        assert!(mux.add_ufrag("aaaa", 1) && mux.add_ufrag("bbbb", 2));
        assert!(!mux.add_ufrag("aaaa", 2), "a fragment has one owner");
        let check = stun(Class::Request, 0, Some("bbbb:zzzz"));
        assert_eq!(mux.route(path(1), &check), Some(2));
        assert_eq!(
            mux.route(path(1), &stun(Class::Request, 0, Some("cccc:zzzz"))),
            None
        );
        assert_eq!(mux.stats().unrouted, 1);
    }

    #[test]
    fn a_response_is_routed_by_its_transaction() {
        let mut mux = Mux::new(MuxLimits::default());
        // Two agents ask the same server from the same port.
        mux.sent(path(7), &stun(Class::Request, 1, None), 1);
        mux.sent(path(7), &stun(Class::Request, 2, None), 2);
        assert_eq!(mux.route(path(7), &stun(Class::Success, 2, None)), Some(2));
        assert_eq!(mux.route(path(7), &stun(Class::Success, 1, None)), Some(1));
        assert_eq!(mux.route(path(7), &stun(Class::Success, 3, None)), None);
    }

    #[test]
    fn what_arrives_claims_nothing() {
        let mut mux = Mux::new(MuxLimits::default());
        mux.add_ufrag("aaaa", 1);
        mux.route(path(1), &stun(Class::Request, 0, Some("aaaa:zzzz")));
        assert_eq!(mux.route(path(1), &[22, 254, 253]), None);
    }

    #[test]
    fn data_takes_a_path_from_the_answer_to_a_check_but_not_from_data() {
        let mut mux = Mux::new(MuxLimits::default());
        mux.sent(path(1), &stun(Class::Success, 0, None), 1);
        assert_eq!(mux.route(path(1), &[128, 96]), Some(1));
        mux.sent(path(1), &stun(Class::Success, 0, None), 2);
        assert_eq!(mux.route(path(1), &[128, 96]), Some(1));
        mux.sent(path(1), &[22, 254, 253], 2);
        assert_eq!(mux.route(path(1), &[128, 96]), Some(2));
        mux.sent(path(1), &[22, 254, 253], 1);
        assert_eq!(mux.route(path(1), &[128, 96]), Some(2));
    }

    #[test]
    fn a_removed_owner_leaves_nothing_behind() {
        let mut mux = Mux::new(MuxLimits::default());
        mux.add_ufrag("aaaa", 1);
        mux.sent(path(1), &[22], 1);
        mux.sent(path(1), &stun(Class::Request, 1, None), 1);
        mux.remove(1);
        assert_eq!(mux.route(path(1), &[22]), None);
        assert_eq!(mux.route(path(1), &stun(Class::Success, 1, None)), None);
        assert_eq!(
            mux.route(path(1), &stun(Class::Request, 1, Some("aaaa:b"))),
            None
        );
        assert!(mux.owners.is_empty() && mux.paths.is_empty() && mux.transactions.is_empty());
    }

    #[test]
    fn every_table_is_bounded() {
        let mut mux = Mux::new(MuxLimits {
            paths_per_owner: 3,
            transactions: 5,
        });
        for number in 0..100u8 {
            mux.sent(path(1 + u16::from(number)), &[22], 1);
            mux.sent(path(1), &stun(Class::Request, number, None), 1);
        }
        assert_eq!(mux.paths.len(), 3);
        assert!(mux.transactions.len() <= 5 && mux.order.len() <= 5);
        assert_eq!(mux.route(path(100), &[22]), Some(1));
        assert_eq!(mux.route(path(1), &[22]), None);
    }

    #[test]
    fn what_an_owner_had_goes_with_it_and_nothing_else() {
        let mut mux = Mux::new(MuxLimits {
            transactions: 3,
            ..MuxLimits::default()
        });
        assert!(mux.add_ufrag("aaaa", 1) && mux.add_ufrag("bbbb", 2));
        for (transaction, owner) in [(1, 1), (2, 2), (3, 1), (4, 2)] {
            let check = stun(Class::Request, transaction, Some("x:y"));
            mux.sent(path(1), &check, owner);
        }
        assert_eq!(mux.stats().forgotten, 1, "of transactions three are kept");
        mux.sent(path(7), &[0x80; 20], 1);
        mux.sent(path(8), &[0x80; 20], 2);
        let answer = |transaction| stun(Class::Success, transaction, None);
        mux.remove(1);
        assert_eq!(mux.route(path(9), &answer(3)), None);
        assert_eq!(mux.route(path(9), &answer(4)), Some(2));
        assert_eq!(
            (mux.owner_of(path(7)), mux.owner_of(path(8))),
            (None, Some(2))
        );
        assert!(mux.add_ufrag("aaaa", 2), "it is nobody's again");
        mux.remove_ufrag("aaaa");
        mux.remove(2);
        assert!(mux.ufrags.is_empty() && mux.paths.is_empty());
        assert!(mux.transactions.is_empty() && mux.owners.is_empty());
    }
}
