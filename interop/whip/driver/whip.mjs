// WHIP and WHEP clients: node whip.mjs SCENARIO URL KEY SECRET
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { base, holds, launch, open, pageServer, run, say, token, until } from '../../livekit/driver/lib.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));
const room = `whip-${randomBytes(4).toString('hex')}`;
const whip = `${base}whip/${room}`;
const whep = `${base}whep/${room}`;
const children = [];
let browser;

/** Starts a client; what it prints is printed. */
function start(...command) {
  const child = spawn(command[0], command.slice(1), { stdio: ['ignore', 'pipe', 'inherit'] });
  child.stdout.on('data', (bytes) => {
    for (const line of String(bytes).split('\n').filter(Boolean)) {
      say(line);
    }
  });
  children.push(child);
  const ended = new Promise((done) => child.on('close', done));
  return { ended, stop: (signal = 'SIGTERM') => child.kill(signal) };
}

const gstreamer = async (role, who, codec) => start('/usr/bin/python3', path.join(here, 'gstreamer.py'), role, role === 'whip' ? whip : whep, await token(room, who), codec);

/** Whether somebody publishes: WHEP answers 409 while nobody does. */
async function there() {
  const headers = { 'content-type': 'application/sdp', authorization: `Bearer ${await token(room, 'probe')}` };
  return (await fetch(whep, { method: 'POST', headers, body: 'v=0\r\n' })).status !== 409;
}

/** Plays with GStreamer what somebody publishes, and waits until both have ended. */
async function played(publisher, codec, signal) {
  await until('something is published', there);
  const player = await gstreamer('whep', 'player', codec);
  holds('the player saw and heard it', (await player.ended) === 0);
  publisher.stop(signal);
  holds('the publisher ended well', (await publisher.ended) === 0);
  await until('and its session with it', async () => !(await there()));
}

await run({
  async gstreamer() {
    for (const codec of ['vp8', 'h264']) await played(await gstreamer('whip', 'publisher', codec), codec);
  },

  /** The element of gst-plugins-rs: one line for `gst-launch-1.0`. */
  async whipclientsink() {
    for (const codec of ['vp8', 'h264']) {
      const sink = `whipclientsink name=sink video-caps=video/x-${codec} audio-caps=audio/x-opus stun-server=NULL signaller::whip-endpoint=${whip} signaller::auth-token=${await token(room, 'publisher')}`;
      const sources = 'videotestsrc is-live=true pattern=ball ! video/x-raw,width=640,height=360,framerate=15/1 ! sink. audiotestsrc is-live=true wave=sine ! sink.';
      await played(start('gst-launch-1.0', '-q', ...`${sink} ${sources}`.split(' ')), codec, 'SIGINT');
      say(`seen: GStreamer whipclientsink: whip ${codec}`);
    }
  },

  async ffmpeg() {
    const python = process.env.VISAVIS_PYTHON || 'python3';
    await played(start(python, path.join(here, 'ffmpeg.py'), whip, await token(room, 'ffmpeg')), 'h264');
  },

  async eyevinn() {
    browser = await launch();
    const bundle = await build({
      stdin: {
        contents: "export { WHIPClient } from '@eyevinn/whip-web-client'; export { WebRTCPlayer } from '@eyevinn/webrtc-player';",
        resolveDir: here,
      },
      bundle: true, format: 'esm', write: false, logLevel: 'error',
    });
    const server = await pageServer({
      '/eyevinn.js': bundle.outputFiles[0].text,
      '/': `<body><video autoplay playsinline muted></video><script type=module>
        import { WHIPClient, WebRTCPlayer } from '/eyevinn.js';
        window.publish = async (endpoint, authkey) => {
          window.client = new WHIPClient({ endpoint, opts: { authkey, noTrickleIce: false, iceServers: [], debug: true } });
          await client.ingest(await navigator.mediaDevices.getUserMedia({ audio: true, video: true }));
        };
        window.play = async (endpoint, key) => {
          const player = window.player = new WebRTCPlayer({ video: document.querySelector('video'), type: 'whep', iceServers: [], statsTypeFilter: '^candidate-*|^inbound-rtp' });
          await player.load(new URL(endpoint), 'Bearer ' + key);
        };
        window.ready = true;
      </script>`,
    });
    const [ada, grace] = [await open(browser, server.url), await open(browser, server.url)];
    for (const page of [ada, grace]) await until('the packages are loaded', () => page.evaluate(() => window.ready));
    await ada.evaluate((all) => publish(...all), [whip, await token(room, 'ada')]);
    await until('something is published', there);
    await grace.evaluate((all) => play(...all), [whep, await token(room, 'grace')]);
    await until('a picture plays', () => grace.evaluate(() => {
      const video = document.querySelector('video');
      return video.videoWidth > 0 && video.currentTime > 1;
    }));
    await ada.evaluate(() => client.destroy());
    await until('the session has ended', async () => !(await there()));
    server.close();
    say('seen: npm @eyevinn/whip-web-client and @eyevinn/webrtc-player: whip, whep');
  },
}, async () => {
  for (const child of children) child.kill();
  await browser?.close();
});
