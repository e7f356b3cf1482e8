// Pages that need no LiveKit client: PeerJS, relays, WHIP and WHEP. node pages.mjs SCENARIO URL KEY SECRET
import { randomBytes } from 'node:crypto';
import { base, holds, launch, open, pageServer, run, say, token, until } from './lib.mjs';

const { host, port, hostname } = new URL(base);
const ws = `ws://${host}`;
const browser = await launch();
const servers = [];
const serve = async (...given) => {
  const server = await pageServer(...given);
  servers.push(server);
  return server.url;
};
const playing = (page) => until('a picture plays', () => page.evaluate(() => {
  const video = document.querySelector('video.remote');
  return video && video.videoWidth > 0 && video.currentTime > 0.5 && video.videoWidth;
}));

async function call(script) {
  const url = await serve({ '/': `<body><video class=remote autoplay playsinline muted></video><script src="${script}"></script><script>
    window.begin = (id, options) => new Promise((done, failed) => {
      window.peer = id ? new Peer(id, options) : new Peer(options);
      peer.on('open', done);
      peer.on('error', failed);
      const show = (stream) => { document.querySelector('video').srcObject = stream; };
      peer.on('call', async (call) => {
        call.answer(await navigator.mediaDevices.getUserMedia({ audio: true, video: true }));
        call.on('stream', show);
      });
      window.ring = async (to) => {
        const call = peer.call(to, await navigator.mediaDevices.getUserMedia({ audio: true, video: true }));
        call.on('stream', show);
      };
    });
  </script>` });
  const options = { host: hostname, port: Number(port), path: '/', key: 'lwjd5qra8257b9', secure: false, config: { iceServers: [] } };
  const [ada, grace] = [await open(browser, url), await open(browser, url)];
  const number = String(30000 + randomBytes(2).readUInt16BE() % 29999);
  const id = await grace.evaluate(([id, options]) => begin(id, options), [number, options]);
  holds('the chosen id is given', id === number);
  const given = await ada.evaluate(([options]) => begin(undefined, options), [options]);
  holds(`an id is given: ${given}`, typeof given === 'string' && given.length > 0);
  const third = await open(browser, url);
  const taken = await third.evaluate(([id, options]) => begin(id, options).then(() => 'open', (error) => error.type), [number, options]);
  holds(`an id that is taken is refused (${taken})`, taken === 'unavailable-id');
  await ada.evaluate((to) => ring(to), number);
  await Promise.all([playing(ada), playing(grace)]);
}

// The grammar of a page that signals {message: …}, which its server sends on wrapped, with a user.
const RELAY_PAGE = `<body><video class=remote autoplay playsinline muted></video><script>
  window.begin = async (url) => {
    window.seen = [];
    window.socket = new WebSocket(url);
    const pc = new RTCPeerConnection(null);
    window.pc = pc;
    const say = (message) => socket.send(JSON.stringify({ message }));
    pc.onicecandidate = ({ candidate }) => candidate && say({ type: 'candidate', label: candidate.sdpMLineIndex, id: candidate.sdpMid, candidate: candidate.candidate });
    pc.ontrack = ({ streams: [stream] }) => { document.querySelector('video').srcObject = stream; };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
    pc.addStream(stream);
    socket.onmessage = async ({ data }) => {
      const { message, user } = JSON.parse(data);
      seen.push([message.type ?? message, user]);
      if (message === 'got user media') { await pc.setLocalDescription(await pc.createOffer()); say(pc.localDescription); }
      else if (message.type === 'offer') { await pc.setRemoteDescription(message); await pc.setLocalDescription(await pc.createAnswer()); say(pc.localDescription); }
      else if (message.type === 'answer') await pc.setRemoteDescription(message);
      else if (message.type === 'candidate') await pc.addIceCandidate({ sdpMLineIndex: message.label, sdpMid: message.id, candidate: message.candidate });
    };
    if (socket.readyState !== 1) await new Promise((done) => { socket.onopen = done; });
    say('got user media');
  };
</script>`;

// A mesh over a bare relay: every page offers to who joins; old ways of showing a stream, by the shim.
const MESH_PAGE = `<script src="SHIM"></script><body><script>
  window.begin = async (url, name) => {
    window.peers = {};
    const socket = new WebSocket(url);
    await new Promise((done) => { socket.onopen = done; });
    const stream = await new Promise((done, failed) => navigator.getUserMedia({ audio: true, video: true }, done, failed));
    const peer = (other) => {
      const pc = peers[other] = new RTCPeerConnection({ iceServers: [] });
      pc.addStream(stream);
      pc.onicecandidate = ({ candidate }) => candidate && socket.send(JSON.stringify({ name, target: other, type: 'NEW-ICE-FOUND', candidate }));
      pc.onaddstream = ({ stream }) => {
        const video = document.createElement('video');
        video.className = 'remote'; video.autoplay = true; video.muted = true;
        video.src = URL.createObjectURL(stream);
        document.body.append(video);
      };
      return pc;
    };
    socket.onmessage = async ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === 'JOINED-ROOM') {
        const pc = peer(message.name);
        await pc.setLocalDescription(await pc.createOffer());
        socket.send(JSON.stringify({ name, target: message.name, type: 'OFFER', sdp: pc.localDescription }));
      }
      if (message.target !== name) return;
      if (message.type === 'OFFER') {
        const pc = peer(message.name);
        await pc.setRemoteDescription(message.sdp);
        await pc.setLocalDescription(await pc.createAnswer());
        socket.send(JSON.stringify({ name, target: message.name, type: 'ANSWER', sdp: pc.localDescription }));
      }
      if (message.type === 'ANSWER') await peers[message.name].setRemoteDescription(message.sdp);
      if (message.type === 'NEW-ICE-FOUND') await peers[message.name].addIceCandidate(message.candidate);
    };
    socket.send(JSON.stringify({ name, type: 'JOINED-ROOM' }));
  };
</script>`;

const WHIP_PAGE = `<body><video class=remote autoplay playsinline muted></video><script>
  window.post = async (url, token, sdp) => fetch(url, { method: 'POST', headers: { 'content-type': 'application/sdp', authorization: 'Bearer ' + token }, body: sdp });
  const gathered = (pc) => new Promise((done) => { if (pc.iceGatheringState === 'complete') done(); pc.onicegatheringstatechange = () => pc.iceGatheringState === 'complete' && done(); });
  window.begin = async (url, token, publishes) => {
    const pc = window.pc = new RTCPeerConnection();
    if (publishes) {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
      for (const track of stream.getTracks()) pc.addTransceiver(track, { direction: 'sendonly', streams: [stream] });
    } else {
      for (const kind of ['audio', 'video']) pc.addTransceiver(kind, { direction: 'recvonly' });
      const stream = new MediaStream();
      document.querySelector('video').srcObject = stream;
      pc.ontrack = ({ track }) => stream.addTrack(track);
    }
    await pc.setLocalDescription();
    await gathered(pc);
    const response = await post(url, token, pc.localDescription.sdp);
    window.session = new URL(response.headers.get('location'), url).href;
    window.etag = response.headers.get('etag');
    if (response.status !== 201) throw new Error(response.status + ' ' + await response.text());
    await pc.setRemoteDescription({ type: 'answer', sdp: await response.text() });
    return response.status;
  };
</script>`;

await run({
  async peerjs() {
    say('PeerJS 1.5.5');
    await call('/npm/peerjs/dist/peerjs.js');
    say('PeerJS 0.3.14');
    // Its dependency `reliable`, which is not on npm, is part of its bundle; package.json names another in its place.
    await call('/npm/peerjs-legacy/dist/peer.js');
  },

  async relay() {
    const url = await serve({ '/': RELAY_PAGE });
    const [ada, grace] = [await open(browser, url), await open(browser, url)];
    await ada.evaluate((url) => begin(url), `${ws}/ws/chat/st/`);
    await grace.evaluate((url) => begin(url), `${ws}/ws/chat/st/`);
    await Promise.all([playing(ada), playing(grace)]);
    const seen = await ada.evaluate(() => seen);
    holds('nothing came back to its sender', seen.filter(([type]) => type === 'offer').length === 0 || (await grace.evaluate(() => seen)).filter(([type]) => type === 'offer').length === 0);
    holds('the envelope names a user', seen.every(([, user]) => typeof user === 'string'));

    const mesh = await serve({ '/': MESH_PAGE.replace('SHIM', `${base}legacy-shim.js`) });
    const all = [];
    for (const name of ['one', 'two', 'three']) {
      const page = await open(browser, mesh);
      await page.evaluate(([url, name]) => begin(url, name), [`${ws}/meeting/1.abc/`, name]);
      all.push(page);
    }
    for (const page of all) {
      await until('a page of the mesh shows the two others', () => page.evaluate(() => {
        const videos = [...document.querySelectorAll('video.remote')];
        return videos.length === 2 && videos.every((video) => video.videoWidth > 0 && video.currentTime > 0);
      }));
    }
    const ice = await (await fetch(`${base}meeting/1.abc/ice`)).json();
    holds('ICE servers are listed', Array.isArray(ice));
  },

  async whip() {
    const url = await serve({ '/': WHIP_PAGE });
    const room = `whip-${randomBytes(4).toString('hex')}`;
    const [ada, grace] = [await open(browser, url), await open(browser, url)];
    const jwt = await token(room, 'ada');
    const none = await fetch(`${base}whip/${room}`, { method: 'POST', headers: { 'content-type': 'application/sdp' }, body: 'v=0' });
    holds('no token, no session', none.status === 401);
    const headers = { 'content-type': 'text/plain', authorization: `Bearer ${jwt}` };
    holds('another type is refused', (await fetch(`${base}whip/${room}`, { method: 'POST', headers, body: 'v=0' })).status === 415);
    headers['content-type'] = 'application/sdp';
    holds('noise is refused', (await fetch(`${base}whip/${room}`, { method: 'POST', headers, body: 'v=0\r\nnoise' })).status === 400);
    const early = await fetch(`${base}whep/${room}`, { method: 'POST', headers, body: 'v=0' });
    holds('nothing to play yet', early.status === 409 && early.headers.get('retry-after'));
    holds('ada publishes', (await ada.evaluate((all) => begin(...all), [`${base}whip/${room}`, jwt, true])) === 201);
    await until('she is connected', () => ada.evaluate(() => pc.connectionState === 'connected'));
    holds('grace plays', (await grace.evaluate((all) => begin(...all), [`${base}whep/${room}`, await token(room, 'grace'), false])) === 201);
    say(await playing(grace));
    const session = await ada.evaluate(() => session);
    const patch = (more) => fetch(session, { method: 'PATCH', headers: { 'content-type': 'application/trickle-ice-sdpfrag', authorization: `Bearer ${jwt}`, ...more }, body: 'a=end-of-candidates\r\n' });
    holds('a patch needs If-Match', (await patch({})).status === 428);
    holds('and the right one', (await patch({ 'if-match': '"x"' })).status === 412);
    holds('and is taken', (await patch({ 'if-match': await ada.evaluate(() => etag) })).status === 204);
    const end = () => fetch(session, { method: 'DELETE', headers: { authorization: `Bearer ${jwt}` } });
    holds('a session is its bearer’s', (await fetch(session, { method: 'DELETE' })).status === 401);
    holds('the session ends', (await end()).status === 200);
    holds('once', (await end()).status === 404);
    const options = await fetch(`${base}whip/${room}`, { method: 'OPTIONS' });
    holds('it says what it takes', options.headers.get('accept-post') === 'application/sdp');
  },
}, async () => { await browser.close(); for (const server of servers) server.close(); });
