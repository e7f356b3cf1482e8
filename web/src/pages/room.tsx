// A room's address: first its lobby, then the meeting, at last the words of farewell.
import { useEffect, useRef, useState } from 'preact/hooks';
import { config } from '../lib/api';
import { go } from '../lib/router';
import { keyOf } from '../lib/rooms';
import { cameraWanted, displayName, microphoneWanted, rememberRoom } from '../lib/storage';
import { prepare, release, take } from '../lib/devices';
import { Session } from '../meeting/session';
import { Meeting } from '../meeting/view';
import { Icon } from '../ui/icons';
import { Brand, ThemeButton } from '../ui/parts';
import { follow } from '../lib/router';
import { duration } from '../lib/words';
import { Lobby } from './lobby';

export function RoomPage({ room }: { room: string }) {
  const [session, setSession] = useState<Session | undefined>(undefined);
  const current = useRef<Session | undefined>(undefined);
  useEffect(() => {
    if (!room) go('/', true);
    document.title = `${room} · Visavis`;
    return () => {
      release('camera');
      release('microphone');
      void current.current?.leave();
    };
  }, [room]);

  const join = (before?: Session) => {
    if (before) {
      // As one left: nobody is unmuted by coming back.
      cameraWanted.value = before.wanted.camera;
      microphoneWanted.value = before.wanted.microphone;
    }
    const key = keyOf(location.hash);
    const next = new Session(room, key);
    current.current = next;
    setSession(next);
    rememberRoom(room);
    // Coming back, the devices have to be opened anew.
    void prepare().then(() => next.join(take()));
  };

  const phase = session?.phase.value;
  if (session && (phase === 'connected' || phase === 'reconnecting')) return <Meeting session={session} />;
  if (session && phase === 'ended' && session.joined) {
    return (
      <Farewell key={session.startedAt} session={session} again={() => join(session)} lobby={() => {
        current.current = undefined;
        setSession(undefined);
      }} />
    );
  }
  return <Lobby room={room} joining={phase === 'joining'} problem={session?.problem.value} onJoin={() => join()} />;
}

/** How long one waits for a server that went away, in milliseconds. */
const COME_BACK = 180_000;

function Farewell({ session, again, lobby }: { session: Session; again: () => void; lobby: () => void }) {
  const problem = session.problem.value;
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), []);
  const [waiting, setWaiting] = useState(problem?.comeBack === true);
  useEffect(() => {
    if (!waiting) return;
    let stopped = false;
    const begun = Date.now();
    const look = async () => {
      const there = await config().then(() => true, () => false);
      if (stopped) return;
      if (there) again();
      else if (Date.now() - begun > COME_BACK) setWaiting(false);
      else setTimeout(() => void look(), 2000);
    };
    const timer = setTimeout(() => void look(), 1000);
    return () => {
      stopped = true;
      clearTimeout(timer);
    };
  }, [waiting]);
  return (
    <div class="page">
      <header class="top"><Brand /><ThemeButton /></header>
      <main class="middle">
        <span class={`badge ${problem ? 'warn' : ''}`}><Icon sign={problem ? (problem.comeBack ? 'offline' : 'info') : 'check'} size={26} /></span>
        <h1 ref={heading} tabIndex={-1}>{problem?.title ?? 'You left the meeting'}</h1>
        <p class="lead">{problem?.advice ?? `You were in “${session.roomName}” for ${duration(session.endedAt - session.startedAt)}.`}</p>
        {waiting && <p class="row small" role="status"><Icon sign="busy" size={16} /> Waiting for the server…</p>}
        <div class="row">
          <button class="primary" onClick={displayName.value ? again : lobby}>{waiting ? 'Try now' : 'Join again'}</button>
          <a class="button" href="/" onClick={follow}>Start page</a>
          {problem?.comeBack && <a class="button" href="/doctor" onClick={follow}>Test the connection</a>}
        </div>
      </main>
    </div>
  );
}
