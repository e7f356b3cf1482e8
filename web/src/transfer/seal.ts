// The key that only those have who have the link, and what is sealed with it: the browser's side of what
// crates/cli/src/pairing/seal.rs does.

const utf8 = new TextEncoder();

export const toBase64 = (bytes: Uint8Array): string => btoa(String.fromCharCode(...bytes));
export const fromBase64 = (text: string): Uint8Array<ArrayBuffer> => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

/** The secret of a link is written in the alphabet of URLs, without padding. */
export const toLink = (bytes: Uint8Array): string => toBase64(bytes).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
export const fromLink = (text: string): Uint8Array<ArrayBuffer> => fromBase64(text.replaceAll('-', '+').replaceAll('_', '/'));

export interface Link {
  slot: string;
  secret: Uint8Array<ArrayBuffer>;
}

/** Reads the part of a link behind its #. */
export function parseLink(fragment: string): Link | undefined {
  const [, slot, secret] = /^#?(\d{4,9})\.([\w-]{22})$/.exec(fragment) ?? [];
  return slot && secret ? { slot, secret: fromLink(secret) } : undefined;
}

export class WrongLink extends Error {
  constructor() {
    super('The link is wrong, or of an earlier transfer.');
  }
}

export type Side = 'host' | 'guest';

/** Our share of the key; the peer's makes it complete. */
export class Exchange {
  private ours = crypto.getRandomValues(new Uint8Array(32));

  constructor(private side: Side, private link: Link) {}

  share(): string {
    return toBase64(this.ours);
  }

  async finish(share: string): Promise<Seal> {
    const theirs = fromBase64(share);
    const [host, guest] = this.side === 'host' ? [this.ours, theirs] : [theirs, this.ours];
    const salt = new Uint8Array([...host, ...guest]);
    const input = await crypto.subtle.importKey('raw', this.link.secret, 'HKDF', false, ['deriveKey']);
    const key = (direction: string) => {
      const info = utf8.encode(`visavis pairing 1 ${direction} ${this.link.slot}`);
      return crypto.subtle.deriveKey({ name: 'HKDF', hash: 'SHA-256', salt, info }, input, { name: 'AES-GCM', length: 256 }, false, ['encrypt', 'decrypt']);
    };
    const [toGuest, toHost] = await Promise.all([key('host to guest'), key('guest to host')]);
    return this.side === 'host' ? new Seal(toGuest, toHost) : new Seal(toHost, toGuest);
  }
}

/** Seals and opens messages, each once and in its order. */
export class Seal {
  private sent = 0n;
  private received = 0n;

  constructor(private sending: CryptoKey, private receiving: CryptoKey) {}

  async seal(message: unknown): Promise<string> {
    const iv = nonce(this.sent++);
    const sealed = await crypto.subtle.encrypt({ name: 'AES-GCM', iv }, this.sending, utf8.encode(JSON.stringify(message)));
    return toBase64(new Uint8Array(sealed));
  }

  async open(sealed: string): Promise<unknown> {
    const iv = nonce(this.received++);
    const opening = crypto.subtle.decrypt({ name: 'AES-GCM', iv }, this.receiving, fromBase64(sealed));
    const plain = await opening.catch(() => {
      throw new WrongLink();
    });
    return JSON.parse(new TextDecoder().decode(plain));
  }
}

function nonce(number: bigint): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(12);
  new DataView(bytes.buffer).setBigUint64(4, number);
  return bytes;
}
