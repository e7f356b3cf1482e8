import { describe, expect, it } from 'vitest';
import { Pulse } from '../src/meeting/pulse';

const camera = (totalFrames: number | undefined, id = 'a') => ({ id, ...(totalFrames === undefined ? {} : { stats: { totalFrames } }) });

describe('Pulse', () => {
  it('tells once that a camera stands still', () => {
    const pulse = new Pulse();
    const looks = [0, 0, 0, 0, 0, 0].map((frames) => pulse.look(camera(frames)));
    expect(looks).toEqual([false, false, false, true, false, false]);
  });

  it('tells again of a camera that gave pictures meanwhile, or of another one', () => {
    const pulse = new Pulse();
    const stand = (frames: number, id?: string) => [1, 2, 3, 4].map(() => pulse.look(camera(frames, id))).at(-1);
    expect(stand(7)).toBe(true);
    expect(stand(9)).toBe(true);
    expect(stand(9, 'b')).toBe(true);
  });

  it('is silent where pictures come, where the camera is off, and where nothing is counted', () => {
    const pulse = new Pulse();
    expect([0, 1, 2, 3, 4, 5].some((frames) => pulse.look(camera(frames)))).toBe(false);
    expect([0, 1, 2, 3, 4, 5].some(() => pulse.look(undefined))).toBe(false);
    expect([0, 1, 2, 3, 4, 5].some(() => pulse.look(camera(undefined)))).toBe(false);
  });
});
