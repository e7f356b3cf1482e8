// What `GET /api/inspect` answers. Everything but names and ids may be absent.

export interface InspectedEnd {
  type?: string;
  protocol?: string;
  address?: string;
  port?: number;
}

export interface InspectedConnection {
  id: string;
  role?: string;
  state?: string;
  dtls?: string;
  group?: string;
  srtp?: string;
  pair?: { local?: InspectedEnd; remote?: InspectedEnd } | null;
  candidates?: { local?: string[]; remote?: string[] };
  rttMs?: number | null;
  jitterMs?: number | null;
  /** Bits per second. */
  sendEstimateBps?: number | null;
  receiveEstimateBps?: number | null;
  sentBps?: number | null;
  receivedBps?: number | null;
  /** Shares, 0 to 1. */
  sentLoss?: number | null;
  receivedLoss?: number | null;
}

export interface InspectedTrack {
  sid: string;
  kind?: string;
  source?: string;
  codec?: string;
  muted?: boolean;
  layers?: { rid?: string; width?: number; height?: number; bps?: number; fps?: number; active?: boolean }[];
}

export interface InspectedSubscription {
  track: string;
  from?: string;
  source?: string;
  layer?: string;
  wanted?: string;
  paused?: boolean;
  bps?: number;
  /** Bytes so far. */
  bytes?: number;
  /** Share, 0 to 1. */
  loss?: number;
  why?: string;
}

export interface InspectedParticipant {
  identity: string;
  sid?: string;
  name?: string;
  state?: string;
  joinedAt?: number;
  client?: { sdk?: string; version?: string; browser?: string; os?: string };
  connections?: InspectedConnection[];
  tracks?: InspectedTrack[];
  subscriptions?: InspectedSubscription[];
  history?: {
    stepMs: number;
    lossSent?: number[];
    lossReceived?: number[];
    rttMs?: number[];
    sentBps?: number[];
    receivedBps?: number[];
    estimateBps?: number[];
  };
  /** 1 (lost) to 5 (excellent). */
  quality?: number;
  diagnosis?: string;
}

export interface Inspection {
  /** No one is let in any more; the server ends when the last has left, or at its deadline. */
  draining?: boolean;
  version?: string;
  now?: number;
  startedAt?: number;
  node?: {
    udp?: string[];
    tcp?: string[];
    turn?: boolean;
    /** `forwarded` counts packets since the start. */
    workers?: { id: number; load?: number; connections?: number; forwarded?: number }[];
  };
  rooms?: { name: string; sid?: string; createdAt?: number; participants?: InspectedParticipant[] }[];
  events?: { at: number; room?: string; identity?: string; text: string }[];
}
