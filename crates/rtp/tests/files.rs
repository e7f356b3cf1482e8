//! Files that were written are read again, and damaged ones give errors.

use std::io::Cursor;
use std::net::{Ipv4Addr, SocketAddrV4};

use visavis_rtp::file::annexb::{AnnexBCodec, AnnexBReader};
use visavis_rtp::file::ivf::{IvfHeader, IvfReader, IvfWriter};
use visavis_rtp::file::ogg::{OggReader, OggWriter, OpusHead};
use visavis_rtp::file::rtpdump::{RtpDumpReader, RtpDumpWriter};
use visavis_rtp::file::wav::{WavFormat, WavHeader, WavReader, WavWriter};
use visavis_rtp::file::y4m::{Chroma, Y4mHeader, Y4mReader, Y4mWriter};

fn ivf() -> Vec<u8> {
    let header = IvfHeader {
        codec: *b"VP80",
        width: 640,
        height: 480,
        timebase: (30, 1),
        frames: 0,
    };
    let mut writer = IvfWriter::new(Cursor::new(Vec::new()), header).unwrap();
    writer.write_frame(0, b"first").unwrap();
    writer.write_frame(1 << 40, b"").unwrap();
    writer.write_frame(7, &[9; 3000]).unwrap();
    writer.finish().unwrap().into_inner()
}

#[test]
fn ivf_round_trip() {
    let mut reader = IvfReader::new(Cursor::new(ivf())).unwrap();
    assert_eq!(reader.header().frames, 3);
    assert_eq!(reader.header().codec, *b"VP80");
    let mut frame = Vec::new();
    assert_eq!(reader.read_frame(&mut frame).unwrap(), Some(0));
    assert_eq!(frame, b"first");
    assert_eq!(reader.read_frame(&mut frame).unwrap(), Some(1 << 40));
    assert_eq!(reader.read_frame(&mut frame).unwrap(), Some(7));
    assert_eq!(frame.len(), 3000);
    assert_eq!(reader.read_frame(&mut frame).unwrap(), None);
}

#[test]
fn an_ivf_frame_that_claims_gigabytes_is_an_error() {
    let mut bytes = ivf();
    bytes[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut reader = IvfReader::new(Cursor::new(bytes)).unwrap();
    assert!(reader.read_frame(&mut Vec::new()).is_err());
}

fn ogg(packets: &[Vec<u8>]) -> Vec<u8> {
    let head = OpusHead {
        channels: 2,
        pre_skip: 312,
        input_rate: 48_000,
        gain: -256,
    };
    let mut writer = OggWriter::new(Vec::new(), 77, head).unwrap();
    for packet in packets {
        writer.write_packet(packet, 960).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn ogg_round_trip_with_lengths_at_lacing_borders() {
    let packets: Vec<Vec<u8>> = [0, 1, 254, 255, 256, 509, 510, 511, 1275, 20_000, 3]
        .iter()
        .map(|&len| vec![len as u8; len])
        .collect();
    let mut reader = OggReader::new(Cursor::new(ogg(&packets))).unwrap();
    assert_eq!(reader.head().pre_skip, 312);
    assert_eq!(reader.head().gain, -256);
    let mut packet = Vec::new();
    for expected in &packets {
        assert!(reader.read_packet(&mut packet).unwrap());
        assert_eq!(&packet, expected);
    }
    assert!(!reader.read_packet(&mut packet).unwrap());
    assert_eq!(reader.granule(), 960 * packets.len() as u64);
    assert_eq!(reader.damaged_pages(), 0);
}

#[test]
fn a_damaged_ogg_page_is_passed_over_and_counted() {
    let packets: Vec<Vec<u8>> = (0..200).map(|n| vec![n as u8; 100]).collect();
    let mut bytes = ogg(&packets);
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    let mut reader = OggReader::new(Cursor::new(bytes)).unwrap();
    let mut count = 0;
    let mut packet = Vec::new();
    while reader.read_packet(&mut packet).unwrap() {
        assert!(packets.contains(&packet));
        count += 1;
    }
    assert_eq!(reader.damaged_pages(), 1);
    assert!((100..200).contains(&count), "{count}");
}

#[test]
fn y4m_round_trip_with_odd_size() {
    let header = Y4mHeader {
        width: 5,
        height: 3,
        rate: (30_000, 1_001),
        chroma: Chroma::C420,
    };
    assert_eq!(header.frame_len(), 15 + 2 * 6);
    let mut writer = Y4mWriter::new(Vec::new(), header).unwrap();
    let pictures = [vec![1; 27], vec![b'\n'; 27]];
    for picture in &pictures {
        writer.write_frame(picture).unwrap();
    }
    assert!(writer.write_frame(&[0; 26]).is_err());
    let bytes = writer.finish().unwrap();
    let mut reader = Y4mReader::new(Cursor::new(bytes)).unwrap();
    assert_eq!(*reader.header(), header);
    let mut frame = Vec::new();
    for picture in &pictures {
        assert!(reader.read_frame(&mut frame).unwrap());
        assert_eq!(&frame, picture);
    }
    assert!(!reader.read_frame(&mut frame).unwrap());
}

#[test]
fn wav_round_trip_in_every_format() {
    for format in [WavFormat::Pcm16, WavFormat::Alaw, WavFormat::Ulaw] {
        let header = WavHeader {
            format,
            channels: 1,
            rate: 8_000,
        };
        let mut writer = WavWriter::new(Cursor::new(Vec::new()), header).unwrap();
        let samples: Vec<u8> = (0..=254).cycle().take(1_606).collect();
        writer.write(&samples).unwrap();
        let bytes = writer.finish().unwrap().into_inner();
        let mut reader = WavReader::new(Cursor::new(bytes)).unwrap();
        assert_eq!(*reader.header(), header);
        let mut all = Vec::new();
        let mut part = Vec::new();
        loop {
            reader.read(160, &mut part).unwrap();
            if part.is_empty() {
                break;
            }
            all.extend_from_slice(&part);
        }
        assert_eq!(all, samples);
    }
}

#[test]
fn rtpdump_round_trip() {
    let source = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 7), 5004);
    let mut writer = RtpDumpWriter::new(Vec::new(), source, (1_700_000_000, 5)).unwrap();
    let rtp = [0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 5];
    let rtcp = [0x80, 201, 0, 1, 0, 0, 0, 1];
    writer.write_packet(20, &rtp).unwrap();
    writer.write_packet(40, &rtcp).unwrap();
    let bytes = writer.finish().unwrap();
    let mut reader = RtpDumpReader::new(Cursor::new(bytes)).unwrap();
    assert_eq!(reader.source(), source);
    assert_eq!(reader.start(), (1_700_000_000, 5));
    let mut packet = Vec::new();
    let first = reader.read_packet(&mut packet).unwrap().unwrap();
    assert_eq!(
        (first.offset, first.rtcp, packet.as_slice()),
        (20, false, &rtp[..])
    );
    let second = reader.read_packet(&mut packet).unwrap().unwrap();
    assert_eq!(
        (second.offset, second.rtcp, packet.as_slice()),
        (40, true, &rtcp[..])
    );
    assert_eq!(reader.read_packet(&mut packet).unwrap(), None);
}

/// A stream that gives a few bytes at a time.
struct Trickle<'a>(&'a [u8], usize);

impl std::io::Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = self.1.min(buffer.len()).min(self.0.len());
        buffer[..len].copy_from_slice(&self.0[..len]);
        self.0 = &self.0[len..];
        Ok(len)
    }
}

#[test]
fn annexb_access_units_are_found_however_the_stream_comes() {
    // SPS, PPS, IDR; two slices of one picture; SEI and a slice.
    let units: [&[u8]; 3] = [
        &[
            0, 0, 0, 1, 0x67, 1, 2, 0, 0, 0, 1, 0x68, 3, 0, 0, 1, 0x65, 0x88, 9, 9,
        ],
        &[0, 0, 0, 1, 0x41, 0x9a, 1, 0, 0, 0, 1, 0x41, 0x30, 7, 7],
        &[0, 0, 0, 1, 0x06, 5, 1, 0, 0, 0, 1, 0x41, 0x9a, 4],
    ];
    let stream = units.concat();
    for step in 1..40 {
        let mut reader = AnnexBReader::new(Trickle(&stream, step), AnnexBCodec::H264);
        let mut frame = Vec::new();
        for unit in units {
            assert!(reader.read_frame(&mut frame).unwrap());
            assert_eq!(frame, unit, "step {step}");
        }
        assert!(!reader.read_frame(&mut frame).unwrap());
    }
}

#[test]
fn cut_files_give_errors_or_end_but_never_panic() {
    let files = [ivf(), ogg(&[vec![1; 600], vec![2; 3]])];
    for (index, file) in files.iter().enumerate() {
        for end in 0..file.len() {
            let stream = Cursor::new(&file[..end]);
            let mut frame = Vec::new();
            if index == 0 {
                if let Ok(mut reader) = IvfReader::new(stream) {
                    while let Ok(Some(_)) = reader.read_frame(&mut frame) {}
                }
            } else if let Ok(mut reader) = OggReader::new(stream) {
                while let Ok(true) = reader.read_packet(&mut frame) {}
            }
        }
    }
}
