import '@fontsource-variable/inter/wght.css';
import './style.css';
import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import type { ComponentType } from 'preact';
import { path } from './lib/router';
import { normaliseRoom } from './lib/rooms';
import { Start } from './pages/start';

// The start page is small; what needs the media SDK comes when it is wanted.
const later = {
  room: () => import('./pages/room').then((module) => module.RoomPage),
  doctor: () => import('./pages/doctor').then((module) => module.Doctor),
  receive: () => import('./pages/receive').then((module) => module.Receive),
  send: () => import('./pages/send').then((module) => module.Send),
  inspect: () => import('./pages/inspect').then((module) => module.Inspect),
};

function Later({ page, ...rest }: { page: keyof typeof later; room?: string }) {
  const [Page, setPage] = useState<ComponentType<{ room: string }>>();
  const [failed, setFailed] = useState(false);
  useEffect(() => {
    later[page]().then((loaded) => setPage(() => loaded as ComponentType<{ room: string }>), () => setFailed(true));
  }, [page]);
  if (failed) {
    return (
      <main class="middle">
        <h1>The page could not be loaded</h1>
        <p>The server was updated or cannot be reached. Reload the page.</p>
        <button class="primary" onClick={() => location.reload()}>Reload</button>
      </main>
    );
  }
  return Page ? <Page room={rest.room ?? ''} key={rest.room} /> : <main class="middle" aria-busy="true" />;
}

function App() {
  const at = path.value;
  const room = /^\/r\/([^/]+)/.exec(at);
  if (room) return <Later page="room" room={normaliseRoom(room[1]!)} />;
  if (at === '/doctor') return <Later page="doctor" />;
  if (at === '/receive') return <Later page="receive" />;
  if (at === '/send') return <Later page="send" />;
  if (at === '/inspect') return <Later page="inspect" />;
  return <Start />;
}

render(<App />, document.getElementById('app')!);
