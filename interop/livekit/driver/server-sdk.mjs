// npm livekit-server-sdk: node server-sdk.mjs rule URL KEY SECRET
import http from 'node:http';
import { DataPacket_Kind, RoomServiceClient, TwirpError, WebhookReceiver } from 'livekit-server-sdk';
import { base, holds, key, launch, open, pageServer, run, say, secret, token, until } from './lib.mjs';

const rooms = new RoomServiceClient(base.replace(/\/$/, ''), key, secret);
const code = (work) => work.then(() => 'ok', (error) => error.code ?? error.message);
let browser;

await run({
  async rule() {
    const made = await rooms.createRoom({ name: 'ruled', maxParticipants: 2, metadata: 'first', emptyTimeout: 60 });
    holds('a room is made', made.name === 'ruled' && made.sid.startsWith('RM_') && made.maxParticipants === 2);
    holds('and listed', (await rooms.listRooms(['ruled', 'nowhere'])).map((room) => room.name).join() === 'ruled');
    holds('its metadata changes', (await rooms.updateRoomMetadata('ruled', 'second')).metadata === 'second');
    holds('who is not there is not found', (await code(rooms.getParticipant('ruled', 'nobody'))) === 'not_found');
    holds('a room that is not there is not found', (await code(rooms.deleteRoom('nowhere'))) === 'not_found');
    const stranger = new RoomServiceClient(base.replace(/\/$/, ''), key, 'x'.repeat(40));
    holds('a forged token is refused', (await code(stranger.listRooms())) !== 'ok');

    const pages = await pageServer({ '/': `<script src="/npm/livekit-client/dist/livekit-client.umd.js"></script>
      <script>window.events = []; window.enter = async (url, token) => {
        window.room = new LivekitClient.Room();
        room.on('disconnected', (reason) => events.push(['disconnected', reason]));
        room.on('dataReceived', (payload, from, kind, topic) => events.push(['data', new TextDecoder().decode(payload), topic]));
        room.on('roomMetadataChanged', (metadata) => events.push(['metadata', metadata]));
        room.localParticipant.registerRpcMethod('echo', async ({ payload }) => payload.toUpperCase());
        await room.connect(url, token);
        await room.localParticipant.setMicrophoneEnabled(true);
      };</script>` });
    browser = await launch();
    const page = await open(browser, pages.url);
    await page.evaluate(([url, token]) => enter(url, token), [base, await token('ruled', 'ada', { canUpdateOwnMetadata: false })]);
    const ada = await until('ada is in', async () => {
      const [one] = await rooms.listParticipants('ruled');
      return one?.tracks.length === 1 && one;
    });
    holds('with what she may do', ada.permission.canPublish && ada.permission.canSubscribe);
    const muted = await rooms.mutePublishedTrack('ruled', 'ada', ada.tracks[0].sid, true);
    holds('her track is silenced', muted.muted);
    await until('and she follows', () => page.evaluate(() => room.localParticipant.getTrackPublication('microphone').isMuted));
    holds('but not opened', (await code(rooms.mutePublishedTrack('ruled', 'ada', ada.tracks[0].sid, false))) !== 'ok');
    const changed = await rooms.updateParticipant('ruled', 'ada', { metadata: 'hers', name: 'Ada', attributes: { handRaisedAt: '1' } });
    holds('she is changed', changed.metadata === 'hers' && changed.name === 'Ada' && changed.attributes.handRaisedAt === '1');
    await until('and knows it', () => page.evaluate(() => room.localParticipant.attributes.handRaisedAt === '1'));
    await rooms.sendData('ruled', new TextEncoder().encode('hello'), DataPacket_Kind.RELIABLE, { topic: 'greeting' });
    await until('data arrives', () => page.evaluate(() => events.some(([name, text, topic]) => name === 'data' && text === 'hello' && topic === 'greeting')));
    await rooms.updateRoomMetadata('ruled', 'third');
    await until('metadata arrives', () => page.evaluate(() => events.some(([name, text]) => name === 'metadata' && text === 'third')));
    if (rooms.performRpc) {
      holds('a call is answered', (await rooms.performRpc('ruled', 'ada', 'echo', 'hi')) === 'HI');
    }
    await rooms.updateParticipant('ruled', 'ada', { permission: { canPublish: false, canSubscribe: true } });
    await until('what she may not publish ends', () => page.evaluate(() => !room.localParticipant.getTrackPublication('microphone')));
    await rooms.removeParticipant('ruled', 'ada');
    await until('she is sent away', () => page.evaluate(() => events.some(([name, reason]) => name === 'disconnected' && reason === 4)));
    await rooms.deleteRoom('ruled');
    holds('the room is gone', (await rooms.listRooms(['ruled'])).length === 0);
    pages.close();
  },
}, async () => browser?.close());
