// Looks at the connections every few seconds: numbers for the panel, a word when something is wrong.
import { signal } from '@preact/signals';
import { Track } from 'livekit-client';
import { diagnose, type Severity } from './diagnosis';
import { Pulse } from './pulse';
import type { Session } from './session';
import { summarise, type ConnectionReport, type Report } from './stats';

/** Milliseconds between two looks. */
const PERIOD = 2000;
/** Looks that are remembered for the curves: four minutes. */
const LOOKS = 120;

const RANK: Record<Severity, number> = { good: 0, note: 1, warn: 2, bad: 3 };

export interface Look {
  at: number;
  roundTrip: number;
  sent: number;
  received: number;
  loss: number;
}

export class Watch {
  readonly reports = signal<ConnectionReport[]>([]);
  readonly past = signal<Look[]>([]);
  /** The worst that has lasted for three looks. */
  readonly worst = signal<Severity>('good');
  private previous = new Map<string, Report>();
  private timer: ReturnType<typeof setInterval> | undefined;
  private recent: Severity[] = [];
  private bad = 0;
  private warned = 0;
  private readonly pulse = new Pulse();

  constructor(private readonly session: Session) {}

  start(): void {
    this.timer ??= setInterval(() => void this.look(), PERIOD);
    void this.look();
  }

  stop(): void {
    clearInterval(this.timer);
    this.timer = undefined;
  }

  private async look(): Promise<void> {
    const camera = this.session.room.localParticipant.getTrackPublication(Track.Source.Camera);
    if (this.pulse.look(camera?.isMuted ? undefined : camera?.track?.mediaStreamTrack)) {
      this.session.notify('warn', 'Your camera gives no picture. Another program or tab may be using it.',
        { label: 'Turn it off and on', run: () => void this.session.restartCamera() });
    }
    const manager = this.session.room.engine?.pcManager;
    if (!manager) return;
    const reports: ConnectionReport[] = [];
    for (const [id, transport] of [['publisher', manager.publisher], ['subscriber', manager.subscriber]] as const) {
      if (!transport) continue;
      const state = transport.getConnectionState();
      const stats = (await transport.getStats()?.catch(() => undefined)) as unknown as Report | undefined;
      if (!stats || (state === 'new' && manager.subscriber)) continue;
      const report: Report = new Map(stats);
      const single = !manager.subscriber;
      const name = single ? 'Connection' : id === 'publisher' ? 'Sending' : 'Receiving';
      reports.push(summarise(name, state, report, this.previous.get(id)));
      this.previous.set(id, report);
    }
    if (reports.length === 0) return;
    const findings = reports.flatMap(diagnose);
    const severities = findings.map((finding) => finding.severity);
    this.reports.value = reports;
    const worst = (['bad', 'warn', 'note'] as const).find((severity) => severities.includes(severity)) ?? 'good';
    const trips = reports.map((report) => report.roundTrip).filter((trip) => trip !== undefined);
    this.past.value = [...this.past.value.slice(1 - LOOKS), {
      at: Date.now(),
      roundTrip: Math.max(0, ...trips),
      sent: reports.reduce((sum, report) => sum + report.sentBitrate, 0),
      received: reports.reduce((sum, report) => sum + report.receivedBitrate, 0),
      loss: Math.max(...reports.map((report) => Math.max(report.sentLoss, report.receivedLoss))),
    }];
    // One bad look is noise; three in a row are worth a colour, and a word once in a while.
    this.recent = [...this.recent.slice(-2), worst];
    const lasting = (severity: Severity) => this.recent.length === 3 && this.recent.every((look) => RANK[look] >= RANK[severity]);
    this.worst.value = (['bad', 'warn'] as const).find(lasting) ?? 'good';
    this.bad = worst === 'bad' ? this.bad + 1 : 0;
    if (this.bad === 3 && Date.now() - this.warned > 60_000 && this.session.phase.value === 'connected') {
      this.warned = Date.now();
      const first = findings.find((finding) => finding.severity === 'bad');
      if (first) this.session.notify('warn', `${first.text} ${first.advice ?? ''}`);
    }
  }
}
