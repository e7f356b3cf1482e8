// npm livekit-client in headless Chromium: node browser.mjs SCENARIO URL KEY SECRET
import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { base, holds, launch, more, open, pageServer, run, say, token, until } from './lib.mjs';

const room = `test-${randomBytes(4).toString('hex')}`;
const pages = await pageServer({
  '/': `<!doctype html><body><script src="/npm/livekit-client/dist/livekit-client.umd.js"></script><script>
    const L = LivekitClient;
    L.setLogLevel('debug');
    window.events = [];
    window.tracks = {};
    window.enter = async (url, token, options = {}, connect = {}) => {
      // Small pictures: what is tested is the path, not the encoder.
      const { passphrase, ...rest } = options;
      options = rest;
      let keys;
      if (passphrase) {
        keys = new L.ExternalE2EEKeyProvider();
        await keys.setKey(passphrase);
        options.encryption = { keyProvider: keys, worker: new Worker('/npm/livekit-client/dist/livekit-client.e2ee.worker.js') };
      }
      window.room = new L.Room({ videoCaptureDefaults: { resolution: { width: 640, height: 360, frameRate: 15 } }, ...options });
      const note = (name) => (...args) => events.push([name, ...args.map((one) => one?.sid ?? one?.identity ?? (typeof one === 'object' ? null : one))]);
      for (const name of Object.values(L.RoomEvent)) room.on(name, note(name));
      room.on('trackSubscribed', (track, publication, participant) => {
        const element = track.attach();
        element.muted = false;
        if (track.kind === 'video') { element.style.width = '1280px'; element.style.height = '720px'; }
        document.body.append(element);
        tracks[participant.identity + ' ' + publication.source] = track;
      });
      if (passphrase) await room.setE2EEEnabled(true);
      await room.connect(url, token, connect);
      return room.localParticipant.sid;
    };
    // Frames and audio that arrived from a participant.
    window.received = async (identity) => {
      const sum = { frames: 0, width: 0, packets: 0, energy: 0 };
      for (const [name, track] of Object.entries(tracks)) {
        if (!name.startsWith(identity + ' ')) continue;
        const report = await track.receiver?.getStats();
        report?.forEach((one) => {
          if (one.type !== 'inbound-rtp') return;
          sum.frames += one.framesDecoded ?? 0;
          sum.width = Math.max(sum.width, one.frameWidth ?? 0);
          sum.packets += one.packetsReceived;
          sum.energy += one.totalAudioEnergy ?? 0;
        });
      }
      return sum;
    };
    // Sound that does not end. The beeps of Chromium's own microphone are too short for speech.
    window.speak = async () => {
      const context = new AudioContext();
      const tone = new OscillatorNode(context, { frequency: 220 });
      const into = new MediaStreamAudioDestinationNode(context);
      tone.connect(new GainNode(context, { gain: 0.3 })).connect(into);
      tone.start();
      await room.localParticipant.getTrackPublication('microphone').track.replaceTrack(into.stream.getAudioTracks()[0], { userProvidedTrack: true });
    };
    window.sent = async () => {
      const layers = {};
      for (const publication of room.localParticipant.trackPublications.values()) {
        const report = await publication.track?.sender?.getStats();
        report?.forEach((one) => {
          if (one.type === 'outbound-rtp' && one.kind === 'video') layers[one.rid ?? one.ssrc] = one.framesEncoded;
        });
      }
      return layers;
    };
  </script>`,
});
const browser = await launch();

class Person {
  static async enter(identity, options = {}, grant = {}, connect = {}) {
    const person = new Person();
    person.identity = identity;
    person.page = await open(browser, pages.url);
    const jwt = await token(room, identity, grant);
    person.sid = await person.page.evaluate(([url, jwt, options, connect]) => enter(url, jwt, options, connect), [base, jwt, options, connect]);
    say(`${identity} is in as ${person.sid}`);
    return person;
  }
  do(work, argument) { return this.page.evaluate(work, argument); }
  publish() { return this.do(() => room.localParticipant.enableCameraAndMicrophone()); }
  received(from) { return this.do((identity) => received(identity), from.identity); }
  async sees(other, seconds = 60) {
    return until(`${this.identity} sees and hears ${other.identity}`, async () => {
      const { frames, energy } = await this.received(other);
      return frames > 10 && energy > 0 && { frames, energy };
    }, seconds);
  }
  async seesMore(other, seconds = 60) {
    const before = (await this.received(other)).frames;
    return until(`${this.identity} goes on seeing ${other.identity}`, async () => {
      const { frames } = await this.received(other);
      // A new track begins at 0.
      return (frames > before + 10 || (frames < before && frames > 10)) && frames;
    }, seconds);
  }
  happened(name) { return this.do((name) => events.filter(([one]) => one === name), name); }
}

async function meet(options) {
  const ada = await Person.enter('ada', options);
  await ada.publish();
  const grace = await Person.enter('grace', options);
  await grace.publish();
  say(await ada.sees(grace));
  say(await grace.sees(ada));
  // Who comes last sees all who are there; who was there sees who comes.
  const alan = await Person.enter('alan', options);
  await alan.publish();
  await Promise.all([alan.sees(ada), alan.sees(grace), ada.sees(alan), grace.sees(alan)]);
  await ada.do(() => speak());
  await until('grace is told that ada speaks', () => grace.do(() => room.activeSpeakers.some(({ identity }) => identity === 'ada')), 20);
  await grace.do(() => room.disconnect());
  await until('ada sees grace go', () => ada.do(() => !room.remoteParticipants.has('grace')));
  return { ada, alan };
}

await run({
  async meet() {
    const { ada } = await meet({});
    const mode = await ada.do(() => room.engine.pcManager.mode ?? (room.engine.pcManager.subscriber ? 'two' : 'one'));
    say({ mode });
  },

  async 'meet-dual'() {
    const { ada } = await meet({ singlePeerConnection: false });
    holds('there are two connections', await ada.do(() => Boolean(room.engine.pcManager.subscriber)));
  },

  async data() {
    const ada = await Person.enter('ada');
    const grace = await Person.enter('grace');
    await grace.do(() => {
      window.got = {};
      room.on('dataReceived', (payload, from, kind, topic) => { got[topic] = [new TextDecoder().decode(payload), from?.identity]; });
      room.registerTextStreamHandler('chat', async (reader, { identity }) => { got.text = [await reader.readAll(), identity]; });
      room.registerByteStreamHandler('file', async (reader) => { got.bytes = (await reader.readAll()).reduce((sum, part) => sum + part.byteLength, 0); });
      room.registerRpcMethod('add', async ({ payload }) => String(JSON.parse(payload).reduce((a, b) => a + b, 0)));
    });
    await until('ada sees grace', () => ada.do(() => room.remoteParticipants.has('grace')));
    await ada.do(async () => {
      const bytes = new TextEncoder().encode('hello');
      await room.localParticipant.publishData(bytes, { reliable: true, topic: 'reliable' });
      await room.localParticipant.publishData(bytes, { reliable: false, topic: 'lossy' });
      await room.localParticipant.publishData(bytes, { reliable: true, topic: 'nobody', destinationIdentities: ['alan'] });
      await room.localParticipant.sendText('a text of some length '.repeat(5000), { topic: 'chat' });
      await room.localParticipant.sendFile(new File([new Uint8Array(1_000_000)], 'zeros'), { topic: 'file' });
    });
    await until('all of it arrived', () => grace.do(() => got.reliable && got.lossy && got.text && got.bytes === 1_000_000));
    const got = await grace.do(() => got);
    holds('from its sender', got.reliable[1] === 'ada' && got.text[1] === 'ada');
    holds('and as it was sent', got.text[0].length === 22 * 5000);
    holds('and only to whom it was for', !got.nobody);
    const sum = await ada.do(() => room.localParticipant.performRpc({ destinationIdentity: 'grace', method: 'add', payload: '[1,2,3]' }));
    holds('a call is answered', sum === '6');
    const error = await ada.do(() => room.localParticipant.performRpc({ destinationIdentity: 'grace', method: 'none', payload: '' }).catch((error) => error.code));
    holds('an unknown method is an error', error === 1400);
    await ada.do(() => room.localParticipant.setAttributes({ hand: 'up' }));
    await ada.do(() => room.localParticipant.setMetadata('meta'));
    await until('grace sees attributes and metadata', () => grace.do(() => {
      const ada = room.remoteParticipants.get('ada');
      return ada.attributes.hand === 'up' && ada.metadata === 'meta';
    }));
  },

  async tracks() {
    const ada = await Person.enter('ada');
    const grace = await Person.enter('grace');
    await ada.publish();
    await grace.sees(ada);
    await ada.do(() => room.localParticipant.setMicrophoneEnabled(false));
    await until('grace sees that ada is mute', () => grace.do(() => room.remoteParticipants.get('ada').getTrackPublication('microphone').isMuted));
    await ada.do(() => room.localParticipant.setMicrophoneEnabled(true));
    await until('and then not', () => grace.do(() => !room.remoteParticipants.get('ada').getTrackPublication('microphone').isMuted));
    // By hand: no more, and again.
    await grace.do(() => room.remoteParticipants.get('ada').getTrackPublication('camera').setSubscribed(false));
    await until('the camera is gone for grace', () => grace.do(() => !room.remoteParticipants.get('ada').getTrackPublication('camera').track));
    await grace.do(() => room.remoteParticipants.get('ada').getTrackPublication('camera').setSubscribed(true));
    await grace.seesMore(ada);
    // Only whom the publisher allows.
    await ada.do(() => room.localParticipant.setTrackSubscriptionPermissions(false, []));
    await until('nobody may', () => grace.do(() => !room.remoteParticipants.get('ada').getTrackPublication('camera').track));
    await ada.do(() => room.localParticipant.setTrackSubscriptionPermissions(true));
    await grace.seesMore(ada);
    await ada.do(() => room.localParticipant.setScreenShareEnabled(false));
    await ada.do(async () => { await room.localParticipant.unpublishTrack(room.localParticipant.getTrackPublication('camera').track); });
    await until('the track is gone', () => grace.do(() => !room.remoteParticipants.get('ada').getTrackPublication('camera')));
    await ada.do(() => room.localParticipant.setCameraEnabled(true));
    await grace.seesMore(ada);
    // Without permission.
    const silent = await Person.enter('silent', {}, { canPublish: false });
    const refused = await silent.do(() => room.localParticipant.setMicrophoneEnabled(true).then(() => 'published', (error) => error.message));
    holds(`publishing without permission is refused (${refused})`, refused !== 'published');
  },

  async dynacast() {
    const options = { adaptiveStream: true, dynacast: true, videoCaptureDefaults: { resolution: { width: 1280, height: 720, frameRate: 15 } } };
    const ada = await Person.enter('ada', options);
    const grace = await Person.enter('grace', options);
    await ada.publish();
    await grace.sees(ada);
    await until('the highest layer arrives', async () => (await grace.received(ada)).width >= 1280, 60);
    await grace.do(() => { for (const one of document.querySelectorAll('video')) { one.style.width = '160px'; one.style.height = '90px'; } });
    await until('a small picture for a small element', async () => (await grace.received(ada)).width <= 640, 60);
    const still = async () => {
      const before = await ada.do(() => sent());
      await ada.page.waitForTimeout(1500);
      const after = await ada.do(() => sent());
      return after.f === before.f && after.q > before.q;
    };
    await until('ada sends the high layer no more', still, 60);
    await grace.do(() => { for (const one of document.querySelectorAll('video')) { one.style.width = '1280px'; one.style.height = '720px'; } });
    await until('and again when it is wanted', async () => (await grace.received(ada)).width >= 1280, 60);
  },

  async simulate() {
    const ada = await Person.enter('ada');
    const grace = await Person.enter('grace');
    await ada.publish();
    await grace.publish();
    await ada.sees(grace);
    await grace.sees(ada);
    for (const name of ['signal-reconnect', 'speaker', 'resume-reconnect', 'migration', 'full-reconnect', 'node-failure', 'leave-full-reconnect', 'disconnect-signal-on-resume']) {
      say(`simulate ${name}`);
      await ada.do(() => { events.length = 0; });
      await ada.do((name) => room.simulateScenario(name), name).catch((error) => say(`(${error.message})`));
      if (name === 'speaker') continue;
      await until(`ada is back after ${name}`, async () => (await ada.do(() => room.state)) === 'connected'
        && ((await ada.happened('reconnected')).length > 0 || (await ada.happened('signalConnected')).length > 0), 40);
      await grace.seesMore(ada, 40);
      await ada.seesMore(grace, 40);
    }
    const way = () => ada.do(async () => {
      const report = await room.engine.pcManager.publisher.getStats();
      let transport;
      report.forEach((one) => { if (one.type === 'transport') transport = one; });
      const local = report.get(report.get(transport.selectedCandidatePairId)?.localCandidateId);
      return local?.candidateType === 'relay' ? 'relay' : `direct ${local?.protocol}`;
    });
    for (const [name, wanted] of [['force-tcp', 'direct tcp'], ['force-tls', 'relay']]) {
      say(`simulate ${name}`);
      await ada.do((name) => room.simulateScenario(name), name).catch((error) => say(`(${error.message})`));
      await until(`media takes the way ${wanted}`, async () => (await way()) === wanted, 40);
      await grace.seesMore(ada, 40);
      await ada.seesMore(grace, 40);
    }
    await ada.do(() => room.simulateScenario('server-leave')).catch(() => {});
    await until('the server may end it', async () => (await ada.do(() => room.state)) === 'disconnected');
  },

  async encrypted() {
    const ada = await Person.enter('ada', { passphrase: 'north' });
    const grace = await Person.enter('grace', { passphrase: 'north' });
    await ada.publish();
    await grace.sees(ada);
    holds('and knows that it is encrypted', await grace.do(() => room.remoteParticipants.get('ada').isEncrypted));
    const eve = await Person.enter('eve', { passphrase: 'south' });
    await until('packets come to eve', async () => (await eve.received(ada)).packets > 100);
    const { frames, energy } = await eve.received(ada);
    holds(`but nothing that she can see or hear (${frames} frames, energy ${energy})`, frames === 0 && energy < 1e-3);
    await grace.do(() => { window.got = ''; room.registerTextStreamHandler('chat', async (reader) => { got = await reader.readAll(); }); });
    await ada.do(() => room.localParticipant.sendText('only for us', { topic: 'chat' }));
    await until('text arrives', () => grace.do(() => got === 'only for us'));
  },

  async record() {
    const ada = await Person.enter('ada');
    const grace = await Person.enter('grace', { publishDefaults: { videoCodec: 'vp9' } });
    await ada.publish();
    await grace.publish();
    await grace.sees(ada);
    const begun = await (await fetch(`${base}api/record/${room}`, { method: 'POST' })).json();
    await until('everyone is told', () => grace.do(() => room.isRecording));
    await ada.page.waitForTimeout(6000);
    // Who comes later is recorded too, with another codec.
    const alan = await Person.enter('alan', { publishDefaults: { videoCodec: 'h264', simulcast: false } });
    await alan.publish();
    await alan.page.waitForTimeout(5000);
    const ended = await (await fetch(`${base}api/record/${room}`, { method: 'DELETE' })).json();
    holds('and that it is over', await until('the end is told', () => grace.do(() => !room.isRecording)));
    const { directory } = ended;
    holds(`six files are there (${ended.files})`, begun.directory === directory && ended.files === 6);
    const probe = (file, ...words) => execFileSync('ffprobe', ['-v', 'error', ...words, path.join(directory, file)], { encoding: 'utf8' });
    const lines = (await readFile(path.join(directory, 'recording.jsonl'), 'utf8')).trim().split('\n').map((line) => JSON.parse(line));
    holds('and each is listed', lines.length === 6);
    for (const { file, identity, source } of lines) {
      const streams = JSON.parse(probe(file, '-show_streams', '-count_frames', '-of', 'json')).streams;
      const [{ codec_name: codec, nb_read_frames: frames, width, height }] = streams;
      // What a decoder complains about is on its standard error, which counts as a failure here.
      // Pictures keep their own times: a guessed frame rate would put two of them into one place.
      const times = ['-fps_mode', 'passthrough', '-enc_time_base', '-1'];
      // Of VP9 with spatial layers FFmpeg's own decoder shows every layer of a picture, libvpx the uppermost.
      const decoder = codec === 'vp9' ? ['-c:v', 'libvpx-vp9'] : [];
      const complaints = spawnSync('ffmpeg', ['-v', 'error', ...decoder, '-i', path.join(directory, file), ...times, '-f', 'null', '-'], { encoding: 'utf8' }).stderr;
      say({ identity, source, file, codec, frames, width, height });
      holds(`${file} is decoded without a complaint (${complaints.trim()})`, complaints.trim() === '');
      const enough = source === 'microphone' ? 150 : 20;
      holds(`${file} has ${frames} frames`, Number(frames) > enough);
    }
  },

  // Which way media takes, in a network that lets only some ways through: 'more' says which one it has to be.
  async path() {
    const connect = {};
    if (more.startsWith('relay')) {
      const scheme = more === 'relay tls' ? 'turns:' : 'turn:';
      const all = await (await fetch(`${base}ice-servers`)).json();
      const transport = more === 'relay udp' ? 'udp' : 'tcp';
      const wanted = (url) => url.startsWith(scheme) && url.endsWith(`transport=${transport}`);
      const iceServers = all.map((one) => ({ ...one, urls: one.urls.filter(wanted) })).filter(({ urls }) => urls.length > 0);
      holds(`the server names one (${iceServers.map(({ urls }) => urls)})`, iceServers.length > 0);
      connect.rtcConfig = { iceTransportPolicy: 'relay', iceServers };
    }
    const [ada, grace] = [await Person.enter('ada', {}, {}, connect), await Person.enter('grace', {}, {}, connect)];
    await ada.publish();
    await grace.publish();
    await ada.sees(grace);
    await grace.sees(ada);
    const way = await ada.do(async () => {
      const report = await room.engine.pcManager.publisher.getStats();
      let transport;
      report.forEach((one) => { if (one.type === 'transport') transport = one; });
      const local = report.get(report.get(transport.selectedCandidatePairId).localCandidateId);
      return local.candidateType === 'relay' ? `relay ${local.relayProtocol}` : `direct ${local.protocol}`;
    });
    holds(`media takes the way ${way}`, way === more);
    await ada.do(() => { window.got = ''; room.registerTextStreamHandler('chat', async (reader) => { got = await reader.readAll(); }); });
    await grace.do(() => room.localParticipant.sendText('through the wall', { topic: 'chat' }));
    await until('and so does data', () => ada.do(() => got === 'through the wall'));
  },

  async vp9() {
    const options = { dynacast: true, publishDefaults: { videoCodec: 'vp9' } };
    const ada = await Person.enter('ada', options);
    const grace = await Person.enter('grace', options);
    await ada.publish();
    await grace.sees(ada);
    const codec = await grace.do(async () => {
      const report = await tracks['ada camera'].receiver.getStats();
      let id;
      report.forEach((one) => { if (one.type === 'inbound-rtp') id = one.codecId; });
      return report.get(id)?.mimeType;
    });
    holds(`it is ${codec}`, codec === 'video/VP9');
  },
}, async () => { await browser.close(); pages.close(); });
