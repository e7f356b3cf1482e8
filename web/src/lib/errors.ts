// What went wrong and what to do, in plain words. Pure but for the names of the exceptions.

export interface Explanation {
  title: string;
  advice: string;
  /** Trying again may help without anything else being done. */
  retry: boolean;
  /** Nobody chose this end: the page joins again by itself when the server is back. */
  comeBack?: boolean;
}

const say = (title: string, advice: string, retry = true): Explanation => ({ title, advice, retry });

/** An answer of the server's own API that is not a success. */
export class ApiError extends Error {
  constructor(readonly status: number, readonly code: string, message: string) {
    super(message);
  }
}

/** Why a camera, a microphone or a screen could not be opened: an exception of getUserMedia or getDisplayMedia. */
export function explainDevice(error: unknown, what: 'camera' | 'microphone' | 'screen' | 'speaker'): Explanation {
  const name = error instanceof Error ? error.name : '';
  if (typeof window !== 'undefined' && !window.isSecureContext) {
    return say(`The browser allows no ${what} on this address`,
      'Browsers give out devices only over https or on localhost. Open the page by its https address.', false);
  }
  switch (name) {
    case 'NotAllowedError':
    case 'SecurityError':
      return what === 'screen'
        ? say('The screen is not shared', 'You closed the dialog, or the system does not allow screen recording for this browser (System Settings, Privacy, Screen Recording).')
        : say(`The browser may not use your ${what}`,
          `Click the ${what} sign in the address bar, allow it for this page, then try again. The system’s privacy settings may forbid it too.`);
    case 'NotFoundError':
    case 'DevicesNotFoundError':
      return say(`No ${what} was found`, `Plug one in, or go on without: you can still see, hear and write.`);
    case 'NotReadableError':
    case 'TrackStartError':
    case 'AbortError':
      return say(`The ${what} is in use or switched off`,
        `Close other programs that use it (another meeting, a recorder), look for a lid or a switch, then try again.`);
    case 'OverconstrainedError':
    case 'ConstraintNotSatisfiedError':
      return say(`The chosen ${what} is gone`, 'Choose another one in the settings.');
    case 'NotSupportedError':
    case 'TypeError':
      return say(`This browser cannot use a ${what} here`, 'Try a recent Chrome, Edge, Firefox or Safari.', false);
    default:
      return say(`The ${what} could not be started`, error instanceof Error && error.message ? error.message : 'Try again, or choose another one in the settings.');
  }
}

/** Why a room could not be joined: an exception of the join request or of the connection. */
export function explainJoin(error: unknown): Explanation {
  if (error instanceof ApiError) {
    switch (error.code) {
      case 'room_full': return say('The room is full', 'Ask somebody to leave, or use another room.');
      case 'join_closed': return say('This server lets in only invited people', 'Open the link that you were sent, or ask its operator for access.', false);
      case 'bad_name': return say('That name does not work', error.message, false);
      case 'rate_limited': return say('Too many tries', 'Wait a minute, then try again.');
      case 'draining': return say('The server is about to restart', 'Try again in a minute.');
    }
    if (error.status >= 500) return say('The server has a problem', 'Try again in a minute. If it lasts, tell its operator.');
    return say('The server did not let you in', error.message);
  }
  const { name, reasonName, status, message } = (error ?? {}) as { name?: string; reasonName?: string; status?: number; message?: string };
  if (name === 'TypeError') return say('The server cannot be reached', 'Check that you are online and that the address is right, then try again.');
  if (name === 'ConnectionError') {
    switch (reasonName) {
      case 'NotAllowed':
        return status === 401 || status === 403
          ? say('The server did not accept the invitation', 'It may have expired, or the clock of this computer is wrong. Reload the page to get a new one.')
          : say('The server did not let you in', message ?? 'Reload the page and try again.');
      case 'ServerUnreachable':
      case 'WebSocket':
        return say('The server cannot be reached', 'Check that you are online. A proxy or a firewall may block WebSockets: try another network.');
      case 'Timeout': return say('The server does not answer', 'The network may be very slow, or a firewall drops the packets. Try again.');
      case 'LeaveRequest': return say('The server ended the connection', 'It may be restarting or full. Try again in a minute.');
      case 'InternalError': break;
    }
  }
  if (/pc connection|peer ?connection|ice|negotiation/i.test(message ?? '')) {
    return say('Signalling works, but no sound or picture gets through',
      'A firewall blocks UDP and TCP between here and the server. Open the connection test to see which, or try another network.');
  }
  return say('The meeting could not be joined', message || 'Try again.');
}

/** Why one was disconnected: a reason of LiveKit's protocol by name. `undefined` where one left by choice. */
export function explainEnd(reason: string | undefined): Explanation | undefined {
  switch (reason) {
    case 'CLIENT_INITIATED': return undefined;
    case 'DUPLICATE_IDENTITY': return say('You joined from somewhere else', 'The same person is in the meeting once: here it ended. Join again to come back here.');
    case 'PARTICIPANT_REMOVED': return say('You were removed from the meeting', 'Someone who runs it took you out.', false);
    case 'ROOM_DELETED':
    case 'ROOM_CLOSED': return say('The meeting was ended for everyone', 'Start it again by joining.');
    case 'SERVER_SHUTDOWN': return { ...say('The server is restarting', 'You come back by yourself as soon as it is there.'), comeBack: true };
    default: return { ...say('The connection was lost', 'Check that you are online. You come back by yourself as soon as the server can be reached.'), comeBack: true };
  }
}
