// The receiver's side: files as blobs, piece by piece, each of them verified.
import { Digest, PIECE } from './digest';
import { MAX_ENTRIES, type Conversation, type Entry } from './messages';

export interface Offer {
  entries: Entry[];
  bytes: number | null;
}

/** What has arrived of one file. Survives the connection. */
class Incoming {
  private pieces: Blob[] = [];
  private digest = new Digest();
  private rest: Uint8Array<ArrayBuffer>[] = [];
  private filled = 0;
  bytes = 0;
  blob: Blob | undefined;

  /** Forgets what goes beyond whole pieces; says what is left. */
  async keep(): Promise<{ bytes: number; digest: string } | undefined> {
    if (this.blob) return { bytes: this.bytes, digest: await this.digest.hex() };
    this.rest = [];
    this.filled = 0;
    this.bytes = this.pieces.length * PIECE;
    return this.bytes > 0 ? { bytes: this.bytes, digest: await this.digest.hex() } : undefined;
  }

  restart(offset: number): void {
    if (offset !== 0 && offset !== this.bytes) throw new Error('The other side went on where it did not end.');
    if (offset === 0 && this.bytes > 0) Object.assign(this, new Incoming());
  }

  async push(data: ArrayBuffer): Promise<void> {
    let bytes = new Uint8Array(data);
    while (bytes.length > 0) {
      const now = bytes.subarray(0, PIECE - this.filled);
      this.rest.push(now);
      this.filled += now.length;
      this.bytes += now.length;
      bytes = bytes.subarray(now.length);
      if (this.filled === PIECE) await this.cut();
    }
  }

  private async cut(): Promise<void> {
    const piece = new Blob(this.rest);
    await this.digest.piece(new Uint8Array(await piece.arrayBuffer()));
    this.pieces.push(piece);
    this.rest = [];
    this.filled = 0;
  }

  async end(bytes: number, digest: string): Promise<void> {
    if (this.blob) return;
    if (this.filled > 0) await this.cut();
    if (this.bytes !== bytes || (await this.digest.hex()) !== digest) {
      Object.assign(this, new Incoming());
      throw new Error('A file arrived damaged. Reload the page to fetch it again.');
    }
    this.blob = new Blob(this.pieces);
  }
}

/** Names from elsewhere are for show and for saving: never a path out of the chosen directory. */
export function isSafe(path: string): boolean {
  const parts = path.split('/');
  return parts.length <= 64 && parts.every((part) => part !== '' && part !== '.' && part !== '..' && part.length <= 255
    // eslint-disable-next-line no-control-regex
    && !/[\u0000-\u001f\u007f\\:\u200e\u200f\u202a-\u202e\u2066-\u2069]/.test(part));
}

export class Receiver {
  private incoming = new Map<number, Incoming>();
  private said = '';
  offer: Offer | undefined;

  /** Reads the offer. */
  async read(conversation: Conversation): Promise<Offer> {
    const offer = await conversation.receive();
    if (offer instanceof ArrayBuffer || offer.type !== 'offer' || offer.version !== 1) throw new Error('The other side speaks another version of this. Update both.');
    if (offer.entries > MAX_ENTRIES) throw new Error(`A browser takes no more than ${MAX_ENTRIES} files. Use visavis receive.`);
    const entries: Entry[] = [];
    while (entries.length < offer.entries) {
      const more = await conversation.receive();
      if (more instanceof ArrayBuffer || more.type !== 'entries') throw new Error('The other side broke the rules of a transfer.');
      entries.push(...more.entries);
    }
    const bad = entries.find((entry) => !isSafe(entry.path));
    if (bad) throw new Error(`The other side sent a name that is refused: ${JSON.stringify(bad.path)}`);
    const said = JSON.stringify(entries);
    // Another list of files: what is here belongs to none of them.
    if (said !== this.said) this.incoming.clear();
    this.said = said;
    this.offer = { entries, bytes: offer.bytes };
    return this.offer;
  }

  /** Fetches what is missing; `progress` is told the bytes that are here. */
  async fetch(conversation: Conversation, progress: (bytes: number) => void): Promise<void> {
    const { entries } = this.offer!;
    for (const [entry, incoming] of this.incoming) {
      const kept = await incoming.keep();
      if (kept) conversation.say({ type: 'have', entry, ...kept });
    }
    conversation.say({ type: 'accept' });
    let left = entries.filter((entry) => !entry.directory).length;
    let current: Incoming | undefined;
    let told = 0;
    const here = () => [...this.incoming.values()].reduce((sum, incoming) => sum + incoming.bytes, 0);
    while (left > 0) {
      const message = await conversation.receive();
      if (message instanceof ArrayBuffer) {
        if (!current) throw new Error('The other side broke the rules of a transfer.');
        await current.push(message);
        if (Date.now() - told > 200) {
          told = Date.now();
          const bytes = here();
          progress(bytes);
          conversation.say({ type: 'progress', bytes });
        }
      } else if (message.type === 'begin') {
        current = this.incoming.get(message.entry) ?? new Incoming();
        this.incoming.set(message.entry, current);
        current.restart(message.offset);
      } else if (message.type === 'end' && current) {
        await current.end(message.bytes, message.digest);
        conversation.say({ type: 'verified', entry: message.entry });
        current = undefined;
        left--;
      } else if (message.type === 'unreadable') {
        throw new Error(`${entries[message.entry]?.path ?? 'A file'} could not be sent: ${message.reason}`);
      } else {
        throw new Error('The other side broke the rules of a transfer.');
      }
    }
    progress(here());
    conversation.say({ type: 'done' });
    await conversation.drained();
  }

  /** A file that is whole. */
  file(entry: number): Blob | undefined {
    return this.incoming.get(entry)?.blob;
  }
}
