import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

// The colours of the style sheet, as WCAG 2.2 (1.4.3) wants them read: at least 4.5 to 1 for text.
const style = readFileSync(new URL('../src/style.css', import.meta.url), 'utf8');

function colours(block: string): Map<string, number[]> {
  const found = new Map<string, number[]>();
  for (const [, name, hex] of block.matchAll(/--([\w-]+): #([0-9a-f]{3,6});/g)) {
    const full = hex!.length === 3 ? [...hex!].map((digit) => digit + digit).join('') : hex!;
    found.set(name!, [0, 2, 4].map((at) => parseInt(full.slice(at, at + 2), 16)));
  }
  return found;
}

function luminance(colour: number[]): number {
  const [r, g, b] = colour.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!;
}

function contrast(one: number[], other: number[]): number {
  const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (light! + 0.05) / (dark! + 0.05);
}

const dark = colours(style.slice(style.indexOf(':root {'), style.indexOf('@media (prefers-color-scheme: light)')));
const light = colours(style.slice(style.indexOf(":root[data-theme='light']"), style.indexOf('*, ::before')));

it.each([['dark', dark], ['light', new Map([...dark, ...light])]] as const)('text can be read in %s colours', (_, theme) => {
  const failing: string[] = [];
  const check = (text: string, ground: string) => {
    const ratio = contrast(theme.get(text)!, theme.get(ground)!);
    if (ratio < 4.5) failing.push(`${text} on ${ground}: ${ratio.toFixed(2)}`);
  };
  for (const ground of ['ground', 'raised', 'raised-2']) for (const text of ['text', 'soft', 'accent-text', 'warn', 'bad', 'good']) check(text, ground);
  check('soft', 'tile');
  check('text', 'raised-3');
  check('on-accent', 'accent');
  check('on-accent', 'accent-hover');
  check('on-accent', 'bad-solid');
  expect(failing).toEqual([]);
});
