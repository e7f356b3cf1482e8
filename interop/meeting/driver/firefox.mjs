// Firefox in the meeting. Driven over WebDriver BiDi, because Playwright knows only its own Firefox.
import puppeteer from 'puppeteer-core';

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
  const browser = await puppeteer.launch({
    browser: 'firefox', executablePath: process.env.FIREFOX || '/usr/bin/firefox-esr', headless: true, protocol: 'webDriverBiDi', extraPrefsFirefox: PREFS,
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
    await during({
      shot: (path) => page.screenshot({ path }),
      reads: async (text) => {
        if (!(await page.$('.panel.chat'))) await page.click('.bar-right button[aria-label^="Chat"]');
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
    await page.click('.control.leave');
    await page.waitForFunction(() => document.querySelector('h1')?.textContent === 'You left the meeting', { timeout: 15000 });
  } finally {
    await Promise.race([browser.close().catch(() => {}), new Promise((resolve) => setTimeout(resolve, 5000))]);
    browser.process()?.kill('SIGKILL');
  }
}
