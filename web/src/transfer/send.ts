// The sender's side: files that were chosen in the page.
import { Digest, PIECE } from './digest';
import { MESSAGE, type Conversation, type Entry } from './messages';

const ENTRIES_PER_MESSAGE = 50;

export interface Outgoing {
  entry: Entry;
  file: File;
}

/** The files of a form or a drop, with their directories where the browser tells them. */
export function outgoing(files: Iterable<File>): Outgoing[] {
  return [...files].map((file) => ({ entry: { path: file.webkitRelativePath || file.name, size: file.size }, file }));
}

/** Sends everything to one receiver; `progress` is told what that one has. */
export async function send(conversation: Conversation, files: Outgoing[], progress: (bytes: number) => void): Promise<void> {
  conversation.say({ type: 'offer', version: 1, entries: files.length, bytes: files.reduce((sum, { file }) => sum + file.size, 0) });
  for (let at = 0; at < files.length; at += ENTRIES_PER_MESSAGE) {
    conversation.say({ type: 'entries', entries: files.slice(at, at + ENTRIES_PER_MESSAGE).map(({ entry }) => entry) });
  }
  const have = new Map<number, { bytes: number; digest: string }>();
  for (;;) {
    const message = await conversation.receive();
    if (message instanceof ArrayBuffer) throw new Error('The receiver broke the rules of a transfer.');
    if (message.type === 'accept') break;
    if (message.type === 'decline' || message.type === 'failed') throw new Error(`The receiver declined: ${message.reason}`);
    if (message.type === 'have') have.set(message.entry, message);
  }
  const finished = hear(conversation, progress);
  // What goes wrong on the way in is told at the end.
  finished.catch(() => undefined);
  for (const [entry, { file }] of files.entries()) {
    const digest = new Digest();
    let offset = await prefix(conversation, entry, file, digest, have.get(entry));
    const known = offset > 0 ? digest : new Digest();
    conversation.say({ type: 'begin', entry, offset });
    while (offset < file.size) {
      const bytes = await read(conversation, entry, file, offset, offset + PIECE);
      await known.piece(bytes);
      for (let at = 0; at < bytes.length; at += MESSAGE) await conversation.data(bytes.subarray(at, at + MESSAGE));
      offset += bytes.length;
    }
    conversation.say({ type: 'end', entry, bytes: file.size, digest: await known.hex() });
  }
  await finished;
}

/** A part of a file. What cannot be read is told to the receiver, and to the sender in the browser's own words too. */
async function read(conversation: Conversation, entry: number, file: File, from: number, to: number): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return new Uint8Array(await file.slice(from, to).arrayBuffer());
  } catch (error) {
    conversation.say({ type: 'unreadable', entry, reason: 'it changed or went away' });
    const words = error instanceof Error && error.message ? ` (${error.message})` : '';
    throw new Error(`${file.name} changed or went away${words}.`);
  }
}

/** How much the receiver has of this very file, with its digest. */
async function prefix(conversation: Conversation, entry: number, file: File, digest: Digest, have?: { bytes: number; digest: string }): Promise<number> {
  if (!have || have.bytes > file.size) return 0;
  for (let at = 0; at < have.bytes; at += PIECE) {
    await digest.piece(await read(conversation, entry, file, at, Math.min(at + PIECE, have.bytes)));
  }
  return (await digest.hex()) === have.digest ? have.bytes : 0;
}

async function hear(conversation: Conversation, progress: (bytes: number) => void): Promise<void> {
  for (;;) {
    const message = await conversation.receive();
    if (message instanceof ArrayBuffer) continue;
    if (message.type === 'progress') progress(message.bytes);
    if (message.type === 'done') return;
    if (message.type === 'failed') throw new Error(`The receiver gave up: ${message.reason}`);
  }
}
