//! Clips that ffmpeg encodes go through packets and come out as files that ffmpeg decodes to as many
//! frames, without a complaint. Skipped, with the reason printed, where ffmpeg or the encoder is missing.
#![allow(clippy::print_stdout, reason = "a skipped test says why")]

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use visavis_rtp::file::annexb::{AnnexBCodec, AnnexBReader};
use visavis_rtp::file::ivf::{IvfReader, IvfWriter};
use visavis_rtp::file::ogg::{OggReader, OggWriter};
use visavis_rtp::file::y4m::Y4mReader;
use visavis_rtp::payload::opus::OpusPacket;
use visavis_rtp::payload::{Codec, FrameParams, Received};

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("visavis-rtp-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs ffmpeg or ffprobe; its standard output, or why it failed.
fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(["-v", "error"])
        .args(arguments)
        .output()
        .map_err(|error| format!("cannot start {program}: {error}"))?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || !complaints.is_empty() {
        return Err(complaints.into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Encodes a clip of 30 pictures; false, with the reason printed, if that is not possible here.
fn encode(arguments: &[&str], path: &Path) -> bool {
    let mut all = vec![
        "-f",
        "lavfi",
        "-i",
        "testsrc=size=480x272:rate=30:duration=1",
    ];
    all.extend_from_slice(arguments);
    all.extend(["-y", path.to_str().unwrap()]);
    run("ffmpeg", &all)
        .inspect_err(|why| println!("skipped: ffmpeg cannot make {}: {why}", path.display()))
        .is_ok()
}

/// Frames that ffmpeg decodes, without a complaint.
fn decoded_frames(path: &Path) -> u32 {
    let path = path.to_str().unwrap();
    run("ffmpeg", &["-xerror", "-i", path, "-f", "null", "-"]).expect("decodes without error");
    run(
        "ffprobe",
        &[
            "-count_frames",
            "-select_streams",
            "0",
            "-show_entries",
            "stream=nb_read_frames",
            "-of",
            "csv=p=0",
            path,
        ],
    )
    .expect("decodes without error")
    .trim_end_matches(',')
    .parse()
    .expect("a number of frames")
}

/// Sends frames through packets of `max_payload` bytes, and gives what arrives.
fn through_packets(codec: Codec, frames: &[Vec<u8>], max_payload: usize) -> Vec<Vec<u8>> {
    let mut packetizer = codec.packetizer().unwrap();
    let mut depacketizer = codec.depacketizer().unwrap();
    let mut sequence = 65_530;
    let mut out = vec![0; max_payload];
    let mut arrived = Vec::new();
    let mut keyframes = 0;
    for (index, frame) in frames.iter().enumerate() {
        let params = FrameParams::plain(index == 0);
        packetizer.start(frame, &params, max_payload).unwrap();
        while let Some(fragment) = packetizer.next_payload(frame, &mut out).unwrap() {
            let payload = &out[..fragment.len];
            let info = codec.inspect(payload).unwrap();
            if index == 0 && fragment.start_of_frame {
                assert!(info.keyframe && info.start_of_frame, "{codec:?}: {info:?}");
            }
            let frame = depacketizer
                .push(Received {
                    sequence,
                    timestamp: index as u32 * 3000,
                    marker: fragment.marker,
                    begins_picture: false,
                    payload,
                })
                .unwrap();
            sequence += 1;
            if let Some(frame) = frame {
                keyframes += u32::from(frame.keyframe);
                arrived.push(frame.data.to_vec());
            }
        }
    }
    assert_eq!(arrived.len(), frames.len());
    assert_eq!(keyframes, 1);
    arrived
}

fn ivf_clip(name: &str, codec: Codec, encoder: &[&str]) {
    let folder = Folder::new(name);
    let clip = folder.join("clip.ivf");
    if !encode(encoder, &clip) {
        return;
    }
    let mut reader = IvfReader::new(BufReader::new(File::open(&clip).unwrap())).unwrap();
    let header = *reader.header();
    assert_eq!((header.width, header.height), (480, 272));
    let mut frames = Vec::new();
    let mut times = Vec::new();
    let mut frame = Vec::new();
    while let Some(time) = reader.read_frame(&mut frame).unwrap() {
        frames.push(frame.clone());
        times.push(time);
    }
    for max_payload in [200, 1200] {
        let arrived = through_packets(codec, &frames, max_payload);
        if codec != Codec::Av1 {
            assert_eq!(arrived, frames);
        }
        let result = folder.join("result.ivf");
        let file = BufWriter::new(File::create(&result).unwrap());
        let mut writer = IvfWriter::new(file, header).unwrap();
        for (frame, time) in arrived.iter().zip(&times) {
            writer.write_frame(*time, frame).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(decoded_frames(&result), decoded_frames(&clip));
        if codec == Codec::Av1 {
            mp4_decodes(&folder, codec, &arrived);
        }
    }
}

/// Writes frames of 30 a second into an MP4 file, which ffmpeg has to decode and to know the size and length of.
#[cfg(feature = "mp4")]
fn mp4_decodes(folder: &Folder, codec: Codec, frames: &[Vec<u8>]) {
    use visavis_rtp::file::mp4::{Mp4Codec, Mp4Writer};

    let result = folder.join("result.mp4");
    let codec = match codec {
        Codec::H264 => Mp4Codec::H264,
        Codec::H265 => Mp4Codec::H265,
        _ => Mp4Codec::Av1,
    };
    let file = BufWriter::new(File::create(&result).unwrap());
    let mut writer = Mp4Writer::new(file, codec).unwrap();
    // One and a half fragments, so that there are several; what cannot be decoded yet is left out.
    writer
        .write_frame(0, false, frames.last().unwrap())
        .unwrap();
    for (index, frame) in frames.iter().enumerate() {
        let nanos = index as u64 * 50_000_000;
        writer.write_frame(nanos, index == 0, frame).unwrap();
    }
    drop(writer.finish().unwrap());
    assert_eq!(decoded_frames(&result), frames.len() as u32);
    let arguments = [
        "-show_entries",
        "stream=width,height:format=duration",
        "-of",
        "csv=p=0",
    ];
    let path = result.to_str().unwrap();
    let told = run("ffprobe", &[&arguments[..], &[path]].concat()).unwrap();
    assert!(told.starts_with("480,272\n1.48"), "{told}");
}

#[cfg(not(feature = "mp4"))]
fn mp4_decodes(_: &Folder, _: Codec, _: &[Vec<u8>]) {}

fn annexb_clip(name: &str, codec: Codec, kind: AnnexBCodec, encoder: &[&str]) {
    let folder = Folder::new(name);
    let clip = folder.join(name);
    if !encode(encoder, &clip) {
        return;
    }
    let mut reader = AnnexBReader::new(File::open(&clip).unwrap(), kind);
    let mut frames = Vec::new();
    let mut frame = Vec::new();
    while reader.read_frame(&mut frame).unwrap() {
        frames.push(frame.clone());
    }
    assert_eq!(frames.len(), 30);
    for max_payload in [200, 1200] {
        let result = folder.join(&format!("result-{name}"));
        let mut file = BufWriter::new(File::create(&result).unwrap());
        let arrived = through_packets(codec, &frames, max_payload);
        for frame in &arrived {
            file.write_all(frame).unwrap();
        }
        file.flush().unwrap();
        drop(file);
        assert_eq!(decoded_frames(&result), 30);
        mp4_decodes(&folder, codec, &arrived);
    }
}

#[test]
fn vp8_clip_decodes_after_its_way_through_packets() {
    ivf_clip(
        "vp8",
        Codec::Vp8,
        &["-c:v", "libvpx", "-deadline", "realtime", "-g", "100"],
    );
}

#[test]
fn vp9_clip_decodes_after_its_way_through_packets() {
    let encoder = [
        "-c:v",
        "libvpx-vp9",
        "-deadline",
        "realtime",
        "-cpu-used",
        "8",
        "-g",
        "100",
    ];
    ivf_clip("vp9", Codec::Vp9, &encoder);
}

#[test]
fn av1_clip_decodes_after_its_way_through_packets() {
    let encoder = [
        "-c:v",
        "libaom-av1",
        "-usage",
        "realtime",
        "-cpu-used",
        "8",
        "-g",
        "100",
    ];
    ivf_clip("av1", Codec::Av1, &encoder);
}

#[test]
fn h264_clip_decodes_after_its_way_through_packets() {
    let encoder = [
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-g",
        "100",
        "-slices",
        "3",
        "-pix_fmt",
        "yuv420p",
    ];
    annexb_clip("clip.h264", Codec::H264, AnnexBCodec::H264, &encoder);
}

#[test]
fn h265_clip_decodes_after_its_way_through_packets() {
    let encoder = [
        "-c:v",
        "libx265",
        "-preset",
        "ultrafast",
        "-g",
        "100",
        "-x265-params",
        "log-level=none:slices=2:bframes=0",
        "-pix_fmt",
        "yuv420p",
    ];
    annexb_clip("clip.hevc", Codec::H265, AnnexBCodec::H265, &encoder);
}

#[test]
fn opus_file_decodes_after_its_way_through_packets() {
    let folder = Folder::new("opus");
    let clip = folder.join("clip.ogg");
    let made = run(
        "ffmpeg",
        &[
            "-f",
            "lavfi",
            "-i",
            "sine=frequency=440:duration=2",
            "-c:a",
            "libopus",
            "-y",
            clip.to_str().unwrap(),
        ],
    );
    if let Err(why) = made {
        println!("skipped: ffmpeg cannot make an Opus file: {why}");
        return;
    }
    let mut reader = OggReader::new(BufReader::new(File::open(&clip).unwrap())).unwrap();
    let mut packets = Vec::new();
    let mut packet = Vec::new();
    while reader.read_packet(&mut packet).unwrap() {
        packets.push(packet.clone());
    }
    assert!(packets.len() >= 100);
    let result = folder.join("result.ogg");
    let file = BufWriter::new(File::create(&result).unwrap());
    let mut writer = OggWriter::new(file, 1, *reader.head()).unwrap();
    let mut depacketizer = Codec::Opus.depacketizer().unwrap();
    for (index, packet) in packets.iter().enumerate() {
        let samples = OpusPacket::parse(packet).unwrap().duration();
        assert_eq!(samples, 960);
        let frame = depacketizer
            .push(Received {
                sequence: index as u64,
                timestamp: index as u32 * samples,
                marker: false,
                begins_picture: false,
                payload: packet,
            })
            .unwrap()
            .unwrap();
        writer.write_packet(frame.data, samples).unwrap();
    }
    writer.finish().unwrap();
    assert_eq!(decoded_frames(&result), decoded_frames(&clip));
}

#[test]
fn y4m_of_ffmpeg_is_read() {
    let folder = Folder::new("y4m");
    let clip = folder.join("clip.y4m");
    if !encode(&["-pix_fmt", "yuv420p"], &clip) {
        return;
    }
    let mut reader = Y4mReader::new(BufReader::new(File::open(&clip).unwrap())).unwrap();
    assert_eq!(
        (reader.header().width, reader.header().rate),
        (480, (30, 1))
    );
    let mut count = 0;
    let mut frame = Vec::new();
    while reader.read_frame(&mut frame).unwrap() {
        count += 1;
    }
    assert_eq!(count, 30);
}
