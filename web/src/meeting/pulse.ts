// Whether a camera gives pictures at all. Browsers count them where they can (W3C mediacapture-extensions, MediaStreamTrackVideoStats);
// where they do not, nothing is said.

interface Counted {
  id: string;
  stats?: { totalFrames?: number };
}

/** Looks in a row without a new picture after which a camera stands still. */
const STILL = 3;

export class Pulse {
  private id = '';
  private frames = 0;
  private looks = 0;

  /** Looks at the camera that is on, if there is one: true once, when it has stood still for some looks. */
  look(track: Counted | undefined): boolean {
    const frames = track?.stats?.totalFrames;
    if (!track || frames === undefined || track.id !== this.id || frames !== this.frames) {
      this.id = track?.id ?? '';
      this.frames = frames ?? 0;
      this.looks = 0;
      return false;
    }
    this.looks++;
    return this.looks === STILL;
  }
}
