// The views of a meeting: which tiles are shown, where, and how. Pure: the page measures and draws.
import { aspectRange, capacity, contain, grid, visible, type Box } from './tiling';

export type View = 'auto' | 'grid' | 'speaker';

export type Role = 'stage' | 'grid' | 'strip' | 'float';

export interface Place extends Box {
  role: Role;
}

export interface Scene {
  width: number;
  height: number;
  /** A phone, or a window as small as one. */
  compact: boolean;
  /** Camera tiles in the order people came; `self` among them. */
  people: string[];
  /** Screen tiles, oldest first. */
  screens: string[];
  /** The tile of oneself. */
  self: string;
  pinned: string | undefined;
  /** The camera tile of who spoke last, never oneself. */
  speaker: string | undefined;
  view: View;
  /** Tiles shown before, for steadiness. */
  shown: string[];
  spoke: (id: string) => number;
}

export interface Arrangement {
  places: Map<string, Place>;
  /** Tiles in the order they were placed, to be given back as `shown`. */
  shown: string[];
  /** How many have no place. */
  hidden: number;
  /** Where the sign that says so goes. */
  more: Box | undefined;
  /** What is on stage, if anything. */
  focus: string | undefined;
}

const LIMIT = 49;

/** Which tile is shown large, if any. */
export function focusOf(scene: Scene): string | undefined {
  const all = new Set([...scene.people, ...scene.screens]);
  if (scene.pinned && all.has(scene.pinned)) return scene.pinned;
  if (scene.view === 'grid') return undefined;
  const screen = scene.screens.at(-1);
  if (screen) return screen;
  if (scene.view === 'auto') return undefined;
  if (scene.speaker && all.has(scene.speaker)) return scene.speaker;
  return scene.people.find((id) => id !== scene.self) ?? scene.self;
}

/** One tile alone may be cropped more than the tiles of a grid, so that it fills most windows. */
function filled(width: number, height: number): Box {
  return width / height > 2.1 ? contain(2.1, width, height) : { x: 0, y: 0, width, height };
}

function float(scene: Scene): Place {
  const margin = scene.compact ? 12 : 16;
  const portrait = scene.compact && scene.height > scene.width;
  const width = portrait ? Math.min(112, scene.width * 0.28) : Math.min(260, Math.max(150, scene.width * 0.17));
  const height = portrait ? (width * 4) / 3 : (width * 9) / 16;
  return { role: 'float', x: scene.width - width - margin, y: scene.height - height - margin, width, height };
}

export function arrange(scene: Scene): Arrangement {
  const { width, height, compact, self } = scene;
  const gap = compact ? 6 : 10;
  const places = new Map<string, Place>();
  const focus = focusOf(scene);
  const put = (id: string, role: Role, box: Box) => places.set(id, { ...box, role });
  const done = (shown: string[], hidden = 0, more?: Box): Arrangement => ({ places, shown, hidden, more, focus });
  if (width <= 0 || height <= 0) return done([]);

  const all = [...scene.people, ...scene.screens];
  const rest = all.filter((id) => id !== focus);

  // Face to face: the other one fills the place, oneself is a small picture in the corner.
  const pair = all.length === 2 && scene.screens.length === 0 && scene.view !== 'grid';
  if (pair && focus !== self) {
    const other = all.find((id) => id !== self)!;
    put(other, 'stage', filled(width, height));
    put(self, 'float', float(scene));
    return done(all);
  }

  if (all.length === 1) {
    put(all[0]!, 'stage', filled(width, height));
    return done(all);
  }

  if (focus === undefined || rest.length === 0) {
    const aspect = aspectRange(width, height);
    const options = { gap, aspect };
    const narrowest = compact ? 130 : 190;
    const fit = capacity(width, height, narrowest, Math.min(LIMIT, all.length), options);
    const hidden = Math.max(0, all.length - fit);
    // The last place tells how many more there are.
    const count = hidden > 0 ? Math.max(1, fit - 1) : fit;
    const shown = visible(all, scene.shown, count, scene.spoke, (id) => id === self || scene.screens.includes(id));
    const { boxes } = grid(hidden > 0 ? count + 1 : shown.length, width, height, options);
    shown.forEach((id, index) => put(id, 'grid', boxes[index]!));
    return done(shown, all.length - shown.length, hidden > 0 ? boxes[count] : undefined);
  }

  // On a phone held upright a screen needs no more height than it has; the people get the rest.
  if (compact && height > width && scene.screens.includes(focus)) {
    const stage = { x: 0, y: 0, width, height: Math.min(height * 0.5, (width * 9) / 16 + 42) };
    put(focus, 'stage', stage);
    const below = { width, height: height - stage.height - gap };
    const options = { gap, aspect: aspectRange(below.width, below.height) };
    const fit = Math.min(rest.length, 6);
    const count = rest.length > fit ? fit - 1 : fit;
    const shown = visible(rest, scene.shown, count, scene.spoke, (id) => id === self || scene.screens.includes(id));
    const boxes = grid(rest.length > fit ? count + 1 : shown.length, below.width, below.height, options).boxes
      .map((box) => ({ ...box, y: box.y + stage.height + gap }));
    shown.forEach((id, index) => put(id, 'grid', boxes[index]!));
    return done(shown, rest.length - shown.length, boxes[shown.length]);
  }

  // One large, the others in a strip beside or below it.
  const beside = width > height * 1.15;
  const stripLong = beside ? height : width;
  const thick = beside ? Math.min(240, Math.max(132, width * 0.18)) : Math.min(116, Math.max(76, height * 0.16));
  const long = beside ? (thick * 9) / 16 : compact ? thick : (thick * 4) / 3;
  const fits = Math.max(1, Math.floor((stripLong + gap) / (long + gap)));
  const hidden = Math.max(0, rest.length - fits);
  const count = hidden > 0 ? Math.max(1, fits - 1) : rest.length;
  const shown = visible(rest, scene.shown, count, scene.spoke, (id) => id === self || scene.screens.includes(id));
  const stage = beside
    ? { x: 0, y: 0, width: width - thick - gap, height }
    : { x: 0, y: 0, width, height: height - thick - gap };
  put(focus, 'stage', stage);
  const used = (shown.length + (hidden > 0 ? 1 : 0)) * (long + gap) - gap;
  const start = Math.max(0, (stripLong - used) / 2);
  const slot = (index: number): Box =>
    beside
      ? { x: width - thick, y: start + index * (long + gap), width: thick, height: long }
      : { x: start + index * (long + gap), y: height - thick, width: long, height: thick };
  shown.forEach((id, index) => put(id, 'strip', slot(index)));
  return done(shown, rest.length - shown.length, hidden > 0 && fits > 1 ? slot(shown.length) : undefined);
}
