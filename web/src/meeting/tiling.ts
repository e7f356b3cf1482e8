// Where the tiles of a meeting go: pure geometry. Tiles of one grid have one size; what does not
// fill the last row is centred.

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Grid {
  columns: number;
  rows: number;
  boxes: Box[];
}

export interface GridOptions {
  /** Between tiles, in CSS pixels. */
  gap: number;
  /** The narrowest and the widest a tile may be, as width / height. A picture is cropped to it. */
  aspect: [number, number];
}

/** The crop that people accept: landscape tiles on wide screens, portrait ones too on tall screens. */
export function aspectRange(width: number, height: number): [number, number] {
  return width >= height ? [4 / 3, 16 / 9] : [3 / 4, 16 / 9];
}

/** The arrangement of `count` tiles that shows the most picture in `width` x `height`. */
export function grid(count: number, width: number, height: number, options: GridOptions): Grid {
  const { gap, aspect: [narrowest, widest] } = options;
  let best = { columns: 0, rows: 0, width: 0, height: 0, score: -1 };
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    // A whole column without a tile is the smaller arrangement with the space of a larger one.
    if (Math.ceil(count / rows) < columns) continue;
    const cellWidth = (width - gap * (columns - 1)) / columns;
    const cellHeight = (height - gap * (rows - 1)) / rows;
    if (cellWidth <= 0 || cellHeight <= 0) continue;
    const cell = cellWidth / cellHeight;
    let [tileWidth, tileHeight] = [cellWidth, cellHeight];
    if (cell > widest) tileWidth = cellHeight * widest;
    if (cell < narrowest) tileHeight = cellWidth / narrowest;
    // Equal areas are decided by the fuller last row.
    const score = tileWidth * tileHeight * (1 - 0.02 * ((columns * rows - count) / columns));
    if (score > best.score) best = { columns, rows, width: tileWidth, height: tileHeight, score };
  }
  const boxes: Box[] = [];
  const top = (height - best.rows * best.height - gap * (best.rows - 1)) / 2;
  for (let index = 0; index < count && best.columns > 0; index++) {
    const row = Math.floor(index / best.columns);
    const inRow = row === best.rows - 1 ? count - row * best.columns : best.columns;
    const left = (width - inRow * best.width - gap * (inRow - 1)) / 2;
    boxes.push({
      x: left + (index % best.columns) * (best.width + gap),
      y: top + row * (best.height + gap),
      width: best.width,
      height: best.height,
    });
  }
  return { columns: best.columns, rows: best.rows, boxes };
}

/** How many tiles fit before one becomes narrower than `narrowest` CSS pixels; at least one, at most `limit`. */
export function capacity(width: number, height: number, narrowest: number, limit: number, options: GridOptions): number {
  let fits = 1;
  for (let count = 2; count <= limit; count++) {
    const box = grid(count, width, height, options).boxes[0];
    // Five may fit where four in two rows do not: look on.
    if (box && box.width >= narrowest) fits = count;
  }
  return fits;
}

/** The largest box of `aspect` in the middle of `width` x `height`. */
export function contain(aspect: number, width: number, height: number): Box {
  const fitted = Math.min(width, height * aspect);
  return { x: (width - fitted) / 2, y: (height - fitted / aspect) / 2, width: fitted, height: fitted / aspect };
}

/**
 * Who of `order` is shown where `places` are fewer: those shown already stay where they are, and one
 * who spoke lately takes the place of the one who has been silent longest. `spoke` is when somebody
 * last spoke (0: never); `fixed` are never taken out.
 */
export function visible(
  order: readonly string[],
  shown: readonly string[],
  places: number,
  spoke: (id: string) => number,
  fixed: (id: string) => boolean,
): string[] {
  if (order.length <= places) return [...order];
  const present = new Set(order);
  const result = shown.filter((id) => present.has(id)).slice(0, places);
  const inside = new Set(result);
  const waiting = order
    .filter((id) => !inside.has(id))
    .sort((a, b) => Number(fixed(b)) - Number(fixed(a)) || spoke(b) - spoke(a));
  while (result.length < places && waiting.length > 0) result.push(waiting.shift()!);
  for (const id of waiting) {
    let silent = -1;
    for (const [index, other] of result.entries()) {
      if (!fixed(other) && (silent < 0 || spoke(other) < spoke(result[silent]!))) silent = index;
    }
    if (silent < 0 || (!fixed(id) && spoke(id) <= spoke(result[silent]!))) break;
    result[silent] = id;
  }
  return result;
}
