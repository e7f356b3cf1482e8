// npm livekit-server-sdk: node server-sdk.mjs rule URL KEY SECRET
import http from 'node:http';
import { DataPacket_Kind, RoomServiceClient, TwirpError, WebhookReceiver } from 'livekit-server-sdk';
import { base, holds, key, launch, more, open, pageServer, run, say, secret, token, until } from './lib.mjs';

const rooms = new RoomServiceClient(base.replace(/\/$/, ''), key, secret);
const code = (work) => work.then(() => 'ok', (error) => error.code ?? error.message);
let browser;

const PAGE = { '/': `<script src="/npm/livekit-client/dist/livekit-client.umd.js"></script>
      <script>window.events = []; window.enter = async (url, token) => {
        window.room = new LivekitClient.Room();
        room.on('disconnected', (reason) => events.push(['disconnected', reason]));
        room.on('dataReceived', (payload, from, kind, topic) => events.push(['data', new TextDecoder().decode(payload), topic]));
        room.on('roomMetadataChanged', (metadata) => events.push(['metadata', metadata]));
        room.localParticipant.registerRpcMethod('echo', async ({ payload }) => payload.toUpperCase());
        await room.connect(url, token);
        await room.localParticipant.setMicrophoneEnabled(true);
      };</script>` };

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

    const pages = await pageServer(PAGE);
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

  async subscriptions() {
    const pages = await pageServer(PAGE);
    browser = await launch();
    const enters = async (identity) => {
      const page = await open(browser, pages.url);
      await page.evaluate(([url, token]) => enter(url, token), [base, await token('shared', identity)]);
      return page;
    };
    const [ada, grace] = [await enters('ada'), await enters('grace')];
    const hears = () => grace.evaluate(() => Boolean(room.remoteParticipants.get('ada')?.getTrackPublication('microphone')?.track));
    await until('grace hears ada', hears);
    const sid = await ada.evaluate(() => room.localParticipant.getTrackPublication('microphone').trackSid);
    await rooms.updateSubscriptions('shared', 'grace', [sid], false);
    await until('and no more', async () => !(await hears()));
    await rooms.updateSubscriptions('shared', 'grace', [sid], true);
    await until('and again', hears);
    holds('who is not there is not found', (await code(rooms.updateSubscriptions('shared', 'nobody', [sid], true))) === 'not_found');
    pages.close();
  },

  async webhooks() {
    const receiver = new WebhookReceiver(key, secret);
    const events = [];
    let refusals = 2;
    const server = http.createServer(async (request, response) => {
      const body = await new Response(request).text();
      // A receiver that is down for a moment is told again.
      if (refusals-- > 0) { response.writeHead(503).end(); return; }
      try {
        events.push(await receiver.receive(body, request.headers.authorization));
        response.end();
      } catch (error) {
        say(`not verified: ${error.message}`);
        response.writeHead(401).end();
      }
    });
    await new Promise((done) => server.listen(Number(more), '127.0.0.1', done));
    const pages = await pageServer(PAGE);
    browser = await launch();
    const page = await open(browser, pages.url);
    await page.evaluate(([url, token]) => enter(url, token), [base, await token('hooked', 'ada')]);
    const told = (name) => events.find(({ event }) => event === name);
    await until('the track is told of', () => told('track_published'));
    await page.evaluate(() => room.disconnect());
    await until('and her leaving', () => told('participant_left'));
    await rooms.deleteRoom('hooked');
    await until('and the end', () => told('room_finished'));
    const order = events.map(({ event }) => event);
    holds(`in their order: ${order}`, order.join() === 'room_started,participant_joined,track_published,track_unpublished,participant_left,room_finished');
    holds('about her', told('participant_joined').participant.identity === 'ada' && told('participant_joined').room.name === 'hooked');
    holds('about her track', told('track_published').track.sid.startsWith('TR_') && told('track_published').participant.identity === 'ada');
    holds('each with an id of its own', new Set(events.map(({ id }) => id)).size === events.length);
    const forged = await receiver.receive('{"event":"room_started"}', 'x').then(() => 'taken', () => 'refused');
    holds('a forged one would not be taken', forged === 'refused');
    pages.close();
    server.close();
  },
}, async () => browser?.close());
