// One person in the meeting, as the page shows them: each fact is a signal, so that only what changed is drawn.
import { signal } from '@preact/signals';
import { ConnectionQuality, Track, type Participant, type RemoteTrackPublication, type TrackPublication } from 'livekit-client';

export type Quality = 'excellent' | 'good' | 'poor' | 'lost' | 'unknown';

export class Peer {
  /** `self` for oneself. */
  readonly identity: string;
  readonly isLocal: boolean;
  readonly name = signal('');
  /** Tracks with something to show, or nothing. */
  readonly camera = signal<Track | undefined>(undefined);
  readonly screen = signal<Track | undefined>(undefined);
  /** A camera or screen is published, even where its picture has not come yet. */
  readonly cameraOn = signal(false);
  readonly screenOn = signal(false);
  readonly microphoneOn = signal(false);
  readonly speaking = signal(false);
  readonly quality = signal<Quality>('unknown');
  /** When the hand was raised, in milliseconds; 0 while it is down. */
  readonly hand = signal(0);
  /** May mute and remove others. */
  readonly host = signal(false);
  /** The server holds the camera's picture back for want of bandwidth. */
  readonly paused = signal(false);
  /** Media that cannot be read here: encrypted with another key, or with none where a key is needed. */
  readonly unreadable = signal(false);
  /** When last heard, for who is shown where not all fit. */
  spoke = 0;

  constructor(readonly participant: Participant) {
    // The SDK learns its own identity only when it has joined.
    this.identity = participant.isLocal ? 'self' : participant.identity;
    this.isLocal = participant.isLocal;
    this.refresh();
  }

  /** Reads everything anew from the SDK's participant. */
  refresh(): void {
    const of = (source: Track.Source) => this.participant.getTrackPublication(source);
    const on = (publication: TrackPublication | undefined) => publication !== undefined && !publication.isMuted;
    const shown = (publication: TrackPublication | undefined) => (on(publication) ? publication!.track : undefined);
    const camera = of(Track.Source.Camera);
    const screen = of(Track.Source.ScreenShare);
    this.name.value = this.participant.name || 'Guest';
    this.camera.value = shown(camera);
    this.screen.value = shown(screen);
    this.cameraOn.value = on(camera);
    this.screenOn.value = on(screen);
    this.microphoneOn.value = on(of(Track.Source.Microphone));
    this.paused.value = (camera as RemoteTrackPublication | undefined)?.track?.streamState === Track.StreamState.Paused;
    // Attributes are what anyone says of themselves; the identity is in the server's hand.
    this.host.value = this.participant.attributes.role === 'host' && this.participant.identity.startsWith('host-');
    this.hand.value = Number(this.participant.attributes.handRaisedAt) || 0;
    this.quality.value = ({
      [ConnectionQuality.Excellent]: 'excellent',
      [ConnectionQuality.Good]: 'good',
      [ConnectionQuality.Poor]: 'poor',
      [ConnectionQuality.Lost]: 'lost',
      [ConnectionQuality.Unknown]: 'unknown',
    } as const)[this.participant.connectionQuality];
  }
}
