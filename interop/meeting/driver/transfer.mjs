// A browser at one end of a transfer.
//
//   node transfer.mjs receive chromium|firefox LINK        prints "sha256 HEX" of what arrived
//   node transfer.mjs send chromium|firefox PAGE FILE      prints "link URL", then "sent"
import puppeteer from 'puppeteer-core';

const [, , action, kind, address, file] = process.argv;
const LIMIT = 400000;

const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
  '--disable-dev-shm-usage', '--disable-renderer-backgrounding', '--disable-background-timer-throttling',
];
const PREFS = {
  'media.peerconnection.ice.obfuscate_host_addresses': false,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'app.update.enabled': false,
  'browser.safebrowsing.update.enabled': false,
};

const browser = await puppeteer.launch({
  headless: true, timeout: 120000, protocolTimeout: LIMIT,
  ...(kind === 'firefox'
    ? { browser: 'firefox', executablePath: process.env.FIREFOX || '/usr/bin/firefox-esr', protocol: 'webDriverBiDi', extraPrefsFirefox: PREFS }
    : { browser: 'chrome', executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: FLAGS }),
});
try {
  const page = await browser.newPage();
  // What the page saves is looked at before it goes to the disk.
  await page.evaluateOnNewDocument(() => {
    const native = URL.createObjectURL;
    URL.createObjectURL = (blob) => {
      window.saved = blob;
      return native.call(URL, blob);
    };
  });
  await page.goto(address, { timeout: 60000 });
  if (action === 'receive') {
    await page.waitForSelector('main[data-phase=asking] button', { timeout: 90000 });
    await page.click('main[data-phase=asking] button');
    await page.waitForFunction(() => /done|failed/.test(document.querySelector('main').dataset.phase), { timeout: LIMIT });
    const text = await page.$eval('main', (main) => main.textContent);
    if (!text.includes('Received and verified')) throw new Error(text);
    const sum = await page.evaluate(async () => {
      const sum = await crypto.subtle.digest('SHA-256', await window.saved.arrayBuffer());
      return [...new Uint8Array(sum)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    });
    console.log(`sha256 ${sum}`);
  } else {
    const input = await page.waitForSelector('#files', { timeout: 60000 });
    await input.uploadFile(file);
    await page.waitForFunction(() => document.querySelector('.link-row input')?.value, { timeout: 60000 });
    console.log(`link ${await page.$eval('.link-row input', (input) => input.value)}`);
    await page.waitForSelector('li[data-state=sent], li[data-state=failed]', { timeout: LIMIT });
    const text = await page.$eval('.received', (list) => list.textContent);
    if (!text.includes('Sent and verified')) throw new Error(text);
    console.log('sent');
  }
} finally {
  await Promise.race([browser.close().catch(() => {}), new Promise((resolve) => setTimeout(resolve, 5000))]);
  browser.process()?.kill('SIGKILL');
}
process.exit();
