import { describe, expect, it } from 'vitest';
import { aspectRange, capacity, contain, grid, visible } from '../src/meeting/tiling';

const wide = (count: number, width: number, height: number) =>
  grid(count, width, height, { gap: 8, aspect: aspectRange(width, height) });

describe('grid', () => {
  it('uses the arrangements that people expect on a desktop', () => {
    const shape = (count: number) => {
      const { columns, rows } = wide(count, 1600, 900);
      return `${columns}x${rows}`;
    };
    expect([1, 2, 3, 4, 6, 9, 12, 16].map(shape)).toEqual(['1x1', '2x1', '2x2', '2x2', '3x2', '3x3', '4x3', '4x4']);
  });

  it('stacks on a phone', () => {
    expect(wide(2, 390, 700).columns).toBe(1);
    expect(wide(3, 390, 700).columns).toBe(1);
    expect(wide(6, 390, 700).columns).toBe(2);
  });

  it('keeps every tile inside, apart from the others, and within the allowed shapes', () => {
    for (let count = 1; count <= 49; count++) {
      for (const [width, height] of [[1920, 1080], [1280, 640], [900, 900], [390, 700], [320, 500], [2560, 600]] as const) {
        const [narrowest, widest] = aspectRange(width, height);
        const { boxes } = wide(count, width, height);
        expect(boxes).toHaveLength(count);
        const wrong = boxes.filter((box, index) => {
          const inside = box.x > -0.01 && box.y > -0.01 && box.x + box.width < width + 0.01 && box.y + box.height < height + 0.01;
          const shape = box.width / box.height;
          const shaped = shape > narrowest - 0.01 && shape < widest + 0.01;
          const apart = boxes
            .slice(0, index)
            .every((other) => Math.abs(box.x - other.x) >= box.width || Math.abs(box.y - other.y) >= box.height);
          return !(inside && shaped && apart);
        });
        expect(wrong, `${count} in ${width}x${height}`).toEqual([]);
      }
    }
  });

  it('centres the last row', () => {
    const { boxes } = wide(3, 1600, 900);
    const last = boxes[2]!;
    expect(last.x + last.width / 2).toBeCloseTo(800);
  });

  it('survives a place without space', () => {
    expect(wide(5, 0, 0).boxes).toEqual([]);
    expect(wide(0, 100, 100).boxes).toEqual([]);
  });
});

describe('capacity', () => {
  it('grows with the place', () => {
    const options = (width: number, height: number) => ({ gap: 8, aspect: aspectRange(width, height) });
    const phone = capacity(390, 700, 150, 49, options(390, 700));
    const desktop = capacity(1600, 900, 200, 49, options(1600, 900));
    expect(phone).toBeGreaterThanOrEqual(6);
    expect(desktop).toBeGreaterThan(phone);
    expect(capacity(10, 10, 200, 49, options(10, 10))).toBe(1);
  });
});

it('contain fits a box in the middle', () => {
  expect(contain(16 / 9, 1600, 1600)).toEqual({ x: 0, y: 350, width: 1600, height: 900 });
});

describe('visible', () => {
  const spoke = new Map<string, number>();
  const when = (id: string) => spoke.get(id) ?? 0;
  const self = (id: string) => id === 'me';

  it('shows all where all fit, in order', () => {
    expect(visible(['me', 'a', 'b'], ['b'], 3, when, self)).toEqual(['me', 'a', 'b']);
  });

  it('keeps places and swaps the longest silent for one who speaks', () => {
    const order = ['me', 'a', 'b', 'c', 'd'];
    const before = visible(order, [], 3, when, self);
    expect(before).toEqual(['me', 'a', 'b']);
    spoke.set('a', 5);
    spoke.set('d', 9);
    expect(visible(order, before, 3, when, self)).toEqual(['me', 'a', 'd']);
    expect(visible(order, ['me', 'a', 'd'], 3, when, self)).toEqual(['me', 'a', 'd']);
  });

  it('gives the place of one who left to the next', () => {
    expect(visible(['me', 'b', 'c', 'd'], ['me', 'a', 'd'], 3, () => 0, self)).toEqual(['me', 'd', 'b']);
  });

  it('never takes out a fixed one', () => {
    expect(visible(['me', 'a'], ['me'], 1, (id) => (id === 'a' ? 9 : 0), self)).toEqual(['me']);
    expect(visible(['a', 'me'], ['a'], 1, () => 3, self)).toEqual(['me']);
  });
});
