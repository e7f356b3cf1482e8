"""GStreamer's livekitwebrtcsink and livekitwebrtcsrc (the crate gst-plugin-webrtc): python3 gstreamer.py CODEC URL KEY SECRET VISAVIS.
The sink publishes a picture and a tone into a room, the source plays them, and `visavis join` records them."""
import glob
import subprocess
import sys
import tempfile
import time
import uuid

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

Gst.init(None)
codec, base, key, secret, visavis = sys.argv[1:6]
room = f"gst-{uuid.uuid4().hex[:8]}"
SECONDS, LEAST = 8, 50
SIGNALLER = f'signaller::ws-url={base.replace("http", "ws", 1)} signaller::api-key={key} signaller::secret-key={secret} signaller::room-name={room}'
loop = GLib.MainLoop()
counts = {"audio": 0, "video": 0}


def fail(text):
    print(f"failed: {text}", flush=True)
    sys.exit(1)


def holds(what, condition):
    if not condition:
        fail(f"does not hold: {what}")
    print(f"holds: {what}", flush=True)


def watched(pipeline):
    bus = pipeline.get_bus()
    bus.add_signal_watch()
    bus.connect("message::error", lambda _, message: fail(message.parse_error()))
    pipeline.set_state(Gst.State.PLAYING)
    return pipeline


def pad_added(source, pad):
    kind = "video" if pad.get_name().startswith("video") else "audio"
    convert = {"audio": "audioconvert", "video": "videoconvert"}[kind]
    branch = Gst.parse_bin_from_description(f"queue ! decodebin3 name=decode ! {convert} ! fakesink name=end sync=false signal-handoffs=true", True)

    def handoff(*_):
        counts[kind] += 1

    branch.get_by_name("end").connect("handoff", handoff)
    player.add(branch)
    branch.sync_state_with_parent()
    pad.link(branch.get_static_pad("sink"))


def frames(path):
    """The frames that FFmpeg decodes of a file: its kind and how many."""
    probe = ["ffprobe", "-v", "error", "-count_frames", "-show_entries", "stream=codec_type,nb_read_frames", "-of", "csv=p=0", path]
    kind, count = subprocess.run(probe, check=True, capture_output=True, text=True).stdout.strip().split(",")[:2]
    return kind, int(count)


# What is published is encoded by the sink itself.
publisher = watched(Gst.parse_launch(
    f"livekitwebrtcsink name=sink video-caps=video/x-{codec} audio-caps=audio/x-opus {SIGNALLER} signaller::identity=gstreamer "
    "videotestsrc is-live=true pattern=ball ! video/x-raw,width=640,height=360,framerate=15/1 ! sink. "
    "audiotestsrc is-live=true wave=sine ! sink."))
player = Gst.Pipeline.new("player")
# One element alone is no pipeline.
source = Gst.parse_launch(f"livekitwebrtcsrc {SIGNALLER} signaller::identity=player")
player.add(source)
source.connect("pad-added", pad_added)
# It is there before the track, is offered the track's codec first, and webrtcbin answers with the first that it knows.
watched(player)
with tempfile.TemporaryDirectory() as directory:
    recorder = subprocess.Popen([visavis, "join", base, "--room", room, "--record", directory, "--for", str(SECONDS)])
    GLib.timeout_add(100, lambda: recorder.poll() is None or loop.quit())
    GLib.timeout_add_seconds(60, loop.quit)
    started = time.monotonic()
    loop.run()
    holds(f"the recorder left well after {time.monotonic() - started:.1f} s", recorder.poll() == 0)
    found = dict(frames(path) for path in glob.glob(f"{directory}/*.[mw]*[4m]"))
player.set_state(Gst.State.NULL)
publisher.set_state(Gst.State.NULL)
print("recorded", found, "played", counts, flush=True)
holds("picture and sound were recorded", min(found.get("video", 0), found.get("audio", 0)) > LEAST)
holds("picture and sound were played", min(counts.values()) > LEAST)
print(f"seen: GStreamer {Gst.version_string().split()[-1]} livekitwebrtcsink and livekitwebrtcsrc: {codec}", flush=True)
