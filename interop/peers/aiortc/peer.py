"""aiortc: it encodes a picture and silence, and decodes what comes."""

import asyncio
import json
import os
import sys
import traceback

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import aiortc
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError, VideoStreamTrack

from common import pattern, say, summary


class Peer:
    def __init__(self):
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.inbox = asyncio.Queue()
        self.closed = asyncio.Event()
        self.channel = None
        self.counts = {"audio": 0, "video": 0}
        self.pc.on("datachannel", self.follow)
        self.pc.on("track", lambda track: asyncio.ensure_future(self.watch(track)))

    def follow(self, channel):
        self.channel = channel
        channel.on("message", lambda message: self.inbox.put_nowait(message))
        channel.on("close", self.closed.set)

    async def watch(self, track):
        try:
            while True:
                await track.recv()
                self.counts[track.kind] += 1
        except MediaStreamError:
            pass

    def add_tracks(self):
        self.pc.addTrack(AudioStreamTrack())
        self.pc.addTrack(VideoStreamTrack())

    def description(self):
        description = self.pc.localDescription
        return {"type": description.type, "sdp": description.sdp}

    async def offer(self, data=False, media=False, bundles=True):
        if media:
            self.add_tracks()
        if data:
            self.follow(self.pc.createDataChannel("chat"))
        await self.pc.setLocalDescription(await self.pc.createOffer())
        return self.description()

    async def answer(self, sdp, data=False, media=False, bundles=True):
        await self.pc.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        if media:
            self.add_tracks()
        await self.pc.setLocalDescription(await self.pc.createAnswer())
        return self.description()

    async def accept(self, sdp):
        await self.pc.setRemoteDescription(RTCSessionDescription(sdp, "answer"))

    async def send(self, text=None, size=None):
        while self.channel is None or self.channel.readyState != "open":
            await asyncio.sleep(0.01)
        self.channel.send(pattern(size) if text is None else text)

    async def receive(self):
        return summary(await self.inbox.get())

    async def media(self):
        while min(self.counts.values()) < 20:
            await asyncio.sleep(0.02)
        return self.counts

    async def over(self):
        await self.closed.wait()
        return True

    async def close(self):
        await self.pc.close()


async def main():
    loop = asyncio.get_running_loop()
    peer = Peer()

    async def handle(request):
        identifier, what = request.pop("id"), request.pop("do")
        try:
            say({"id": identifier, "value": await getattr(peer, what)(**request)})
        except Exception:
            say({"id": identifier, "error": traceback.format_exc()})

    say({"ready": True, "name": "aiortc", "version": aiortc.__version__, "features": ["data", "audio", "video"]})
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asyncio.ensure_future(handle(json.loads(line)))
    os._exit(0)


asyncio.run(main())
