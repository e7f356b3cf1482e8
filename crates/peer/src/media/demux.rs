//! Whose RTP packet it is (RFC 9143 section 9.2): by its source if that is known, else by mid and
//! rid, by the sources that the description names, or by a payload type that only one section has.

use std::collections::HashMap;

use visavis_rtp::extension::ExtensionKind;
use visavis_rtp::{ExtensionMap, Packet};

use crate::codecs::{Codec, FLEXFEC, Kind};
use crate::transceiver::{EncodingSources, TransceiverId};

/// One transceiver as packets see it.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) id: TransceiverId,
    pub(crate) kind: Kind,
    pub(crate) mid: String,
    pub(crate) sends: bool,
    pub(crate) receives: bool,
    /// What may arrive.
    pub(crate) receive_codecs: Vec<Codec>,
    /// Rids that may arrive.
    pub(crate) rids: Vec<String>,
    /// Sources that the peer's description names, with their retransmission's.
    pub(crate) remote_sources: Vec<(u32, Option<u32>)>,
    pub(crate) receive_extensions: ExtensionMap,
    /// What may be sent.
    pub(crate) send_codecs: Vec<Codec>,
    /// The encodings.
    pub(crate) encodings: Vec<EncodingRoute>,
    pub(crate) send_extensions: ExtensionMap,
}

/// One encoding as packets see it.
#[derive(Debug, Clone)]
pub(crate) struct EncodingRoute {
    pub(crate) rid: String,
    pub(crate) sources: EncodingSources,
    pub(crate) active: bool,
    /// The codec that the application chose.
    pub(crate) codec: Option<Codec>,
    pub(crate) max_bitrate: Option<u64>,
    /// Its weight when rates are shared.
    pub(crate) weight: f64,
}

impl Route {
    /// The codec that has a payload type, for media or for retransmissions.
    pub(crate) fn codec(&self, payload_type: u8) -> Option<&Codec> {
        self.receive_codecs
            .iter()
            .find(|codec| codec.payload_type == payload_type || codec.rtx == Some(payload_type))
    }

    fn is_rtx(&self, payload_type: u8) -> bool {
        self.receive_codecs
            .iter()
            .any(|codec| codec.rtx == Some(payload_type))
    }
}

/// What is known of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// Index of the route.
    pub(super) route: usize,
    pub(super) encoding: Option<usize>,
    pub(super) ssrc: u32,
    pub(super) is_rtx: bool,
    /// The media source that a retransmission's source repairs.
    pub(super) base: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Source {
    id: TransceiverId,
    encoding: Option<usize>,
    is_rtx: bool,
    base: Option<u32>,
}

/// The table of sources.
#[derive(Debug)]
pub(super) struct Demux {
    routes: Vec<Route>,
    sources: HashMap<u32, Source>,
    max_sources: usize,
    /// The payload type of parity on a source of its own, where it may arrive; within a BUNDLE group it means
    /// the same in every section (RFC 9143 section 9.1).
    flexfec: Option<u8>,
    /// The numbers of all sections, which agree within a BUNDLE group.
    pub(super) extensions: ExtensionMap,
}

impl Demux {
    pub(super) fn new(max_sources: usize) -> Self {
        Self {
            routes: Vec::new(),
            sources: HashMap::new(),
            max_sources,
            flexfec: None,
            extensions: ExtensionMap::new(),
        }
    }

    /// The same bounds for another transport.
    pub(super) fn sibling(&self) -> Self {
        Self::new(self.max_sources)
    }

    pub(super) fn configure(&mut self, routes: Vec<Route>) {
        self.sources
            .retain(|_, source| routes.iter().any(|route| route.id == source.id));
        self.extensions = ExtensionMap::new();
        for route in &routes {
            for (id, kind) in route.receive_extensions.iter() {
                // Ids 0 and 15 do not stand in a map.
                let _ = self.extensions.insert(id, kind);
            }
        }
        let receiving = routes.iter().filter(|route| route.receives);
        let parity = receiving
            .flat_map(|route| &route.receive_codecs)
            .find(|codec| codec.is(FLEXFEC));
        self.flexfec = parity.map(|codec| codec.payload_type);
        self.routes = routes;
        for index in 0..self.routes.len() {
            let route = &self.routes[index];
            let id = route.id;
            for (ssrc, rtx) in route.remote_sources.clone() {
                self.learn(ssrc, id, None, false, None);
                if let Some(rtx) = rtx {
                    self.learn(rtx, id, None, true, Some(ssrc));
                }
            }
        }
    }

    /// Whether a packet is parity, which names by itself what it protects.
    pub(super) fn is_parity(&self, packet: &Packet<'_>) -> bool {
        self.flexfec == Some(packet.payload_type().value())
    }

    pub(super) fn route(&self, index: usize) -> Option<&Route> {
        self.routes.get(index)
    }

    fn learn(
        &mut self,
        ssrc: u32,
        id: TransceiverId,
        encoding: Option<usize>,
        is_rtx: bool,
        base: Option<u32>,
    ) {
        if self.sources.len() < self.max_sources || self.sources.contains_key(&ssrc) {
            self.sources.insert(
                ssrc,
                Source {
                    id,
                    encoding,
                    is_rtx,
                    base,
                },
            );
        }
    }

    /// Finds the owner of a packet; `None` if nobody wants it.
    pub(super) fn find(&mut self, packet: &Packet<'_>) -> Option<Found> {
        let ssrc = packet.ssrc().0;
        let payload_type = packet.payload_type().value();
        if let Some(source) = self.sources.get(&ssrc).copied()
            && let Some(route) = self.routes.iter().position(|route| route.id == source.id)
            && self.routes[route].codec(payload_type).is_some()
        {
            if !self.routes[route].receives {
                return None;
            }
            let is_rtx = self.routes[route].is_rtx(payload_type);
            if !is_rtx || source.base.is_some() {
                return Some(Found {
                    route,
                    encoding: source.encoding,
                    ssrc,
                    is_rtx,
                    base: source.base,
                });
            }
        }
        self.find_unknown(packet, ssrc, payload_type)
    }

    fn find_unknown(&mut self, packet: &Packet<'_>, ssrc: u32, payload_type: u8) -> Option<Found> {
        let text = |kind| packet.extension_bytes(&self.extensions, kind);
        let mid = text(ExtensionKind::Mid);
        let rid = text(ExtensionKind::Rid);
        let repaired = text(ExtensionKind::RepairedRid);
        let takes = |route: &Route| route.receives && route.codec(payload_type).is_some();
        let route = match mid {
            Some(mid) => self
                .routes
                .iter()
                .position(|route| route.mid.as_bytes() == mid && takes(route))?,
            None => {
                let mut takers = (0..self.routes.len()).filter(|&i| takes(&self.routes[i]));
                let only = takers.next()?;
                if takers.next().is_some() {
                    return None;
                }
                only
            }
        };
        let (id, is_rtx) = {
            let route = &self.routes[route];
            (route.id, route.is_rtx(payload_type))
        };
        let rids = &self.routes[route].rids;
        let encoding = rid
            .or(repaired)
            .and_then(|rid| rids.iter().position(|found| found.as_bytes() == rid));
        let base = if is_rtx {
            self.base_of(id, encoding)
        } else {
            None
        };
        // A retransmission whose original was never seen is of no use yet.
        if !is_rtx || base.is_some() {
            self.learn(ssrc, id, encoding, is_rtx, base);
        }
        Some(Found {
            route,
            encoding,
            ssrc,
            is_rtx,
            base,
        })
    }

    /// The media source of an encoding, or the only one of a transceiver without rids.
    fn base_of(&self, id: TransceiverId, encoding: Option<usize>) -> Option<u32> {
        let mut found = self
            .sources
            .iter()
            .filter(|(_, s)| s.id == id && !s.is_rtx && s.encoding == encoding)
            .map(|(&ssrc, _)| ssrc);
        let base = found.next()?;
        found.next().is_none().then_some(base)
    }
}
