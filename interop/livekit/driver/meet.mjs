// La Suite Meet's own front-end (a build of its src/frontend) against this server: node meet.mjs SCENARIO URL KEY SECRET DIST
// Its REST API is played here: tokens, rooms, and what its backend asks of LiveKit for its pages.
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import path from 'node:path';
import { AccessToken, RoomServiceClient, TrackSource } from 'livekit-server-sdk';
import { base, holds, key, launch, more, open, run, say, secret, until } from './lib.mjs';

const url = base.replace(/\/$/, '');
const rooms = new RoomServiceClient(url, key, secret);
const SOURCES = ['camera', 'microphone', 'screen_share', 'screen_share_audio'];
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.wasm': 'application/wasm', '.json': 'application/json' };
const meeting = { id: randomUUID(), slug: 'abc-defg-hij' };

/** A token as Meet's backend makes it: who has no role has an attribute that is null. */
async function token(room, { identity, name, role }) {
  const made = new AccessToken(key, secret, { identity, name, attributes: { color: 'hsl(200, 60%, 40%)', room_role: role, is_authenticated: 'true' } });
  const roomAdmin = role === 'owner';
  made.addGrant({ room, roomJoin: true, roomAdmin, canUpdateOwnMetadata: false, canPublish: true, canPublishSources: SOURCES.map((source) => TrackSource[source.toUpperCase()]), canSubscribe: true });
  return made.toJwt();
}

const CONFIG = {
  feedback: { url: '' }, is_silent_login_enabled: false, recording: { is_enabled: false, available_modes: [] },
  background_image: { upload_is_enabled: false, max_size: 1, max_count_by_user: 1, allowed_extensions: [], allowed_mimetypes: [] },
  subtitle: { enabled: false }, diagnostics: { connection_test_enabled: true }, telephony: { enabled: false },
  livekit: { url, force_wss_protocol: false, enable_firefox_proxy_workaround: false, default_sources: SOURCES },
  max_participants_for_sound: 10, auto_mute_on_join_threshold: 100, authenticated_users_can_edit_display_name: true,
};

/** What the pages of `person` ask of their backend. */
function answers(person) {
  return {
    'GET config/': () => CONFIG,
    'GET users/me': () => ({
      id: person.identity, email: `${person.name}@example.org`, full_name: person.name, short_name: person.name, language: 'en-us', timezone: 'UTC',
    }),
    'GET files': () => ({ count: 0, next: null, previous: null, results: [] }),
    [`GET rooms/${meeting.slug}/`]: async () => ({
      id: meeting.id, name: meeting.slug, slug: meeting.slug, is_administrable: person.role === 'owner', access_level: 'public', configuration: {},
      livekit: { url, room: meeting.id, token: await token(meeting.id, person) },
    }),
    [`GET rooms/${meeting.id}/waiting-participants/`]: () => ({ participants: [] }),
    [`POST rooms/${meeting.slug}/request-entry/`]: async () => ({
      status: 'accepted', id: person.identity, username: person.name, color: 'hsl(200, 60%, 40%)', livekit: { url, room: meeting.id, token: await token(meeting.id, person) },
    }),
    [`POST rooms/${meeting.id}/toggle-hand/`]: ({ raised }) =>
      rooms.updateParticipant(meeting.id, person.identity, { attributes: { handRaisedAt: raised ? new Date().toISOString() : '' } }).then(() => ({ status: 'success' })),
    [`POST rooms/${meeting.id}/mute-participant/`]: (asked) =>
      rooms.mutePublishedTrack(meeting.id, asked.participant_identity, asked.track_sid, true).then(() => ({ status: 'success' })),
    [`POST rooms/${meeting.id}/remove-participant/`]: (asked) =>
      rooms.removeParticipant(meeting.id, asked.participant_identity).then(() => ({ status: 'success' })),
    'POST diagnostics/connection/': async () => {
      const room = `connection-test-${randomUUID()}`;
      return { livekit: { url, room, token: await token(room, { ...person, identity: randomUUID() }), expires_in: 300 } };
    },
  };
}

/** Serves the front-end and its API to one person. */
async function serve(person) {
  const handlers = answers(person);
  const server = http.createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    const send = (status, type, body) => response.writeHead(status, { 'content-type': type }).end(body);
    try {
      if (pathname.startsWith('/api/v1.0/')) {
        const handler = handlers[`${request.method} ${pathname.slice(10)}`];
        if (!handler) say(`not played: ${request.method} ${pathname}`);
        const asked = request.method === 'POST' ? await new Response(request).json().catch(() => ({})) : {};
        const answer = await handler?.(asked);
        send(answer ? 200 : 404, 'application/json', JSON.stringify(answer ?? {}));
        return;
      }
      const name = path.extname(pathname) ? path.normalize(pathname) : '/index.html';
      send(200, TYPES[path.extname(name)] ?? 'application/octet-stream', await readFile(path.join(more, name)));
    } catch (error) {
      if (error.code !== 'ENOENT') say(`${request.method} ${pathname}: ${error.message}`);
      send(error.code === 'ENOENT' ? 404 : 500, 'application/json', JSON.stringify({ detail: error.message }));
    }
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return `http://localhost:${server.address().port}`;
}

const browser = await launch();

/** A person on a page of the front-end. */
class Person {
  constructor(name, role) {
    Object.assign(this, { identity: randomUUID(), name, role });
  }

  async open(address) {
    this.page = await open(browser, `${await serve(this)}${address}`);
    return this;
  }

  async enters() {
    await this.open(`/${meeting.slug}`);
    await this.page.getByRole('button', { name: 'Join' }).click();
    await this.control('leave').waitFor();
    await this.page.getByRole('button', { name: 'Close' }).first().click({ timeout: 3000 }).catch(() => {});
    return this;
  }

  control(name) {
    return this.page.locator(`[data-attr^="controls-${name}"]`).first();
  }

  /** How many pictures move, one's own included. */
  async sees(count) {
    let before = [];
    await until(`${this.name} sees ${count} pictures move`, async () => {
      const now = await this.page.evaluate(() => [...document.querySelectorAll('video')].map((video) => video.videoWidth && video.getVideoPlaybackQuality().totalVideoFrames));
      const moving = now.filter((frames, index) => frames > (before[index] ?? Infinity) + 3).length;
      before = now.map((frames, index) => Math.min(before[index] ?? frames, frames));
      return moving >= count;
    });
  }

  reads(text) {
    return until(`${this.name} reads “${text}”`, () => this.page.evaluate((text) => document.body.innerText.includes(text), text), 20);
  }

  shot(name) {
    return process.env.PICTURES && this.page.screenshot({ path: `${process.env.PICTURES}/meet-${name}.png` });
  }
}

await run({
  async meet() {
    const ada = await new Person('Ada', 'owner').enters();
    const grace = await new Person('Grace', null).enters();
    await ada.sees(2);
    await grace.sees(2);
    await ada.reads('Grace');
    await grace.reads('Ada');

    await ada.shot('pair');

    // The hand goes through the backend, which changes an attribute.
    await grace.control('hand').click();
    await ada.control('participants').click();
    await ada.reads('Raised hands');
    await ada.shot('participants');
    await grace.control('hand').click();
    await until('the hand goes down', () => ada.page.evaluate(() => !document.body.innerText.includes('Raised hands')), 20);

    // The owner mutes, by the backend too, and the page tells who was muted by a message to her alone.
    await ada.page.locator('[data-attr="participants-mute"]').last().click();
    await ada.page.getByRole('alertdialog').or(ada.page.getByRole('dialog')).getByRole('button', { name: /^Mute/ }).click();
    const grants = async () => (await rooms.getParticipant(meeting.id, grace.identity)).tracks.find(({ type }) => type === 0);
    await until('the microphone is muted', async () => (await grants()).muted);

    await ada.control('chat').click();
    await ada.page.locator('textarea').fill('Bonjour à tous');
    await ada.page.keyboard.press('Enter');
    await grace.control('chat').click();
    await grace.reads('Bonjour à tous');

    await grace.control('screenshare').click();
    await ada.sees(3);
    await ada.shot('screen');
    await grace.control('screenshare').click();

    // A page that is loaded again takes its own place.
    await grace.page.reload();
    await grace.page.getByRole('button', { name: 'Join' }).click();
    await grace.control('leave').waitFor();
    await ada.sees(2);
    await grace.sees(2);

    await rooms.removeParticipant(meeting.id, grace.identity);
    await until('who is removed is shown out', () => new URL(grace.page.url()).pathname === '/feedback');
    await ada.control('leave').click();
    await until('who leaves is asked how it was', () => new URL(ada.page.url()).pathname === '/feedback');
  },

  /** The page that tests the connection: WebSocket, WebRTC, TURN, resuming, the route, publishing. */
  async diagnose() {
    const ada = await new Person('Ada', 'owner').open('/test-connection');
    await ada.page.getByRole('button', { name: 'Run test' }).click();
    await ada.page.getByRole('button', { name: 'Run again' }).waitFor({ timeout: 90000 });
    say(await ada.page.evaluate(() => document.body.innerText.replaceAll('\n', ' | ')));
    await ada.reads('11/11');
    await ada.shot('diagnostics');
  },
}, () => browser.close());
