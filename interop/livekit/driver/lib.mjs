// What the scenarios share: a server for pages on localhost (a secure context), Chromium, tokens, waiting.
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';
import { AccessToken } from 'livekit-server-sdk';
import { chromium } from 'playwright-core';

export const [scenario, base, key, secret, more] = process.argv.slice(2);
const require = createRequire(import.meta.url);
const modules = path.join(path.dirname(require.resolve('livekit-client')), '..', '..');

export const say = (fact) => console.log(typeof fact === 'string' ? fact : JSON.stringify(fact));
export function holds(what, condition) {
  if (!condition) throw new Error(`does not hold: ${what}`);
  say(`holds: ${what}`);
}
export async function until(what, test, seconds = 60) {
  const end = Date.now() + seconds * 1000;
  let last;
  for (;;) {
    try { last = await test(); } catch (error) { last = error; }
    if (last && !(last instanceof Error)) { say(`holds: ${what}`); return last; }
    if (Date.now() > end) throw new Error(`never: ${what} (${last instanceof Error ? last.message : JSON.stringify(last)})`);
    await new Promise((done) => setTimeout(done, 100));
  }
}

export async function token(room, identity, grant = {}, more = {}) {
  const made = new AccessToken(key, secret, { identity, name: identity, ...more });
  made.addGrant({ room, roomJoin: true, canUpdateOwnMetadata: true, ...grant });
  return made.toJwt();
}

/** Serves files of node_modules under /npm/, and `pages` by name. */
export async function pageServer(pages = {}) {
  const server = http.createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    try {
      const body = pathname in pages ? pages[pathname]
        : pathname.startsWith('/npm/') ? await readFile(path.join(modules, path.normalize(pathname.slice(5)))) : null;
      if (body === null) { response.writeHead(404).end(); return; }
      const type = /\.m?js$/.test(pathname) ? 'text/javascript' : 'text/html; charset=utf-8';
      response.writeHead(200, { 'content-type': type }).end(body);
    } catch { response.writeHead(404).end(); }
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return { url: `http://localhost:${server.address().port}`, close: () => server.close() };
}

export async function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    headless: true,
    args: [
      '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
      '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream',
      '--autoplay-policy=no-user-gesture-required', '--disable-background-networking',
      // Certificates that the servers of tests made for themselves.
      '--ignore-certificate-errors',
    ],
  });
}

export async function open(browser, url) {
  const context = await browser.newContext({ permissions: ['camera', 'microphone'] });
  const page = await context.newPage();
  page.on('pageerror', (error) => say(`page error: ${error.message}`));
  if (process.env.VERBOSE) page.on('console', (line) => say(`console: ${line.text()}`));
  await page.goto(url);
  return page;
}

/** Runs the scenario that the command line names. */
export async function run(scenarios, close) {
  let code = 0;
  try {
    await scenarios[scenario]();
  } catch (error) {
    say(`failed: ${error.stack}`);
    code = 1;
  }
  await close?.();
  process.exit(code);
}
