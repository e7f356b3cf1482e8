"""GStreamer's webrtcbin: it encodes a test picture and silence, and decodes what comes."""

import json
import os
import sys
import threading
import traceback

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC

from common import pattern, say, summary

Gst.init(None)

SOURCES = {
    "audio": "audiotestsrc is-live=true wave=silence ! audioconvert ! audioresample ! opusenc ! rtpopuspay pt=111"
    ' ! capsfilter caps="application/x-rtp,media=audio,encoding-name=OPUS,payload=111"',
    "video": "videotestsrc is-live=true ! video/x-raw,width=160,height=120,framerate=15/1 ! vp8enc deadline=1"
    ' ! rtpvp8pay pt=96 picture-id-mode=15-bit ! capsfilter caps="application/x-rtp,media=video,encoding-name=VP8,payload=96"',
}


class Peer:
    """Each request has `done`, which is called with its answer."""

    def __init__(self):
        self.pipeline = Gst.Pipeline.new("peer")
        self.webrtc = Gst.ElementFactory.make("webrtcbin", "webrtc")
        self.pipeline.add(self.webrtc)
        self.webrtc.connect("on-data-channel", lambda _, channel: self.follow(channel))
        self.webrtc.connect("pad-added", self.receive_pad)
        self.channel = None
        self.messages, self.waiting = [], []
        self.is_over, self.when_over = False, []
        self.counts = {"audio": 0, "video": 0}

    def follow(self, channel):
        self.channel = channel
        channel.connect("on-message-string", lambda _, text: GLib.idle_add(self.push, text))
        channel.connect("on-message-data", lambda _, data: GLib.idle_add(self.push, data.get_data()))
        channel.connect("on-close", lambda _: GLib.idle_add(self.closed))

    def push(self, message):
        if self.waiting:
            self.waiting.pop(0)(summary(message))
        else:
            self.messages.append(summary(message))

    def closed(self):
        self.is_over = True
        for done in self.when_over:
            done(True)

    def receive_pad(self, _, pad):
        if pad.get_direction() != Gst.PadDirection.SRC:
            return
        decoder = Gst.ElementFactory.make("decodebin")
        decoder.connect("pad-added", self.decoded_pad)
        self.pipeline.add(decoder)
        decoder.sync_state_with_parent()
        pad.link(decoder.get_static_pad("sink"))

    def decoded_pad(self, _, pad):
        kind = pad.get_current_caps().get_structure(0).get_name().split("/")[0]
        sink = Gst.ElementFactory.make("fakesink")
        sink.set_property("signal-handoffs", True)
        sink.set_property("async", False)
        sink.connect("handoff", lambda *_: self.count(kind))
        self.pipeline.add(sink)
        sink.sync_state_with_parent()
        pad.link(sink.get_static_pad("sink"))

    def count(self, kind):
        self.counts[kind] += 1

    def add_media(self):
        for source in SOURCES.values():
            bin = Gst.parse_bin_from_description(source, True)
            self.pipeline.add(bin)
            bin.get_static_pad("src").link(self.webrtc.request_pad_simple("sink_%u"))
            bin.sync_state_with_parent()

    def describe(self, kind, done):
        def made(promise):
            # The description lives no longer than the reply, which lives no longer than this call.
            reply = promise.get_reply()
            description = reply.get_value(kind)
            self.webrtc.emit("set-local-description", description, Gst.Promise.new())
            GLib.timeout_add(20, look)

        def look():
            if self.webrtc.get_property("ice-gathering-state") != GstWebRTC.WebRTCICEGatheringState.COMPLETE:
                return True
            description = self.webrtc.get_property("local-description")
            done({"type": kind, "sdp": description.sdp.as_text()})
            return False

        promise = Gst.Promise.new_with_change_func(made)
        self.webrtc.emit(f"create-{kind}", None, promise)

    def set_remote(self, kind, sdp, then):
        _, message = GstSdp.SDPMessage.new_from_text(sdp)
        type = getattr(GstWebRTC.WebRTCSDPType, kind.upper())
        description = GstWebRTC.WebRTCSessionDescription.new(type, message)
        promise = Gst.Promise.new_with_change_func(lambda _: GLib.idle_add(then) and None)
        self.webrtc.emit("set-remote-description", description, promise)

    def set_bundles(self, bundles):
        policy = GstWebRTC.WebRTCBundlePolicy
        self.webrtc.set_property("bundle-policy", policy.MAX_BUNDLE if bundles else policy.NONE)

    def offer(self, done, data=False, media=False, bundles=True):
        self.set_bundles(bundles)
        if media:
            # Not before it knows what its encoders make.
            self.webrtc.connect("on-negotiation-needed", lambda _: self.describe("offer", done))
            self.add_media()
        self.pipeline.set_state(Gst.State.PLAYING)
        if data:
            self.follow(self.webrtc.emit("create-data-channel", "chat", None))
        if not media:
            self.describe("offer", done)

    def answer(self, done, sdp, data=False, media=False, bundles=True):
        self.set_bundles(bundles)
        self.pipeline.set_state(Gst.State.PLAYING)

        def then():
            if media:
                self.add_media()
            self.describe("answer", done)

        self.set_remote("offer", sdp, then)

    def accept(self, done, sdp):
        self.set_remote("answer", sdp, lambda: done(None))

    def send(self, done, text=None, size=None):
        def look():
            if self.channel is None or self.channel.get_property("ready-state") != GstWebRTC.WebRTCDataChannelState.OPEN:
                return True
            if text is None:
                self.channel.emit("send-data", GLib.Bytes.new(pattern(size)))
            else:
                self.channel.emit("send-string", text)
            done(None)
            return False

        GLib.timeout_add(10, look)

    def receive(self, done):
        if self.messages:
            done(self.messages.pop(0))
        else:
            self.waiting.append(done)

    def media(self, done):
        def look():
            if min(self.counts.values()) < 20:
                return True
            done(self.counts)
            return False

        GLib.timeout_add(20, look)

    def over(self, done):
        if self.is_over:
            done(True)
        else:
            self.when_over.append(done)

    def close(self, done):
        self.pipeline.set_state(Gst.State.NULL)
        done(None)


def main():
    peer = Peer()
    loop = GLib.MainLoop()

    def handle(request):
        identifier, what = request.pop("id"), request.pop("do")
        try:
            getattr(peer, what)(lambda value: say({"id": identifier, "value": value}), **request)
        except Exception:
            say({"id": identifier, "error": traceback.format_exc()})

    def read():
        for line in sys.stdin:
            GLib.idle_add(handle, json.loads(line))
        os._exit(0)

    version = ".".join(str(part) for part in Gst.version()[:3])
    say({"ready": True, "name": "GStreamer webrtcbin", "version": version, "features": ["data", "audio", "video"]})
    threading.Thread(target=read, daemon=True).start()
    loop.run()


main()
