import { describe, expect, it } from 'vitest';
import type { Inspection } from '../src/pages/inspection';
import { measure, receivedBps, remember, type History } from '../src/pages/memory';

const seen = (rttMs: number | null, more = {}): Inspection => ({
  rooms: [{ name: 'x', participants: [{ identity: 'a', connections: [{ id: '1', rttMs, sentBps: 10, sendEstimateBps: 20, sentLoss: 0.1 }], tracks: [{ sid: 't', layers: [{ bps: 5 }, { bps: 7 }] }], ...more }] }],
});

describe('the memory of the operator’s page', () => {
  it('makes curves of looks, within a bound', () => {
    let memory = new Map<string, History>();
    for (let index = 0; index < 300; index++) memory = remember(memory, seen(index), 2000);
    const history = memory.get('x a')!;
    expect(history.rttMs).toHaveLength(120);
    expect(history.rttMs!.at(-1)).toBe(299);
    expect(history).toMatchObject({ stepMs: 2000 });
    expect(history.estimateBps!.at(-1)).toBe(20);
    expect(history.lossReceived).toBeUndefined();
    expect(remember(memory, seen(null), 2000).get('x a')!.rttMs).toHaveLength(120);
  });

  it('forgets who is gone, and takes what the server remembers', () => {
    const memory = remember(new Map(), seen(1), 2000);
    expect(remember(memory, { rooms: [] }, 2000).size).toBe(0);
    const told = { stepMs: 1000, rttMs: [1, 2] };
    expect(remember(memory, seen(3, { history: told }), 2000).get('x a')).toBe(told);
  });

  it('adds up what comes from somebody', () => {
    expect(receivedBps(seen(1).rooms![0]!.participants![0]!)).toBe(12);
    expect(receivedBps({ identity: 'a', connections: [{ id: '1', receivedBps: 3 }], tracks: [{ sid: 't', layers: [{ bps: 5 }] }] })).toBe(3);
  });

  it('measures what each viewer gets by the bytes of two looks', () => {
    const look = (now: number, bytes: number): Inspection => ({ now, rooms: [{ name: 'x', participants: [{ identity: 'a', subscriptions: [{ track: 't', bytes }] }] }] });
    const second = look(3000, 3500);
    measure(look(1000, 1000), second);
    expect(second.rooms![0]!.participants![0]!.subscriptions![0]!.bps).toBe(10_000);
    const first = look(1000, 1000);
    measure(undefined, first);
    expect(first.rooms![0]!.participants![0]!.subscriptions![0]!.bps).toBeUndefined();
  });
});
