// People of a meeting: each a browser context on the meeting's page, and what they do there, through
// what a person would press and read.
import { createHash } from 'node:crypto';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--disable-dev-shm-usage', '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream',
  '--autoplay-policy=no-user-gesture-required', '--auto-select-desktop-capture-source=Entire screen',
  // The server may have made its certificate itself.
  '--ignore-certificate-errors',
  '--disable-backgrounding-occluded-windows', '--disable-renderer-backgrounding', '--disable-background-timer-throttling',
];

export const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
export const DESKTOP = { viewport: { width: 1280, height: 760 } };

export async function launch(...flags) {
  return chromium.launch({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', headless: true, args: ['--headless=new', ...FLAGS, ...flags] });
}

/** Waits until `look` gives something true, and gives it; fails with `what` after `limit` milliseconds. */
export async function until(what, look, limit = 30000) {
  const end = Date.now() + limit;
  for (;;) {
    const value = await look();
    if (value) return value;
    if (Date.now() > end) throw new Error(`${what}: not within ${limit} ms`);
    await new Promise((resolve) => setTimeout(resolve, 150));
  }
}

export class Person {
  constructor(page, name, base, errors) {
    Object.assign(this, { page, name, base, errors });
  }

  /** Opens a window of their own: nothing is shared with the others but the browser's process. */
  static async arrive(browser, base, name, options = {}) {
    const { init, ...context } = options;
    const window = await browser.newContext({ ...DESKTOP, colorScheme: 'dark', acceptDownloads: true, permissions: ['camera', 'microphone'], ...context });
    await window.addInitScript((name) => {
      localStorage.setItem('visavis.name', JSON.stringify(name));
      // What the page connects with, for the measurements of this test alone.
      const Native = RTCPeerConnection;
      window.connections = [];
      window.RTCPeerConnection = class extends Native {
        constructor(...parts) {
          super(...parts);
          window.connections.push(this);
        }
      };
      window.sockets = [];
      window.WebSocket = class extends WebSocket {
        constructor(...parts) {
          super(...parts);
          window.sockets.push(this);
        }
      };
    }, name);
    if (init) await window.addInitScript(...init);
    const page = await window.newPage();
    const errors = [];
    page.on('pageerror', (error) => errors.push(`${name}: ${error.message}`));
    page.on('console', (message) => message.type() === 'error' && errors.push(`${name}: ${message.text()}`));
    const outside = [];
    page.on('request', (request) => {
      const url = new URL(request.url());
      // The server may name itself by its address.
      const here = ['localhost', '127.0.0.1'].includes(url.hostname) || url.origin === new URL(base).origin;
      if (!['blob:', 'data:'].includes(url.protocol) && !here) outside.push(request.url());
    });
    const person = new Person(page, name, base, errors);
    person.outside = outside;
    return person;
  }

  /** What the scenario itself brings about is no error. */
  forgive(pattern) {
    const others = this.errors.filter((error) => !pattern.test(error));
    this.errors.splice(0, this.errors.length, ...others);
  }

  async open(address) {
    await this.page.goto(new URL(address, this.base).href);
    return this;
  }

  async join(address) {
    if (address) await this.open(address);
    await this.page.getByRole('button', { name: 'Join now' }).click();
    await this.page.locator('.meeting').waitFor({ timeout: 40000 });
    return this;
  }

  press(key) {
    return this.page.keyboard.press(key);
  }

  button(name) {
    return this.page.getByRole('button', { name, exact: true });
  }

  tile(text) {
    return this.page.locator('.tile', { has: this.page.locator('.tile-name', { hasText: text }) });
  }

  /** The video of somebody's tile: its size and how many frames were shown. */
  async picture(text) {
    const video = this.tile(text).locator('video');
    if ((await video.count()) === 0) return undefined;
    return video.first().evaluate((element) => ({
      width: element.videoWidth,
      height: element.videoHeight,
      frames: element.getVideoPlaybackQuality().totalVideoFrames,
      // Nothing of a picture that is one colour came from a camera.
      varied: (() => {
        if (element.videoWidth === 0) return false;
        const canvas = document.createElement('canvas');
        canvas.width = 32;
        canvas.height = 18;
        const context = canvas.getContext('2d');
        context.drawImage(element, 0, 0, 32, 18);
        const { data } = context.getImageData(0, 0, 32, 18);
        let [low, high] = [255, 0];
        for (let at = 0; at < data.length; at += 4) [low, high] = [Math.min(low, data[at]), Math.max(high, data[at])];
        return high - low > 20;
      })(),
    }));
  }

  /** Waits until somebody's picture moves. */
  async sees(text, limit = 30000) {
    let before;
    return until(`${this.name} sees ${text}`, async () => {
      const now = await this.picture(text);
      const moves = now && before && now.varied && now.frames > before.frames + 5;
      before ??= now;
      return moves && now;
    }, limit);
  }

  /** Sums over all that is received: frames decoded, and the energy of the sound. */
  async received() {
    return this.page.evaluate(async () => {
      const sum = { frames: 0, energy: 0, audio: 0, video: 0, pairs: [] };
      for (const connection of window.connections) {
        if (connection.connectionState === 'closed') continue;
        const report = await connection.getStats();
        for (const entry of report.values()) {
          if (entry.type === 'inbound-rtp' && entry.kind === 'video') {
            sum.frames += entry.framesDecoded ?? 0;
            sum.video++;
          }
          if (entry.type === 'inbound-rtp' && entry.kind === 'audio') {
            sum.energy += entry.totalAudioEnergy ?? 0;
            sum.audio++;
          }
          if (entry.type === 'transport' && entry.selectedCandidatePairId) {
            const pair = report.get(entry.selectedCandidatePairId);
            const local = report.get(pair?.localCandidateId);
            sum.pairs.push({ protocol: local?.protocol, type: local?.candidateType, tls: entry.tlsVersion, group: entry.tlsGroup, srtp: entry.srtpCipher });
          }
        }
      }
      return sum;
    });
  }

  /** Waits until more sound and more pictures come than came before. */
  async hears(limit = 30000) {
    const before = await this.received();
    return until(`${this.name} hears`, async () => {
      const now = await this.received();
      return now.energy > before.energy + 1e-4 && now;
    }, limit);
  }

  /** The username fragments of the connections that are open. */
  credentials() {
    return this.page.evaluate(() => window.connections.filter(({ connectionState }) => connectionState !== 'closed')
      .map(({ localDescription }) => localDescription?.sdp.match(/^a=ice-ufrag:(.*)$/m)?.[1].trim()));
  }

  /** Cuts the connection to the server that messages go over. */
  loseSignalling() {
    return this.page.evaluate(() => window.sockets.forEach((socket) => socket.close()));
  }

  async panel(name) {
    const open = this.page.getByRole('complementary', { name, exact: true });
    if (!(await open.count())) {
      const button = this.page.locator('.bar').getByRole('button', { name: new RegExp(`^${name}`) });
      if (await button.count()) await button.click();
      else {
        await this.button('More').click();
        await this.page.getByRole('menuitem', { name, exact: true }).click();
      }
    }
    await open.waitFor();
    return open;
  }

  async says(text) {
    await this.panel('Chat');
    const box = this.page.getByRole('textbox', { name: 'Message everyone' });
    await box.fill(text);
    await box.press('Enter');
  }

  async reads(text) {
    await this.panel('Chat');
    await this.page.locator('.message', { hasText: text }).first().waitFor({ timeout: 15000 });
  }

  async closePanel() {
    await this.page.locator('.panel > header button').first().click();
    await this.page.locator('.panel').waitFor({ state: 'detached' });
  }

  async offers(name, bytes) {
    await this.panel('Chat');
    const folder = mkdtempSync(join(tmpdir(), 'meeting-'));
    writeFileSync(join(folder, name), bytes);
    await this.page.locator('.composer input[type=file]').setInputFiles(join(folder, name));
    return join(folder, name);
  }

  /** Gets an offered file and returns its hash as the disk has it. */
  async gets(name, limit = 180000) {
    await this.panel('Chat');
    const card = this.page.locator(`.file[data-file="${name}"]`);
    await card.waitFor({ timeout: 60000 });
    const download = this.page.waitForEvent('download', { timeout: limit });
    await card.getByRole('button', { name: `Get ${name}` }).click();
    const stream = await (await download).createReadStream();
    const hash = createHash('sha256');
    for await (const chunk of stream) hash.update(chunk);
    await until(`${name} is verified`, async () => (await card.getAttribute('data-state')) === 'done', 10000);
    return hash.digest('hex');
  }

  async leaves() {
    await this.button('Leave').click();
    await this.page.getByRole('heading', { name: 'You left the meeting' }).waitFor();
  }

  shot(file) {
    return this.page.screenshot({ path: file });
  }
}
