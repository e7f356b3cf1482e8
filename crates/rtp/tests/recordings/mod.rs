//! What browsers sent, in `tests/fixtures/browser`: rtpdump files and notes, written by `cargo xtask capture`.
#![allow(dead_code, unreachable_pub, reason = "each user has its own part")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use visavis_rtp::file::ivf::{IvfHeader, IvfWriter};
use visavis_rtp::file::rtpdump::RtpDumpReader;
use visavis_rtp::payload::Codec;
use visavis_rtp::{ExtensionKind, ExtensionMap, Packet, PayloadType, SequenceExtender, Ssrc};

/// One recording.
pub struct Recording {
    pub name: String,
    /// Payload types, their names and format parameters.
    pub codecs: BTreeMap<u8, (String, String)>,
    pub extensions: ExtensionMap,
    /// The rids of simulcast.
    pub rids: BTreeMap<u32, String>,
    /// RTP and RTCP in the order of arrival, with milliseconds since the beginning.
    pub packets: Vec<(u32, Vec<u8>)>,
}

/// The folder of the recordings.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rtp/tests/fixtures/browser")
}

/// All recordings, in the order of their names.
pub fn all() -> Vec<Recording> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let is_dump = path.extension().is_some_and(|ending| ending == "rtpdump");
            is_dump.then(|| path.file_stem().unwrap().to_str().unwrap().to_owned())
        })
        .collect();
    names.sort();
    assert!(names.len() > 15);
    names.iter().map(|name| Recording::read(name)).collect()
}

impl Recording {
    pub fn read(name: &str) -> Self {
        let notes = std::fs::read_to_string(folder().join(format!("{name}.txt"))).unwrap();
        let dump = std::fs::read(folder().join(format!("{name}.rtpdump"))).unwrap();
        let mut recording = Self {
            name: name.to_owned(),
            codecs: BTreeMap::new(),
            extensions: ExtensionMap::new(),
            rids: BTreeMap::new(),
            packets: Vec::new(),
        };
        for line in notes.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["codec", number, codec, _, ref parameters @ ..] => {
                    let value = (codec.to_owned(), parameters.join(" "));
                    recording.codecs.insert(number.parse().unwrap(), value);
                }
                ["extension", id, uri] => {
                    let kind = ExtensionKind::from_uri(uri).unwrap_or_else(|| panic!("{uri}"));
                    recording
                        .extensions
                        .insert(id.parse().unwrap(), kind)
                        .unwrap();
                }
                ["source", ssrc, rid] if rid != "-" => {
                    recording.rids.insert(ssrc.parse().unwrap(), rid.to_owned());
                }
                _ => {}
            }
        }
        let mut reader = RtpDumpReader::new(&dump[..]).unwrap();
        let mut packet = Vec::new();
        while let Some(dumped) = reader.read_packet(&mut packet).unwrap() {
            // Dumps mark RTCP by a length of zero; the recorder knew RTP alone by its own rule.
            recording.packets.push((dumped.offset, packet.clone()));
        }
        recording
    }

    /// The RTP packets.
    pub fn rtp(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let is_rtp = |bytes: &[u8]| !visavis_rtp::is_rtcp(bytes);
        self.packets
            .iter()
            .filter(move |(_, bytes)| is_rtp(bytes))
            .map(|(at, bytes)| (*at, &bytes[..]))
    }

    /// What a payload type stands for.
    pub fn codec(&self, payload_type: PayloadType) -> Option<Codec> {
        Codec::from_name(&self.codecs.get(&payload_type.value())?.0)
    }

    pub fn payload_type(&self, name: &str) -> Option<PayloadType> {
        let found = self
            .codecs
            .iter()
            .find(|(_, codec)| codec.0.eq_ignore_ascii_case(name));
        found.and_then(|(&number, _)| PayloadType::new(number))
    }

    /// The packets of each media source by their extended sequence numbers, as they were sent.
    pub fn sources(&self) -> BTreeMap<Ssrc, BTreeMap<u64, (u32, &[u8])>> {
        let mut extenders: BTreeMap<Ssrc, SequenceExtender> = BTreeMap::new();
        let mut sources: BTreeMap<Ssrc, BTreeMap<u64, (u32, &[u8])>> = BTreeMap::new();
        for (at, bytes) in self.rtp() {
            let packet = Packet::parse(bytes).unwrap();
            let ssrc = packet.ssrc();
            let sequence = extenders.entry(ssrc).or_default().extend(packet.sequence());
            sources
                .entry(ssrc)
                .or_default()
                .insert(sequence, (at, bytes));
        }
        sources
    }
}

/// A folder that goes when the test ends.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        // Tests of one program run side by side.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("visavis-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether ffmpeg is here; if not, says that the test is skipped.
pub fn has_ffmpeg() -> bool {
    let found = Command::new("ffmpeg").arg("-version").output().is_ok();
    if !found {
        assert!(std::env::var_os("CI").is_none(), "ffmpeg is not installed");
        println!("skipped: ffmpeg is not installed");
    }
    found
}

/// One encoded frame: its RTP timestamp and its bytes.
pub type Encoded = (u32, Vec<u8>);

/// Writes frames to a file, decodes it by ffmpeg, and gives the size of each picture.
pub fn decode(folder: &Folder, name: &str, codec: Codec, frames: &[Encoded]) -> Vec<(u32, u32)> {
    let fourcc = match codec {
        Codec::Vp8 => *b"VP80",
        Codec::Vp9 => *b"VP90",
        Codec::Av1 => *b"AV01",
        Codec::H264 => {
            let path = folder.join(&format!("{name}.h264"));
            let stream: Vec<u8> = frames.iter().flat_map(|frame| frame.1.clone()).collect();
            std::fs::write(&path, stream).unwrap();
            return decoded_pictures(&path);
        }
        other => panic!("{name}: {other:?}"),
    };
    let path = folder.join(&format!("{name}.ivf"));
    let file = BufWriter::new(File::create(&path).unwrap());
    let header = IvfHeader {
        codec: fourcc,
        width: 320,
        height: 180,
        timebase: (30, 1),
        frames: 0,
    };
    let mut writer = IvfWriter::new(file, header).unwrap();
    // Over a switch two pictures may follow within less than a frame's time: ffmpeg is given even times.
    for (index, (_, data)) in frames.iter().enumerate() {
        writer.write_frame(index as u64, data).unwrap();
    }
    writer.finish().unwrap();
    decoded_pictures(&path)
}

/// Decodes a file by ffmpeg and gives the size of each picture; panics where ffmpeg complains.
pub fn decoded_pictures(path: &Path) -> Vec<(u32, u32)> {
    let path = path.to_str().unwrap();
    let output = Command::new("ffmpeg")
        // The spatial layers of a VP9 superframe are pictures of one moment: the last one counts.
        .args(["-v", "error", "-xerror", "-i", path])
        .args(["-fps_mode", "vfr", "-f", "null", "-"])
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && complaints.is_empty(),
        "{path}: {complaints}"
    );
    let entries = "frame=width,height";
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v:0", "-show_frames"])
        .args(["-show_entries", entries, "-of", "csv=p=0", path])
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(complaints.is_empty(), "{path}: {complaints}");
    let text = String::from_utf8_lossy(&output.stdout);
    let size = |line: &str| {
        let mut numbers = line.split(',').filter_map(|number| number.parse().ok());
        Some((numbers.next()?, numbers.next()?))
    };
    text.lines().filter_map(size).collect()
}
