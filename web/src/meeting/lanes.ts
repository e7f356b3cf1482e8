// Reactions rise in lanes, so that none covers another's name.

/** How many rise side by side: as many names as fit beside each other on a phone. */
export const LANES = 3;
/** How far apart two begin in one lane, in milliseconds: the upper one is out of the way by then. */
export const APART = 900;
/** Who would have to wait longer than this, in milliseconds, is left out: it would belong to another moment. */
const PATIENCE = 2000;

export class Lanes {
  private readonly free = Array<number>(LANES).fill(0);

  constructor(private readonly apart = APART, private readonly patience = PATIENCE) {}

  /** Where and after how many milliseconds a reaction of now may begin; nowhere if too many do. */
  place(now: number): { lane: number; delay: number } | undefined {
    const begin = Math.max(now, Math.min(...this.free));
    if (begin - now > this.patience) return undefined;
    // Of those that are free by then the one that rested longest.
    const lane = this.free.indexOf(Math.min(...this.free));
    this.free[lane] = begin + this.apart;
    return { lane, delay: begin - now };
  }
}
