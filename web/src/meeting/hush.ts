// Notices that somebody talks while muted. The sound is looked at here and goes nowhere.
import { watchLevel } from '../lib/devices';

/** Loudness, 0 to 1, that is somebody talking near the microphone. */
const TALKING = 0.5;
/** Milliseconds of talking before it is worth a word, and milliseconds until the next one. */
const LONG_ENOUGH = 600;
const AGAIN = 30_000;

export class Hush {
  private stop: (() => void) | undefined;
  private last = 0;

  constructor(private readonly tell: () => void) {}

  /** Watches a muted microphone's track; nothing while it is not muted. */
  follow(track: MediaStreamTrack | undefined): void {
    this.stop?.();
    this.stop = undefined;
    if (!track || track.readyState !== 'live') return;
    // Muting disables the track; a copy hears on.
    const copy = track.clone();
    copy.enabled = true;
    let since = 0;
    const end = watchLevel(copy, (level) => {
      const now = performance.now();
      if (level < TALKING) since = 0;
      else since ||= now;
      if (since && now - since > LONG_ENOUGH && now - this.last > AGAIN) {
        this.last = now;
        this.tell();
      }
    });
    this.stop = () => {
      end();
      copy.stop();
    };
  }
}
