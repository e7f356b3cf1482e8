// Files between people of a meeting: offered to all, sent to those who ask, checked by SHA-256.
// An offer is a small data packet; the bytes go as one of LiveKit's byte streams per receiver.
import { signal, type Signal } from '@preact/signals';
import type { ByteStreamReader, Room } from 'livekit-client';
import { hashBlob, Sha256 } from '../lib/sha256';

export const FILE_TOPIC = 'file';

type Word =
  | { type: 'offer'; id: string; name: string; size: number; mime: string; sha256: string }
  | { type: 'get' | 'stop' | 'withdraw'; id: string }
  | { type: 'have'; id: string; bytes: number };

export type FileState =
  | { at: 'preparing'; share: number }
  | { at: 'offered' }
  | { at: 'asked' }
  | { at: 'receiving'; share: number }
  | { at: 'done'; url: string }
  | { at: 'failed'; why: string }
  | { at: 'withdrawn' };

export interface SharedFile {
  id: string;
  name: string;
  size: number;
  mime: string;
  sha256: string;
  /** Whose it is. */
  owner: string;
  own: boolean;
  state: Signal<FileState>;
  /** For one's own: how far each receiver is, by identity; 1 is complete. */
  receivers: Signal<Record<string, number>>;
}

/** Sends at once; further receivers wait, so that the first are served fast. */
const PARALLEL = 3;
/** Bytes read from the file at a time. */
const PIECE = 64 * 1024;
/**
 * Bytes on the way to one receiver at most: a server buffers little for a receiver that is slower than the sender, and
 * then drops or disconnects it. The receiver tells how far it is each `TOLD` bytes.
 */
const WINDOW = 384 * 1024;
const TOLD = 96 * 1024;
/** Milliseconds without progress after which a receiver is given up. */
const PATIENCE = 30_000;
/** What a receiver takes at most, in bytes: the browser holds it until it is saved. */
const LARGEST = 2_000_000_000;
/** Offers that one person may have open with us. */
const OFFERS = 200;

export class Files {
  /** All files of the meeting by id. */
  readonly all = new Map<string, SharedFile>();
  private readonly blobs = new Map<string, File>();
  private readonly stops = new Map<string, AbortController>();
  /** Told by receivers of our files: how many bytes they have; by file and identity. */
  private readonly had = new Map<string, { bytes: number; more: () => void }>();
  private readonly waiting: (() => Promise<void>)[] = [];
  private running = 0;

  constructor(
    private readonly room: Room,
    /** Told of each new file, own or offered. */
    private readonly added: (file: SharedFile) => void,
  ) {
    room.registerByteStreamHandler(FILE_TOPIC, (reader, { identity }) => void this.receive(reader, identity));
  }

  /** Hashes a file and offers it to all. */
  async offer(file: File): Promise<void> {
    const shared: SharedFile = {
      id: crypto.randomUUID(),
      name: file.name || 'file',
      size: file.size,
      mime: file.type || 'application/octet-stream',
      sha256: '',
      owner: this.room.localParticipant.identity,
      own: true,
      state: signal<FileState>({ at: 'preparing', share: 0 }),
      receivers: signal<Record<string, number>>({}),
    };
    this.all.set(shared.id, shared);
    this.blobs.set(shared.id, file);
    this.added(shared);
    try {
      shared.sha256 = await hashBlob(file, (share) => (shared.state.value = { at: 'preparing', share }));
      await this.say(this.word(shared));
      shared.state.value = { at: 'offered' };
    } catch (error) {
      shared.state.value = { at: 'failed', why: error instanceof Error ? error.message : 'It could not be read.' };
    }
  }

  /** Repeats our offers to one who came later. */
  greet(identity: string): void {
    for (const file of this.all.values()) {
      if (file.own && file.state.value.at === 'offered') void this.say(this.word(file), identity).catch(() => {});
    }
  }

  /** Asks the owner for a file. */
  async ask(file: SharedFile): Promise<void> {
    if (file.size > LARGEST) {
      file.state.value = { at: 'failed', why: 'It is too large for a browser to receive.' };
      return;
    }
    file.state.value = { at: 'asked' };
    await this.say({ type: 'get', id: file.id }, file.owner).catch(() => {
      file.state.value = { at: 'failed', why: 'The owner could not be asked.' };
    });
  }

  /** Stops receiving a file, or takes back an offer of one's own. */
  cancel(file: SharedFile): void {
    if (file.own) {
      for (const [key, stop] of this.stops) if (key.startsWith(file.id)) stop.abort();
      this.blobs.delete(file.id);
      file.state.value = { at: 'withdrawn' };
      void this.say({ type: 'withdraw', id: file.id }).catch(() => {});
    } else {
      this.stops.get(file.id)?.abort();
      file.state.value = { at: 'offered' };
      void this.say({ type: 'stop', id: file.id }, file.owner).catch(() => {});
    }
  }

  /** Somebody left: what they own cannot be had any more. */
  gone(identity: string): void {
    for (const file of this.all.values()) {
      if (file.own) this.stops.get(`${file.id} ${identity}`)?.abort();
      else if (file.owner === identity && file.state.value.at !== 'done') {
        this.stops.get(file.id)?.abort();
        file.state.value = { at: 'withdrawn' };
      }
    }
  }

  /** A data packet of the files' topic. */
  heard(payload: Uint8Array, identity: string): void {
    let word: Word;
    try {
      word = JSON.parse(new TextDecoder().decode(payload)) as Word;
    } catch {
      return;
    }
    if (typeof word?.id !== 'string') return;
    const file = this.all.get(word.id);
    switch (word.type) {
      case 'offer': {
        const open = [...this.all.values()].filter((other) => other.owner === identity).length;
        if (file || open >= OFFERS || typeof word.name !== 'string' || typeof word.sha256 !== 'string') return;
        const size = Number(word.size);
        if (!Number.isSafeInteger(size) || size < 0) return;
        const shared: SharedFile = {
          id: word.id,
          name: word.name.slice(0, 255),
          size,
          mime: String(word.mime),
          sha256: word.sha256,
          owner: identity,
          own: false,
          state: signal<FileState>({ at: 'offered' }),
          receivers: signal<Record<string, number>>({}),
        };
        this.all.set(shared.id, shared);
        this.added(shared);
        return;
      }
      case 'get':
        if (file?.own && this.blobs.has(file.id) && !this.stops.has(`${file.id} ${identity}`)) {
          this.waiting.push(() => this.send(file, identity));
          this.next();
        }
        return;
      case 'have': {
        const progress = this.had.get(`${word.id} ${identity}`);
        if (progress && Number(word.bytes) > progress.bytes) {
          progress.bytes = Number(word.bytes);
          progress.more();
        }
        return;
      }
      case 'stop':
        if (file?.own) this.stops.get(`${file.id} ${identity}`)?.abort();
        return;
      case 'withdraw':
        if (file && !file.own && file.owner === identity && file.state.value.at !== 'done') {
          this.stops.get(file.id)?.abort();
          file.state.value = { at: 'withdrawn' };
        }
    }
  }

  close(): void {
    for (const stop of this.stops.values()) stop.abort();
    for (const file of this.all.values()) if (file.state.value.at === 'done') URL.revokeObjectURL(file.state.value.url);
  }

  private word(file: SharedFile): Word {
    return { type: 'offer', id: file.id, name: file.name, size: file.size, mime: file.mime, sha256: file.sha256 };
  }

  private say(word: Word, to?: string): Promise<void> {
    return this.room.localParticipant.publishData(new TextEncoder().encode(JSON.stringify(word)), {
      reliable: true,
      topic: FILE_TOPIC,
      ...(to ? { destinationIdentities: [to] } : {}),
    });
  }

  private next(): void {
    while (this.running < PARALLEL && this.waiting.length > 0) {
      const job = this.waiting.shift()!;
      this.running++;
      void job().finally(() => {
        this.running--;
        this.next();
      });
    }
  }

  private async send(file: SharedFile, to: string): Promise<void> {
    const blob = this.blobs.get(file.id);
    if (!blob) return;
    const key = `${file.id} ${to}`;
    const stop = new AbortController();
    this.stops.set(key, stop);
    const progress = { bytes: 0, more: () => {} };
    this.had.set(key, progress);
    const tell = (share: number) => (file.receivers.value = { ...file.receivers.value, [to]: share });
    try {
      tell(0);
      const writer = await this.room.localParticipant.streamBytes({
        topic: FILE_TOPIC,
        name: file.name,
        mimeType: file.mime,
        totalSize: file.size,
        destinationIdentities: [to],
        attributes: { id: file.id },
      });
      for (let at = 0; at < blob.size && !stop.signal.aborted; at += PIECE) {
        await writer.write(new Uint8Array(await blob.slice(at, at + PIECE).arrayBuffer()));
        const sent = Math.min(blob.size, at + PIECE);
        while (sent - progress.bytes > WINDOW && !stop.signal.aborted) await this.progressed(progress, stop.signal);
        tell(Math.min(progress.bytes / blob.size, 0.999));
      }
      await writer.close();
      if (!stop.signal.aborted) tell(1);
    } catch {
      // The receiver sees a stream that ends early and can ask again.
    } finally {
      this.stops.delete(key);
      this.had.delete(key);
      if ((file.receivers.value[to] ?? 0) < 1) {
        const { [to]: _, ...rest } = file.receivers.value;
        file.receivers.value = rest;
      }
    }
  }

  /** Resolves when the receiver has more, or the transfer is stopped; fails when neither happens for long. */
  private progressed(progress: { more: () => void }, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(() => {
        signal.removeEventListener('abort', done);
        reject(new Error('The receiver does not answer.'));
      }, PATIENCE);
      signal.addEventListener('abort', done);
      progress.more = done;
    });
  }

  private async receive(reader: ByteStreamReader, identity: string): Promise<void> {
    const file = this.all.get(reader.info.attributes?.id ?? '');
    // Only what was asked for, from the one who was asked.
    if (!file || file.own || file.owner !== identity || file.state.value.at !== 'asked') return;
    const stop = new AbortController();
    this.stops.set(file.id, stop);
    file.state.value = { at: 'receiving', share: 0 };
    const hash = new Sha256();
    let parts: Blob[] = [];
    let pending: Uint8Array<ArrayBuffer>[] = [];
    let received = 0;
    let gathered = 0;
    let told = 0;
    let acknowledged = 0;
    try {
      for await (const chunk of reader.withAbortSignal(stop.signal)) {
        hash.update(chunk);
        pending.push(chunk as Uint8Array<ArrayBuffer>);
        received += chunk.length;
        gathered += chunk.length;
        if (received > file.size) throw new Error('More came than was offered.');
        // Blobs of some size can leave memory for the disk; thousands of small arrays cannot.
        if (gathered > 4_000_000) {
          parts.push(new Blob(pending));
          pending = [];
          gathered = 0;
        }
        if (received - acknowledged >= TOLD) {
          acknowledged = received;
          void this.say({ type: 'have', id: file.id, bytes: received }, identity).catch(() => {});
        }
        if (received - told > file.size / 200 || received === file.size) {
          told = received;
          file.state.value = { at: 'receiving', share: file.size > 0 ? received / file.size : 1 };
        }
      }
      if (stop.signal.aborted) return;
      if (received !== file.size) throw new Error('It ended early.');
      if (hash.hex() !== file.sha256) throw new Error('Its checksum is wrong.');
      parts.push(new Blob(pending));
      const url = URL.createObjectURL(new Blob(parts, { type: file.mime }));
      parts = [];
      file.state.value = { at: 'done', url };
      save(url, file.name);
    } catch (error) {
      if (!stop.signal.aborted) {
        file.state.value = { at: 'failed', why: error instanceof Error && /[.]$/.test(error.message) ? error.message : 'The transfer broke off.' };
      }
    } finally {
      this.stops.delete(file.id);
    }
  }
}

function save(url: string, name: string): void {
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
}
