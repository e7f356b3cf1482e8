"""GStreamer's webrtcbin as a WHIP or WHEP client: python3 gstreamer.py whip|whep URL TOKEN [CODEC]. Publishes until SIGTERM, plays for some seconds; prints what it saw; ends by
DELETE."""
import signal
import sys
import urllib.error
import urllib.request
from urllib.parse import urljoin

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

Gst.init(None)
role, endpoint, token = sys.argv[1:4]
codec = sys.argv[4] if len(sys.argv) > 4 else "vp8"
SECONDS = 6
ENCODERS = {
    "vp8": "vp8enc deadline=1 keyframe-max-dist=30 ! rtpvp8pay picture-id-mode=15-bit pt=96",
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 bframes=0 ! video/x-h264,profile=constrained-baseline ! rtph264pay config-interval=-1 pt=96",
}
PARAMETERS = {"vp8": "", "h264": ",packetization-mode=(string)1,profile-level-id=(string)42e01f"}
NAMES = {"vp8": "VP8", "h264": "H264"}
AUDIO = "audiotestsrc is-live=true wave=sine ! audioconvert ! audioresample ! opusenc ! rtpopuspay pt=97"
loop = GLib.MainLoop()
counts = {"audio": 0, "video": 0}
session = None
kept = []  # What the bindings would free too early.


def http(method, url, body=None, kind="application/sdp"):
    headers = {"Authorization": f"Bearer {token}"}
    if body is not None:
        headers["Content-Type"] = kind
    try:
        return urllib.request.urlopen(urllib.request.Request(url, body and body.encode(), headers, method=method), timeout=10)
    except urllib.error.HTTPError as error:
        sys.exit(f"{method} {url}: {error.code} {error.read().decode()}")


if role == "whip":
    pipeline = Gst.parse_launch(
        f"webrtcbin name=peer bundle-policy=max-bundle "
        f"videotestsrc is-live=true pattern=ball ! video/x-raw,width=640,height=360,framerate=15/1 ! {ENCODERS[codec]} "
        f"! application/x-rtp,media=video,encoding-name={NAMES[codec]},payload=96 ! peer. "
        f"{AUDIO} ! application/x-rtp,media=audio,encoding-name=OPUS,payload=97 ! peer.")
    peer = pipeline.get_by_name("peer")
else:
    pipeline = Gst.Pipeline.new("player")
    peer = Gst.ElementFactory.make("webrtcbin", "peer")
    peer.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
    pipeline.add(peer)
    for caps in (f"application/x-rtp,media=video,encoding-name={NAMES[codec]},clock-rate=90000,payload=96{PARAMETERS[codec]}",
                 "application/x-rtp,media=audio,encoding-name=OPUS,clock-rate=48000,payload=97,encoding-params=(string)2"):
        peer.emit("add-transceiver", GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY, Gst.Caps.from_string(caps))


def counted(kind):
    def handoff(*_):
        counts[kind] += 1
    return handoff


def pad_added(_, pad):
    if pad.direction != Gst.PadDirection.SRC:
        return
    kind = pad.get_current_caps().get_structure(0).get_string("media")
    decode = {"audio": "rtpopusdepay ! opusdec", "video": {"vp8": "rtpvp8depay ! vp8dec", "h264": "rtph264depay ! avdec_h264"}[codec]}[kind]
    branch = Gst.parse_bin_from_description(f"queue ! {decode} ! fakesink name=end sync=false signal-handoffs=true", True)
    branch.get_by_name("end").connect("handoff", counted(kind))
    pipeline.add(branch)
    branch.sync_state_with_parent()
    pad.link(branch.get_static_pad("sink"))


def gathered(*_):
    global session
    if session or peer.get_property("ice-gathering-state") != GstWebRTC.WebRTCICEGatheringState.COMPLETE:
        return
    offer = peer.get_property("local-description").sdp.as_text()
    response = http("POST", endpoint, offer)
    if "-v" in sys.argv:
        print(offer, flush=True)
    session = urljoin(endpoint, response.headers["Location"])
    print("answered", response.status, flush=True)
    _, sdp = GstSdp.SDPMessage.new_from_text(response.read().decode())
    answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, sdp)
    kept.extend([sdp, answer])
    peer.emit("set-remote-description", answer, Gst.Promise.new())


def offered(promise, *_):
    promise.wait()
    reply = promise.get_reply()
    offer = reply["offer"]
    kept.extend([promise, reply, offer])
    peer.emit("set-local-description", offer, Gst.Promise.new())



def negotiate(*_):
    promise = Gst.Promise.new_with_change_func(offered, None)
    kept.append(promise)
    peer.emit("create-offer", None, promise)


def state(*_):
    now = peer.get_property("connection-state")
    print("connection", now.value_nick, flush=True)
    if now == GstWebRTC.WebRTCPeerConnectionState.CONNECTED and role == "whep":
        GLib.timeout_add_seconds(SECONDS, loop.quit)


peer.connect("pad-added", pad_added)
peer.connect("notify::ice-gathering-state", lambda *_: GLib.idle_add(gathered))
peer.connect("notify::connection-state", state)
if role == "whip":
    GLib.timeout_add(500, negotiate)  # When both encoders have said what they make.
pipeline.set_state(Gst.State.PLAYING)
if role == "whep":
    GLib.idle_add(negotiate)
GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGTERM, loop.quit)
GLib.timeout_add_seconds(60, loop.quit)
loop.run()
connected = peer.get_property("connection-state") == GstWebRTC.WebRTCPeerConnectionState.CONNECTED
if session:
    print("ended", http("DELETE", session).status, flush=True)
pipeline.set_state(Gst.State.NULL)
print("counts", counts, flush=True)
ok = connected and session and (role == "whip" or min(counts.values()) > 20)
if ok:
    print(f"seen: GStreamer {Gst.version_string().split()[-1]} webrtcbin: {role} {codec}", flush=True)
sys.exit(0 if ok else 1)
