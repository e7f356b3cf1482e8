// The scenarios of a meeting: node meeting.mjs SCENARIO URL FOLDER. Pictures go to FOLDER. Facts are
// printed as lines; the exit code says whether all held.
import { createHash, randomBytes } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { mkdirSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { CAST, costume } from './costume.mjs';
import { meetFirefox } from './firefox.mjs';
import { DESKTOP, launch, Person, PHONE, until } from './people.mjs';

const [scenario, base, folder = 'artefacts'] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });
const room = `/r/test-${randomBytes(4).toString('hex')}`;
const people = [];
const browser = await launch();
const browsers = [browser];

const say = (fact) => console.log(typeof fact === 'string' ? fact : JSON.stringify(fact));
function holds(what, condition) {
  if (!condition) throw new Error(`does not hold: ${what}`);
  say(`holds: ${what}`);
}

async function arrive(name, options = {}, where = browser) {
  const person = await Person.arrive(where, base, name, options);
  people.push(person);
  return person;
}

/**
 * Somebody with a browser, and so with a camera, of their own. Chromium's pages share one camera: if two let go of it and take it again at the
 * same moment, as after a server's restart, it may give no more pictures to either until both have let go.
 */
async function arriveApart(name) {
  const own = await launch();
  browsers.push(own);
  return arrive(name, {}, own);
}

const dressed = (name, options = {}) => arrive(name, { init: [costume, CAST[name]], ...options });
const shot = (person, name) => person.shot(join(folder, `${name}.png`));

const scenarios = {
  /** Two people meet, do all that a meeting is for, leave and come back. */
  async meet() {
    const ada = await arrive('Ada');
    await ada.join(room);
    const grace = await arrive('Grace');
    await grace.join(room);
    say(await ada.sees('Grace'));
    await grace.sees('Ada');
    const heard = await ada.hears();
    await grace.hears();
    say(heard);
    holds('frames were decoded', (await ada.received()).frames > 10 && (await grace.received()).frames > 10);

    // Muted: the sign appears on the other side, and the sound ends.
    await ada.press('m');
    await until('Grace sees that Ada is muted', () => grace.tile('Ada').locator('.muted-sign').count());
    await grace.page.waitForTimeout(1500);
    const quiet = (await grace.received()).energy;
    await grace.page.waitForTimeout(2000);
    holds('a muted microphone is silent', (await grace.received()).energy - quiet < 1e-4);
    await ada.press('m');
    await until('Grace sees that Ada is not muted', async () => (await grace.tile('Ada').locator('.muted-sign').count()) === 0);
    await grace.hears();

    // The camera goes and comes back.
    await ada.press('v');
    await until('Grace sees Ada’s face no more', async () => (await grace.tile('Ada').locator('video').count()) === 0);
    await ada.press('v');
    await grace.sees('Ada');

    // Hand, reaction, chat.
    await grace.press('h');
    await until('Ada sees the hand', () => ada.tile('Grace').locator('.hand').count());
    await grace.press('h');
    await until('the hand is down', async () => (await ada.tile('Grace').locator('.hand').count()) === 0);
    await ada.press('r');
    await ada.page.getByRole('menuitem', { name: 'React with 🎉' }).click();
    await until('Grace sees the reaction', () => grace.page.locator('.reaction', { hasText: '🎉' }).count());
    await ada.press('Escape');
    await ada.says('Guten Morgen, こんにちは');
    await grace.reads('Guten Morgen, こんにちは');
    await grace.says('Good morning');
    await ada.reads('Good morning');
    await ada.closePanel();
    await grace.closePanel();

    // A screen is shared, takes the stage, and is taken back.
    await grace.press('s');
    const screen = await ada.sees('Grace’s screen');
    say({ screen });
    holds('the screen is on stage', (await ada.page.locator('.tile.stage.is-screen').count()) === 1);
    await grace.press('s');
    await until('the screen is gone', async () => (await ada.page.locator('.tile.is-screen').count()) === 0);

    // The signalling connection is lost: the page resumes, which restarts ICE, and nobody leaves.
    const [credentials] = await ada.credentials();
    await ada.loseSignalling();
    await until('ICE is restarted', async () => !(await ada.credentials()).includes(credentials));
    await ada.sees('Grace');
    await grace.sees('Ada');
    await ada.hears();
    holds('on the same connection', (await ada.credentials()).length === 1);
    // Until the SDK hears that its socket is closed it may send on it, which the browser calls an error.
    ada.forgive(/WebSocket is already in/);

    // Leave and rejoin.
    await grace.leaves();
    await until('Ada is alone', async () => (await ada.page.locator('.tile').count()) === 1);
    await grace.page.getByRole('button', { name: 'Join again' }).click();
    await grace.page.locator('.meeting').waitFor();
    await ada.sees('Grace');
    await grace.sees('Ada');
    await ada.leaves();
    await grace.leaves();
  },

  /** Who came first may mute and remove others; they are told, and nobody else may. */
  async host() {
    const ada = await dressed('Ada Lovelace');
    await ada.join(room);
    const grace = await dressed('Grace Hopper');
    await grace.join(room);
    await ada.sees('Grace');
    await ada.panel('People');
    await grace.panel('People');
    holds('a guest rules nobody', (await grace.page.getByRole('button', { name: /^Remove / }).count()) === 0);
    await shot(ada, 'host-dark');
    await ada.button('Mute Grace Hopper').click();
    await grace.page.getByText('The host has muted you').first().waitFor();
    await until('Ada sees that Grace is muted', () => ada.tile('Grace').locator('.muted-sign').count());
    await shot(grace, 'host-muted-dark');
    await grace.page.locator('body').press('m');
    await until('Grace speaks again', async () => (await ada.tile('Grace').locator('.muted-sign').count()) === 0);
    await ada.button('Mute everyone else').click();
    await until('and is muted with everyone', () => ada.tile('Grace').locator('.muted-sign').count());
    await ada.button('Remove Grace Hopper from the meeting').click();
    await shot(ada, 'host-remove-dark');
    await ada.button('Remove Grace Hopper from the meeting, really').click();
    await grace.page.getByText('You were removed from the meeting').waitFor();
    // The SDK calls the end of the media unexpected if it sees it before the word of signalling, which a busy browser does.
    grace.forgive(/data ?channel|WebSocket is already in/i);
    await until('Ada is alone', async () => (await ada.page.locator('.tile').count()) === 1);
    await shot(grace, 'host-removed-dark');
  },

  /** 50 MB from one to the other, the same on disk. */
  async file() {
    const ada = await arrive('Ada');
    await ada.join(room);
    const grace = await arrive('Grace');
    await grace.join(room);
    await ada.sees('Grace');
    const bytes = randomBytes(50_000_000);
    const start = Date.now();
    await ada.offers('report.bin', bytes);
    const hash = await grace.gets('report.bin', 300_000);
    const seconds = (Date.now() - start) / 1000;
    say({ bytes: bytes.length, seconds, megabits: (bytes.length * 8) / seconds / 1e6 });
    holds('the file is the same', hash === createHash('sha256').update(bytes).digest('hex'));
    await until('the owner is told', () => ada.page.locator('.file', { hasText: 'one person has it' }).count());
    // An empty one is a file too.
    await grace.offers('empty.txt', Buffer.alloc(0));
    holds('an empty file arrives', (await ada.gets('empty.txt')) === createHash('sha256').digest('hex'));
  },

  /** End-to-end encryption: with the key all is well, without it nothing is seen and the page says why. */
  async encrypted() {
    const address = `${room}#key=${randomBytes(18).toString('base64url')}`;
    const ada = await arrive('Ada');
    await ada.join(address);
    const grace = await arrive('Grace');
    await grace.join(address);
    await ada.sees('Grace', 45000);
    await grace.sees('Ada', 45000);
    await grace.hears();
    await ada.says('only for us');
    await grace.reads('only for us');
    await ada.offers('secret.txt', Buffer.from('secret'));
    holds('a file goes encrypted too', (await grace.gets('secret.txt')) === createHash('sha256').update('secret').digest('hex'));
    const eve = await arrive('Eve');
    await eve.join(room);
    await until('Eve is told', () => eve.page.getByText('end-to-end encrypted').count());
    await eve.page.waitForTimeout(2000);
    await shot(eve, 'encrypted-without-key-dark');
    // The SDK says so too.
    eve.errors.length = 0;
    holds('Eve sees nobody', (await eve.tile('Ada').locator('video').count()) === 0);
  },

  /** The connection test finds everything in order. */
  async doctor() {
    const ada = await arrive('Ada', { viewport: { width: 1100, height: 1500 } });
    await ada.open('/doctor');
    await ada.page.getByRole('button', { name: 'Start the test' }).click();
    await ada.page.getByRole('button', { name: 'Test again' }).waitFor({ timeout: 120_000 });
    for (const check of await ada.page.locator('.check').all()) say((await check.innerText()).replaceAll('\n', ' | '));
    await shot(ada, 'doctor-dark');
    holds('nothing is wrong', (await ada.page.locator('.check.bad').count()) === 0);
    for (const name of ['Signalling', 'Path of the media', 'Data channel', 'Sound and picture', 'Reconnection']) {
      holds(`${name} is good`, (await ada.page.locator(`[data-check="${name}"]`).getAttribute('data-severity')) === 'good');
    }
  },

  /** Two Chromiums and a Firefox. */
  async firefox() {
    const ada = await arrive('Ada');
    await ada.join(room);
    const grace = await arrive('Grace');
    await grace.join(room);
    await meetFirefox(base, room, 'Lynn Conway', [costume, CAST['Lynn Conway']], async (lynn) => {
      await ada.sees('Lynn', 60000);
      await grace.sees('Lynn', 60000);
      await ada.hears();
      const before = await lynn.received();
      const now = await until('Firefox sees and hears both', async () => {
        const sum = await lynn.received();
        return sum.video >= 2 && sum.audio >= 2 && sum.frames > before.frames + 20 && sum.energy > before.energy && sum;
      }, 60000);
      say(now);
      await ada.says('Hello, fox');
      await lynn.reads('Hello, fox');
      await lynn.shot(join(folder, 'firefox.png'));

      await lynn.mutes();
      await until('Ada sees that Lynn is muted', () => ada.tile('Lynn').locator('.muted-sign').count());
      await lynn.unmutes();
      await until('Ada sees that Lynn is not muted', async () => (await ada.tile('Lynn').locator('.muted-sign').count()) === 0);

      await ada.press('Escape');
      await ada.page.locator('body').press('s');
      await until('Firefox sees the screen', async () => (await lynn.received()).video >= 3, 60000);
      await grace.sees('Ada’s screen', 60000);
      await ada.page.locator('body').press('s');

      // 50 MB to Firefox and to Chromium, and back from Firefox.
      const bytes = randomBytes(50_000_000);
      const digest = createHash('sha256').update(bytes).digest('hex');
      const path = await ada.offers('report.bin', bytes);
      holds('the file is the same in Firefox', (await lynn.gets('report.bin', bytes.length)) === digest);
      holds('and in Chromium', (await grace.gets('report.bin', 300_000)) === digest);
      const back = join(dirname(path), 'back.bin');
      renameSync(path, back);
      await lynn.offers(back);
      holds('and back from Firefox', (await ada.gets('back.bin', 300_000)) === digest);

      await lynn.leaves();
      await until('Lynn has left', async () => (await ada.tile('Lynn').count()) === 0);
      await lynn.rejoins();
      await ada.sees('Lynn', 60000);
    });
    await until('Firefox is gone', async () => (await ada.tile('Lynn').count()) === 0, 60000);
  },

  /** The network goes for some seconds, and the meeting survives. Needs a namespace of its own. */
  async network() {
    const ada = await arrive('Ada');
    await ada.join(room);
    const grace = await arriveApart('Grace');
    await grace.join(room);
    await ada.sees('Grace');
    const ip = (...words) => execFileSync('ip', words);
    ip('link', 'set', 'visavis0', 'down');
    await new Promise((resolve) => setTimeout(resolve, 8000));
    ip('link', 'set', 'visavis0', 'up');
    ip('-6', 'addr', 'replace', 'fd00:77::1/64', 'dev', 'visavis0', 'nodad');
    ip('route', 'replace', 'default', 'via', '198.51.100.254', 'dev', 'visavis0');
    const start = Date.now();
    await ada.sees('Grace', 60000);
    await grace.sees('Ada', 60000);
    say({ recovered: (Date.now() - start) / 1000 });
    await ada.says('still here');
    await grace.reads('still here');
  },

  /** The server ends and another takes its place: told by the test, which waits for the line. */
  async restart() {
    const ada = await arrive('Ada');
    await ada.join(room);
    const grace = await arriveApart('Grace');
    await grace.join(room);
    await ada.sees('Grace');
    await grace.press('m');
    await until('Ada sees that Grace is muted', () => ada.tile('Grace').locator('.muted-sign').count());
    say('restart now');
    await until('Ada notices', () => ada.page.getByText(/Getting it back|Waiting for the server/).count(), 60000);
    await shot(ada, 'restart-dark');
    await until('both are back', async () => (await ada.page.locator('.tile').count()) === 2 && (await grace.page.locator('.tile').count()) === 2, 120_000);
    await ada.sees('Grace', 60000);
    await grace.sees('Ada', 60000);
    holds('nobody was unmuted', (await ada.tile('Grace').locator('.muted-sign').count()) === 1);
  },

  /** Pictures of every view, and what can be checked of them without eyes. */
  async views() {
    const ada = await dressed('Ada Lovelace');
    await ada.open('/');
    await ada.page.waitForTimeout(700);
    await shot(ada, 'start-dark');
    await ada.open(room);
    await ada.page.locator('.preview video').waitFor();
    await ada.page.waitForTimeout(700);
    await shot(ada, 'lobby-dark');
    await named(ada);
    await ada.join();
    await ada.page.locator('.invite-card').waitFor();
    await ada.page.waitForTimeout(700);
    await shot(ada, 'alone-dark');

    const grace = await dressed('Grace Hopper', { colorScheme: 'light' });
    await grace.open('/');
    await grace.page.waitForTimeout(500);
    await shot(grace, 'start-light');
    await grace.open(room);
    await grace.page.waitForTimeout(1000);
    await shot(grace, 'lobby-light');
    await grace.join();
    await ada.sees('Grace');
    await grace.sees('Ada');
    await ada.page.waitForTimeout(700);
    await shot(ada, 'pair-dark');
    await shot(grace, 'pair-light');

    const alan = await dressed('Alan Turing', { ...PHONE });
    await alan.open('/');
    await alan.page.waitForTimeout(500);
    await shot(alan, 'phone-start-dark');
    await fits(alan, 320, 640);
    await alan.open(room);
    await alan.page.waitForTimeout(1000);
    await shot(alan, 'phone-lobby-dark');
    await fits(alan, 320, 640);
    await fits(alan, 740, 360);
    await alan.join();
    await alan.sees('Ada');
    await alan.sees('Grace');
    await alan.page.waitForTimeout(700);
    await shot(alan, 'phone-grid-dark');
    await fits(alan, 320, 640);
    await fits(alan, 740, 360);
    await shot(ada, 'grid-dark');
    await named(ada);
    await named(alan);

    await grace.says('Good morning! The agenda: https://example.org/agenda');
    await ada.says('Morning, Grace. I’ve put the plan here:');
    await ada.offers('plan.pdf', randomBytes(2_400_000));
    await grace.gets('plan.pdf');
    await alan.page.waitForTimeout(300);
    await alan.button('More').click();
    await shot(alan, 'phone-more-dark');
    await alan.page.getByRole('menuitem', { name: 'Raise hand' }).click();
    await grace.says('Got it, thanks.');
    await ada.reads('Got it');
    await ada.page.waitForTimeout(600);
    await shot(ada, 'chat-dark');
    await shot(grace, 'chat-light');
    await ada.panel('People');
    await ada.page.waitForTimeout(500);
    await shot(ada, 'people-dark');
    await ada.panel('Connection');
    await ada.page.waitForTimeout(7000);
    await shot(ada, 'connection-dark');
    await named(ada);
    await grace.panel('Connection');
    await grace.page.waitForTimeout(800);
    await shot(grace, 'connection-light');
    await alan.panel('Chat');
    await alan.page.waitForTimeout(500);
    await shot(alan, 'phone-chat-dark');
    await fits(alan, 320, 640);
    await alan.closePanel();
    await alan.panel('Connection');
    await alan.page.waitForTimeout(500);
    await shot(alan, 'phone-connection-dark');
    await fits(alan, 320, 640);
    await alan.closePanel();
    await ada.closePanel();
    await grace.closePanel();

    await grace.page.locator('.bar').getByRole('button', { name: 'Share screen' }).click();
    await ada.sees('Grace Hopper’s screen');
    await alan.sees('Grace Hopper’s screen');
    await ada.page.waitForTimeout(900);
    await shot(ada, 'screen-dark');
    await shot(grace, 'screen-own-light');
    await shot(alan, 'phone-screen-dark');
    await grace.page.locator('.bar').getByRole('button', { name: 'Stop sharing' }).click();
    await until('the screen is gone', async () => (await ada.page.locator('.tile.is-screen').count()) === 0);

    await ada.page.locator('body').press('l');
    await ada.page.locator('body').press('l');
    await ada.page.waitForTimeout(700);
    await shot(ada, 'speaker-dark');
    await ada.button('React').click();
    await ada.page.waitForTimeout(300);
    await shot(ada, 'react-dark');
    for (const emoji of ['🎉', '👏', '❤️']) await ada.page.getByRole('menuitem', { name: `React with ${emoji}` }).click();
    await until('the reactions rise', () => grace.page.locator('.reaction').count());
    await grace.page.waitForTimeout(600);
    await shot(grace, 'reactions-light');
    await ada.press('Escape');
    await ada.button('More').click();
    await ada.page.waitForTimeout(300);
    await shot(ada, 'more-dark');
    await ada.page.getByRole('menuitem', { name: 'Invite' }).click();
    await ada.page.waitForTimeout(400);
    await shot(ada, 'invite-dark');
    await ada.press('Escape');
    await ada.page.locator('body').press('?');
    await ada.page.waitForTimeout(400);
    await shot(ada, 'keys-dark');
    await ada.press('Escape');
    await grace.button('More').click();
    await grace.page.getByRole('menuitem', { name: 'Settings' }).click();
    await grace.page.waitForTimeout(400);
    await shot(grace, 'settings-light');
    await grace.press('Escape');
    await grace.button('More').click();
    await grace.page.getByRole('menuitem', { name: 'Invite' }).click();
    await grace.page.waitForTimeout(400);
    await shot(grace, 'invite-light');
    await grace.press('Escape');
    await ada.page.locator('body').press('v');
    await ada.page.locator('body').press('m');
    await until('Ada’s camera is off', async () => (await grace.tile('Ada').locator('video').count()) === 0);
    await grace.page.waitForTimeout(500);
    await shot(grace, 'muted-light');
    await grace.page.setViewportSize({ width: 844, height: 390 });
    await grace.page.waitForTimeout(600);
    await shot(grace, 'phone-landscape-light');
    await ada.leaves();
    await shot(ada, 'left-dark');
  },

  /** Many people: the picture of the README, and the views of a large meeting. */
  async crowd() {
    const names = Object.keys(CAST).filter((name) => name !== 'Lynn Conway');
    const [ada] = [await dressed(names[0], { viewport: { width: 1440, height: 860 } })];
    await ada.join(room);
    for (const name of names.slice(1)) await (await dressed(name, { viewport: { width: 960, height: 600 } })).join(room);
    for (const name of names.slice(1)) await ada.sees(name, 60000);
    await people[3].press('h');
    await ada.page.waitForTimeout(2500);
    await ada.page.locator('.tile.speaking').first().waitFor({ timeout: 10000 }).catch(() => {});
    await shot(ada, 'crowd-grid-dark');
    await ada.page.setViewportSize(PHONE.viewport);
    await ada.page.waitForTimeout(800);
    await shot(ada, 'crowd-phone-dark');
    await ada.page.setViewportSize({ width: 1440, height: 860 });
    await people[1].press('s');
    await ada.sees('screen', 60000);
    await people[2].says('So the paint was worth it?');
    await people[1].says('It was. And the chairs come in May!');
    await ada.reads('chairs come');
    await ada.page.waitForTimeout(2500);
    await shot(ada, 'crowd-screen-dark');
    // Seven pages fill a small machine. The SDK of one that gets no time for a negotiation connects anew, and the SDKs of others may
    // hear of its former tracks after it left.
    for (const person of people) person.forgive(/negotiation timed out|add a track for a participant, that's not present/);
  },

  /** What the page says when things are missing: no server, no devices, a bad name. */
  async trouble() {
    const ada = await arrive('Ada', { init: [() => {
      navigator.mediaDevices.getUserMedia = async () => {
        throw new DOMException('x', 'NotAllowedError');
      };
    }] });
    await ada.open(room);
    await ada.page.getByText('The browser may not use your microphone and camera').waitFor();
    await shot(ada, 'trouble-devices-dark');
    await ada.page.route('**/api/join', (route) => route.abort());
    await ada.page.getByRole('button', { name: 'Join now' }).click();
    await ada.page.getByText('The server cannot be reached').waitFor();
    await shot(ada, 'trouble-server-dark');
    await ada.page.unroute('**/api/join');
    await ada.page.route('**/api/join', (route) => route.fulfill({ status: 409, contentType: 'application/json', body: '{"error":"full","code":"room_full"}' }));
    await ada.page.getByRole('button', { name: 'Try again' }).click();
    await ada.page.getByText('The room is full').waitFor();
    await ada.page.unroute('**/api/join');
    // Without any device one can still come in.
    await ada.page.getByRole('button', { name: 'Try again' }).click();
    await ada.page.locator('.meeting').waitFor();
    await ada.page.locator('body').press('m');
    await ada.page.getByText('The browser may not use your microphone').waitFor();
    ada.errors.length = 0;
  },

  /** The operator's view of a meeting that is under way. */
  async inspect() {
    const ada = await dressed('Ada Lovelace');
    await ada.join(room);
    const grace = await dressed('Grace Hopper');
    await grace.join(room);
    await ada.sees('Grace');
    const operator = await arrive('Operator', { viewport: { width: 1280, height: 1400 } });
    await operator.open('/inspect');
    await operator.page.locator('.who').first().waitFor();
    await operator.page.waitForTimeout(5000);
    await operator.page.locator('.who summary').first().click();
    await operator.page.waitForTimeout(500);
    await shot(operator, 'inspect-dark');
    holds('both are listed', (await operator.page.locator('.who').count()) >= 2);
  },
};

/** Every control has a name that a screen reader can say, and every picture's text a way to be read. */
async function named(person) {
  const nameless = await person.page.evaluate(() =>
    [...document.querySelectorAll('button, a[href], input:not([type=hidden]):not([hidden]), select, textarea')]
      .filter((element) => element.checkVisibility())
      .filter((element) => {
        const label = element.getAttribute('aria-label') || element.labels?.[0]?.textContent || element.textContent || element.getAttribute('title');
        return !label?.trim();
      })
      .map((element) => element.outerHTML.slice(0, 120)));
  holds(`every control has a name: ${JSON.stringify(nameless)}`, nameless.length === 0);
}

/** Nothing that can be used lies outside of the window, nothing scrolls sideways, and fingers find what they touch. */
async function fits(person, width, height) {
  const before = person.page.viewportSize();
  await person.page.setViewportSize({ width, height });
  await person.page.waitForTimeout(500);
  const faults = await person.page.evaluate(() => {
    const page = document.documentElement;
    const faults = page.scrollWidth > page.clientWidth ? [`the page is ${page.scrollWidth} wide`] : [];
    const least = matchMedia('(pointer: coarse)').matches ? 43.5 : 0;
    for (const element of document.querySelectorAll('button, a[href], input:not([type=file]), select, textarea, summary')) {
      const box = (element.closest('label') ?? element).getBoundingClientRect();
      // Links within a sentence are as high as its lines.
      if (!element.checkVisibility() || box.width < 2 || element.closest('p')) continue;
      const name = element.getAttribute('aria-label') || element.textContent.trim() || element.tagName;
      if (box.left < -1 || box.right > page.clientWidth + 1) faults.push(`${name} lies outside`);
      if (Math.min(box.width, box.height) < least) faults.push(`${name} is ${Math.round(box.width)} x ${Math.round(box.height)}`);
    }
    return faults;
  });
  await person.page.setViewportSize(before);
  holds(`everything fits into ${width} x ${height}: ${faults.join(', ')}`, faults.length === 0);
}

let failed = false;
try {
  if (!scenarios[scenario]) throw new Error(`unknown scenario; there are: ${Object.keys(scenarios).join(', ')}`);
  await scenarios[scenario]();
  for (const person of people) {
    holds(`${person.name} asked nobody else: ${person.outside}`, person.outside.length === 0);
    holds(`${person.name} saw no error: ${person.errors.join(' / ')}`, ['network', 'restart', 'doctor'].includes(scenario) || person.errors.length === 0);
  }
} catch (error) {
  failed = true;
  // Without the browser's own log, which a driver's error may carry.
  console.log(`failed: ${String(error?.stack ?? error).replace(/Browser logs:[^]*?Call log:/, '').split('\n').slice(0, 12).join('\n')}`);
  for (const person of people) {
    console.log(`${person.name}: ${person.errors.join(' / ')}`);
    await shot(person, `failed-${scenario}-${person.name}`).catch(() => {});
  }
}
const late = new Promise((resolve) => setTimeout(resolve, 5000));
await Promise.race([Promise.all(browsers.map((each) => each.close())), late]);
process.exit(failed ? 1 : 0);
