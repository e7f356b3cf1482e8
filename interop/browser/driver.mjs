// Drives a headless browser for the Rust tests: one JSON object per line, in on stdin and out on
// stdout. {"id":1,"open":true} opens a page and answers its number; {"id":2,"page":0,"eval":"…"}
// evaluates an expression there (a promise is awaited) and answers its JSON value; {"id":3,
// "page":0,"screenshot":"file.png"} takes a picture; {"page":0,"close":true} closes it. Ends when
// stdin ends.
//
//   node driver.mjs chromium [FLAG|!FLAG…]        node driver.mjs firefox [PREF=VALUE…] [authority=FILE]
//
// `authority`: a certificate authority that Firefox believes, in PEM (needs certutil, Debian package libnss3-tools).
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';

const [kind, ...extra] = process.argv.slice(2);

const CHROMIUM_FLAGS = [
  '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
  '--disable-dev-shm-usage', '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream',
  '--autoplay-policy=no-user-gesture-required',
];

const FIREFOX_PREFS = {
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

function value(text) {
  if (text === 'true' || text === 'false') return text === 'true';
  return /^-?\d+$/.test(text) ? Number(text) : text;
}

// A profile that believes an authority. Firefox has no switch that would believe anybody for TURN.
function profileOf(authority) {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'interop-firefox-'));
  const certutil = (...words) => execFileSync('certutil', [...words, '-d', `sql:${profile}`]);
  certutil('-N', '--empty-password');
  certutil('-A', '-n', 'interop', '-t', 'C,,', '-i', authority);
  process.on('exit', () => fs.rmSync(profile, { recursive: true, force: true }));
  return profile;
}

async function launch() {
  if (kind === 'chromium') {
    const { chromium } = await import('playwright-core');
    const browser = await chromium.launch({
      executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
      headless: true,
      args: [
        ...CHROMIUM_FLAGS.filter((flag) => !extra.includes(`!${flag}`)),
        ...extra.filter((flag) => !flag.startsWith('!')),
      ],
    });
    const context = await browser.newContext();
    return { browser, version: browser.version(), newPage: () => context.newPage() };
  }
  if (kind === 'firefox') {
    const { default: puppeteer } = await import('puppeteer-core');
    const prefs = { ...FIREFOX_PREFS };
    let userDataDir;
    for (const pair of extra) {
      const at = pair.indexOf('=');
      if (pair.startsWith('authority=')) {
        userDataDir = profileOf(pair.slice(at + 1));
        continue;
      }
      prefs[pair.slice(0, at)] = value(pair.slice(at + 1));
    }
    const browser = await puppeteer.launch({
      browser: 'firefox',
      executablePath: process.env.FIREFOX || '/usr/bin/firefox-esr',
      headless: true,
      protocol: 'webDriverBiDi',
      extraPrefsFirefox: prefs,
      userDataDir,
      timeout: 120000,
      protocolTimeout: 600000,
    });
    return { browser, version: await browser.version(), newPage: () => browser.newPage() };
  }
  throw new Error(`unknown browser ${kind}: chromium or firefox`);
}

const say = (object) => process.stdout.write(JSON.stringify(object) + '\n');

// http://localhost is a secure context, which getUserMedia asks for.
const server = http.createServer((_, response) => {
  response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' });
  response.end('<!doctype html><title>interop</title><body></body>');
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const origin = `http://localhost:${server.address().port}/`;

const { browser, version, newPage } = await launch();
const pages = [];
say({ ready: true, version });

async function handle(request) {
  if (request.open) {
    const page = await newPage();
    page.on('console', (message) => say({ log: message.text() }));
    page.on('pageerror', (error) => say({ log: `page error: ${error.message}` }));
    await page.goto(request.url ?? origin);
    return pages.push(page) - 1;
  }
  const page = pages[request.page];
  if (request.eval !== undefined) {
    const text = await page.evaluate(
      async (source) => JSON.stringify(await (0, eval)(source)) ?? null,
      request.eval,
    );
    return text === null ? null : JSON.parse(text);
  }
  if (request.screenshot) return void (await page.screenshot({ path: request.screenshot }));
  if (request.close) return void (await page.close());
  throw new Error('unknown request');
}

readline.createInterface({ input: process.stdin }).on('line', async (line) => {
  const request = JSON.parse(line);
  try {
    const value = (await handle(request)) ?? null;
    if (request.id) say({ id: request.id, value });
  } catch (error) {
    if (request.id) say({ id: request.id, error: String(error?.message ?? error) });
  }
}).on('close', end);

// A browser that does not close in time is killed: none outlives its driver.
async function end() {
  const late = new Promise((resolve) => setTimeout(resolve, 5000));
  await Promise.race([browser.close().catch(() => {}), late]);
  browser.process?.()?.kill('SIGKILL');
  process.exit(0);
}
process.on('SIGTERM', end).on('SIGINT', end);
// The test is gone.
process.stdout.on('error', end);
