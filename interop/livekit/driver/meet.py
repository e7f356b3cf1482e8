"""What the backend of La Suite Meet asks of LiveKit, with its library and its arguments: python3 meet.py backend URL KEY SECRET PORT.

Meet makes tokens, keeps rooms' metadata, mutes, changes and removes participants, tells everyone of things, and hears of rooms by
webhook at PORT. PyPI `livekit` stands in for its pages."""
import asyncio
import json
import sys
import uuid

from aiohttp import web
from checks import holds, say, until
from livekit import api, rtc
from livekit.protocol.agent_dispatch import CreateAgentDispatchRequest
from livekit.protocol.models import ParticipantInfo

base, key, secret, port = sys.argv[2:6]
SOURCES = ["camera", "microphone", "screen_share", "screen_share_audio"]


def token(room, identity, name, role):
    """As Meet makes them: who has no role has an attribute that is null."""
    rules = role in ("owner", "administrator")
    grants = api.VideoGrants(
        room=room, room_join=True, room_admin=rules, can_update_own_metadata=False, can_publish=bool(SOURCES), can_publish_sources=SOURCES, can_subscribe=True)
    attributes = {"color": "hsl(200, 60%, 40%)", "room_role": role, "is_authenticated": "true" if role else "false"}
    return api.AccessToken(api_key=key, api_secret=secret).with_grants(grants).with_identity(identity).with_name(name).with_attributes(attributes).to_jwt()


async def ask(call):
    """Meet opens a client for each call."""
    client = api.LiveKitAPI(url=base, api_key=key, api_secret=secret)
    try:
        return await call(client)
    finally:
        await client.aclose()


async def refusal(call):
    try:
        await ask(call)
    except api.TwirpError as error:
        return error.code
    return None


class Page:
    """A participant, and what it was told."""

    def __init__(self):
        self.room = rtc.Room()
        self.data = []
        self.metadata = []
        self.attributes = []
        self.names = []
        self.permissions = []
        self.gone = []
        self.room.on("data_received", lambda packet: self.data.append(json.loads(packet.data)))
        self.room.on("room_metadata_changed", lambda _, new: self.metadata.append(json.loads(new)))
        self.room.on("participant_attributes_changed", lambda changed, who: self.attributes.append((who.identity, changed)))
        self.room.on("participant_name_changed", lambda who, _, new: self.names.append((who.identity, new)))
        self.room.on("disconnected", self.gone.append)

    async def enter(self, room, identity, name, role):
        await self.room.connect(base.replace("http", "ws", 1), token(room, identity, name, role))
        self.source = rtc.AudioSource(48000, 1)
        self.track = rtc.LocalAudioTrack.create_audio_track("voice", self.source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        self.voice = await self.room.local_participant.publish_track(self.track, options)
        return self


async def main():
    told, receiver = [], api.WebhookReceiver(api.TokenVerifier(key, secret))

    async def hook(request):
        told.append(receiver.receive((await request.read()).decode("utf-8"), request.headers["Authorization"]))
        return web.Response()

    hooks = web.Application()
    hooks.router.add_post("/hook", hook)
    runner = web.AppRunner(hooks)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(port)).start()

    room, owner, guest = str(uuid.uuid4()), str(uuid.uuid4()), str(uuid.uuid4())
    ada = await Page().enter(room, owner, "Ada", "owner")
    grace = await Page().enter(room, guest, "Grace", None)
    me = grace.room.local_participant
    holds("a guest without a role is let in", me.attributes.get("is_authenticated") == "false" and not me.attributes.get("room_role"))
    await until("and seen by the owner", lambda: ada.room.remote_participants.get(guest))
    holds("with her name and colour", ada.room.remote_participants[guest].name == "Grace"
          and ada.room.remote_participants[guest].attributes["color"].startswith("hsl"))
    await until("room_started is told of by the room's name", lambda: any(event.event == "room_started" and event.room.name == room for event in told))

    # Notifications: the room is looked for, then everyone is told.
    found = await ask(lambda client: client.room.list_rooms(api.ListRoomsRequest(names=[room])))
    holds("the room is found by its name", len(found.rooms) == 1 and found.rooms[0].num_participants == 2)
    holds("and no other", not (await ask(lambda client: client.room.list_rooms(api.ListRoomsRequest(names=["nowhere"])))).rooms)
    notification = {"type": "screenRecordingStarted", "data": {}}
    await ask(lambda client: client.room.send_data(api.SendDataRequest(room=room, data=json.dumps(notification).encode(), kind="RELIABLE")))
    await until("everyone is told", lambda: notification in ada.data and notification in grace.data)

    # The room's metadata is read, added to, and written.
    metadata = {**json.loads(found.rooms[0].metadata or "{}"), "recording_mode": "transcript", "recording_status": "started"}
    await ask(lambda client: client.room.update_room_metadata(api.UpdateRoomMetadataRequest(room=room, metadata=json.dumps(metadata))))
    await until("the pages have the room's metadata", lambda: metadata in ada.metadata and metadata in grace.metadata)
    again = await ask(lambda client: client.room.list_rooms(api.ListRoomsRequest(names=[room])))
    holds("and the next call too", json.loads(again.rooms[0].metadata) == metadata)

    # Participants: asked for, changed (metadata is the text "null" then), muted, removed.
    info = await ask(lambda client: client.room.get_participant(api.RoomParticipantIdentity(room=room, identity=guest)))
    holds("a participant in the meeting is one", info.state != ParticipantInfo.State.DISCONNECTED)
    listed = await ask(lambda client: client.room.list_participants(api.ListParticipantsRequest(room=room)))
    holds("both are listed", {one.identity for one in listed.participants} == {owner, guest})
    holds("with the sources that they may publish", all(len(one.permission.can_publish_sources) == 4 for one in listed.participants))

    def change(identity=guest, **what):
        request = api.UpdateParticipantRequest(room=room, identity=identity, metadata=json.dumps(None), **what)
        return lambda client: client.room.update_participant(request)

    await ask(change(attributes={"handRaisedAt": "2026-11-27T12:00:00+00:00"}))
    await until("a raised hand is seen", lambda: any(who == guest and "handRaisedAt" in changed for who, changed in ada.attributes))
    await ask(change(attributes={"handRaisedAt": ""}))
    await until("and its lowering", lambda: not ada.room.remote_participants[guest].attributes.get("handRaisedAt"))
    holds("the other attributes stay", ada.room.remote_participants[guest].attributes["color"].startswith("hsl"))
    await ask(change(name="Grace H."))
    await until("a new name is seen", lambda: (guest, "Grace H.") in ada.names)
    await ask(change(attributes={"room_role": "administrator"}))
    await until("a new role is seen", lambda: ada.room.remote_participants[guest].attributes.get("room_role") == "administrator")
    fewer = {"can_subscribe": True, "can_publish": True, "can_publish_data": True, "can_publish_sources": ["CAMERA"], "can_update_metadata": False}
    changed = await ask(change(permission=fewer))
    holds("a source is taken", list(changed.permission.can_publish_sources) == [rtc.TrackSource.SOURCE_CAMERA])
    await until("and the track of that source with it", lambda: not ada.room.remote_participants[guest].track_publications)

    sid = ada.voice.sid
    muted = await ask(lambda client: client.room.mute_published_track(
        api.MuteRoomTrackRequest(room=room, identity=owner, track_sid=sid, muted=True)))
    holds("a microphone is muted", muted.track.muted)
    await until("where it is, too", lambda: ada.room.local_participant.track_publications[sid].muted)

    gone = str(uuid.uuid4())
    for what, call in {
        "muting": lambda client: client.room.mute_published_track(api.MuteRoomTrackRequest(room=room, identity=gone, track_sid=sid, muted=True)),
        "removing": lambda client: client.room.remove_participant(api.RoomParticipantIdentity(room=room, identity=gone)),
        "changing": change(gone, name="x"),
        "looking for": lambda client: client.room.get_participant(api.RoomParticipantIdentity(room=room, identity=gone)),
    }.items():
        holds(f"{what} who is not there is `not_found`", await refusal(call) == "not_found")
    deleted = await refusal(lambda client: client.room.delete_room(api.DeleteRoomRequest(room="nowhere")))
    holds("so is deleting a room that is not there", deleted == "not_found")

    # What this server has not: Meet says so to its user, and goes on.
    output = api.EncodedFileOutput(file_type=api.EncodedFileType.MP4, filepath="recordings/1.mp4", s3=api.S3Upload(bucket="meet"))
    request = api.RoomCompositeEgressRequest(room_name=room, file_outputs=[output], layout="speaker-light")
    holds("composed recordings are refused by name", await refusal(lambda client: client.egress.start_room_composite_egress(request)) == "unimplemented")
    agent = CreateAgentDispatchRequest(agent_name="multi-user-transcriber", room=room)
    holds("and agents", await refusal(lambda client: client.agent_dispatch.create_dispatch(agent)) == "unimplemented")

    await ask(lambda client: client.room.remove_participant(api.RoomParticipantIdentity(room=room, identity=guest)))
    await until("who is removed is told why", lambda: rtc.DisconnectReason.PARTICIPANT_REMOVED in grace.gone)
    await ask(lambda client: client.room.delete_room(api.DeleteRoomRequest(room=room)))
    await until("and who is in a deleted room", lambda: rtc.DisconnectReason.ROOM_DELETED in ada.gone)
    await until("room_finished is told of", lambda: told and told[-1].event == "room_finished" and told[-1].room.name == room)
    await runner.cleanup()
    say("seen: livekit-api with Meet's calls")


asyncio.run(main())
