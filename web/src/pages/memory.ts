// What the operator's page remembers of the looks it took, for curves of what the server tells only of now. Pure.
import type { InspectedParticipant, Inspection } from './inspection';

export type History = NonNullable<InspectedParticipant['history']>;

/** Looks that are remembered per participant: four minutes. */
const LOOKS = 120;

const SERIES = ['lossSent', 'lossReceived', 'rttMs', 'sentBps', 'receivedBps', 'estimateBps'] as const;

/** Bits per second that come from a participant: as told, or the sum over what they send. */
export function receivedBps({ connections = [], tracks = [] }: InspectedParticipant): number {
  const told = connections.map((connection) => connection.receivedBps).filter((bps) => typeof bps === 'number');
  if (told.length > 0) return told.reduce((sum, bps) => sum + bps, 0);
  return tracks.flatMap((track) => track.layers ?? []).reduce((sum, layer) => sum + (layer.bps ?? 0), 0);
}

function look(participant: InspectedParticipant): Record<(typeof SERIES)[number], number | undefined> {
  const { connections = [] } = participant;
  const most = (field: 'sentLoss' | 'receivedLoss' | 'rttMs') => {
    const values = connections.map((connection) => connection[field]).filter((value) => typeof value === 'number');
    return values.length > 0 ? Math.max(...values) : undefined;
  };
  const sum = (field: 'sentBps' | 'sendEstimateBps') => connections.reduce((total, connection) => total + (connection[field] ?? 0), 0);
  return {
    lossSent: most('sentLoss'), lossReceived: most('receivedLoss'), rttMs: most('rttMs'),
    sentBps: sum('sentBps'), receivedBps: receivedBps(participant), estimateBps: sum('sendEstimateBps'),
  };
}

/** Adds a look at everybody; who is gone is forgotten. What the server remembers itself is left to it. */
export function remember(memory: ReadonlyMap<string, History>, inspection: Inspection, stepMs: number): Map<string, History> {
  const next = new Map<string, History>();
  for (const room of inspection.rooms ?? []) {
    for (const participant of room.participants ?? []) {
      const key = `${room.name} ${participant.identity}`;
      if (participant.history) {
        next.set(key, participant.history);
        continue;
      }
      const before = memory.get(key);
      const now = look(participant);
      const history: History = { stepMs };
      for (const series of SERIES) {
        const value = now[series];
        const values = before?.[series] ?? [];
        if (value !== undefined) history[series] = [...values.slice(1 - LOOKS), value];
        else if (values.length > 0) history[series] = values;
      }
      next.set(key, history);
    }
  }
  return next;
}

/** Fills in how fast each subscription was served since the look before: the server counts bytes. */
export function measure(before: Inspection | undefined, inspection: Inspection): void {
  const seconds = ((inspection.now ?? 0) - (before?.now ?? 0)) / 1000;
  if (!before?.now || seconds <= 0) return;
  const key = (room: string, who: string, track: string) => `${room} ${who} ${track}`;
  const bytes = new Map<string, number>();
  for (const room of before.rooms ?? []) {
    for (const participant of room.participants ?? []) {
      for (const { track, bytes: count } of participant.subscriptions ?? []) if (count !== undefined) bytes.set(key(room.name, participant.identity, track), count);
    }
  }
  for (const room of inspection.rooms ?? []) {
    for (const participant of room.participants ?? []) {
      for (const subscription of participant.subscriptions ?? []) {
        const earlier = bytes.get(key(room.name, participant.identity, subscription.track));
        if (earlier === undefined || subscription.bytes === undefined) continue;
        subscription.bps ??= Math.max(0, ((subscription.bytes - earlier) * 8) / seconds);
      }
    }
  }
}
