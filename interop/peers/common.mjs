// What the peers in JavaScript share: the signalling, one JSON object per line, in on stdin and out on
// stdout (see src/lib.rs), and the messages of a channel.
import fs from 'node:fs';
import readline from 'node:readline';

const say = (object) => process.stdout.write(JSON.stringify(object) + '\n');

/** The version of an installed package. */
export const version = (name) => JSON.parse(
  fs.readFileSync(new URL(`../node_modules/${name}/package.json`, import.meta.url)),
).version;

export const bytes = (size) => new Uint8Array(size).map((_, i) => i % 251);

/** The messages of a channel, and its end. */
export class Inbox {
  #messages = [];
  #waiting = [];
  over = new Promise((done) => { this.end = () => done(true); });

  push(data) {
    const message = typeof data === 'string' ? { text: data } : this.#sum(new Uint8Array(data));
    const next = this.#waiting.shift();
    if (next) next(message);
    else this.#messages.push(message);
  }

  #sum(data) {
    return { size: data.length, good: data.every((byte, i) => byte === i % 251) };
  }

  next() {
    if (this.#messages.length) return this.#messages.shift();
    return new Promise((done) => { this.#waiting.push(done); });
  }
}

/** Waits until there are so many of each kind in `counts`. */
export async function until(counts, count) {
  while (Object.values(counts).some((found) => found < count)) {
    await new Promise((done) => setTimeout(done, 20));
  }
  return counts;
}

/** Answers requests for ever: `peer` has a function for each. */
export function serve(name, version, features, peer) {
  process.on('uncaughtException', (error) => { console.error(error); process.exit(1); });
  readline.createInterface({ input: process.stdin }).on('line', async (line) => {
    const { id, do: what, ...argument } = JSON.parse(line);
    try {
      say({ id, value: (await peer[what](argument)) ?? null });
    } catch (error) {
      say({ id, error: String(error?.stack ?? error) });
    }
  }).on('close', () => process.exit(0));
  say({ ready: true, name, version, features });
}
