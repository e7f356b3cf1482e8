import { createHash } from 'node:crypto';
import { beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Room } from 'livekit-client';
import { Files, type SharedFile } from '../src/meeting/files';

type Handler = (reader: unknown, info: { identity: string }) => void;

/** Two ends of a meeting without a server: what one publishes the other hears. `bend` changes what is on the way. */
class Wire {
  readonly ends = new Map<string, { files: Files; handler: Handler; added: SharedFile[] }>();
  readonly words: { from: string; text: string }[] = [];
  bend = (bytes: Uint8Array): Uint8Array[] => [bytes];

  join(identity: string) {
    const added: SharedFile[] = [];
    let handler: Handler = () => {};
    const room = {
      registerByteStreamHandler: (_: string, given: Handler) => (handler = given),
      localParticipant: {
        identity,
        publishData: async (payload: Uint8Array, { destinationIdentities }: { destinationIdentities?: string[] }) => {
          this.words.push({ from: identity, text: new TextDecoder().decode(payload) });
          for (const [name, end] of this.ends) {
            if (name !== identity && (!destinationIdentities || destinationIdentities.includes(name))) end.files.heard(payload, identity);
          }
        },
        streamBytes: async ({ destinationIdentities, attributes }: { destinationIdentities: string[]; attributes: Record<string, string> }) => {
          const stream = new TransformStream<Uint8Array, Uint8Array>();
          const writer = stream.writable.getWriter();
          this.stream(destinationIdentities[0]!, identity, attributes, stream.readable);
          return {
            write: async (bytes: Uint8Array) => {
              for (const piece of this.bend(bytes)) void writer.write(piece);
            },
            close: async () => void writer.close(),
          };
        },
      },
    } as unknown as Room;
    const files = new Files(room, (file) => added.push(file));
    const end = { files, handler: handler as Handler, added };
    this.ends.set(identity, end);
    return end;
  }

  stream(to: string, from: string, attributes: Record<string, string>, bytes: ReadableStream<Uint8Array>) {
    const reader = {
      info: { attributes },
      withAbortSignal: (signal: AbortSignal) => ({
        async *[Symbol.asyncIterator]() {
          for await (const piece of bytes as unknown as AsyncIterable<Uint8Array>) {
            if (signal.aborted) return;
            yield piece;
          }
        },
      }),
    };
    this.ends.get(to)!.handler(reader, { identity: from });
  }
}

beforeAll(() => {
  vi.stubGlobal('document', { createElement: () => ({ click: () => {} }) });
});

const content = (size: number) => Uint8Array.from({ length: size }, (_, index) => index * 31 + (index >> 8));
const at = (file: SharedFile | undefined) => file?.state.value.at;
const settled = (file: SharedFile) => vi.waitFor(() => expect(['done', 'failed']).toContain(at(file)));

describe('files', () => {
  let wire: Wire;
  let ada: ReturnType<Wire['join']>;
  let bob: ReturnType<Wire['join']>;
  beforeEach(() => {
    wire = new Wire();
    ada = wire.join('ada');
    bob = wire.join('bob');
  });

  const offered = async (size = 700_000) => {
    await ada.files.offer(new File([content(size)], 'plan.pdf', { type: 'application/pdf' }));
    return bob.added[0]!;
  };

  it('arrive as they were, and the owner knows', async () => {
    const file = await offered();
    expect(file).toMatchObject({ name: 'plan.pdf', size: 700_000, sha256: createHash('sha256').update(content(700_000)).digest('hex') });
    expect(at(file)).toBe('offered');
    await bob.files.ask(file);
    await settled(file);
    const state = file.state.value;
    expect(state.at).toBe('done');
    const bytes = Buffer.from(await (await fetch((state as { url: string }).url)).arrayBuffer());
    expect(bytes.equals(content(700_000))).toBe(true);
    await vi.waitFor(() => expect(ada.added[0]!.receivers.value).toEqual({ bob: 1 }));
  });

  it('do not run ahead of a slow receiver', async () => {
    const file = await offered(2_000_000);
    let sent = 0;
    let most = 0;
    wire.bend = (bytes) => {
      sent += bytes.length;
      const told = wire.words.map(({ text }) => JSON.parse(text) as { type: string; bytes: number }).filter((word) => word.type === 'have');
      most = Math.max(most, sent - (told.at(-1)?.bytes ?? 0));
      return [bytes];
    };
    await bob.files.ask(file);
    await settled(file);
    expect(at(file)).toBe('done');
    expect(most).toBeLessThanOrEqual(384 * 1024 + 64 * 1024);
  });

  it('of no bytes arrive too', async () => {
    const file = await offered(0);
    await bob.files.ask(file);
    await settled(file);
    expect(at(file)).toBe('done');
  });

  it('that were changed on the way are not kept', async () => {
    const file = await offered();
    wire.bend = (bytes) => [bytes.map((byte, index) => (index === 5 ? byte ^ 1 : byte))];
    await bob.files.ask(file);
    await settled(file);
    expect(file.state.value).toEqual({ at: 'failed', why: 'Its checksum is wrong.' });
  });

  it('that are longer or shorter than offered are not kept', async () => {
    const file = await offered(1000);
    wire.bend = (bytes) => [bytes, bytes];
    await bob.files.ask(file);
    await settled(file);
    expect(file.state.value).toEqual({ at: 'failed', why: 'More came than was offered.' });
    wire.bend = (bytes) => [bytes.slice(1)];
    await bob.files.ask(file);
    await settled(file);
    expect(file.state.value).toEqual({ at: 'failed', why: 'It ended early.' });
    // It can be asked for again.
    wire.bend = (bytes) => [bytes];
    await bob.files.ask(file);
    await settled(file);
    expect(at(file)).toBe('done');
  });

  it('that nobody asked for, or that somebody else sends, are ignored', async () => {
    const file = await offered(1000);
    wire.join('eve');
    wire.stream('bob', 'ada', { id: file.id }, new Blob([content(1000)]).stream());
    expect(at(file)).toBe('offered');
    file.state.value = { at: 'asked' };
    wire.stream('bob', 'eve', { id: file.id }, new Blob([content(1000)]).stream());
    wire.stream('bob', 'ada', { id: 'unknown' }, new Blob([content(1000)]).stream());
    expect(at(file)).toBe('asked');
  });

  it('cannot be taken over or withdrawn by others', async () => {
    const file = await offered(1000);
    const say = (word: object) => bob.files.heard(new TextEncoder().encode(JSON.stringify(word)), 'eve');
    say({ type: 'withdraw', id: file.id });
    say({ type: 'offer', id: file.id, name: 'other', size: 1, mime: '', sha256: '' });
    expect(file).toMatchObject({ owner: 'ada', name: 'plan.pdf' });
    expect(at(file)).toBe('offered');
  });

  it('offered by nonsense do no harm, and offers have a bound', () => {
    const hear = (bytes: Uint8Array) => bob.files.heard(bytes, 'eve');
    const say = (word: unknown) => hear(new TextEncoder().encode(JSON.stringify(word)));
    hear(new Uint8Array([0xff, 0xfe]));
    for (const word of [null, 7, [], {}, { type: 'offer' }, { type: 'offer', id: 'x', name: 3, sha256: '', size: 1 }, { type: 'offer', id: 'x', name: 'n', sha256: '', size: -1 }, { type: 'offer', id: 'x', name: 'n', sha256: '', size: 1.5 }]) say(word);
    expect(bob.added).toEqual([]);
    for (let index = 0; index < 1000; index++) say({ type: 'offer', id: `x${index}`, name: 'n'.repeat(5000), size: 1, mime: '', sha256: '' });
    expect(bob.added).toHaveLength(200);
    expect(bob.added[0]!.name).toHaveLength(255);
  });

  it('are gone with their owner', async () => {
    const file = await offered(1000);
    bob.files.gone('ada');
    expect(at(file)).toBe('withdrawn');
  });

  it('are offered again to one who comes later', async () => {
    await offered(1000);
    const late = wire.join('late');
    ada.files.greet('late');
    expect(late.added).toHaveLength(1);
    expect(bob.added).toHaveLength(1);
  });
});
