// Firefox in the meeting. Driven over WebDriver BiDi, because Playwright knows only its own Firefox.
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import puppeteer from 'puppeteer-core';
import { until } from './people.mjs';

const PREFS = {
  'media.navigator.streams.fake': true,
  'media.navigator.permission.disabled': true,
  'media.peerconnection.ice.loopback': true,
  'media.peerconnection.ice.obfuscate_host_addresses': false,
  'media.autoplay.default': 0,
  'media.autoplay.blocking_policy': 0,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'app.update.enabled': false,
  'browser.safebrowsing.update.enabled': false,
  'media.gmp-manager.updateEnabled': false,
};

/** Joins as `name`, with `init` run in the page first, runs `during` with what one may do there, and leaves. */
export async function meetFirefox(base, address, name, init, during) {
  const downloads = mkdtempSync(join(tmpdir(), 'meeting-'));
  const browser = await puppeteer.launch({
    browser: 'firefox', executablePath: process.env.FIREFOX || '/usr/bin/firefox-esr', headless: true, protocol: 'webDriverBiDi',
    extraPrefsFirefox: { ...PREFS, 'browser.download.folderList': 2, 'browser.download.dir': downloads, 'browser.download.alwaysOpenPanel': false },
    timeout: 120000, protocolTimeout: 300000,
  });
  try {
    const page = await browser.newPage();
    await page.setViewport({ width: 1280, height: 760 });
    await page.evaluateOnNewDocument((name) => {
      localStorage.setItem('visavis.name', JSON.stringify(name));
      const Native = RTCPeerConnection;
      window.connections = [];
      window.RTCPeerConnection = class extends Native {
        constructor(...parts) {
          super(...parts);
          window.connections.push(this);
        }
      };
    }, name);
    // Its own pretended camera shows one colour, from which nothing can be told.
    await page.evaluateOnNewDocument(...init);
    await page.goto(new URL(address, base).href);
    await page.waitForSelector('.lobby-form button[type=submit]:not(:disabled)', { timeout: 60000 });
    await page.click('.lobby-form button[type=submit]');
    await page.waitForSelector('.meeting', { timeout: 60000 });
    const chat = async () => {
      if (!(await page.$('.panel.chat'))) await page.click('.bar-right button[aria-label^="Chat"]');
      await page.waitForSelector('.panel.chat');
    };
    const leaves = async () => {
      await page.click('.control.leave');
      await page.waitForFunction(() => document.querySelector('h1')?.textContent === 'You left the meeting', { timeout: 15000 });
    };
    await during({
      shot: (path) => page.screenshot({ path }),
      leaves,
      rejoins: async () => {
        await page.locator('button ::-p-text(Join again)').click();
        await page.waitForSelector('.meeting', { timeout: 60000 });
      },
      mutes: () => page.click('.bar button[aria-label="Turn microphone off"]'),
      unmutes: () => page.click('.bar button[aria-label="Turn microphone on"]'),
      offers: async (path) => {
        await chat();
        await (await page.$('.composer input[type=file]')).uploadFile(path);
      },
      /** Gets an offered file, and gives its hash as the disk has it. */
      gets: async (name, size, limit = 300000) => {
        await chat();
        await page.waitForSelector(`.file[data-file="${name}"] button[aria-label^="Get"]`, { timeout: 60000 });
        await page.click(`.file[data-file="${name}"] button[aria-label^="Get"]`);
        await page.waitForSelector(`.file[data-file="${name}"][data-state=done]`, { timeout: limit });
        const path = join(downloads, name);
        await until(`${name} is on the disk`, () => existsSync(path) && statSync(path).size === size, 60000);
        return createHash('sha256').update(readFileSync(path)).digest('hex');
      },
      reads: async (text) => {
        await chat();
        await page.waitForFunction((text) => [...document.querySelectorAll('.message')].some((message) => message.textContent.includes(text)), { timeout: 15000 }, text);
      },
      received: () => page.evaluate(async () => {
        const sum = { frames: 0, energy: 0, audio: 0, video: 0 };
        for (const connection of window.connections) {
          if (connection.connectionState === 'closed') continue;
          for (const entry of (await connection.getStats()).values()) {
            if (entry.type !== 'inbound-rtp') continue;
            if (entry.kind === 'video') {
              sum.frames += entry.framesDecoded ?? 0;
              sum.video++;
            } else {
              sum.energy += entry.totalAudioEnergy ?? 0;
              sum.audio++;
            }
          }
        }
        return sum;
      }),
    });
    await leaves();
  } finally {
    await Promise.race([browser.close().catch(() => {}), new Promise((resolve) => setTimeout(resolve, 5000))]);
    browser.process()?.kill('SIGKILL');
  }
}
