import { describe, expect, it } from 'vitest';
import { APART, LANES, Lanes } from '../src/meeting/lanes';

describe('the lanes of reactions', () => {
  it('let a few rise side by side at once', () => {
    const lanes = new Lanes();
    const places = Array.from({ length: LANES }, () => lanes.place(1000)!);
    expect(new Set(places.map(({ lane }) => lane)).size).toBe(LANES);
    expect(places.every(({ delay }) => delay === 0)).toBe(true);
  });

  it('keep two of one lane apart, whatever comes', () => {
    const lanes = new Lanes();
    const begun: number[][] = Array.from({ length: LANES }, () => []);
    let now = 5000;
    for (let step = 0; step < 500; step++) {
      now += (step * 7919) % 400;
      const place = lanes.place(now);
      if (place) begun[place.lane]!.push(now + place.delay);
    }
    for (const times of begun) {
      expect(times.length).toBeGreaterThan(10);
      for (let at = 1; at < times.length; at++) expect(times[at]! - times[at - 1]!).toBeGreaterThanOrEqual(APART);
    }
  });

  it('leave out what would come too late', () => {
    const lanes = new Lanes();
    const shown = Array.from({ length: 100 }, () => lanes.place(0)).filter((place) => place !== undefined);
    expect(shown.length).toBe(3 * LANES);
    expect(shown.every(({ delay }) => delay <= 2000)).toBe(true);
  });

  it('let one stand still in a lane of its own where nothing moves', () => {
    const lanes = new Lanes(4000, 0);
    const shown = [0, 0, 10, 20, 3999, 4000].map((now) => lanes.place(now)?.lane);
    expect(shown).toEqual([0, 1, 2, undefined, undefined, 0]);
  });
});
