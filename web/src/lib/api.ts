// The server's own HTTP interface.
import { ApiError } from './errors';
import type { Inspection } from '../pages/inspection';

export interface Joined {
  url: string;
  token: string;
  room: string;
  identity: string;
  /** Whether the token may mute and remove others. */
  host?: boolean;
}

export interface ServerConfig {
  version?: string;
  joinOpen?: boolean;
  iceServers?: RTCIceServer[];
  udpPort?: number;
  tcpPort?: number;
  maxFileBytes?: number | null;
}

async function answer<T>(response: Response): Promise<T> {
  if (!response.ok) {
    const body = (await response.json().catch(() => ({}))) as { error?: string; code?: string };
    throw new ApiError(response.status, body.code ?? '', body.error ?? `The server answered ${response.status}.`);
  }
  return (await response.json()) as T;
}

/** Asks for a place in a room. Throws `ApiError`, or `TypeError` where the server cannot be reached. */
export async function join(room: string, name: string): Promise<Joined> {
  const joined = await answer<Joined>(
    await fetch('/api/join', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ room, name }),
    }),
  );
  // An empty address is this one's.
  return { ...joined, url: joined.url || location.origin.replace(/^http/, 'ws') };
}

/** Where a server of that signalling address answers HTTP. */
const httpOf = (url: string): string => url.replace(/^ws/, 'http').replace(/\/$/, '');

async function rule({ url, token }: Joined, method: string, body: object): Promise<void> {
  await answer(
    await fetch(`${httpOf(url)}/twirp/livekit.RoomService/${method}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
      body: JSON.stringify(body),
    }),
  );
}

/** Silences a track of somebody else. Needs a host's token. */
export const mute = (joined: Joined, identity: string, trackSid: string): Promise<void> =>
  rule(joined, 'MutePublishedTrack', { room: joined.room, identity, track_sid: trackSid, muted: true });

/** Sends somebody away. Needs a host's token. */
export const remove = (joined: Joined, identity: string): Promise<void> => rule(joined, 'RemoveParticipant', { room: joined.room, identity });

export const config = async (): Promise<ServerConfig> => answer(await fetch('/api/config'));

const asOperator = (operator: string): RequestInit => (operator ? { headers: { authorization: `Bearer ${operator}` } } : {});

export const inspect = async (operator: string): Promise<Inspection> => answer(await fetch('/api/inspect', asOperator(operator)));

/** The whole event log, one JSON object a line. */
export async function inspectEvents(operator: string): Promise<Blob> {
  const response = await fetch('/api/inspect/events', asOperator(operator));
  if (!response.ok) throw new ApiError(response.status, '', `The server answered ${response.status}.`);
  return response.blob();
}
