import { describe, expect, it } from 'vitest';
import { Digest, PIECE } from '../src/transfer/digest';
import type { Conversation, Message } from '../src/transfer/messages';
import { isSafe } from '../src/transfer/receive';
import { Exchange, parseLink, WrongLink } from '../src/transfer/seal';
import { outgoing, send } from '../src/transfer/send';

const link = (last: string) => parseLink(`#4821.AAAAAAAAAAAAAAAAAAAAA${last}`)!;

describe('links', () => {
  it('are read whole or not at all', () => {
    expect(link('A').slot).toBe('4821');
    expect(link('A').secret.length).toBe(16);
    for (const wrong of ['', '#', '#4821', '#4821.AAA', '#12.AAAAAAAAAAAAAAAAAAAAAA', '#4821.AAAAAAAAAAAAAAAAAAAA+/']) {
      expect(parseLink(wrong)).toBeUndefined();
    }
  });

  it('let those in who have them, each message once', async () => {
    const [host, guest] = [new Exchange('host', link('A')), new Exchange('guest', link('A'))];
    const [a, b] = [await host.finish(guest.share()), await guest.finish(host.share())];
    const sealed = await a.seal({ description: 1 });
    expect(await b.open(sealed)).toEqual({ description: 1 });
    await expect(b.open(sealed)).rejects.toBeInstanceOf(WrongLink);
    const stranger = new Exchange('guest', link('Q'));
    const wrong = await stranger.finish(host.share());
    await expect(wrong.open(await a.seal('again'))).rejects.toBeInstanceOf(WrongLink);
  });
});

describe('digests', () => {
  it('are those of the pieces', async () => {
    const digest = new Digest();
    expect(await digest.hex()).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
    const pieces = [new Uint8Array(PIECE).fill(7), new Uint8Array(5).fill(9)];
    for (const piece of pieces) await digest.piece(piece);
    const sums = await Promise.all(pieces.map((piece) => crypto.subtle.digest('SHA-256', piece)));
    const all = await crypto.subtle.digest('SHA-256', await new Blob(sums).arrayBuffer());
    expect(await digest.hex()).toBe(Buffer.from(all).toString('hex'));
  });
});

describe('names from elsewhere', () => {
  it('stay in their directory', () => {
    for (const good of ['a', 'photos/ü.jpg', '.bashrc', 'a..b']) expect(isSafe(good)).toBe(true);
    for (const bad of ['', '/etc/passwd', '../up', 'a/../b', 'a//b', 'c:x', 'a\\b', 'a\nb', 'x\u202egpj.exe']) expect(isSafe(bad)).toBe(false);
  });
});

describe('a file that goes away', () => {
  it('is told to the receiver plainly, and to the sender as the browser says it', async () => {
    const said: Message[] = [];
    const accept: Message = { type: 'accept' } as Message;
    const answers: Message[] = [accept];
    const conversation = {
      say: (message: Message) => said.push(message),
      receive: () => (answers.length > 0 ? Promise.resolve(answers.shift()!) : new Promise<Message>(() => undefined)),
      data: () => Promise.resolve(),
    } as unknown as Conversation;
    const file = new File(['x'], 'plan.pdf');
    file.slice = () => ({ arrayBuffer: () => Promise.reject(new DOMException('permission problems', 'NotReadableError')) }) as unknown as Blob;
    const sent = send(conversation, outgoing([file]), () => undefined);
    await expect(sent).rejects.toThrow('plan.pdf changed or went away (permission problems).');
    expect(said.at(-1)).toEqual({ type: 'unreadable', entry: 0, reason: 'it changed or went away' });
  });
});
