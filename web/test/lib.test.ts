import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { keyOf, normaliseRoom, randomKey, randomRoom, roomPath } from '../src/lib/rooms';
import { hashBlob } from '../src/lib/sha256';
import { bitrate, bytes, duration, hue, initials, list, percent } from '../src/lib/words';

describe('rooms', () => {
  it('take what people type and paste', () => {
    expect(normaliseRoom('  Team Stand-up! ')).toBe('team-stand-up');
    expect(normaliseRoom('https://meet.example.org/r/calm-otter-7x?x=1#key=abc')).toBe('calm-otter-7x');
    expect(normaliseRoom('Réunion d’équipe')).toBe('réunion-d-équipe');
    expect(normaliseRoom('100%')).toBe('100');
    expect(normaliseRoom('…')).toBe('');
    expect(normaliseRoom('x'.repeat(200))).toHaveLength(64);
  });

  it('make names and keys that survive their own address', () => {
    for (let i = 0; i < 100; i++) {
      const room = randomRoom();
      const key = randomKey();
      const address = `https://h${roomPath(room, key)}`;
      expect(normaliseRoom(address)).toBe(room);
      expect(keyOf(address)).toBe(key);
    }
    expect(keyOf('https://h/r/x')).toBeUndefined();
    expect(keyOf('https://h/r/x#a=1&key=0123456789abcdef')).toBe('0123456789abcdef');
  });
});

describe('words', () => {
  it('read well', () => {
    expect([bitrate(0), bitrate(950), bitrate(64_000), bitrate(2_450_000), bitrate(undefined)]).toEqual(['0', '950 bit/s', '64 kbit/s', '2.5 Mbit/s', '–']);
    expect([bytes(900), bytes(1500), bytes(50_000_000), bytes(999_999)]).toEqual(['900 B', '1.5 kB', '50 MB', '1.0 MB']);
    expect([percent(0), percent(0.012), percent(0.5)]).toEqual(['0 %', '1.2 %', '50 %']);
    expect([duration(5000), duration(3_725_000)]).toEqual(['0:05', '1:02:05']);
    expect(list(['a', 'b', 'c'])).toBe('a, b and c');
  });

  it('shorten names', () => {
    expect([initials('Ada Lovelace'), initials('ada'), initials('  '), initials('李 小龙'), initials('Ann B Cee')]).toEqual(['AL', 'A', '?', '李小', 'AC']);
    expect(hue('Ada')).toBe(hue('Ada'));
  });
});

it('hashes in pieces as in one', async () => {
  const data = new Uint8Array(2_500_000).map((_, index) => index * 7);
  expect(await hashBlob(new Blob([data]))).toBe(createHash('sha256').update(data).digest('hex'));
  expect(await hashBlob(new Blob([]))).toBe(createHash('sha256').digest('hex'));
});
