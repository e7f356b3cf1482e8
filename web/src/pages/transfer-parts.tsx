// What the pages for sending and receiving have in common.
import { bytes, duration } from '../lib/words';

/** How far a transfer is, how fast, and how long it will take. */
export function Meter({ done, total, since }: { done: number; total: number | null; since: number }) {
  const seconds = (Date.now() - since) / 1000;
  const rate = seconds > 0.5 ? done / seconds : 0;
  const left = total !== null && rate > 0 ? ((total - done) / rate) * 1000 : undefined;
  return (
    <div class="meter-block">
      <progress max={total ?? undefined} value={total === null ? undefined : done} aria-label="Progress" />
      <p>
        {bytes(done)}{total !== null && ` of ${bytes(total)}`}
        {rate > 0 && ` · ${bytes(rate)}/s`}
        {left !== undefined && done < total! && ` · ${duration(left)} left`}
      </p>
    </div>
  );
}
