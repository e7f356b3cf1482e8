//! Which media section and stream a packet belongs to: by mid, by what was learnt of its source, by its
//! payload type (RFC 9143 section 9.2); and simulcast streams by rid (RFC 8852).

use std::collections::BTreeMap;

use visavis_rtp::extension::{MidExtension, RepairedRidExtension, RidExtension};
use visavis_rtp::{ExtensionMap, Mid, Packet, PayloadType, Rid, Ssrc};

/// What SDP says about a media section.
#[derive(Debug, Clone)]
pub struct SectionRules {
    /// The section.
    pub mid: Mid,
    /// The payload types that it negotiated.
    pub payload_types: Vec<PayloadType>,
    /// The sources that it announced (`a=ssrc`).
    pub sources: Vec<Ssrc>,
}

/// Where a packet belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Index of the section, in the order of [`SourceTable::set_sections`].
    pub section: usize,
    /// The simulcast stream, if its source ever said so.
    pub rid: Option<Rid>,
    /// The simulcast stream that it repairs, if its source ever said so.
    pub repaired_rid: Option<Rid>,
    /// Whether the source was not known before.
    pub new_source: bool,
}

/// What a table counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourceStats {
    /// Packets that belong nowhere.
    pub unroutable: u64,
    /// Sources that were forgotten because there were too many.
    pub evicted: u64,
}

#[derive(Debug, Clone, Copy)]
struct Source {
    section: usize,
    rid: Option<Rid>,
    repaired_rid: Option<Rid>,
    /// Announced by SDP: never forgotten.
    announced: bool,
    /// Counts packets of the table, to find the source that was silent longest.
    used: u64,
}

/// The sources of a bundled transport, and where they belong. A flood of sources costs the ones that
/// were silent longest, never those that SDP announced.
#[derive(Debug)]
pub struct SourceTable {
    max_sources: usize,
    sections: Vec<SectionRules>,
    /// The section that alone negotiated a payload type.
    by_payload_type: [Option<u8>; 128],
    sources: BTreeMap<Ssrc, Source>,
    clock: u64,
    stats: SourceStats,
}

impl SourceTable {
    /// A table for up to `max_sources` sources, 256 being plenty for a browser.
    pub fn new(max_sources: usize) -> Self {
        Self {
            max_sources: max_sources.max(1),
            sections: Vec::new(),
            by_payload_type: [None; 128],
            sources: BTreeMap::new(),
            clock: 0,
            stats: SourceStats::default(),
        }
    }

    /// What it counted.
    pub const fn stats(&self) -> &SourceStats {
        &self.stats
    }

    /// Sets the media sections, as a negotiation ended. Sources that were learnt stay with their mid.
    pub fn set_sections(&mut self, sections: Vec<SectionRules>) {
        let before = std::mem::replace(&mut self.sections, sections);
        let sections = &self.sections;
        self.sources.retain(|_, source| {
            let mid = before.get(source.section).map(|section| section.mid);
            let section = sections.iter().position(|section| Some(section.mid) == mid);
            source.section = section.unwrap_or(0);
            source.announced = false;
            section.is_some()
        });
        self.by_payload_type = [None; 128];
        let mut shared = [false; 128];
        for (index, section) in self.sections.iter().enumerate() {
            for payload_type in &section.payload_types {
                let slot = usize::from(payload_type.value());
                match self.by_payload_type[slot] {
                    Some(other) if usize::from(other) != index => shared[slot] = true,
                    _ => self.by_payload_type[slot] = u8::try_from(index).ok(),
                }
            }
        }
        for (slot, shared) in self.by_payload_type.iter_mut().zip(shared) {
            if shared {
                *slot = None;
            }
        }
        for index in 0..self.sections.len() {
            for ssrc in self.sections[index].sources.clone() {
                let source = self.sources.entry(ssrc).or_insert(Source {
                    section: index,
                    rid: None,
                    repaired_rid: None,
                    announced: true,
                    used: 0,
                });
                source.section = index;
                source.announced = true;
            }
        }
    }

    /// Finds where a packet belongs, and learns what it says about its source.
    pub fn route(&mut self, packet: &Packet<'_>, map: &ExtensionMap) -> Option<Route> {
        self.clock += 1;
        let ssrc = packet.ssrc();
        let mid = packet.extension::<MidExtension>(map);
        let section = match mid {
            // A mid that no section has is dropped, whatever else is known.
            Some(MidExtension(mid)) => self.section_of(mid),
            None => self
                .sources
                .get(&ssrc)
                .map(|source| source.section)
                .or_else(|| {
                    let slot = usize::from(packet.payload_type().value());
                    self.by_payload_type[slot].map(usize::from)
                }),
        };
        let Some(section) = section else {
            self.stats.unroutable += 1;
            return None;
        };
        let rid = packet.extension::<RidExtension>(map).map(|it| it.0);
        let repaired_rid = packet.extension::<RepairedRidExtension>(map).map(|it| it.0);
        let new_source = !self.sources.contains_key(&ssrc);
        if new_source {
            self.make_room();
        }
        let clock = self.clock;
        let source = self.sources.entry(ssrc).or_insert(Source {
            section,
            rid: None,
            repaired_rid: None,
            announced: false,
            used: clock,
        });
        source.section = section;
        source.rid = rid.or(source.rid);
        source.repaired_rid = repaired_rid.or(source.repaired_rid);
        source.used = clock;
        Some(Route {
            section,
            rid: source.rid,
            repaired_rid: source.repaired_rid,
            new_source,
        })
    }

    /// Learns a source's section otherwise, e.g. from RTCP's SDES.
    pub fn bind(&mut self, ssrc: Ssrc, mid: Mid) {
        let Some(section) = self.section_of(mid) else {
            return;
        };
        if !self.sources.contains_key(&ssrc) {
            self.make_room();
        }
        let used = self.clock;
        self.sources
            .entry(ssrc)
            .and_modify(|source| source.section = section)
            .or_insert(Source {
                section,
                rid: None,
                repaired_rid: None,
                announced: false,
                used,
            });
    }

    /// Forgets a source that said goodbye.
    pub fn forget(&mut self, ssrc: Ssrc) {
        self.sources.remove(&ssrc);
    }

    /// The source of a simulcast stream of a section: what it sends, or what repairs it.
    pub fn find(&self, section: usize, rid: Rid, repair: bool) -> Option<Ssrc> {
        self.sources
            .iter()
            .filter(|(_, source)| source.section == section)
            .find(|(_, source)| match repair {
                true => source.repaired_rid == Some(rid),
                false => source.rid == Some(rid) && source.repaired_rid.is_none(),
            })
            .map(|(&ssrc, _)| ssrc)
    }

    /// How many sources are known.
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether no source is known.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    fn section_of(&self, mid: Mid) -> Option<usize> {
        self.sections.iter().position(|section| section.mid == mid)
    }

    fn make_room(&mut self) {
        if self.sources.len() < self.max_sources {
            return;
        }
        let oldest = self
            .sources
            .iter()
            .filter(|(_, source)| !source.announced)
            .min_by_key(|(_, source)| source.used)
            .map(|(&ssrc, _)| ssrc);
        if let Some(oldest) = oldest {
            self.sources.remove(&oldest);
            self.stats.evicted += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use visavis_rtp::{ExtensionKind, Header, PacketWriter};

    fn map() -> ExtensionMap {
        [
            (1, ExtensionKind::Mid),
            (2, ExtensionKind::Rid),
            (3, ExtensionKind::RepairedRid),
        ]
        .into_iter()
        .collect()
    }

    fn packet(ssrc: u32, payload_type: u8, extensions: &[(u8, &str)]) -> Vec<u8> {
        let mut buffer = vec![0; 200];
        let header = Header {
            ssrc: Ssrc(ssrc),
            payload_type: PayloadType::new(payload_type).unwrap(),
            ..Header::default()
        };
        let mut writer = PacketWriter::new(&mut buffer, header).unwrap();
        for (id, text) in extensions {
            writer.extension(*id, text.as_bytes()).unwrap();
        }
        let len = writer.finish_with(b"x").unwrap();
        buffer.truncate(len);
        buffer
    }

    fn table() -> SourceTable {
        let pt = |value| PayloadType::new(value).unwrap();
        let mut table = SourceTable::new(10);
        table.set_sections(vec![
            SectionRules {
                mid: Mid::new("a").unwrap(),
                payload_types: vec![pt(111)],
                sources: vec![Ssrc(50)],
            },
            SectionRules {
                mid: Mid::new("v").unwrap(),
                payload_types: vec![pt(96), pt(97)],
                sources: vec![],
            },
            SectionRules {
                mid: Mid::new("w").unwrap(),
                payload_types: vec![pt(96)],
                sources: vec![],
            },
        ]);
        table
    }

    fn route(table: &mut SourceTable, bytes: &[u8]) -> Option<Route> {
        table.route(&Packet::parse(bytes).unwrap(), &map())
    }

    #[test]
    fn mid_source_and_payload_type_lead_to_the_section() {
        let mut table = table();
        let section = |route: Option<Route>| route.map(|route| route.section);
        assert_eq!(section(route(&mut table, &packet(50, 96, &[]))), Some(0));
        assert_eq!(section(route(&mut table, &packet(1, 111, &[]))), Some(0));
        assert_eq!(section(route(&mut table, &packet(2, 97, &[]))), Some(1));
        // Two sections have 96: only a mid helps, and then sticks.
        assert_eq!(section(route(&mut table, &packet(3, 96, &[]))), None);
        assert_eq!(
            section(route(&mut table, &packet(3, 96, &[(1, "w")]))),
            Some(2)
        );
        assert_eq!(section(route(&mut table, &packet(3, 96, &[]))), Some(2));
        assert_eq!(
            section(route(&mut table, &packet(3, 96, &[(1, "zz")]))),
            None
        );
        assert_eq!(table.stats().unroutable, 2);
    }

    #[test]
    fn simulcast_streams_and_their_repair_are_found_by_rid() {
        let mut table = table();
        let first = route(&mut table, &packet(10, 96, &[(1, "v"), (2, "h")])).unwrap();
        assert!(first.new_source);
        route(&mut table, &packet(11, 97, &[(1, "v"), (3, "h")]));
        // Later packets say nothing.
        let again = route(&mut table, &packet(10, 96, &[])).unwrap();
        assert_eq!(again.rid, Rid::new("h"));
        assert!(!again.new_source);
        let rid = Rid::new("h").unwrap();
        assert_eq!(table.find(1, rid, false), Some(Ssrc(10)));
        assert_eq!(table.find(1, rid, true), Some(Ssrc(11)));
    }

    #[test]
    fn a_flood_of_sources_is_bounded_and_spares_the_announced() {
        let mut table = table();
        for ssrc in 1000..100_000 {
            route(&mut table, &packet(ssrc, 111, &[]));
        }
        assert_eq!(table.len(), 10);
        assert!(!route(&mut table, &packet(50, 0, &[])).unwrap().new_source);
    }
}
