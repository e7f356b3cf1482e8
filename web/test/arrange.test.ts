import { describe, expect, it } from 'vitest';
import { arrange, type Scene } from '../src/meeting/arrange';

function scene(change: Partial<Scene> = {}): Scene {
  return {
    width: 1280, height: 640, compact: false, people: ['self', 'a', 'b'], screens: [], self: 'self', pinned: undefined,
    speaker: undefined, view: 'auto', shown: [], spoke: () => 0, ...change,
  };
}

const roles = (change: Partial<Scene>) => Object.fromEntries([...arrange(scene(change)).places].map(([id, place]) => [id, place.role]));

describe('arrange', () => {
  it('puts two face to face', () => {
    expect(roles({ people: ['self', 'a'] })).toEqual({ a: 'stage', self: 'float' });
    expect(roles({ people: ['self', 'a'], view: 'grid' })).toEqual({ a: 'grid', self: 'grid' });
    expect(roles({ people: ['self', 'a'], pinned: 'self' })).toEqual({ self: 'stage', a: 'strip' });
  });

  it('gives a shared screen the stage, unless a grid is asked for', () => {
    expect(roles({ screens: ['a/screen'] })).toEqual({ 'a/screen': 'stage', self: 'strip', a: 'strip', b: 'strip' });
    expect(roles({ screens: ['a/screen'], view: 'grid' })['a/screen']).toBe('grid');
    expect(roles({ screens: ['a/screen'], pinned: 'b' })).toMatchObject({ b: 'stage', 'a/screen': 'strip' });
  });

  it('follows the speaker, and falls back to somebody else than oneself', () => {
    expect(arrange(scene({ view: 'speaker', speaker: 'b' })).focus).toBe('b');
    expect(arrange(scene({ view: 'speaker', speaker: 'gone' })).focus).toBe('a');
    expect(arrange(scene({ view: 'speaker', people: ['self'] })).focus).toBe('self');
  });

  it('counts those without a place and keeps every tile inside', () => {
    const people = ['self', ...Array.from({ length: 99 }, (_, index) => `p${index}`)];
    for (const [view, screens] of [['auto', []], ['speaker', []], ['auto', ['p3/screen', 'p4/screen']]] as const) {
      for (const [width, height, compact] of [[1280, 640, false], [390, 660, true], [320, 240, true], [2560, 1300, false]] as const) {
        const result = arrange(scene({ people, view, width, height, compact, screens: [...screens] }));
        const focused = result.focus ? 1 : 0;
        expect(result.hidden + result.shown.length + focused).toBe(100 + screens.length);
        expect(result.places.has('self')).toBe(true);
        for (const box of result.places.values()) {
          expect(box.x > -0.01 && box.y > -0.01 && box.x + box.width < width + 0.01 && box.y + box.height < height + 0.01).toBe(true);
        }
      }
    }
  });
});
