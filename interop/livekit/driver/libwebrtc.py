"""PyPI `livekit` (Google's libwebrtc inside) against this server: python3 libwebrtc.py SCENARIO URL KEY SECRET."""
import asyncio
import math
import sys
import time
import urllib.request
from importlib.metadata import version

import numpy
from checks import holds, say, until
from livekit import api, rtc

scenario, base, key, secret = sys.argv[1:5]
url = base.replace("http", "ws", 1).rstrip("/")
WIDTH, HEIGHT = 640, 360
people = []


def tone(frame):
    """The share of the sound's energy that is at 440 Hz, 0 to 1, where there is any."""
    samples = numpy.asarray(frame.data, dtype=float)[::frame.num_channels]
    energy = samples @ samples
    if energy < 1e6 * len(samples):
        return 0
    wave = numpy.exp(2j * math.pi * 440 / frame.sample_rate * numpy.arange(len(samples)))
    return abs(samples @ wave) ** 2 / (energy * len(samples) / 2)


class Person:
    """A participant that counts what it hears and sees."""

    def __init__(self, identity):
        self.identity = identity
        self.room = rtc.Room()
        self.frames = {}
        self.tones = {}
        self.events = []
        self.tasks = []
        self.streams = {}

    @classmethod
    async def enter(cls, name, identity, **options):
        person = cls(identity)
        grants = api.VideoGrants(room_join=True, room=name, can_update_own_metadata=True)
        token = api.AccessToken(key, secret).with_identity(identity).with_name(identity).with_grants(grants)

        @person.room.on("track_subscribed")
        def subscribed(track, publication, participant):
            person.tasks.append(asyncio.create_task(person.watch(track, participant.identity)))

        for event in ("reconnecting", "reconnected", "disconnected"):
            person.room.on(event, lambda *_, event=event: person.events.append(event))
        await person.room.connect(url, token.to_jwt(), rtc.RoomOptions(**options))
        people.append(person)
        return person

    async def watch(self, track, who):
        is_video = track.kind == rtc.TrackKind.KIND_VIDEO
        # After a full reconnection a track comes again. What is not closed goes on beside the new stream, and is not for nothing.
        former = self.streams.get((who, is_video))
        if former is not None:
            self.tasks.append(asyncio.create_task(former.aclose()))
        stream = self.streams[who, is_video] = rtc.VideoStream(track) if is_video else rtc.AudioStream(track)
        async for event in stream:
            if is_video:
                self.frames[who] = (self.frames.get(who, (0, 0, 0))[0] + 1, event.frame.width, event.frame.height)
            elif tone(event.frame) > 0.5:
                self.tones[who] = self.tones.get(who, 0) + 1

    async def publish(self, codec=None):
        audio, video = rtc.AudioSource(48000, 1), rtc.VideoSource(WIDTH, HEIGHT)
        local = self.room.local_participant
        microphone = rtc.LocalAudioTrack.create_audio_track("voice", audio)
        await local.publish_track(microphone, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE))
        camera = rtc.LocalVideoTrack.create_video_track("face", video)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA, simulcast=True)
        if codec is not None:
            options.video_codec = codec
        await local.publish_track(camera, options)
        self.tasks += [asyncio.create_task(self.sing(audio)), asyncio.create_task(self.move(video))]

    async def sing(self, source):
        at = 0
        while True:
            frame = rtc.AudioFrame.create(48000, 1, 480)
            frame.data[:] = (8000 * numpy.sin(2 * math.pi * 440 / 48000 * numpy.arange(at, at + 480))).astype(numpy.int16)
            at += 480
            await source.capture_frame(frame)

    async def move(self, source):
        at = 0
        while True:
            at += 1
            bright = bytearray(WIDTH * HEIGHT * 3 // 2)
            for row in range(HEIGHT):
                bright[row * WIDTH:(row + 1) * WIDTH] = bytes([(row + at * 4) % 220 + 16]) * WIDTH
            bright[WIDTH * HEIGHT:] = bytes([128]) * (WIDTH * HEIGHT // 2)
            source.capture_frame(rtc.VideoFrame(WIDTH, HEIGHT, rtc.VideoBufferType.I420, bright))
            await asyncio.sleep(1 / 15)

    async def perceives(self, other, seconds=30):
        before = self.frames.get(other.identity, (0,))[0]
        tones = self.tones.get(other.identity, 0)
        await until(f"{self.identity} sees {other.identity} move",
                    lambda: self.frames.get(other.identity, (0,))[0] > before + 10, seconds)
        await until(f"{self.identity} hears {other.identity}", lambda: self.tones.get(other.identity, 0) > tones + 10, seconds)

    async def report(self):
        """What this participant's client says of what it receives."""
        say(f"{self.identity}: frames {self.frames}, tones {self.tones}, events {self.events}")
        for participant in list(self.room.remote_participants.values()):
            for publication in list(participant.track_publications.values()):
                say(f"{self.identity} of {participant.identity}: {publication.sid}, muted {publication.muted}, track {publication.track}")
                for stats in await publication.track.get_stats() if publication.track else ():
                    if stats.WhichOneof("stats") == "inbound_rtp":
                        say(" ".join(str(stats.inbound_rtp).split()))

    async def leave(self):
        for task in self.tasks:
            task.cancel()
        await self.room.disconnect()


async def meet(name, codec=None, **options):
    ada, grace = await Person.enter(name, "ada", **options), await Person.enter(name, "grace", **options)
    await ada.publish(codec)
    await grace.publish(codec)
    await ada.perceives(grace)
    await grace.perceives(ada)
    return ada, grace


async def data(name):
    ada, grace = await Person.enter(name, "ada"), await Person.enter(name, "grace")
    got = {}

    @grace.room.on("data_received")
    def received(packet):
        got[packet.topic] = (bytes(packet.data), packet.participant.identity)

    async def text(reader, who):
        got["text"] = (await reader.read_all(), who)

    async def file(reader, who):
        got["bytes"] = sum([len(chunk) async for chunk in reader])

    grace.room.register_text_stream_handler("chat", lambda reader, who: asyncio.ensure_future(text(reader, who)))
    grace.room.register_byte_stream_handler("file", lambda reader, who: asyncio.ensure_future(file(reader, who)))

    @grace.room.local_participant.register_rpc_method("add")
    async def add(call):
        return str(sum(map(int, call.payload.split())))

    await until("ada sees grace", lambda: "grace" in ada.room.remote_participants)
    local = ada.room.local_participant
    await local.publish_data(b"hello", reliable=True, topic="reliable")
    await until("a reliable packet arrives", lambda: got.get("reliable") == (b"hello", "ada"))
    async def lossy():
        while "lossy" not in got:
            await local.publish_data(b"hello", reliable=False, topic="lossy")
            await asyncio.sleep(0.1)
    await asyncio.wait_for(lossy(), 10)
    await local.publish_data(b"x", reliable=True, topic="nobody", destination_identities=["alan"])
    await local.send_text("a text of some length " * 5000, topic="chat")
    writer = await local.stream_bytes("zeros", topic="file", total_size=1_000_000)
    for _ in range(100):
        await writer.write(bytes(10_000))
    await writer.aclose()
    await until("a text and a file arrive", lambda: "text" in got and got.get("bytes") == 1_000_000)
    holds("and as they were sent", got["text"] == ("a text of some length " * 5000, "ada"))
    holds("and only to whom they were for", "nobody" not in got)
    answer = await local.perform_rpc(destination_identity="grace", method="add", payload="1 2 3")
    holds("a call is answered", answer == "6")
    try:
        await local.perform_rpc(destination_identity="grace", method="none", payload="")
        holds("an unknown method is an error", False)
    except rtc.RpcError as error:
        holds("an unknown method is an error", error.code == rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD)
    await local.set_attributes({"hand": "up"})
    await local.set_metadata("meta")
    ada_there = grace.room.remote_participants["ada"]
    await until("attributes and metadata are told",
                lambda: ada_there.attributes.get("hand") == "up" and ada_there.metadata == "meta")
    # The application's server calls a participant.
    async with api.LiveKitAPI(base.rstrip("/"), key, secret) as server:
        if hasattr(server.room, "perform_rpc"):
            response = await server.room.perform_rpc(api.PerformRpcRequest(
                room=name, destination_identity="grace", method="add", payload="20 22", response_timeout_ms=5000))
            holds("a call of the application's server is answered", response.payload == "42")
    await ada.leave()
    await grace.leave()


async def encrypted(name):
    def options(shared):
        return {"encryption": rtc.E2EEOptions(key_provider_options=rtc.KeyProviderOptions(shared_key=shared))}
    ada, grace = await Person.enter(name, "ada", **options(b"north")), await Person.enter(name, "grace", **options(b"north"))
    await ada.publish()
    await grace.publish()
    await ada.perceives(grace)
    await grace.perceives(ada)
    eve = await Person.enter(name, "eve", **options(b"south"))
    await asyncio.sleep(4)
    holds(f"without the key nothing is seen or heard ({eve.frames} {eve.tones})", not eve.frames and not eve.tones)
    for person in (ada, grace, eve):
        await person.leave()


async def simulate(name):
    ada, grace = await meet(name)
    kinds = rtc.SimulateScenarioKind
    for kind in (name for name in kinds.keys() if name != "SIMULATE_SERVER_LEAVE"):
        say(f"simulate {kind}")
        ada.events.clear()
        try:
            await asyncio.wait_for(ada.room.simulate_scenario(kinds.Value(kind)), 30)
        except Exception as error:  # A scenario that this client does not have.
            say(f"({type(error).__name__}: {error})")
            continue
        await asyncio.sleep(1)
        await until("ada is connected", lambda: ada.room.connection_state == rtc.ConnectionState.CONN_CONNECTED)
        await ada.perceives(grace, 40)
        await grace.perceives(ada, 40)
    await ada.room.simulate_scenario(kinds.SIMULATE_SERVER_LEAVE)
    await until("the server may end it", lambda: "disconnected" in ada.events)
    await grace.leave()


async def main():
    name = f"py-{scenario}-{time.time_ns() % 1_000_000}"
    try:
        await play(name)
    except AssertionError:
        for person in people:
            try:
                await asyncio.wait_for(person.report(), 10)
            except Exception as error:
                say(f"{person.identity} cannot tell: {type(error).__name__}: {error}")
        with urllib.request.urlopen(f"{base.rstrip('/')}/api/inspect", timeout=10) as view:
            say(view.read().decode())
        raise
    say(f"seen: PyPI livekit {version('livekit')}: {scenario}")


async def play(name):
    if scenario == "meet":
        for person in await meet(name):
            await person.leave()
    elif scenario == "meet-dual":
        for person in await meet(name, single_peer_connection=False):
            await person.leave()
    elif scenario == "codecs":
        for codec in (rtc.VideoCodec.VP9, rtc.VideoCodec.AV1, rtc.VideoCodec.VP8):
            say(f"codec {codec}")
            for person in await meet(f"{name}-{codec}", codec):
                await person.leave()
    else:
        await {"data": data, "encrypted": encrypted, "simulate": simulate}[scenario](name)


asyncio.run(asyncio.wait_for(main(), 240))
