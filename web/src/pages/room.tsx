// A room's address: first its lobby, then the meeting, at last the words of farewell.
import { useEffect, useRef, useState } from 'preact/hooks';
import { go } from '../lib/router';
import { keyOf } from '../lib/rooms';
import { displayName, rememberRoom } from '../lib/storage';
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

  const join = () => {
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
      <Farewell session={session} again={join} lobby={() => {
        current.current = undefined;
        setSession(undefined);
      }} />
    );
  }
  return <Lobby room={room} joining={phase === 'joining'} problem={session?.problem.value} onJoin={join} />;
}

function Farewell({ session, again, lobby }: { session: Session; again: () => void; lobby: () => void }) {
  const problem = session.problem.value;
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), []);
  return (
    <div class="page">
      <header class="top"><Brand /><ThemeButton /></header>
      <main class="middle">
        <span class={`badge ${problem ? 'warn' : ''}`}><Icon sign={problem ? 'offline' : 'check'} size={26} /></span>
        <h1 ref={heading} tabIndex={-1}>{problem?.title ?? 'You left the meeting'}</h1>
        <p class="lead">{problem?.advice ?? `You were in “${session.roomName}” for ${duration(session.endedAt - session.startedAt)}.`}</p>
        <div class="row">
          <button class="primary" onClick={displayName.value ? again : lobby}>Join again</button>
          <a class="button" href="/" onClick={follow}>Start page</a>
          {problem && <a class="button" href="/doctor" onClick={follow}>Test the connection</a>}
        </div>
      </main>
    </div>
  );
}
