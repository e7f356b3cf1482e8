// Names of rooms, their addresses, and the key that an encrypted room's address carries.

const FIRST = 'amber bold brave bright calm clear cosy crisp deep early eager fair fleet fond fresh gentle glad golden grand happy keen kind light lively lucky mellow merry mild misty neat noble open plain proud quick quiet rapid ready silver sunny swift tidy vivid warm wise witty young zesty'.split(' ');
const SECOND = 'alder badger beacon birch bridge brook canyon cedar comet coral creek delta dune falcon fern finch fjord forest garden glacier grove harbor hazel heron island lagoon lantern lark maple marble meadow merlin meteor orchard otter pebble pine planet prairie reef river robin sail spruce summit thistle tulip valley willow wren'.split(' ');

function pick<T>(from: readonly T[]): T {
  const random = new Uint32Array(1);
  crypto.getRandomValues(random);
  return from[random[0]! % from.length]!;
}

/** A name that is easy to read out and hard to guess: about 40 bits. */
export function randomRoom(): string {
  const letters = 'abcdefghijkmnpqrstuvwxyz23456789';
  const tail = Array.from({ length: 6 }, () => pick([...letters])).join('');
  return `${pick(FIRST)}-${pick(SECOND)}-${tail}`;
}

/** What somebody typed or pasted, as a room's name: an address of a room gives its name. Empty where nothing is left. */
export function normaliseRoom(text: string): string {
  const address = /\/r\/([^/?#]+)/.exec(text);
  let name = address ? address[1]! : text;
  try {
    name = decodeURIComponent(name);
  } catch {
    // A stray percent sign is part of the name.
  }
  return name
    .normalize('NFKC')
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 64);
}

/** The key in the fragment of a pasted or current address, which no browser sends to a server. */
export function keyOf(text: string): string | undefined {
  return /#(?:.*&)?key=([A-Za-z0-9_-]{16,})/.exec(text)?.[1];
}

/** 192 random bits. */
export function randomKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(24));
  return btoa(String.fromCharCode(...bytes)).replace(/\+/g, '-').replace(/\//g, '_');
}

export function roomPath(room: string, key?: string): string {
  return `/r/${encodeURIComponent(room)}${key ? `#key=${key}` : ''}`;
}
